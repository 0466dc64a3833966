"""Fixtures: an emulated Vertex AI and object storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulators.vertex import VertexEmulator
from tests.worlds.vertex import Vertex, a_config, object_storage


@pytest.fixture(autouse=True)
def _gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with object_storage(monkeypatch):
        yield


@pytest.fixture
def vertex() -> Iterator[Vertex]:
    """Run an emulated Vertex AI whose operations take some time, so that tests meet them unfinished."""
    with VertexEmulator(operation_seconds=0.02) as server:
        yield Vertex(server, a_config(server))
