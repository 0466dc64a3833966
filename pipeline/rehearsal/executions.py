"""The record of what rehearsals ran and made: the part of Vertex AI's ML Metadata that resolvers and the cache ask.

It is a journal, so that any number of runs can write it at the same time and a killed one leaves it whole. An execution
is entered when it starts and again when it ends; its last entry is the one that counts. One that was killed with its
rehearsal stays RUNNING. What tasks do is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import yaml

from adaptation.io.journal import Journal, Record
from pipeline.compiled.spec import BrokenSpec

_STORE = "projects/rehearsal/locations/local/metadataStores/default/artifacts"
_CLAUSE = re.compile(r"""(?P<field>[\w.]+)=(?:"(?P<text>.*)"|(?P<plain>[^"\s]+))""")


class TaskState(StrEnum):
    """How a task stands.

    CACHED: an earlier result was taken over. SKIPPED: its condition does not hold, or a task before it was skipped.
    NOT_STARTED: not yet, or never, because a task before it failed. CANCELLED: it was ended from outside.
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
        """Whether the task's outputs are there."""
        return self in (TaskState.SUCCEEDED, TaskState.CACHED)


@dataclass(frozen=True)
class Artifact:
    """An artifact as the tasks' containers see it.

    Attributes:
      name: Names it for ever, like the resource name on Vertex AI.
      type: The `ArtifactTypeSchema`: `instanceSchema` or `schemaTitle`.
      uri: Where it is.
      metadata: Properties and custom properties; a number has one type there, so that a whole one is an int here.
    """

    name: str
    type: Mapping[str, str]
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The type's name, like `tfx.Model`."""
        if "schemaTitle" in self.type:
            return self.type["schemaTitle"]
        return str(yaml.safe_load(self.type["instanceSchema"])["title"])

    def with_metadata(self, metadata: Mapping[str, Any]) -> Artifact:
        """The artifact with more properties."""
        return replace(self, metadata={**self.metadata, **{name: _plain(value) for name, value in metadata.items()}})


Artifacts = Mapping[str, tuple[Artifact, ...]]


@dataclass(frozen=True)
class Execution:
    """One run of one task.

    Attributes:
      number: Names it among all of the record.
      pipeline: Name of the pipeline.
      run: Name of the pipeline run.
      task: The task.
      state: How it stands, or ended.
      message: Why it failed; else empty.
      key: Names what it did to what; an execution with the same key would make the same. Empty where not cached.
      outputs: What it made, by output name.
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
        """An artifact of a name that no other has."""
        return Artifact(f"{_STORE}/{self.number}-{output}", type, uri)


class Metadata:
    """The record in one folder."""

    def __init__(self, folder: str) -> None:
        self._journal = Journal(folder, Execution)

    def begin(self, pipeline: str, run: str, task: str) -> Execution:
        """Enters an execution that starts now."""

        def beginning(last: Record[Execution] | None) -> Execution:
            return Execution(last.number + 1 if last else 1, pipeline, run, task, TaskState.RUNNING)

        begun = self._journal.update(beginning)
        assert begun is not None
        return begun.value

    def end(self, execution: Execution) -> None:
        """Enters how an execution ended.

        Failure: it stays as it was entered before.
        """
        self._journal.update(lambda last: execution)

    def executions(self, pipeline: str) -> list[Execution]:
        """The pipeline's executions as they stand, the one that was entered last comes last."""
        last: dict[int, Execution] = {}
        for record in self._journal.records():
            execution = record.value
            last.pop(execution.number, None)
            last[execution.number] = execution
        return [execution for execution in last.values() if execution.pipeline == pipeline]

    def done(self, pipeline: str, run: str, task: str) -> Execution | None:
        """The last execution of a task in a run whose outputs are there."""
        return self._newest(pipeline, lambda execution: (execution.run, execution.task) == (run, task))

    def cached(self, pipeline: str, key: str) -> Execution | None:
        """The last execution that did the same to the same."""
        return self._newest(pipeline, lambda execution: execution.key == key)

    def find(self, pipeline: str, query: str) -> Artifact | None:
        """The artifact of the pipeline that was made last among those that a query names.

        Args:
          pipeline: Vertex AI looks among the artifacts of the pipeline that asks.
          query: Like `schema_title="tfx.Model" AND state=LIVE`.

        Raises:
          BrokenSpec: It has another form than those that TFX writes.
        """
        wanted = [_clause(text) for text in query.split(" AND ")]
        made = [artifact for artifact in self._made(pipeline) if all(holds(artifact) for holds in wanted)]
        return made[-1] if made else None

    def _made(self, pipeline: str) -> Iterator[Artifact]:
        for execution in self.executions(pipeline):
            if execution.state is TaskState.SUCCEEDED:
                for artifacts in execution.outputs.values():
                    yield from artifacts

    def _newest(self, pipeline: str, wanted: Callable[[Execution], bool]) -> Execution | None:
        found = [one for one in self.executions(pipeline) if one.state.done and wanted(one)]
        return found[-1] if found else None


def _clause(text: str) -> Callable[[Artifact], bool]:
    match = _CLAUSE.fullmatch(text.strip())
    if match is None:
        raise _unknown(text)
    name, value = match["field"], match["text"] if match["text"] is not None else match["plain"]
    if name == "schema_title":
        return lambda artifact: artifact.title == value
    if name == "name":
        return lambda artifact: artifact.name == value
    if name == "uri":
        return lambda artifact: artifact.uri == value
    if (name, value) == ("state", "LIVE"):
        return lambda artifact: True
    return _property(text, name, value)


def _property(text: str, name: str, value: str) -> Callable[[Artifact], bool]:
    match = re.fullmatch(r"metadata\.(\w+)\.(number|string)_value", name)
    if match is None:
        raise _unknown(text)
    wanted = float(value) if match[2] == "number" else value
    return lambda artifact: artifact.metadata.get(match[1]) == wanted


def _unknown(text: str) -> BrokenSpec:
    return BrokenSpec(f"the artifact query {text!r} is not of a form that TFX writes.")


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
