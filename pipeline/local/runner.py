"""Runs a pipeline on this machine with TFX's LocalDagRunner, reports the running component, checks how each ended.

LocalDagRunner does not raise if a component's input cannot be resolved: it records a failed execution and continues. So
the executions in ML Metadata decide whether a run succeeded.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import absl.logging
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx import v1 as tfx

from adaptation.platforms.base import JobFailed
from adaptation.progress import report

_RUNNING = "Component %s is running."
_SKIPPED = "Skipping execution for %s"
_RUN = "pipeline_run"
JOB = "job"


@dataclass(frozen=True)
class Output:
    """An artifact that a run made: its URI and custom properties."""

    uri: str
    properties: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished run: its id and its outputs, by component and output name; a component that was skipped has none."""

    id: str
    outputs: Mapping[tuple[str, str], Output]


def run_pipeline(pipeline: tfx.dsl.Pipeline, job: str) -> Run:
    """Run the pipeline to its end, and record the job of the run in ML Metadata, also after a failure.

    Args:
      pipeline: The pipeline.
      job: Id of the job.

    Raises:
      JobFailed: An execution is recorded as failed; the message names the components.
      Exception: What a component raised.
    """
    store = MetadataStore(pipeline.metadata_connection_config)
    try:
        with _progress(len(pipeline.components)):
            tfx.orchestration.LocalDagRunner().run(pipeline)
    finally:
        _note_job(store, job)
    return _read_run(store)


class _ComponentProgress(logging.Handler):
    """A handler that turns the runner's own log lines into progress."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.started = 0
        self.total = total

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == _RUNNING:
            self.started += 1
            report(f"{record.getMessage().split()[1]} ({self.started} of {self.total})")
        elif record.msg == _SKIPPED:
            report(f"{record.getMessage().split()[-1]}: not called for")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[None]:
    logger, handler = logging.getLogger("absl"), _ComponentProgress(total)
    absl.logging.set_verbosity(absl.logging.INFO)  # TensorFlow resets the logger's level, not this
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _note_job(store: MetadataStore, job: str) -> None:
    """Record the job of the last run, which TFX names by its time; leave another job's run as it is."""
    last = max(store.get_contexts_by_type(_RUN), key=lambda context: context.id, default=None)
    if last is not None and JOB not in last.custom_properties:
        last.custom_properties[JOB].string_value = job
        store.put_contexts([last])


def _read_run(store: MetadataStore) -> Run:
    context = max(store.get_contexts_by_type(_RUN), key=lambda context: context.id)
    nodes = {execution.id: _node(store, execution) for execution in store.get_executions_by_context(context.id)}
    _refuse_failures(store, nodes)
    return Run(context.name, _outputs(store, nodes))


def _node(store: MetadataStore, execution: mlmd.Execution) -> str:
    names = [context.name for context in store.get_contexts_by_execution(execution.id) if context.type == "node"]
    return str(names[0]).rpartition(".")[2]


def _refuse_failures(store: MetadataStore, nodes: Mapping[int, str]) -> None:
    executions = store.get_executions_by_id(list(nodes))
    failed = [nodes[one.id] for one in executions if one.last_known_state == mlmd.Execution.FAILED]
    if failed:
        raise JobFailed(f"{', '.join(failed)} failed. The job's log says why.")


def _outputs(store: MetadataStore, nodes: Mapping[int, str]) -> dict[tuple[str, str], Output]:
    events = [event for event in store.get_events_by_execution_ids(list(nodes)) if event.type == mlmd.Event.OUTPUT]
    artifacts = {
        artifact.id: artifact for artifact in store.get_artifacts_by_id([event.artifact_id for event in events])
    }
    return {
        (nodes[event.execution_id], event.path.steps[0].key): _output(artifacts[event.artifact_id]) for event in events
    }


def _output(artifact: mlmd.Artifact) -> Output:
    values = {name: getattr(value, value.WhichOneof("value")) for name, value in artifact.custom_properties.items()}
    return Output(artifact.uri, values)
