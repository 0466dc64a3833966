"""Pipeline jobs and batch prediction jobs: their requests and their states."""

from __future__ import annotations

import copy
import itertools
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.cloud import aiplatform_v1 as v1

from emulators.vertex.messages import (
    Json,
    Place,
    Refusal,
    check_room,
    not_found,
    now,
    page,
    parse,
    precondition,
    remove,
)
from emulators.vertex.models import Models
from emulators.vertex.operations import Operations

PipelineHook = Callable[[Json], object]
BatchHook = Callable[[Json, str], int]

RUNNING_AT_ONCE = 64
INSTANCES = ("jsonl", "csv", "bigquery", "tf-record", "tf-record-gzip", "file-list")
PREDICTIONS = ("jsonl", "csv", "bigquery")
_TASK_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "NOT_TRIGGERED")
_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")


@dataclass
class _Course:
    """The course of a job without a hook: it ends after `polls` more polls, or never if None."""

    polls: int | None
    failure: str = ""


class Jobs:
    """The jobs of one kind.

    Args:
      place: Their project and location.
      operations: The operations that delete them.
      prefix: Prefix of the names of their states: `JOB_STATE_` or `PIPELINE_STATE_`.
      polls: Number of polls before a job has succeeded.
    """

    def __init__(self, place: Place, operations: Operations, prefix: str, polls: int) -> None:
        self._place, self._operations, self._prefix, self._polls = place, operations, prefix, polls
        self._all: dict[str, Json] = {}
        self._courses: dict[str, _Course] = {}
        self._planned: list[_Course] = []
        self._running = threading.BoundedSemaphore(RUNNING_AT_ONCE)
        self._lock = threading.RLock()  # jobs that a hook runs change in threads of their own

    def plan(self, failure: str | None, times: int) -> None:
        """Make the next jobs fail with this message, or never end if it is None."""
        self._planned += [_Course(None) if failure is None else _Course(self._polls, failure) for _ in range(times)]

    def add(self, name: str, job: Json, run: Callable[[Json], Json] | None) -> Json:
        """Add a job; `run` does its work and returns further fields of the job."""
        check_room(self._all)
        if name in self._all:
            raise Refusal(409, f"{name} already exists.")
        job.update(name=f"{self._place.name}/{name}", createTime=now(), updateTime=now())
        job["state"] = self._prefix + "PENDING"
        self._all[name] = job
        if self._planned:
            self._courses[name] = self._planned.pop(0)
        elif run:
            threading.Thread(target=self._run, args=(job, run), daemon=True).start()
        else:
            self._courses[name] = _Course(self._polls)
        return copy.deepcopy(job)

    def get(self, name: str) -> Json:
        """Return the job; each call advances a job that no hook runs."""
        with self._lock:
            job = self._existing(name)
            course = self._courses.get(name)
            if course and not self._ended(job):
                self._step(job, course)
            return copy.deepcopy(job)

    def list(self, field: str, query: dict[str, str]) -> Json:
        """Return the jobs."""
        with self._lock:
            return page(copy.deepcopy(list(self._all.values())), field, query)

    def cancel(self, name: str) -> Json:
        """Cancel a job that has not ended."""
        job = self._existing(name)
        if self._ended(job):
            raise precondition(f"{name} has ended.")
        self._end(job, "CANCELLED", error={"code": 1, "message": "The job was cancelled."})
        return {}

    def delete(self, name: str) -> Json:
        """Start the deletion of a job that has ended."""
        if not self._ended(self._existing(name)):
            raise precondition(f"{name} has not ended. Cancel it first.")
        return self._operations.start(name, "Delete", lambda: remove(self._all, name))

    def _existing(self, name: str) -> Json:
        if name not in self._all:
            raise not_found(f"{self._place.name}/{name}")
        return self._all[name]

    def _run(self, job: Json, run: Callable[[Json], Json]) -> None:
        with self._running:
            self._set(job, "RUNNING", startTime=now())
            try:
                added = run(copy.deepcopy(job))
            except Exception as error:
                self._end(job, "FAILED", error={"code": 13, "message": f"{type(error).__name__}: {error}"})
            else:
                self._end(job, "SUCCEEDED", **added)

    def _step(self, job: Json, course: _Course) -> None:
        if course.polls is None or course.polls > 1:
            self._set(job, "RUNNING", startTime=job.get("startTime", now()))
            self._set_tasks(job, "RUNNING")
            course.polls = course.polls and course.polls - 1
        elif course.failure:
            self._end(job, "FAILED", error={"code": 13, "message": course.failure})
        else:
            self._end(job, "SUCCEEDED")

    def _end(self, job: Json, state: str, **fields: Any) -> None:
        with self._lock:
            self._set_tasks(job, state)
            self._set(job, state, endTime=now(), **fields)

    def _set(self, job: Json, state: str, **fields: Any) -> None:
        with self._lock:
            if self._ended(job):
                return  # cancelled, while something ran it
            job.update(fields, state=self._prefix + state, updateTime=now())

    def _set_tasks(self, job: Json, state: str) -> None:
        """Put the unfinished tasks into a state; a job that fails does not reach the waiting ones."""
        for task in [] if self._ended(job) else job.get("jobDetail", {}).get("taskDetails", []):
            if (task["state"], state) == ("PENDING", "FAILED"):
                task["state"] = "NOT_TRIGGERED"
            elif task["state"] not in _TASK_ENDED:
                _put(task, state)

    def _ended(self, job: Json) -> bool:
        return job["state"].removeprefix(self._prefix) in ("SUCCEEDED", "FAILED", "CANCELLED")


