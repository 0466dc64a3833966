"""Responses of another shape than Vertex AI's: one error that names the request, and no listing without an end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from adaptation.codec import UnreadableState
from adaptation.errors import AdaptationError
from adaptation.platforms.base import JobState
from adaptation.platforms.vertex import client as vertex_client
from emulators.http_server import LoopbackServer, Request
from tests.worlds.vertex import QUICK, Vertex, a_config

JOB = "projects/demo/locations/us-central1/pipelineJobs/ships-job-1"


class Answering(LoopbackServer):
    """A server that answers every request with the same text, or with what a function makes of it."""

    content: str | Callable[[Request], str] = "{}"

    def answer(self, request: Request) -> web.Response:
        text = self.content if isinstance(self.content, str) else self.content(request)
        return web.Response(text=text, content_type="application/json")


@pytest.fixture
def strange() -> Iterator[Vertex]:
    with Answering() as server:
        yield Vertex(server, a_config(server))  # type: ignore[arg-type]


def a_job(**fields: Any) -> str:
    return json.dumps({"name": JOB, **fields})


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("{}", "name"),
        (a_job(error="out of memory"), "$.error"),
        (a_job(error={"message": ["a"]}), "$.error.message"),
        (a_job(labels="none"), "$.labels"),
        (a_job(state=3), "$.state"),
        (a_job(runtimeConfig=[]), "$.runtimeConfig"),
        (a_job(jobDetail={"taskDetails": {"a": 1}}), "$.jobDetail.taskDetails"),
        (a_job(jobDetail={"taskDetails": ["Trainer"]}), "$.jobDetail.taskDetails[0]"),
        (a_job(jobDetail={"taskDetails": [{"endTime": "yesterday"}]}), "$.jobDetail.taskDetails[0].endTime"),
        (a_job(name=None), "$.name"),
    ],
)
def test_job_of_another_shape_is_an_error_with_request_and_place(strange: Vertex, content: str, place: str) -> None:
    strange.server.content = content  # type: ignore[attr-defined]
    for asking in (lambda: strange.jobs.get("job-1"), lambda: strange.jobs.tasks("job-1")):
        with pytest.raises(UnreadableState, match="GET .*pipelineJobs/ships-job-1 cannot be read: ") as error:
            asking()
        assert place in str(error.value) and "Check api_endpoint" in str(error.value)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"error": ' * 50_000, "[]", "null", '"text"', "<html>", '{"name": "' + "x" * 100]
)
def test_text_that_is_no_resource_is_an_error_with_the_request(strange: Vertex, content: str) -> None:
    strange.server.content = content  # type: ignore[attr-defined]
    with pytest.raises(AdaptationError, match="GET projects/demo/.*pipelineJobs/ships-job-1"):
        strange.jobs.get("job-1")


@pytest.mark.parametrize("value", ["many", "-1", 1.5, None, [1]])
def test_count_that_is_no_number_is_an_error_with_the_request(strange: Vertex, value: Any) -> None:
    prediction = "projects/demo/locations/us-central1/batchPredictionJobs/1"
    strange.server.content = json.dumps({"name": prediction, "completionStats": {"successfulCount": value}})  # type: ignore[attr-defined]
    with pytest.raises(UnreadableState, match=r"GET .*batchPredictionJobs/1 .*successfulCount"):
        strange.client.get(prediction)


@pytest.mark.parametrize("version", [{}, {"versionId": "latest"}, {"versionId": None}])
def test_version_without_a_number_is_an_error_with_the_request(strange: Vertex, version: dict[str, Any]) -> None:
    model = "projects/demo/locations/us-central1/models/ships"
    strange.server.content = json.dumps({"models": [{"name": model, **version}]})  # type: ignore[attr-defined]
    with pytest.raises(UnreadableState, match="GET .*models cannot be read: .*versionId"):
        strange.registry.versions()


def test_deployed_model_without_a_version_is_an_error(strange: Vertex) -> None:
    endpoint = {"name": "endpoints/1", "deployedModels": [{"id": "1", "model": "models/ships"}]}
    strange.server.content = json.dumps({"endpoints": [endpoint]})  # type: ignore[attr-defined]
    with pytest.raises(UnreadableState, match="without a version"):
        strange.endpoint.serving()


def test_page_that_is_followed_by_itself_ends_the_listing(strange: Vertex) -> None:
    strange.server.content = json.dumps({"pipelineJobs": [], "nextPageToken": "again"})  # type: ignore[attr-defined]
    with pytest.raises(UnreadableState, match="page 'again' is followed by itself"):
        strange.jobs.list()
    assert len(strange.server.requests) == 2


def test_listing_without_an_end_is_ended(strange: Vertex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vertex_client, "MOST_PAGES", 20)
    strange.server.content = lambda _: json.dumps({"nextPageToken": str(len(strange.server.requests))})  # type: ignore[attr-defined]
    with pytest.raises(UnreadableState, match="more than 20 pages"):
        strange.jobs.list()
    assert len(strange.server.requests) == 20


@pytest.mark.parametrize(
    "details", ["text", {"a": 1}, ["text"], [{"fieldViolations": "x"}], [{"fieldViolations": [1]}]]
)
def test_details_of_an_error_may_have_any_shape(vertex: Vertex, details: Any) -> None:
    assert vertex_client._error({"error": {"message": "no", "details": details}}) == ("", "no")


def test_operation_without_its_result_is_an_error(strange: Vertex) -> None:
    strange.server.content = json.dumps({"name": "operations/1", "done": True, "response": {}})  # type: ignore[attr-defined]
    operation = strange.client.get("operations/1")
    with pytest.raises(UnreadableState, match="operation operations/1 .*no modelVersionId"):
        strange.client.wait(operation, "modelVersionId")


def test_paused_job_is_running_and_said_to_be_paused(strange: Vertex) -> None:
    states = iter(["PIPELINE_STATE_PAUSED", "PIPELINE_STATE_PAUSED", "PIPELINE_STATE_SUCCEEDED"])
    strange.server.content = lambda _: a_job(state=next(states))  # type: ignore[attr-defined]
    quick = Vertex(strange.server, replace(strange.config, retries=replace(QUICK, poll_interval=0.01)))
    job = quick.jobs.get("job-1")
    assert job and (job.state, job.message) == (JobState.RUNNING, "PAUSED; it goes on when somebody resumes it")
    assert list(quick.jobs.follow("job-1")) == [
        "job-1: PAUSED; it goes on when somebody resumes it",
        "job-1: SUCCEEDED",
    ]
