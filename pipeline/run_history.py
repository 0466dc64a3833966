"""The pipeline runs with their tasks' times and the files that they wrote.

For the report, the cost and the durations. On one machine ML Metadata has both. On Google Cloud the service has the
times, and the outputs are found by their places:
`<root>/<project number>/<run>/<task>_<number>/<output>/<file>`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from adaptation.io import storage
from adaptation.platforms.base import Job, JobState
from adaptation.platforms.vertex.client import VertexClient
from adaptation.platforms.vertex.jobs import VertexJobs
from components import artifacts
from pipeline.workspace.settings import Settings
from pipeline.workspace.vertex_settings import PIPELINES, vertex_config
from pipeline.workspace.workspace import Workspace

RUNS = 100
_RUN_OF = "job"  # the property that `pipeline.local.runner` gives a run
_SUCCEEDED = ("complete", "cached")
_FILES = {
    ("FileListGen", "file_list"): (artifacts.SNAPSHOT,),
    ("DriftDetector", "look"): (artifacts.LOOK,),
    ("PerformanceEvaluator", "metrics"): (artifacts.EVALUATION, artifacts.DECISION),
    ("PipelineTrigger", "job"): (artifacts.JOB,),
    ("ChampionGate", "blessing"): (artifacts.VERDICT, artifacts.PAIRS, artifacts.FURTHER_METRICS),
}


@dataclass(frozen=True)
class TaskRun:
    """A task of a run: how it ended and how long it took."""

    name: str
    state: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """A pipeline run.

    Attributes:
      job: Id of the job; "" if the run was killed before that was recorded.
      pipeline: `training` or `evaluation`.
      started: ISO 8601, UTC; "" if unknown.
      tasks: Its tasks in the order in which they began; empty if unknown.
      files: URIs of the files that its tasks wrote, by their names; empty if unknown.
    """

    job: str
    pipeline: str
    started: str
    tasks: tuple[TaskRun, ...]
    files: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """The sum of its tasks' times."""
        return round(sum(task.seconds for task in self.tasks), 3)


def recorded_runs(workspace: Workspace, pipeline: str) -> list[Run]:
    """Read the newest runs of a pipeline with their files, oldest first; on one machine their tasks, too."""
    settings = workspace.settings
    if settings.target.remote:
        return _in_storage(settings.vertex.output_folder(pipeline), settings.name, pipeline)
    return _on_this_machine(workspace, pipeline)


def timed_by_service(settings: Settings, jobs: Iterable[Job]) -> list[Run]:
    """Read the tasks of jobs from Vertex AI; a job without an ended task is left out."""
    service = VertexJobs(VertexClient(vertex_config(settings)))
    return [Run(job.id, job.pipeline, job.created, tasks, {}) for job in jobs if (tasks := _tasks(service, job))]


def newest_durations(workspace: Workspace) -> dict[str, Mapping[str, float]]:
    """Return the seconds by pipeline and task, of each pipeline's newest run that succeeded, if any.

    An evaluation that led to a span is preferred: it has more tasks.
    """
    newest: dict[str, Mapping[str, float]] = {}
    for run in _succeeded(workspace):
        if len(run.tasks) >= len(newest.get(run.pipeline, {})):
            newest[run.pipeline] = {task.name: task.seconds for task in run.tasks}
    return newest


def _tasks(service: VertexJobs, job: Job) -> tuple[TaskRun, ...]:
    return tuple(TaskRun(task.name, task.state, task.seconds) for task in service.tasks(job.id))


def _succeeded(workspace: Workspace) -> Iterator[Run]:
    """Yield the runs that succeeded, with their tasks, oldest first."""
    if workspace.settings.target.remote:
        jobs = (job for job in workspace.jobs.list() if job.pipeline in PIPELINES and job.state is JobState.SUCCEEDED)
        yield from timed_by_service(workspace.settings, jobs)
        return
    for pipeline in PIPELINES:
        for run in recorded_runs(workspace, pipeline):
            if run.tasks and all(task.state in _SUCCEEDED for task in run.tasks):
                yield run


def _on_this_machine(workspace: Workspace, pipeline: str) -> list[Run]:
    database, root = workspace.folder("metadata", f"{pipeline}.sqlite"), workspace.folder("pipelines", pipeline)
    if not os.path.exists(database):
        return []
    source = mlmd.SqliteMetadataSourceConfig(
        filename_uri=database, connection_mode=mlmd.SqliteMetadataSourceConfig.READONLY
    )
    store = MetadataStore(mlmd.ConnectionConfig(sqlite=source))
    contexts = sorted(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
    return [_run(store, context, pipeline, root) for context in contexts[-RUNS:]]


def _in_storage(root: str, name: str, pipeline: str) -> list[Run]:
    """Return the runs with files in a pipeline's output folder; their names start with the deployment's."""
    wanted = {file for files in _FILES.values() for file in files}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for file in storage.files_below(root):
        run = next((part for part in file.name.split("/") if part.startswith(f"{name}-")), "")
        if run and storage.basename(file.name) in wanted:
            found[run.removeprefix(f"{name}-")][storage.basename(file.name)] = storage.join(root, file.name)
    return [Run(job, pipeline, "", (), files) for job, files in sorted(found.items())]


def _run(store: MetadataStore, context: mlmd.Context, pipeline: str, root: str) -> Run:
    executions = sorted(store.get_executions_by_context(context.id), key=lambda execution: execution.id)
    nodes = {execution.id: _node(store, execution) for execution in executions}
    return Run(
        job=context.custom_properties[_RUN_OF].string_value if _RUN_OF in context.custom_properties else "",
        pipeline=pipeline,
        started=_time(context.create_time_since_epoch),
        tasks=tuple(_task(execution, nodes[execution.id]) for execution in executions),
        files=_files(store, nodes, root),
    )


def _node(store: MetadataStore, execution: mlmd.Execution) -> str:
    names = [context.name for context in store.get_contexts_by_execution(execution.id) if context.type == "node"]
    return str(names[0]).rpartition(".")[2]


def _task(execution: mlmd.Execution, name: str) -> TaskRun:
    state = mlmd.Execution.State.Name(execution.last_known_state).lower()
    milliseconds = execution.last_update_time_since_epoch - execution.create_time_since_epoch
    return TaskRun(name, state, milliseconds / 1000)


def _files(store: MetadataStore, nodes: Mapping[int, str], root: str) -> dict[str, str]:
    """Return the URIs of a run's files below the pipeline's root, where a moved or copied workspace has them, too."""
    below = "/".join(root.rsplit("/", 2)[1:])
    events = [event for event in store.get_events_by_execution_ids(list(nodes)) if event.type == mlmd.Event.OUTPUT]
    recorded = {one.id: one.uri for one in store.get_artifacts_by_id([event.artifact_id for event in events])}
    return {
        name: storage.join(root, recorded[event.artifact_id].rpartition(f"/{below}/")[2], name)
        for event in events
        for name in _FILES.get((nodes[event.execution_id], event.path.steps[0].key), ())
    }


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
