"""The function's world: object storage and Vertex AI as emulators, and instances that are being served."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from adaptation.io import storage
from emulators.vertex import VertexEmulator
from tests.worlds.function import (
    COLLECTION,
    INSTANCES,
    MAIN,
    MONTHS,
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
    """Two instances of the entry point that the module of the tests names as its TARGET."""
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
def month(place: Place) -> Iterator[str]:
    """A month of its own; no other is there."""
    yield next(MONTHS)
    storage.remove_folder(COLLECTION)
    storage.remove_folder(RECORDS)


@pytest.fixture
def empty_world(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[FunctionWorld]:
    """No image, no champion, no specification. Jobs run until they are told to end."""
    with object_storage(monkeypatch) as emulator, VertexEmulator() as server:
        server.hang_jobs(1_000)
        vertex = Vertex(server, a_config(server))
        for name, value in environment(vertex).items():
            monkeypatch.setenv(name, value)
        yield FunctionWorld(emulator, vertex, capsys)


@pytest.fixture
def world(empty_world: FunctionWorld) -> FunctionWorld:
    """A champion, its specification, and a month with enough images."""
    serve_a_champion(empty_world.vertex)
    empty_world.collect()
    empty_world.forget_requests()
    return empty_world
