"""Checks of the folders of a workspace: what their file system can do, and what this user may do in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from adaptation.io import locks, storage
from pipeline.doctor.checks import Check, Finding, broken, warning
from pipeline.workspace.workspace import Workspace

_DEEPEST = 3  # below that are the outputs of runs
_SHOWN = 5


def file_system_checks(workspace: Workspace) -> list[Check]:
    """Return the checks of the workspace's folders on this machine."""
    settings = workspace.settings
    places = {workspace.root, settings.data.root, settings.collection.root}
    folders = sorted({_existing(Path(place)) for place in places if storage.is_local(place)})
    outer = [folder for folder in folders if not set(folders) & set(folder.parents)]
    return [
        Check("file system", lambda: chain.from_iterable(map(file_system_findings, folders))),
        Check("permissions", lambda: chain.from_iterable(map(permission_findings, outer))),
    ]


def file_system_findings(folder: Path) -> Iterator[Finding]:
    """Try in a folder what a workspace needs: flushed writes, renaming, locks, hard links. Nothing is left behind."""
    if not _is_writable(folder):
        return
    with tempfile.TemporaryDirectory(prefix=storage.TEMPORARY, dir=folder) as place:
        for attempt, severity, consequence in _ATTEMPTS:
            try:
                attempt(Path(place))
            except OSError as error:
                yield severity(f"{folder}: {error.strerror or error}. {consequence}")


def permission_findings(root: Path) -> Iterator[Finding]:
    """Name the folders that this user cannot read, or cannot write to."""
    if not _is_writable(root):
        yield warning(
            f"this user can only read {root}: plan, the lists and the report work. Training, evaluating and watching "
            "need the permission to write."
        )
    folders = list(_folders(root, 0))
    closed = [folder for folder in folders if not os.access(folder, os.R_OK | os.X_OK)]
    fixed = [folder for folder in folders if folder not in closed and not _is_writable(folder)]
    if closed:
        yield broken(f"this user cannot read {_some(closed)}. Get the permission.")
    if fixed and _is_writable(root):
        yield broken(f"this user cannot write to {_some(fixed)}. Get the permission, or work as their owner.")


def _write(folder: Path) -> None:
    storage.write(str(folder / "written"), b"1")


def _rename(folder: Path) -> None:
    for name in ("old", "new"):
        (folder / name).write_bytes(name.encode())
    os.replace(folder / "new", folder / "old")
    if (folder / "old").read_bytes() != b"new":
        raise OSError("a renamed file does not replace another")


def _lock(folder: Path) -> None:
    path = str(folder / "lock")
    with locks.locked(path):
        if not locks.is_locked(path):
            raise OSError("a lock keeps nothing out")


def _link(folder: Path) -> None:
    (folder / "first").touch()
    os.link(folder / "first", folder / "second")


_ATTEMPTS: tuple[tuple[Callable[[Path], None], Callable[[str], Finding], str], ...] = (
    (_write, broken, "Nothing can be written there. Put the workspace on another disk."),
    (_rename, broken, "Files cannot be replaced there. Put the workspace on another disk."),
    (_lock, broken, "Without locks a job cannot be distinguished from a dead one. Put the workspace on another disk."),
    (
        _link,
        warning,
        "It has no hard links. Locks take their place, which hold on one machine: let only one machine at a time start "
        "jobs in this workspace.",
    ),
)


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _existing(place: Path) -> Path:
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """Yield the folders below one, without hidden ones, to a bounded depth."""
    if depth == _DEEPEST or not os.access(root, os.R_OK | os.X_OK):
        return
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield Path(entry.path)
            yield from _folders(Path(entry.path), depth + 1)


def _some(folders: list[Path]) -> str:
    more = f" and {len(folders) - _SHOWN} more folders" if len(folders) > _SHOWN else ""
    return ", ".join(map(str, folders[:_SHOWN])) + more
