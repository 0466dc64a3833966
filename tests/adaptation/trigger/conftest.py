"""Fixtures: the trigger's tests run on a disk, in memory and on object storage."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from adaptation.io import object_store
from emulators.storage.emulator import StorageEmulator
from tests.worlds.trigger import Places, TriggerWorld, walking

_BUCKETS = itertools.count()


@pytest.fixture(params=["local", "memory", "gs"])
def world(request: pytest.FixtureRequest, places: Places) -> Iterator[TriggerWorld]:
    with places(request.param) as root:
        yield TriggerWorld(root)


@pytest.fixture
def places(object_storage: StorageEmulator, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Return a maker of empty places: on disk, in memory, or on object storage, whose pages hold two names."""
    monkeypatch.setattr(object_store, "NAMES_PER_PAGE", 2)
    for name, value in object_storage.environment().items():
        monkeypatch.setenv(name, value)

    @contextlib.contextmanager
    def place(kind: str) -> Iterator[str]:
        if kind == "local":
            with tempfile.TemporaryDirectory() as folder:
                yield folder
        elif kind == "memory":
            MemoryFileSystem.store.clear()
            MemoryFileSystem.pseudo_dirs[:] = [""]
            yield "memory://bucket"
        else:
            bucket = f"trigger-{next(_BUCKETS)}"
            object_storage.create_bucket(bucket)
            yield f"gs://{bucket}"

    return place


@pytest.fixture(autouse=True)
def _walking_deliveries_wait_for_their_turn() -> Iterator[None]:
    with walking():
        yield
