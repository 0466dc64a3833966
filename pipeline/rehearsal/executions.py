"""The record of rehearsals' executions and artifacts: what importers and the cache use of Vertex AI's ML Metadata.

It is a journal, so that any number of runs can write it at the same time and a killed one leaves it complete. An
execution is recorded when it starts and again when it ends; the last record counts. One that was killed with its
rehearsal stays RUNNING.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from adaptation.io.journal import Journal, Record

_STORE = "projects/rehearsal/locations/local/metadataStores/default/artifacts"


class TaskState(StrEnum):
    """The state of a task.

    CACHED: an earlier result was reused. SKIPPED: its condition does not hold, or an upstream task was skipped.
    NOT_STARTED: not yet, or never, because an upstream task failed. CANCELLED: it was stopped from outside.
    """

    NOT_STARTED = "NOT_STARTED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    CACHED = "CACHED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def done(self) -> bool:
        """True if the task's outputs exist."""
        return self in (TaskState.SUCCEEDED, TaskState.CACHED)


@dataclass(frozen=True)
class Artifact:
    """An artifact as the tasks' containers see it.

    Attributes:
      name: Its permanent name, like the resource name on Vertex AI.
      type: The `ArtifactTypeSchema`: `instanceSchema` or `schemaTitle`.
      uri: Where it is.
      metadata: Properties and custom properties; all numbers have one type there, so whole ones are ints here.
    """

    name: str
    type: Mapping[str, str]
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def with_metadata(self, metadata: Mapping[str, Any]) -> Artifact:
        """Return the artifact with more properties."""
        return replace(self, metadata={**self.metadata, **{name: _plain(value) for name, value in metadata.items()}})


Artifacts = Mapping[str, tuple[Artifact, ...]]


@dataclass(frozen=True)
class Execution:
    """One run of one task.

    Attributes:
      number: Its number in the record.
      pipeline: Name of the pipeline.
      run: Name of the pipeline run.
      task: The task.
      state: Its current or last state.
      message: Why it failed; else empty.
      key: The cache key; an execution with the same key would have the same outputs. Empty: not cached.
      outputs: Its artifacts by output name.
    """

    number: int
    pipeline: str
    run: str
    task: str
    state: TaskState
    message: str = ""
    key: str = ""
    outputs: Artifacts = field(default_factory=dict)

    def new_artifact(self, output: str, type: Mapping[str, str], uri: str) -> Artifact:
        """Return an artifact with a unique name."""
        return Artifact(f"{_STORE}/{self.number}-{output}", type, uri)


class Metadata:
    """The record in one folder."""

    def __init__(self, folder: str) -> None:
        self._journal = Journal(folder, Execution)

    def begin(self, pipeline: str, run: str, task: str) -> Execution:
        """Record an execution that starts now."""

        def beginning(last: Record[Execution] | None) -> Execution:
            return Execution(last.number + 1 if last else 1, pipeline, run, task, TaskState.RUNNING)

        begun = self._journal.update(beginning)
        assert begun is not None
        return begun.value

    def end(self, execution: Execution) -> None:
        """Record how an execution ended.

        Failure: the earlier record stays.
        """
        self._journal.update(lambda last: execution)

    def executions(self, pipeline: str) -> list[Execution]:
        """Return the pipeline's executions in their current state, the last recorded one last."""
        last: dict[int, Execution] = {}
        for record in self._journal.records():
            execution = record.value
            last.pop(execution.number, None)
            last[execution.number] = execution
        return [execution for execution in last.values() if execution.pipeline == pipeline]

    def done(self, pipeline: str, run: str, task: str) -> Execution | None:
        """Return the last execution of a task in a run that has outputs."""
        return self._newest(pipeline, lambda execution: (execution.run, execution.task) == (run, task))

    def cached(self, pipeline: str, key: str) -> Execution | None:
        """Return the last execution with the same cache key."""
        return self._newest(pipeline, lambda execution: execution.key == key)

    def at(self, pipeline: str, uri: str) -> Artifact | None:
        """Return the artifact of the pipeline that was made last of those at a URI, or None."""
        made = [artifact for artifact in self._made(pipeline) if artifact.uri == uri]
        return made[-1] if made else None

    def _made(self, pipeline: str) -> Iterator[Artifact]:
        for execution in self.executions(pipeline):
            if execution.state is TaskState.SUCCEEDED:
                for artifacts in execution.outputs.values():
                    yield from artifacts

    def _newest(self, pipeline: str, wanted: Callable[[Execution], bool]) -> Execution | None:
        found = [one for one in self.executions(pipeline) if one.state.done and wanted(one)]
        return found[-1] if found else None


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
