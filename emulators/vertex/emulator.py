"""The server: a route for each emulated method of the service, and the methods that make it misbehave."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote

from aiohttp import web

from emulators.http_server import Answer, LoopbackServer, Request
from emulators.vertex.endpoints import Endpoints, PredictHook
from emulators.vertex.jobs import BatchHook, BatchPredictionJobs, PipelineHook, PipelineJobs
from emulators.vertex.messages import Json, Place, Refusal, json_name, not_found
from emulators.vertex.models import Models
from emulators.vertex.operations import Operations

NUMBER = "123456789012"
_Query = dict[str, str]
_Route = Callable[[str, Json, _Query], Json | Callable[[], Json]]


class VertexEmulator(LoopbackServer):
    """Vertex AI for one project and location, in memory.

    A job goes through PENDING and RUNNING to SUCCEEDED by being polled; with a hook it runs until the hook returns, in
    its own thread, and fails with the hook's exception. An operation's effect is visible when it is done.

    Args:
      project: Id of the project; responses name it by its number, as the service's do.
      location: The only location.
      job_polls: Number of polls before a job without a hook has succeeded.
      operation_seconds: Duration of an operation; at 0 it is done in its response.
      exclusive: If True, an operation on a resource is refused while another is running on it.
      on_pipeline_job: Gets a copy of the job; may call `set_task_state`.
      on_batch_prediction: Gets a copy of the job and the folder of its results; returns the number of predictions.
      on_predict: Gets the resource name of a model version and the instances; returns the predictions. Its ValueError
        is the client's fault. Other requests are answered meanwhile, other predictions too.
    """

    def __init__(
        self,
        project: str = "demo",
        location: str = "us-central1",
        *,
        job_polls: int = 2,
        operation_seconds: float = 0.0,
        exclusive: bool = False,
        on_pipeline_job: PipelineHook | None = None,
        on_batch_prediction: BatchHook | None = None,
        on_predict: PredictHook | None = None,
    ) -> None:
        super().__init__()
        self._place = Place(project, NUMBER, location)
        self._operations = Operations(self._place, operation_seconds, exclusive)
        self._endpoints = Endpoints(self._place, self._operations, on_predict)
        self._models = Models(self._place, self._operations, self._endpoints.is_deployed)
        self._pipelines = PipelineJobs(self._place, self._operations, job_polls, on_pipeline_job)
        self._predictions = BatchPredictionJobs(self._place, self._operations, job_polls, on_batch_prediction)
        self._routes = [(re.compile(pattern), route) for pattern, route in self._table().items()]

    def model_version(self, name: str) -> Json:
        """Return the version of a resource name such as `.../models/ships@2`, as it was uploaded."""
        return self._models.version(self._place.local(name))

    def set_task_state(self, job: str, task: str, state: str) -> None:
        """Put a task of a hooked pipeline job into a state.

        Args:
          job: The job's resource name.
          task: The task's name.
          state: A state of PipelineTaskDetail.
        """
        self._pipelines.set_task_state(job, task, state)

    def fail_jobs(self, times: int = 1, message: str = "this failure was requested") -> None:
        """Make the next jobs of either kind fail."""
        self._pipelines.plan(message, times)
        self._predictions.plan(message, times)

    def hang_jobs(self, times: int = 1) -> None:
        """Make the next jobs of either kind never end."""
        self._pipelines.plan(None, times)
        self._predictions.plan(None, times)

    def fail_operations(self, times: int = 1, message: str = "this failure was requested") -> None:
        """Make the next operations end with an error, without effect."""
        self._operations.plan(Refusal(500, message), times)

    def error(self, status: int, message: str) -> web.Response:
        """Return an error in the service's form."""
        return _refused(Refusal(status, message))

    def answer(self, request: Request) -> Answer:
        """Return the response to a request, computed alone, or a function that computes a prediction."""
        self._operations.settle()
        try:
            value = self._dispatch(request)
        except Refusal as refusal:
            return _refused(refusal)
        return partial(_worked_out, value) if callable(value) else web.json_response(value)

    def _dispatch(self, request: Request) -> Json | Callable[[], Json]:
        path = unquote(request.url.path).removeprefix("/v1/")
        if not path.startswith("projects/"):
            raise not_found(request.url.path)
        query = {json_name(name): values[-1] for name, values in request.query.items()}
        local = self._place.local(path)
        for pattern, route in self._routes:
            if match := pattern.fullmatch(f"{request.method} {local}"):
                return route(match["name"], _decoded(request.body), query)
        raise Refusal(404, f"{request.method} {request.url.path} is no method of this service.")

    def _table(self) -> dict[str, _Route]:
        models, endpoints = self._models, self._endpoints
        pipelines, predictions = self._pipelines, self._predictions
        return {
            r"GET (?P<name>.*?)/?operations": lambda name, body, query: self._operations.list(name, query),
            r"GET (?P<name>.*?operations/[^/]+)": lambda name, body, query: self._operations.get(name),
            r"POST (?P<name>)models:upload": lambda name, body, query: models.upload(body),
            r"GET (?P<name>)models": lambda name, body, query: models.list(query),
            r"GET (?P<name>models/[^/:]+)": lambda name, body, query: models.get(name),
            r"GET (?P<name>models/[^/:]+):listVersions": lambda name, body, query: models.list_versions(name, query),
            r"POST (?P<name>models/[^/:]+):mergeVersionAliases": lambda name, body, query: models.merge_aliases(
                name, body
            ),
            r"PATCH (?P<name>models/[^/:]+)": lambda name, body, query: models.patch(name, body, query),
            r"DELETE (?P<name>models/[^/:]+)": lambda name, body, query: models.delete(name),
            r"DELETE (?P<name>models/[^/:]+):deleteVersion": lambda name, body, query: models.delete_version(name),
            r"POST (?P<name>)endpoints": lambda name, body, query: endpoints.create(body, query),
            r"GET (?P<name>)endpoints": lambda name, body, query: endpoints.list(query),
            r"GET (?P<name>endpoints/[^/:]+)": lambda name, body, query: endpoints.get(name),
            r"PATCH (?P<name>endpoints/[^/:]+)": lambda name, body, query: endpoints.patch(name, body, query),
            r"DELETE (?P<name>endpoints/[^/:]+)": lambda name, body, query: endpoints.delete(name),
            r"POST (?P<name>endpoints/[^/:]+):deployModel": lambda name, body, query: endpoints.deploy(
                name, body, models
            ),
            r"POST (?P<name>endpoints/[^/:]+):undeployModel": lambda name, body, query: endpoints.undeploy(name, body),
            r"POST (?P<name>endpoints/[^/:]+):predict": lambda name, body, query: endpoints.predict(name, body),
            r"POST (?P<name>)pipelineJobs": lambda name, body, query: pipelines.create(body, query),
            r"GET (?P<name>)pipelineJobs": lambda name, body, query: pipelines.list("pipelineJobs", query),
            r"GET (?P<name>pipelineJobs/[^/:]+)": lambda name, body, query: pipelines.get(name),
            r"POST (?P<name>pipelineJobs/[^/:]+):cancel": lambda name, body, query: pipelines.cancel(name),
            r"DELETE (?P<name>pipelineJobs/[^/:]+)": lambda name, body, query: pipelines.delete(name),
            r"POST (?P<name>)batchPredictionJobs": lambda name, body, query: predictions.create(body, models),
            r"GET (?P<name>)batchPredictionJobs": lambda name, body, query: predictions.list(
                "batchPredictionJobs", query
            ),
            r"GET (?P<name>batchPredictionJobs/[^/:]+)": lambda name, body, query: predictions.get(name),
            r"POST (?P<name>batchPredictionJobs/[^/:]+):cancel": lambda name, body, query: predictions.cancel(name),
            r"DELETE (?P<name>batchPredictionJobs/[^/:]+)": lambda name, body, query: predictions.delete(name),
        }


def _worked_out(work: Callable[[], Json]) -> web.Response:
    try:
        return web.json_response(work())
    except Refusal as refusal:
        return _refused(refusal)


def _refused(refusal: Refusal) -> web.Response:
    return web.json_response(refusal.to_json(), status=refusal.code)


def _decoded(body: bytes) -> Json:
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise Refusal(400, f"Invalid JSON payload received. {error}", field="body") from error
    if not isinstance(value, dict):
        raise Refusal(400, "Invalid JSON payload received. The body is no object.", field="body")
    return value
