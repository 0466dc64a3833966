"""Rollout on Vertex AI: deliveries and roll-backs killed or disconnected at any write are finished by the next."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adaptation.platforms.rollout import put_in_service, roll_back
from adaptation.platforms.vertex.client import VertexClient
from adaptation.platforms.vertex.consistency import find_orphans
from emulators.vertex import VertexEmulator
from tests.worlds.vertex import Vertex, a_config, an_upload, at_write

WRITES = "POST|PATCH|DELETE"


class Killed(BaseException):
    """The process was killed."""


def deliver(vertex: Vertex) -> None:
    """Deliver as the end of a training does: upload, deploy, move traffic and alias."""
    platform = vertex.platform
    version = platform.registry.upload(an_upload("new"))
    put_in_service(platform.registry, platform.endpoint, version, "because")


def assert_one_served(vertex: Vertex, number: int, versions: int) -> None:
    assert vertex.registry.find().number == number
    assert vertex.split() == {number: 100}
    assert vertex.deployed() == 1
    assert len(vertex.registry.versions()) == versions
    assert find_orphans(vertex.registry, vertex.endpoint) == []


def kill(vertex: Vertex, number: int, action: Callable[[Vertex], object]) -> None:
    """Kill the action right after its write of that number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VertexClient, "_sent", at_write(number, after=_kill))
        with pytest.raises(Killed):
            action(vertex)


def _kill() -> None:
    raise Killed


def go_back(vertex: Vertex) -> int:
    platform = vertex.platform
    return roll_back(platform.registry, platform.endpoint).number


def writes(action: Callable[[Vertex], object], versions: int) -> Iterator[tuple[int, Vertex]]:
    """Yield a deployment with so many versions for each write of the action, with the number of the write."""
    with VertexEmulator() as server:
        vertex = Vertex(server, a_config(server)).serving_versions(versions)
        before = server.count(WRITES)
        action(vertex)
        made = server.count(WRITES) - before
    assert made > 4
    for number in range(1, made + 1):
        with VertexEmulator() as server:
            yield number, Vertex(server, a_config(server)).serving_versions(versions)


def test_killed_delivery_keeps_a_version_serving_and_can_be_finished() -> None:
    for number, vertex in writes(deliver, versions=1):
        kill(vertex, number, deliver)
        assert sum(vertex.split().values()) == 100
        assert vertex.registry.champion() is not None
        deliver(vertex)
        assert_one_served(vertex, 2, versions=2)


def test_operations_of_a_killed_delivery_are_not_started_again() -> None:
    for write, begun in enumerate((":upload", r"/endpoints\?", ":deployModel"), 1):
        with VertexEmulator(operation_seconds=0.2) as server:
            vertex = Vertex(server, a_config(server))
            kill(vertex, write, deliver)
            deliver(vertex)
            assert server.count(f"POST .*{begun}") == 1
            assert_one_served(vertex, 1, versions=1)


def test_roll_back_after_a_killed_delivery_leaves_nothing_behind() -> None:
    for number, vertex in writes(deliver, versions=2):
        kill(vertex, number, deliver)
        champion, versions = vertex.registry.find().number, len(vertex.registry.versions())
        assert go_back(vertex) == champion - 1
        assert_one_served(vertex, champion - 1, versions)


def test_roll_back_killed_anywhere_goes_to_the_same_version_again() -> None:
    for number, vertex in writes(go_back, versions=2):
        kill(vertex, number, go_back)
        if vertex.registry.find().number == 2:  # else it was complete, and this would be another one
            go_back(vertex)
        assert_one_served(vertex, 1, versions=2)


@pytest.mark.parametrize("drop", ["before", "after"])
def test_delivery_that_loses_any_one_connection_still_completes(drop: Any) -> None:
    for number, vertex in writes(deliver, versions=1):
        lose = at_write(number, before=functools.partial(vertex.server.fail_next, drop=drop))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(VertexClient, "_sent", lose)
            deliver(vertex)
        assert_one_served(vertex, 2, versions=2)