def _put(task: Json, state: str) -> None:
    """Put a task into a state and set its times."""
    task["state"] = state
    if state == "RUNNING":
        task.setdefault("startTime", now())
    elif state in _TASK_ENDED and "startTime" in task:
        task["endTime"] = now()


class PipelineJobs(Jobs):
    """Jobs of compiled pipelines. A task without a state of its own has its job's state."""

    def __init__(self, place: Place, operations: Operations, polls: int, hook: PipelineHook | None) -> None:
        super().__init__(place, operations, "PIPELINE_STATE_", polls)
        self._hook, self._ids = hook, itertools.count(1)

    def create(self, body: Json, query: dict[str, str]) -> Json:
        """Start a pipeline job, under the id `pipelineJobId` if given."""
        job = parse(body, v1.PipelineJob, "pipelineSpec", "runtimeConfig.gcsOutputDirectory")
        wanted = query.get("pipelineJobId") or f"pipeline-{next(self._ids)}"
        if not _ID.fullmatch(wanted):
            raise Refusal(400, f"Invalid pipeline job id: {wanted!r}.", field="pipelineJobId")
        _check_spec(job)
        _check_gcs(job["runtimeConfig"]["gcsOutputDirectory"], "runtimeConfig.gcsOutputDirectory")
        tasks = job["pipelineSpec"].get("root", {}).get("dag", {}).get("tasks", {})
        details = [{"taskId": str(n), "taskName": task, "state": "PENDING"} for n, task in enumerate(sorted(tasks), 1)]
        job["jobDetail"] = {"taskDetails": details}
        return self.add(f"pipelineJobs/{wanted}", job, self._hooked if self._hook else None)

    def set_task_state(self, job_name: str, task: str, state: str) -> None:
        """Put a task of a job that a hook runs into a state."""
        with self._lock:
            job = self._existing(self._place.local(job_name))
            for detail in [] if self._ended(job) else job["jobDetail"]["taskDetails"]:
                if detail["taskName"] == task:
                    _put(detail, state)

    def _hooked(self, job: Json) -> Json:
        assert self._hook
        self._hook(job)
        return {}


class BatchPredictionJobs(Jobs):
    """Batch predictions. The hook writes the results."""

    def __init__(self, place: Place, operations: Operations, polls: int, hook: BatchHook | None) -> None:
        super().__init__(place, operations, "JOB_STATE_", polls)
        self._hook, self._ids = hook, itertools.count(3000)
        self._folders: dict[str, str] = {}

    def create(self, body: Json, models: Models) -> Json:
        """Start a batch prediction; each call starts one more, whatever its display name."""
        job = parse(
            body,
            v1.BatchPredictionJob,
            "displayName",
            "model",
            "inputConfig.gcsSource.uris",
            "outputConfig.gcsDestination.outputUriPrefix",
            "dedicatedResources.machineSpec.machineType",
            "dedicatedResources.startingReplicaCount",
        )
        _check_format(job["inputConfig"].get("instancesFormat"), INSTANCES, "inputConfig.instancesFormat")
        _check_format(job["outputConfig"].get("predictionsFormat"), PREDICTIONS, "outputConfig.predictionsFormat")
        for uri in job["inputConfig"]["gcsSource"]["uris"]:
            _check_gcs(uri, "inputConfig.gcsSource.uris")
        prefix = job["outputConfig"]["gcsDestination"]["outputUriPrefix"]
        _check_gcs(prefix, "outputConfig.gcsDestination.outputUriPrefix")
        version = models.version(self._place.local(job["model"]))
        job["modelVersionId"] = version["versionId"]
        name = f"batchPredictionJobs/{next(self._ids)}"
        folder = f"{prefix.rstrip('/')}/prediction-{version['displayName']}-{_stamp()}"
        self._folders[f"{self._place.name}/{name}"] = folder
        return self.add(name, job, self._hooked if self._hook else None)

    def _end(self, job: Json, state: str, **fields: Any) -> None:
        if state == "SUCCEEDED":
            fields["outputInfo"] = {"gcsOutputDirectory": self._folders[job["name"]]}
        super()._end(job, state, **fields)

    def _hooked(self, job: Json) -> Json:
        assert self._hook
        count = self._hook(job, self._folders[job["name"]])
        return {"completionStats": {"successfulCount": str(count)}}


def _check_spec(job: Json) -> None:
    spec = job["pipelineSpec"]
    declared = set(spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {}))
    given = set(job["runtimeConfig"].get("parameterValues", {}))
    if unknown := given - declared:
        raise Refusal(400, f"The pipeline has no parameter {sorted(unknown)}.", field="runtimeConfig.parameterValues")
    if not spec.get("pipelineInfo", {}).get("name"):
        raise Refusal(400, "Required field is not set: pipelineSpec.pipelineInfo.name.", field="pipelineSpec")


def _check_format(name: Any, known: tuple[str, ...], field: str) -> None:
    if name not in known:
        raise Refusal(400, f"Unsupported format {name!r}. Use one of {', '.join(known)}.", field=field)


def _check_gcs(uri: str, field: str) -> None:
    if not uri.startswith("gs://"):
        raise Refusal(400, f"{uri!r} is no Cloud Storage URI.", field=field)


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y_%m_%dT%H_%M_%S_%fZ")
