"""The Cloud Function's folder, as it is deployed: its code, the `adaptation` package, its requirements, its settings.

    <folder>/main.py            the entry points
             adaptation/        what they call
             requirements.txt   what both need, pinned
             env.yaml           the environment variables with the places of everything

The same project and the same settings give the same bytes. `deployment` deploys it.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from adaptation import codec
from adaptation.errors import AlreadyExists
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import InvalidSettings
from pipeline.workspace.vertex_settings import vertex_config
from pipeline.workspace.workspace import Workspace

ENVIRONMENT = "env.yaml"
_MARK = b"# Written by adapt function build, which replaces this whole folder.\n"
_OWN = ("main.py", "requirements.txt")


def build(settings: Settings, folder: Path) -> None:
    """Write the folder that is deployed; an earlier build is replaced as a whole.

    Failure: the folder is the old one, the new one or, for a moment, missing; never a mix. A retry finishes.

    Raises:
      InvalidSettings: The pipelines run on this machine, or the settings do not say enough for Google Cloud.
      AlreadyExists: `folder` is something else; it is not changed.
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
    """Return the files of the folder, by name; errors as for `build`."""
    environment = _MARK + yaml.safe_dump(variables(settings), sort_keys=False, width=math.inf).encode()
    function, package = resources.files("cloud_function"), resources.files("adaptation")
    own = {name: function.joinpath(name).read_bytes() for name in _OWN}
    return {**own, **dict(_sources(package, "adaptation")), ENVIRONMENT: environment}


def variables(settings: Settings) -> dict[str, str]:
    """Return the function's environment variables, by name; errors as for `build`."""
    if not settings.target.remote:
        raise InvalidSettings(
            f"{settings.file}: the function starts pipelines on Google Cloud, but platform.kind is "
            f'{settings.platform.kind!r}. Set platform.kind = "vertex"; on one machine use "adapt watch".'
        )
    return {
        "COLLECTION_ROOT": settings.collection.root,
        "RECORDS_ROOT": Workspace(settings).triggers,
        "MIN_IMAGES": str(settings.collection.min_images),
        "PLATFORM": vertex_config(settings).to_json(),
        **_notification(settings),
    }


def _notification(settings: Settings) -> dict[str, str]:
    """Return the variable with the receivers that the function reaches, if there are any."""
    config = replace(Workspace(settings).notification, command=(), apprise="")
    return {"NOTIFY": codec.encode(config, indent=0).decode()} if config.webhooks or config.pubsub else {}


def _sources(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the modules below a package's folder, with the names that they get."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _sources(item, f"{name}/{item.name}")
        elif item.name.endswith(".py"):
            yield f"{name}/{item.name}", item.read_bytes()


def _refuse_other(folder: Path) -> None:
    if not os.path.lexists(folder) or _is_replaceable(folder):
        return
    raise AlreadyExists(
        f'{folder} exists and was not made by "adapt function build", which would replace all of it. '
        "Name another folder, or remove that one."
    )


def _is_replaceable(folder: Path) -> bool:
    """Check that the folder is an earlier build, or empty."""
    if not folder.is_dir():
        return False
    environment = folder / ENVIRONMENT
    return environment.is_file() and environment.read_bytes().startswith(_MARK) or not any(folder.iterdir())


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
