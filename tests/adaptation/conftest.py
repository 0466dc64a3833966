"""Fixtures: the places that the tests of the domain run in."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from adaptation.io import storage
from emulators.storage.emulator import StorageEmulator

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def object_storage() -> Iterator[StorageEmulator]:
    """Run an emulated Google Cloud Storage."""
    with StorageEmulator() as emulator:
        yield emulator


@pytest.fixture(params=["local", "memory", "gs"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URI of an empty folder: on this machine's disk and on two object stores in turn."""
    if request.param == "local":
        yield str(tmp_path / "a [1] #50% *ü")
        return
    if request.param == "gs":
        yield f"{_new_bucket(request.getfixturevalue('object_storage'), monkeypatch)}/a [1] #50% *ü"
        return
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", _exclusive(MemoryFileSystem.pipe_file))
    uri = f"memory://bucket/place-{next(_NUMBERS)} [1] #50% *ü"
    yield uri
    storage.remove_folder(uri)


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """Return a folder on this machine's disk, for tests of what only a disk has."""
    return str(tmp_path / "disk")


def _new_bucket(emulator: StorageEmulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a bucket for one test, which this process and its children find. Return its URI."""
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{next(_NUMBERS)}"
    emulator.create_bucket(bucket)
    return f"gs://{bucket}"


def _exclusive(pipe_file: Any) -> Any:
    """Make creation exclusive as on an object store; fsspec's in-memory file system checks first, then writes."""
    lock = threading.Lock()

    def pipe(*args: Any, **kwargs: Any) -> None:
        with lock:
            pipe_file(*args, **kwargs)

    return pipe
