"""Execution of small notebooks: with this Python, in their own folder, up to the first error."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from notebooks.execution import execute


def a_notebook(folder: Path, *cells: str, name: str = "small.ipynb") -> Path:
    folder.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), folder / name)
    return folder / name


def shown(notebook: NotebookNode) -> Any:
    """Return the JSON value that the last cell printed."""
    return json.loads(notebook.cells[-1].outputs[-1].text)


def test_notebooks_run_with_this_python_whatever_kernels_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    source = a_notebook(tmp_path / "source", "import json, sys", "print(json.dumps(sys.executable))")
    (notebook,) = execute(tmp_path, (source,))
    assert Path(shown(notebook)) == Path(sys.executable)


def test_notebook_finds_the_shared_modules_and_runs_in_its_folder(tmp_path: Path) -> None:
    lines = "import json, os, scenario\nprint(json.dumps([os.getcwd(), scenario.__file__, str(scenario.WORKSPACE)]))"
    (notebook,) = execute(tmp_path, (a_notebook(tmp_path / "source", lines),))
    assert shown(notebook) == [str(tmp_path), str(tmp_path / "scenario.py"), "workspace"]


def test_notebook_continues_with_the_files_of_the_one_before(tmp_path: Path) -> None:
    first = a_notebook(tmp_path / "source", "open('left', 'w').write('by the first')", name="first.ipynb")
    second = a_notebook(tmp_path / "source", "import json\nprint(json.dumps(open('left').read()))", name="second.ipynb")
    assert shown(list(execute(tmp_path, (first, second)))[-1]) == "by the first"


def test_failing_cell_ends_the_run_and_the_kernel(tmp_path: Path) -> None:
    cells = "import os; open('pid', 'w').write(str(os.getpid()))", "1 / 0", "open('after', 'w')"
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        list(execute(tmp_path, (a_notebook(tmp_path / "source", *cells),)))
    assert not (tmp_path / "after").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_outputs_are_returned_and_the_file_is_unchanged(tmp_path: Path) -> None:
    source = a_notebook(tmp_path / "source", "print(1, flush=True)\nprint(2, flush=True)")
    before = source.read_bytes()
    (notebook,) = execute(tmp_path, (source,))
    assert [output.text for output in notebook.cells[0].outputs] == ["1\n2\n"]
    assert source.read_bytes() == before


def test_executed_notebook_keeps_only_the_outputs_of_the_run(tmp_path: Path) -> None:
    (notebook,) = execute(tmp_path, (a_notebook(tmp_path / "source", "1"),))
    assert dict(notebook.cells[0].metadata) == {}
    assert notebook.metadata.language_info == {"name": "python"}
