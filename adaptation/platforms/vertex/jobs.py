"""Pipeline jobs on Vertex AI Pipelines: a published spec, the job's parameters, and an id that names it once.

    job evaluation-2021-10-0001 of the deployment `ships`  ->  .../pipelineJobs/ships-evaluation-2021-10-0001

The compiler decides the spec's content.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adaptation import codec
from adaptation.platforms.base import InvalidJob, Job, JobRequest, JobState, NoSuchJob
from adaptation.platforms.vertex.client import Json, VertexChanged, VertexClient

PIPELINE_LABEL = "adaptation-pipeline"
# The batch of an evaluation is a runtime parameter of that name in the spec.
RUNTIME_NAMES = {"batch": "data_gcs_prefix"}
_ID = re.compile(r"[a-z0-9][a-z0-9-]*")
_LONGEST_ID = 127
_PAUSED = "PAUSED"
_STATES = {"SUCCEEDED": JobState.SUCCEEDED, "FAILED": JobState.FAILED, "CANCELLED": JobState.FAILED}


@dataclass(frozen=True)
class TaskTime:
    """A task's end state, its start (ISO 8601), and its duration in seconds."""

    name: str
    state: str
    started: str
    seconds: float


class VertexJobs:
    """The pipeline jobs of one deployment."""

    def __init__(self, client: VertexClient) -> None:
        self._client, self._config = client, client.config
        self._jobs = f"{self._config.parent}/pipelineJobs"

    def create(self, request: JobRequest) -> Job:
        """Start the job once; return an existing job of that id unchanged.

        Failure: repeat it; the id makes the service refuse a second job, which counts as success.

        Raises:
          InvalidJob: The id is too long or not made of a-z, 0-9 and `-`, the pipeline's spec is not published, or it
            has other parameters.
        """
        if existing := self.get(request.id):
            return existing
        body = self.body(request)
        try:
            created = self._client.change("POST", self._jobs, body, pipelineJobId=self._full_id(request.id))
        except VertexChanged:
            created = self._client.get(self._name(request.id))
        return self._job(created)

    def body(self, request: JobRequest) -> Json:
        """Return the body of the request that starts the job; nothing is sent. Errors as for `create`."""
        self._full_id(request.id)
        spec = self._spec(request.pipeline)
        config, job = self._config, copy.deepcopy(spec)
        runtime = job.setdefault("runtimeConfig", {})
        runtime.setdefault("gcsOutputDirectory", config.output_folder(request.pipeline))
        runtime["parameterValues"] = _parameters(spec, request, config.spec(request.pipeline))
        job["displayName"] = self._full_id(request.id)
        job["labels"] = {**job.get("labels", {}), **config.all_labels, PIPELINE_LABEL: request.pipeline}
        job.update(config.encryption | config.identity | ({"network": config.network} if config.network else {}))
        if not config.caching:
            _forbid_caching(job["pipelineSpec"])
        return job

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None if it was never created."""
        found = self._client.find(self._name(job_id))
        return self._job(found) if found else None

    def list(self) -> list[Job]:
        """Return the deployment's jobs, oldest first."""
        query = f'labels.continuous-adaptation="{self._config.name}"'
        found = self._client.list(self._jobs, "pipelineJobs", filter=query)
        ours = (job for job in found if _last(job).startswith(f"{self._config.name}-"))
        return [self._job(job) for job in sorted(ours, key=lambda job: str(job.get("createTime", "")))]

    def tasks(self, job_id: str) -> tuple[TaskTime, ...]:
        """Return the job's tasks that have run and ended, in the order of their starts.

        Raises:
          NoSuchJob: No job of that id was created.
        """
        found = self._client.find(self._name(job_id))
        if found is None:
            raise self._no_such(job_id)
        tasks = found.get("jobDetail", {}).get("taskDetails", [])
        ended = (task for task in tasks if task.get("startTime") and task.get("endTime"))
        return tuple(sorted(map(_task_time, ended), key=lambda task: task.started))

    def follow(self, job_id: str) -> Iterator[str]:
        """Yield the changes of the job's and its tasks' states, as they come, until it has ended.

        Raises:
          NoSuchJob: No job of that id was created.
        """
        shown: dict[str, str] = {}
        while True:
            found = self._client.find(self._name(job_id))
            if found is None:
                raise self._no_such(job_id)
            states = _states(found, job_id)
            yield from (f"{name}: {_worded(state)}" for name, state in states.items() if shown.get(name) != state)
            shown = states
            if self._job(found).state.ended:
                return
            time.sleep(self._config.retries.poll_interval)

    def _spec(self, pipeline: str) -> Json:
        uri = self._config.spec(pipeline)
        try:
            spec = codec.read(uri, dict[str, Any], remedy="Compile and publish it again.")
        except FileNotFoundError as error:
            raise InvalidJob(f'there is no spec {uri}. Run "adapt publish" first.') from error
        if not isinstance(spec.get("pipelineSpec"), dict):
            raise InvalidJob(f"{uri} is no compiled pipeline: it has no pipelineSpec. Compile and publish it again.")
        return spec

    def _no_such(self, job_id: str) -> NoSuchJob:
        return NoSuchJob(f"there is no job {job_id} in {self._config.parent}.")

    def _name(self, job_id: str) -> str:
        return f"{self._jobs}/{self._full_id(job_id)}"

    def _full_id(self, job_id: str) -> str:
        full = f"{self._config.name}-{job_id}"
        if not _ID.fullmatch(job_id) or len(full) > _LONGEST_ID:
            most = _LONGEST_ID - len(self._config.name) - 1
            raise InvalidJob(f"{job_id!r} cannot name a job. Use up to {most} of a-z, 0-9 and -, the first not a -.")
        return full

    def _job(self, found: Json) -> Job:
        state = _state(found)
        full = _last(found)
        return Job(
            id=full.removeprefix(f"{self._config.name}-"),
            pipeline=found.get("labels", {}).get(PIPELINE_LABEL, ""),
            parameters=_given_parameters(found),
            state=_STATES.get(state, JobState.RUNNING),
            message=_message(found, state),
            link=f"https://console.cloud.google.com/vertex-ai/locations/{self._config.location}/pipelines/runs/{full}"
            f"?project={self._config.project}",
            result={},
            created=str(found.get("createTime", "")),
            ended=str(found.get("endTime", "")),
        )


