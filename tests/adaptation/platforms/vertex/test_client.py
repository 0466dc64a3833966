"""Client of Vertex AI over real connections: what is retried, what is refused, and how operations end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from adaptation.errors import AdaptationError
from adaptation.platforms.connect import connect
from adaptation.platforms.vertex.client import (
    NoAccess,
    OperationFailed,
    StillRunning,
    VertexClient,
    VertexNotFound,
    VertexRefused,
    VertexUnreachable,
)
from emulators.http_server import LoopbackServer, Request
from emulators.vertex import VertexEmulator
from tests.worlds.vertex import QUICK, Vertex, a_config, an_upload


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"status": 503}, {"drop": "before"}])
def test_client_retries_429_5xx_and_lost_connections(vertex: Vertex, fault: dict[str, Any]) -> None:
    vertex.server.fail_next("GET .*/models", times=3, **fault)
    assert vertex.client.named("models", "ships") is None
    assert vertex.server.count("GET .*/models") == 4


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"drop": "after"}])
def test_client_gives_up_after_a_bounded_number_of_attempts(vertex: Vertex, fault: dict[str, Any]) -> None:
    vertex.server.fail_next(times=100, **fault)
    with pytest.raises(VertexUnreachable, match="4 attempts") as error:
        vertex.registry.versions()
    assert vertex.server.count("") == 4
    assert isinstance(error.value, AdaptationError)
    assert isinstance(error.value, OSError)


def test_request_that_exceeds_its_timeout_is_retried(vertex: Vertex) -> None:
    config = replace(vertex.config, retries=replace(QUICK, request_timeout=0.1))
    vertex.server.fail_next("GET .*/models", delay=1.0)
    assert Vertex(vertex.server, config).client.named("models", "ships") is None
    assert vertex.server.count("GET .*/models") == 2


def test_unreachable_server_is_named_in_the_error(vertex: Vertex) -> None:
    config = replace(vertex.config, api_endpoint="http://127.0.0.1:9")
    with pytest.raises(VertexUnreachable, match=r"127\.0\.0\.1:9"):
        connect(config).registry.versions()


def test_invalid_address_is_refused_at_once(vertex: Vertex) -> None:
    with pytest.raises(VertexRefused, match="api_endpoint"):
        connect(replace(vertex.config, api_endpoint="ftp://somewhere")).registry.versions()


def test_rejected_credentials_raise_no_access(vertex: Vertex) -> None:
    vertex.server.fail_next("GET .*/models", status=401)
    with pytest.raises(NoAccess, match="gcloud auth"):
        vertex.registry.versions()


@pytest.mark.parametrize(("status", "kind"), [(403, NoAccess), (400, VertexRefused)])
def test_refusal_is_raised_at_once_with_its_message(vertex: Vertex, status: int, kind: type[Exception]) -> None:
    vertex.server.fail_next("GET .*/models", status=status)
    with pytest.raises(kind, match=f"{status}.*this failure was requested"):
        vertex.registry.versions()
    assert vertex.server.count("GET .*/models") == 1


def test_redirection_is_not_followed(vertex: Vertex) -> None:
    class Redirecting(LoopbackServer):
        def answer(self, request: Request) -> web.Response:
            if request.method == "GET":
                return web.json_response({"name": "something else"})
            return web.Response(status=302, headers={"Location": self.url})

    with Redirecting() as elsewhere, pytest.raises(VertexUnreachable, match="302"):
        VertexClient(replace(vertex.config, api_endpoint=elsewhere.url)).change("POST", "anything", {})


def test_another_project_raises_no_access(vertex: Vertex) -> None:
    with pytest.raises(NoAccess, match="elsewhere"):
        connect(replace(vertex.config, project="elsewhere")).registry.versions()


def test_missing_resource_is_none_or_raises_not_found(vertex: Vertex) -> None:
    name = f"{vertex.config.parent}/models/boats"
    assert vertex.client.find(name) is None
    with pytest.raises(VertexNotFound, match="models/boats") as error:
        vertex.client.get(name)
    assert isinstance(error.value, LookupError)


def test_unknown_field_is_refused_by_its_name(vertex: Vertex) -> None:
    with pytest.raises(VertexRefused, match="colour"):
        vertex.client.change("POST", f"{vertex.config.parent}/endpoints", {"displayName": "a", "colour": "red"})


def test_missing_credentials_raise_no_access(vertex: Vertex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(NoAccess, match="gcloud auth"):
        connect(replace(vertex.config, credentials="default")).registry.versions()


def test_listing_is_read_to_its_last_page(vertex: Vertex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptation.platforms.vertex.client.PAGE_SIZE", 2)
    vertex.with_versions(5)
    assert [version.number for version in vertex.registry.versions()] == [1, 2, 3, 4, 5]
    assert vertex.server.count("listVersions.*pageToken") >= 2


def test_operation_that_ends_with_an_error_raises(vertex: Vertex) -> None:
    vertex.server.fail_operations(message="the image cannot be pulled")
    with pytest.raises(OperationFailed, match="the image cannot be pulled"):
        vertex.registry.upload(an_upload())
    assert vertex.registry.versions() == []


def test_operation_that_does_not_end_is_named_in_the_error() -> None:
    with VertexEmulator(operation_seconds=60) as server:
        vertex = Vertex(server, a_config(server, retries=replace(QUICK, operation_timeout=0.05)))
        with pytest.raises(StillRunning, match=r"operations/1 has not ended within 0\.05 s"):
            vertex.registry.upload(an_upload())
