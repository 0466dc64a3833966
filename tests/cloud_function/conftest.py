"""Fixtures of the function: emulated object storage and Vertex AI, and served instances."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from adaptation.io import storage
from emulators.vertex import VertexEmulator
from tests.worlds.function import (
    BATCHES,
    COLLECTION,
    INSTANCES,
    MAIN,
    RECORDS,
    FunctionWorld,
    Place,
    environment,
    serve_a_champion,
    serving,
)
from tests.worlds.vertex import Vertex, a_config, object_storage


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Serve two instances of the entry point that the test module names as its TARGET."""
    with pytest.MonkeyPatch.context() as patch, object_storage(patch) as emulator, VertexEmulator() as server:
        server.hang_jobs(1_000)
        vertex = Vertex(server, a_config(server))
        serve_a_champion(vertex)
        variables, folder = {**emulator.environment(), **environment(vertex)}, tmp_path_factory.mktemp("logs")
        with contextlib.ExitStack() as stack:
            instances = [
                stack.enter_context(serving(MAIN, request.module.TARGET, variables, folder / f"{number}.log"))
                for number in range(INSTANCES)
            ]
            yield Place(emulator, vertex, instances)


@pytest.fixture
def batch(place: Place) -> Iterator[str]:
    """Return the name of a batch; no other one exists."""
    yield next(BATCHES)
    storage.remove_folder(COLLECTION)
    storage.remove_folder(RECORDS)


@pytest.fixture
def empty_world(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[FunctionWorld]:
    """Make a world without images, champion and spec. Its jobs run until a test ends them."""
    with object_storage(monkeypatch) as emulator, VertexEmulator() as server:
        server.hang_jobs(1_000)
        vertex = Vertex(server, a_config(server))
        for name, value in environment(vertex).items():
            monkeypatch.setenv(name, value)
        yield FunctionWorld(emulator, vertex, capsys)


@pytest.fixture
def world(empty_world: FunctionWorld) -> FunctionWorld:
    """Add a champion, the specs, and a batch with enough images."""
    serve_a_champion(empty_world.vertex)
    empty_world.collect()
    empty_world.forget_requests()
    return empty_world
