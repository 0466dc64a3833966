"""The user's own code in a process that needs it: a wheel, fetched and put on the import path.

`python -m models.user_code WHEEL ARGUMENT...` does that and then runs TFX's container entry point with the arguments:
so the tasks of a compiled pipeline import a recipe, and the components that it adds, which their image does not have.
How the wheel is made is in `pipeline.user_code`.
"""

from __future__ import annotations

import atexit
import importlib
import io
import runpy
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from adaptation.errors import AdaptationError
from adaptation.io import storage

ENTRY_POINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
_installed = {"uri": "", "folder": ""}


def install(uri: str) -> None:
    """Put a wheel's content first on the import path, in place of the one before; repeating it changes nothing.

    First, so that nothing that happens to have the same name is taken for it. Only the recipe's own package is in it.

    Args:
      uri: The wheel; empty where there is no code of the user's, and nothing is done then.

    Raises:
      AdaptationError: There is no such file.
    """
    if not uri or uri == _installed["uri"]:
        return
    try:
        content = storage.read(uri)
    except FileNotFoundError as error:
        raise AdaptationError(f'the code of the recipe, {uri}, is missing. Run "adapt publish" again.') from error
    _forget()
    folder = tempfile.mkdtemp(prefix="recipe-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    zipfile.ZipFile(io.BytesIO(content)).extractall(folder)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    _installed.update(uri=uri, folder=folder)


def installed_folder() -> str:
    """Return the folder that the user's code is imported from; empty before `install`."""
    return _installed["folder"]


def digest_in(uri: str) -> str:
    """Return 12 hex digits of the digest that a wheel is named by; empty where there is none.

    >>> digest_in("gs://shop/code/adapt_recipe-0+3f9a1c02b7d4e5f60718293a4b5c6d7e-py3-none-any.whl")
    '3f9a1c02b7d4'
    """
    return storage.basename(uri).partition("+")[2][:12]


def main() -> None:
    """Run a task's container command with the user's code."""
    from models.user_code import install  # this module itself is `__main__`, another one than what the task imports

    install(sys.argv.pop(1))
    runpy.run_module(ENTRY_POINT, run_name="__main__", alter_sys=True)


def _forget() -> None:
    """Take the code that was installed before off the path, and drop the modules from it."""
    folder = _installed["folder"]
    if folder:
        sys.path[:] = [path for path in sys.path if path != folder]
        own = {entry.name.removesuffix(".py") for entry in Path(folder).iterdir()}
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]


if __name__ == "__main__":
    main()
