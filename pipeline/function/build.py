"""The Cloud Function's folder, as it is deployed: its code, the `adaptation` package, its requirements, its settings.

    <folder>/main.py            the entry points
             adaptation/        what they call
             requirements.txt   what both need, pinned
             env.yaml           the environment variables that tell it where everything is

The same project and the same settings give the same bytes. What is made of it on Google Cloud is decided in
`deployment`.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from adaptation.errors import AlreadyExists
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import InvalidSettings
from pipeline.workspace.vertex_settings import vertex_config
from pipeline.workspace.workspace import Workspace

ENVIRONMENT = "env.yaml"
_MARK = b"# Written by adapt function build, which replaces this whole folder.\n"
_OWN = ("main.py", "requirements.txt")


def build(settings: Settings, folder: Path) -> None:
    """Writes the folder that is deployed; one that was built before is replaced as a whole.

    Failure: the folder is the old one, the new one or, for a moment, none; never something of both. Building again
    finishes.

    Raises:
      InvalidSettings: The pipelines run on this machine, or the settings do not say enough for Google Cloud.
      AlreadyExists: There is something else at `folder`; it is left as it is.
    """
    folder = Path(os.path.abspath(folder))
    files = deployable(settings)
    _refuse_other(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
        new = Path(staging, "new")
        _write(new, files)
        if folder.exists():
            folder.rename(Path(staging, "old"))
        new.rename(folder)


def deployable(settings: Settings) -> dict[str, bytes]:
    """The files of the folder, by name; errors as for `build`."""
    environment = _MARK + yaml.safe_dump(variables(settings), sort_keys=False, width=math.inf).encode()
    function, package = resources.files("cloud_function"), resources.files("adaptation")
    own = {name: function.joinpath(name).read_bytes() for name in _OWN}
    return {**own, **dict(_sources(package, "adaptation")), ENVIRONMENT: environment}


def variables(settings: Settings) -> dict[str, str]:
    """The function's environment variables, by name; errors as for `build`."""
    if not settings.target.remote:
        raise InvalidSettings(
            f"{settings.file}: the function starts pipelines on Google Cloud, but platform.kind is "
            f'{settings.platform.kind!r}. Set platform.kind = "vertex"; on one machine "adapt watch" does its work.'
        )
    return {
        "COLLECTION_ROOT": settings.collection.root,
        "RECORDS_ROOT": Workspace(settings).triggers,
        "MIN_IMAGES": str(settings.collection.min_images),
        "PLATFORM": vertex_config(settings).to_json(),
    }


def _sources(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """The modules below a package's folder, by the names that they get."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _sources(item, f"{name}/{item.name}")
        elif item.name.endswith(".py"):
            yield f"{name}/{item.name}", item.read_bytes()


def _refuse_other(folder: Path) -> None:
    if not os.path.lexists(folder) or _is_replaceable(folder):
        return
    raise AlreadyExists(
        f'{folder} is there, and was not made by "adapt function build", which would replace all of it. '
        "Name another folder, or remove that one."
    )


def _is_replaceable(folder: Path) -> bool:
    """Whether it is a build, or an empty folder."""
    if not folder.is_dir():
        return False
    environment = folder / ENVIRONMENT
    return environment.is_file() and environment.read_bytes().startswith(_MARK) or not any(folder.iterdir())


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
