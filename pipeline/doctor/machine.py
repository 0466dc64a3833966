"""Checks of this machine: Python, the packages, memory and disk."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.doctor.checks import Check, Finding, broken, warning
from pipeline.workspace.settings_file import SETTINGS_FILE

DISTRIBUTION = "continuous-adaptation"
LOCK = Path(__file__).parents[2] / "requirements.lock"
GIB = 2**30
LEAST_MEMORY, LEAST_DISK = 4 * GIB, 5 * GIB
_PINNED = re.compile(r"^[A-Za-z0-9][^\s;\\]*==[^\s;\\]+", re.MULTILINE)
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_SHOWN = 10


def machine_checks(folder: Path) -> list[Check]:
    """Return the checks of this machine, where work on `folder` is done."""
    return [
        Check("python", lambda: python_findings(sys.version.split()[0])),
        Check("packages", lambda: package_findings(wanted_packages(), installed_packages())),
        Check("memory", lambda: memory_findings(_memory())),
        Check("disk", lambda: disk_findings(folder)),
    ]


def python_findings(version: str) -> Iterator[Finding]:
    """Check that the package supports this version of Python."""
    wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        yield broken(f"this is Python {version}, but {wanted} is needed. Make a new environment with such a Python.")


def wanted_packages(lock: Path = LOCK) -> list[Requirement]:
    """Return the required packages: those of the lock in a clone, else the distribution's requirements."""
    if lock.exists():
        return [Requirement(pin) for pin in _PINNED.findall(lock.read_text())]
    required = map(Requirement, metadata.requires(DISTRIBUTION) or [])
    return [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]


def installed_packages() -> dict[str, str]:
    """Return the version of each package by its normalised name; of two, that of the imported one."""
    found = [(one.metadata["Name"], one.version) for one in metadata.distributions()]
    return {_normalised(name): version for name, version in reversed(found) if name}


def package_findings(wanted: Sequence[Requirement], installed: Mapping[str, str]) -> Iterator[Finding]:
    """Report packages that are missing or have another version."""
    missing = [one for one in wanted if _normalised(one.name) not in installed]
    if missing:
        yield broken(f"not installed: {_some(list(map(str, missing)))}. {_install()}")
    others = [
        f"{one.name} {version} instead of {one.specifier}"
        for one in wanted
        if (version := installed.get(_normalised(one.name))) and not one.specifier.contains(version, prereleases=True)
    ]
    if others:
        yield warning(f"other versions than this code was tested with: {_some(others)}. {_install()}")


def memory_findings(size: int) -> Iterator[Finding]:
    """Check that there is enough memory for training."""
    if size < LEAST_MEMORY:
        yield warning(
            f"{size / GIB:.1f} GiB of memory, and a training takes up to {LEAST_MEMORY / GIB:.0f}. "
            "Set a smaller model.batch_size, or take a larger machine."
        )


def disk_findings(folder: Path, least: int = LEAST_DISK) -> Iterator[Finding]:
    """Check the free space and, where a workspace is to be made, the permission to write."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not os.access(there, os.W_OK | os.X_OK) and not (there / SETTINGS_FILE).exists():
        yield broken(f"{there} cannot be written to. Get the permission, or name another folder.")
    free = shutil.disk_usage(there).free
    if free < least:
        yield warning(f"{free / GIB:.1f} GiB are free at {there}. Runs keep their outputs: free some space.")


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _install() -> str:
    return 'Run "make setup".' if LOCK.exists() else f'Run "pip install --upgrade {DISTRIBUTION}".'


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _memory() -> int:
    """Return the bytes that this process may use: the machine's, or its container's."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return physical
