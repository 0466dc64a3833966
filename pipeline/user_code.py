"""The user's own code: a recipe's module or package, found beside the settings or installed, and packed as a wheel.

The wheel is named by its content and has the same bytes wherever it is made. Local jobs, rehearsed tasks and the tasks
on Google Cloud all import the recipe from it, see `models.user_code`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.resources
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

import models
from adaptation.errors import AdaptationError
from adaptation.io import storage
from models.recipe import (
    ENTRY_POINTS,
    UnusableRecipe,
    built_in_recipes,
    no_such_recipe,
    recipe_module,
    training_spec,
)
from models.spec import TrainingSpec
from models.user_code import install, installed_folder
from pipeline.workspace.settings import Settings

OWN = ("adaptation", "cloud_function", "components", "emulators", "models", "pipeline")
LARGEST = 16 * 2**20
_FOLDER = "code"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold
_METADATA = "Metadata-Version: 2.1\nName: adapt-recipe\nVersion: {version}\n"
_WHEEL = "Wheel-Version: 1.0\nGenerator: adapt\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class UserCode:
    """A recipe's module or package as a wheel.

    Attributes:
      digest: Names the content (64 hex digits).
      data: The wheel's bytes.
    """

    digest: str
    data: bytes

    @property
    def name(self) -> str:
        """File name of the wheel."""
        return f"adapt_recipe-0+{self.digest[:32]}-py3-none-any.whl"

    def put(self, folder: str) -> str:
        """Write the wheel into a folder, once, and return its URI.

        Failure: the file is whole or missing; the same content has the same name, so any process may repeat it.
        """
        uri = storage.join(folder, self.name)
        with contextlib.suppress(FileExistsError):
            storage.create(uri, self.data)
        return uri


def prepare(settings: Settings, folder: str = "") -> TrainingSpec:
    """Import the settings' recipe from its wheel, and return what it trains.

    Args:
      settings: The settings.
      folder: Where the wheel is kept; in the workspace where it is left out.

    Raises:
      UnusableRecipe: It is missing or broken, has no `build_model`, or the name of another package.
      AdaptationError: Its package holds data.
      InvalidSpec: The settings have a value or an option that it does not allow.
    """
    code = pack(settings)
    install(code.put(folder or storage.join(settings.platform.root, _FOLDER)) if code else "")
    given = settings.model.model_dump(exclude={"name", "warm_start"}, exclude_unset=True)
    return training_spec(settings.model.name, settings.labels.names, **given)


def pack(settings: Settings) -> UserCode | None:
    """Return the code of the settings' recipe; None where it is one of this package's own.

    Raises:
      UnusableRecipe: It is missing, is not Python, or has the name of another package.
      AdaptationError: Its package holds data.
    """
    name = settings.model.name
    source = find(name, settings.file.parent)
    return _packed(name, _contents(source)) if source else None


def code_uri(settings: Settings) -> str:
    """Return where the tasks find the recipe's wheel; empty where there is none. Errors as for `pack`."""
    code = pack(settings)
    return storage.join(_task_folder(settings), code.name) if code else ""


def upload(settings: Settings) -> None:
    """Put the recipe's wheel where the tasks find it; errors as for `pack`."""
    if code := pack(settings):
        code.put(_task_folder(settings))


def write_recipe(folder: Path) -> str:
    """Write a recipe to change, `recipe.py`, and return the name to set `model.name` to; one that exists is kept."""
    template = importlib.resources.files(models).joinpath("new_recipe.py").read_bytes()
    with contextlib.suppress(FileExistsError):
        storage.create(str(folder.absolute() / "recipe.py"), template)
    return "recipe"


def _task_folder(settings: Settings) -> str:
    return storage.join(settings.target.root, _FOLDER)


def find(name: str, folder: Path) -> Path | None:
    """Return the module file or the package folder of a recipe; None where it is one of this package's own.

    Args:
      name: Of the recipe: built-in, an entry point's, or a module's.
      folder: That of the settings file. What lies in it comes before what is installed.

    Raises:
      UnusableRecipe: It does not exist, or has the name of another package.
    """
    if name in built_in_recipes():
        return None
    top, *rest = recipe_module(name).split(".")
    beside = next((path for path in (folder / f"{top}.py", folder / top) if _is_code(path)), None)
    installed = list(_installed(top))
    if beside:
        _refuse_hidden(beside, installed)
    if top in OWN:
        return None
    source = beside or (_place(installed[0]) if installed else None)
    if source is None or not _is_code(source.parent.joinpath(top, *rest) if rest else source):
        raise no_such_recipe(name, _modules_beside(folder))
    return source


