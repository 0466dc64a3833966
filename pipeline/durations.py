"""How long the tasks of the newest runs took: ML Metadata tells on one machine, the service on Google Cloud."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adaptation.platforms.base import JobState
from adaptation.platforms.vertex.client import VertexClient
from adaptation.platforms.vertex.config import VERTEX
from adaptation.platforms.vertex.jobs import VertexJobs
from adaptation.trigger import EVALUATION, TRAINING
from pipeline.run_history import recorded_locally
from pipeline.workspace.vertex_settings import vertex_config
from pipeline.workspace.workspace import Workspace

PIPELINES = (EVALUATION, TRAINING)
_WENT_WELL = ("complete", "cached")


def newest_durations(workspace: Workspace) -> dict[str, Mapping[str, float]]:
    """Seconds by pipeline and task, of the newest run of each pipeline that went well; none of one without such a run.

    An evaluation that led to a span is taken before one that did not: its tasks are more.
    """
    runs = _in_cloud(workspace) if workspace.settings.platform.kind == VERTEX else _on_this_machine(workspace)
    newest: dict[str, Mapping[str, float]] = {}
    for pipeline, tasks in runs:  # the oldest first
        if len(tasks) >= len(newest.get(pipeline, {})):
            newest[pipeline] = tasks
    return newest


def _on_this_machine(workspace: Workspace) -> Iterator[tuple[str, Mapping[str, float]]]:
    for pipeline in PIPELINES:
        for run in recorded_locally(workspace.folder("metadata", f"{pipeline}.sqlite")):
            if run.tasks and all(task.state in _WENT_WELL for task in run.tasks):
                yield pipeline, {task.name: task.seconds for task in run.tasks}


def _in_cloud(workspace: Workspace) -> Iterator[tuple[str, Mapping[str, float]]]:
    jobs = VertexJobs(VertexClient(vertex_config(workspace.settings)))
    for job in jobs.list():
        if job.pipeline in PIPELINES and job.state is JobState.SUCCEEDED:
            yield job.pipeline, {task.name: task.seconds for task in jobs.tasks(job.id)}
