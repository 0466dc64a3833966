"""What is recorded of the pipeline runs: their tasks, and the files that a report reads, by the job that they ran for.

On one machine ML Metadata knows. On Google Cloud the service tells the times, and the outputs tell by their places:
`<root>/<project number>/<run>/<task>_<number>/<output>/<file>`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from adaptation.io import storage
from adaptation.platforms.base import Job
from adaptation.platforms.vertex.client import VertexClient
from adaptation.platforms.vertex.config import VertexConfig
from adaptation.platforms.vertex.jobs import VertexJobs
from components.artifacts import COMPARISON, DECISION, EVALUATION, JOB, SNAPSHOT, VERDICT
from pipeline.report.content import RunFacts, TaskFacts

RUNS = 100
_RUN_OF = "job"  # the property that `pipeline.local.runner` gives a run
_FILES = {
    ("FileListGen", "file_list"): (SNAPSHOT,),
    ("PerformanceEvaluator", "metrics"): (EVALUATION, DECISION),
    ("PipelineTrigger", "job"): (JOB,),
    ("ChampionGate", "blessing"): (VERDICT, COMPARISON),
}


@dataclass(frozen=True)
class RecordedRun:
    """A run.

    Attributes:
      job: Id of the job; "" where the run was killed before that was noted.
      started: ISO 8601, UTC; "" where it is not known.
      tasks: Its tasks in the order in which they began; none where they are not known.
      files: URIs of the files that its tasks wrote, by their names.
    """

    job: str
    started: str
    tasks: tuple[TaskFacts, ...]
    files: Mapping[str, str]


def recorded_locally(database: str) -> list[RecordedRun]:
    """The newest runs in a file of ML Metadata, the first first; none where there is no file."""
    if not os.path.exists(database):
        return []
    source = mlmd.SqliteMetadataSourceConfig(
        filename_uri=database, connection_mode=mlmd.SqliteMetadataSourceConfig.READONLY
    )
    store = MetadataStore(mlmd.ConnectionConfig(sqlite=source))
    contexts = sorted(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
    return [_run(store, context) for context in contexts[-RUNS:]]


def recorded_in_storage(root: str, name: str) -> list[RecordedRun]:
    """The runs that have left files in a pipeline's output folder.

    Args:
      root: The folder.
      name: Name of the deployment, which the runs' names start with.
    """
    wanted = {file for files in _FILES.values() for file in files}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for file in storage.files_below(root):
        run = next((part for part in file.name.split("/") if part.startswith(f"{name}-")), "")
        if run and storage.basename(file.name) in wanted:
            found[run.removeprefix(f"{name}-")][storage.basename(file.name)] = storage.join(root, file.name)
    return [RecordedRun(job, "", (), files) for job, files in sorted(found.items())]


def timed_by_service(config: VertexConfig, jobs: Sequence[Job]) -> list[RunFacts]:
    """The jobs with their tasks, as Vertex AI has timed them; none of a job without a task that has ended."""
    service = VertexJobs(VertexClient(config))
    return [run_facts(job.id, job.pipeline, job.created, tasks) for job in jobs if (tasks := _timed(service, job))]


def run_facts(job: str, pipeline: str, started: str, tasks: tuple[TaskFacts, ...]) -> RunFacts:
    """A run with the sum of its tasks' times."""
    return RunFacts(job, pipeline, started, round(sum(task.seconds for task in tasks), 3), tasks)


def _timed(service: VertexJobs, job: Job) -> tuple[TaskFacts, ...]:
    return tuple(TaskFacts(task.name, task.state, task.seconds) for task in service.tasks(job.id))


def _run(store: MetadataStore, context: mlmd.Context) -> RecordedRun:
    executions = sorted(store.get_executions_by_context(context.id), key=lambda execution: execution.id)
    nodes = {execution.id: _node(store, execution) for execution in executions}
    return RecordedRun(
        job=context.custom_properties[_RUN_OF].string_value if _RUN_OF in context.custom_properties else "",
        started=_time(context.create_time_since_epoch),
        tasks=tuple(_task(execution, nodes[execution.id]) for execution in executions),
        files=_files(store, nodes),
    )


def _node(store: MetadataStore, execution: mlmd.Execution) -> str:
    names = [context.name for context in store.get_contexts_by_execution(execution.id) if context.type == "node"]
    return str(names[0]).rpartition(".")[2]


def _task(execution: mlmd.Execution, name: str) -> TaskFacts:
    state = mlmd.Execution.State.Name(execution.last_known_state).lower()
    milliseconds = execution.last_update_time_since_epoch - execution.create_time_since_epoch
    return TaskFacts(name, state, milliseconds / 1000)


def _files(store: MetadataStore, nodes: Mapping[int, str]) -> dict[str, str]:
    events = [event for event in store.get_events_by_execution_ids(list(nodes)) if event.type == mlmd.Event.OUTPUT]
    uris = {one.id: one.uri for one in store.get_artifacts_by_id([event.artifact_id for event in events])}
    return {
        name: storage.join(uris[event.artifact_id], name)
        for event in events
        for name in _FILES.get((nodes[event.execution_id], event.path.steps[0].key), ())
    }


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