def _refuse_hidden(beside: Path, installed: Iterable[ModuleSpec]) -> None:
    """Refuse the name of another package; folders without an `__init__.py` share a name in peace."""
    for place in (_place(one) for one in installed if one.origin):
        if not (place.exists() and place.samefile(beside)):
            raise UnusableRecipe(
                f"{beside} has the name of the installed package {place}: one would hide the other. "
                "Rename yours, and model.name with it."
            )


def _is_code(path: Path) -> bool:
    """Return whether the path, or that with `.py`, is a module or a package."""
    return path.with_suffix(".py").is_file() or (path.is_dir() and any(path.glob("*.py")))


def _installed(top: str) -> Iterator[ModuleSpec]:
    """Yield what Python finds by that name, apart from the recipe that this process imports."""
    for find_spec in (finder.find_spec for finder in sys.meta_path if hasattr(finder, "find_spec")):
        found = find_spec(top, None)
        if found and not (installed_folder() and str(_place(found)).startswith(installed_folder())):
            yield found


def _place(found: ModuleSpec) -> Path:
    locations = list(found.submodule_search_locations or ())
    return Path(locations[0] if locations else found.origin or found.name)


def _modules_beside(folder: Path) -> list[str]:
    files = sorted(file.relative_to(folder) for file in (*folder.glob("*.py"), *folder.glob("*/*.py")))
    return [".".join(file.with_suffix("").parts) for file in files if file.stem != "__init__"]


def _contents(source: Path) -> dict[str, bytes]:
    """Return the files by the names that they are imported by; those of Python are checked for their syntax."""
    files = [source] if source.is_file() else sorted(file for file in source.rglob("*") if _belongs(file, source))
    size = sum(file.stat().st_size for file in files)
    if size > LARGEST:
        largest = max(files, key=lambda file: file.stat().st_size)
        raise AdaptationError(
            f"{source} holds {size} bytes (the largest file: {largest}), and a recipe may have {LARGEST}. "
            "Keep data out of its package."
        )
    contents = {file.relative_to(source.parent).as_posix(): file.read_bytes() for file in files}
    for name, content in contents.items():
        if name.endswith(".py"):
            _check_syntax(content, source.parent / name)
    return contents


def _belongs(file: Path, source: Path) -> bool:
    parts = file.relative_to(source).parts
    return file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts)


def _check_syntax(content: bytes, file: Path) -> None:
    try:
        compile(content, str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", 1)
        raise UnusableRecipe(f"{file}, line {line}: {error}. Correct it there.") from error


def _packed(name: str, contents: Mapping[str, bytes]) -> UserCode:
    module = recipe_module(name)
    points = f"[{ENTRY_POINTS}]\n{name} = {module}\n" if name != module else ""
    digest = hashlib.sha256(points.encode())
    for file, content in contents.items():
        digest.update(f"{file}\t{len(content)}\n".encode() + content)
    version = f"0+{digest.hexdigest()[:32]}"
    about = {"METADATA": _METADATA.format(version=version), "WHEEL": _WHEEL, "entry_points.txt": points}
    info = f"adapt_recipe-{version}.dist-info"
    files = {**contents, **{f"{info}/{file}": text.encode() for file, text in about.items() if text}}
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return UserCode(digest.hexdigest(), _zipped(files))


def _record(files: Mapping[str, bytes], record: str) -> bytes:
    """Return the list of files with their digests (source: PEP 376 and PEP 427)."""

    def line(file: str, content: bytes) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        return f"{file},sha256={digest},{len(content)}\n"

    return ("".join(line(file, content) for file, content in files.items()) + f"{record},,\n").encode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Return an archive without times, owners or compression, which another machine might do differently."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as wheel:
        for file, content in files.items():
            entry = zipfile.ZipInfo(file, _EPOCH)
            entry.external_attr, entry.create_system = 0o644 << 16, 3
            wheel.writestr(entry, content)
    return archive.getvalue()
