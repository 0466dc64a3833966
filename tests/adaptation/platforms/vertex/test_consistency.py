"""Orphans: what an interrupted delivery can leave behind is named."""

from __future__ import annotations

import pytest

from adaptation.platforms.vertex.client import VertexRefused
from adaptation.platforms.vertex.consistency import find_orphans
from tests.worlds.vertex import Vertex, an_upload


def test_version_deployed_without_traffic_is_named(vertex: Vertex) -> None:
    vertex.serving_versions(2).with_versions(1)
    vertex.server.fail_next("PATCH .*endpoints", times=100, status=400)
    with pytest.raises(VertexRefused):
        vertex.endpoint.deploy(vertex.version(3))
    (orphan,) = find_orphans(vertex.registry, vertex.endpoint)
    assert "version 3 is deployed without traffic" in orphan


def test_version_that_serves_without_being_the_champion_is_named(vertex: Vertex) -> None:
    vertex.with_versions(1).endpoint.deploy(vertex.version(1))
    assert "no version is the champion" in find_orphans(vertex.registry, vertex.endpoint)[0]


def test_champion_that_nothing_serves_is_named(vertex: Vertex) -> None:
    vertex.with_versions(1).registry.promote(vertex.version(1), "because")
    assert "nothing serves" in find_orphans(vertex.registry, vertex.endpoint)[0]


def test_versions_made_twice_are_named(vertex: Vertex) -> None:
    vertex.with_versions(1)
    parent = f"{vertex.config.parent}/models/ships"
    body = {"parentModel": parent, "model": vertex.registry._body(an_upload("run-1"))}
    vertex.client.wait(vertex.client.send(f"{vertex.config.parent}/models:upload", body))
    assert "versions 1, 2 were made from the same run" in find_orphans(vertex.registry, vertex.endpoint)[0]


def test_consistent_or_empty_deployment_has_no_orphans(vertex: Vertex) -> None:
    assert find_orphans(vertex.registry, vertex.endpoint) == []
    vertex.serving_versions(2)
    assert find_orphans(vertex.registry, vertex.endpoint) == []