def _parameters(spec: Json, request: JobRequest, uri: str) -> Json:
    """Return the values of all runtime parameters: those compiled in, replaced by the request's."""
    declared = spec["pipelineSpec"].get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    given = {RUNTIME_NAMES.get(name, name): value for name, value in request.parameters.items()}
    values = {**spec.get("runtimeConfig", {}).get("parameterValues", {}), **given}
    optional = {name for name, declaration in declared.items() if "defaultValue" in declaration}
    unknown, missing = set(given) - set(declared), set(declared) - optional - set(values)
    if unknown:
        raise InvalidJob(f"{uri} has no parameter {', '.join(sorted(unknown))}. Compile and publish it again.")
    if missing:
        raise InvalidJob(f"parameters of {uri} have no value: {', '.join(sorted(missing))}. Give them, or a default.")
    return values


def _forbid_caching(spec: Json) -> None:
    components = spec.get("components", {}).values()
    for dag in [spec.get("root", {}).get("dag", {}), *(component.get("dag", {}) for component in components)]:
        for task in dag.get("tasks", {}).values():
            task["cachingOptions"] = {"enableCache": False}


def _given_parameters(found: Json) -> Mapping[str, str]:
    names = {runtime: name for name, runtime in RUNTIME_NAMES.items()}
    values: dict[str, Any] = found.get("runtimeConfig", {}).get("parameterValues", {})
    return {names.get(name, name): str(value) for name, value in values.items()}


def _message(found: Json, state: str) -> str:
    error = str(found.get("error", {}).get("message", ""))
    if state == _PAUSED:
        return _worded(state)
    if state == "CANCELLED":
        return f"the job was cancelled: {error}" if error else "the job was cancelled"
    return error


def _worded(state: str) -> str:
    return f"{state}; it goes on when somebody resumes it" if state == _PAUSED else state


def _states(found: Json, job_id: str) -> dict[str, str]:
    """Return the states of the tasks by name, the job's own last."""
    tasks = found.get("jobDetail", {}).get("taskDetails", [])
    states = {task.get("taskName", ""): task.get("state", "") for task in tasks}
    return {name: state for name, state in states.items() if name and state} | {job_id: _state(found)}


def _task_time(task: Json) -> TaskTime:
    started, ended = task["startTime"], task["endTime"]
    seconds = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    return TaskTime(task["taskName"], task["state"].lower(), started, seconds.total_seconds())


def _state(found: Json) -> str:
    return str(found.get("state", "")).removeprefix("PIPELINE_STATE_")


def _last(found: Json) -> str:
    return str(found["name"]).rpartition("/")[2]
