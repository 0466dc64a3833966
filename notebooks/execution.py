"""Runs the notebooks, in order, from an empty folder; `python notebooks/execution.py` stores their outputs in them.

They run in a separate folder, with this Python, whatever kernels are installed. Only the outputs of the run are stored:
no times, no figures of this machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).parent
NOTEBOOKS = tuple(sorted(HERE.glob("[0-9]*.ipynb")))
MODULES = (HERE / "pictures.py", HERE / "scenario.py")
LANGUAGE = {"name": "python"}
SECONDS = 900


def execute(folder: Path, notebooks: Sequence[Path] = NOTEBOOKS) -> Iterator[NotebookNode]:
    """Run notebooks in a folder, one after another, each in its own kernel.

    Args:
      folder: For them and their workspace; a later run continues with what is there.
      notebooks: The notebooks, in their order.

    Yields:
      Each notebook with its outputs. The notebooks' own files stay as they are.

    Raises:
      CellExecutionError: A cell failed.
    """
    for module in MODULES:
        shutil.copy(module, folder)
    for notebook in notebooks:
        shutil.copy(notebook, folder)
        yield _run(nbformat.read(notebook, as_version=4), folder)


def store() -> None:
    """Run all notebooks again and write them with their outputs.

    Failure: the notebooks before the failed one are written, the others do not change.
    """
    with tempfile.TemporaryDirectory(prefix="notebooks-") as folder:
        for file, notebook in zip(NOTEBOOKS, execute(Path(folder)), strict=True):
            nbformat.write(notebook, file)
            print(f"{file.name}: {file.stat().st_size // 1024} kB")


def _run(notebook: NotebookNode, folder: Path) -> NotebookNode:
    client = NotebookClient(
        notebook,
        km=_kernel(),
        timeout=SECONDS,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "IPYTHONDIR": str(folder / ".ipython")}, cleanup_kc=True)
    notebook.metadata["language_info"] = LANGUAGE
    return notebook


def _kernel() -> AsyncKernelManager:
    """Return this environment's Python: without a folder to search for kernels, there is no other."""
    only_this = KernelSpecManager(kernel_dirs=[])
    return AsyncKernelManager(kernel_name="python3", kernel_spec_manager=only_this, transport_encryption="auto")


if __name__ == "__main__":
    store()
