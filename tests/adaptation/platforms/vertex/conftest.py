"""An emulated Vertex AI and object storage for the tests of this folder."""

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
    """Operations take some time, so that what is under way can be met."""
    with VertexEmulator(operation_seconds=0.02) as server:
        yield Vertex(server, a_config(server))
