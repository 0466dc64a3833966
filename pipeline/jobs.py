"""Start jobs on a workspace: a training by hand, an evaluation by hand, and the trigger's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from adaptation import retraining
from adaptation.data.batches import Batch
from adaptation.data.waiting import waiting_of
from adaptation.data.windows import training_parameters
from adaptation.platforms.base import Job, JobRequest
from adaptation.retraining import TRAINING, start_by_hand
from adaptation.trigger import Delivery, Outcome, Plan, State, act, deliver, look, plan, tick
from pipeline.workspace.workspace import Workspace

if TYPE_CHECKING:
    from adaptation.evaluation.evidence import Evidence


def start_training(workspace: Workspace, window: str = "") -> Job:
    """Start a training job on a window of spans, by default the settings' own.

    Raises:
      AdaptationError: Another training is running; nothing was started.
      AdaptationError: The window is invalid, or names a span that is not published; nothing was started.
    """
    platform, request = workspace.platform, training_request(workspace, window)
    return start_by_hand(workspace.triggers, platform.jobs, platform.registry, request)


def training_request(workspace: Workspace, window: str = "") -> JobRequest:
    """Return the request for a training job on a window; errors as for `start_training`."""
    settings, selection = workspace.settings, workspace.select(window)
    ingestion = settings.training.ingestion if settings.target.remote else "spans"
    parameters = training_parameters(settings.data.root, selection, ingestion)
    return JobRequest(by_hand(TRAINING), TRAINING, parameters)


def by_hand(pipeline: str) -> str:
    """Return the id of a job that a person starts."""
    return f"{pipeline}-by-hand-{datetime.now(UTC):%Y%m%dt%H%M%S%f}"


def start_evaluation(workspace: Workspace, batch: str = "") -> Delivery:
    """Start the evaluation of a batch, by default the newest, however few of its images are new.

    If one is running, none is started; the delivery names the running job.

    Raises:
      InvalidBatch, NoBatch: The name is invalid, or the batch is missing or has no image outside spans.
      NoSuchModel: There is no champion to evaluate.
    """
    chosen = Batch.parse(batch) if batch else workspace.batches.newest()
    workspace.batches.snapshot(chosen).without(workspace.spans.images_of(str(chosen)))
    workspace.platform.registry.find()
    retraining.deliver(workspace.triggers, workspace.jobs, workspace.platform.registry)
    while True:
        state = _look(workspace, chosen, force=True)
        intended = plan(state)
        running = state.job if intended.outcome is Outcome.RUNNING else None
        job = act(intended, workspace.triggers, workspace.platform.jobs) or running
        if job or intended.outcome is not Outcome.START:  # else another process was faster: retry
            return Delivery(intended, job)


def continue_evaluation(workspace: Workspace, batch: Batch) -> Delivery | None:
    """Continue the evaluation of a batch that waits for labels, if enough of them have come; else return None.

    Raises:
      NoSuchModel: There is no champion to evaluate; nothing was started.

    Failure: the next delivery of the trigger continues it.
    """
    if waiting_of(workspace.batches, batch) is None:
        return None
    platform, min_images = workspace.platform, workspace.settings.collection.min_images
    platform.registry.find()
    training = retraining.deliver(workspace.triggers, platform.jobs, platform.registry)
    return deliver(workspace.batches, workspace.triggers, platform.jobs, min_images, training, batch)


def trigger(workspace: Workspace) -> Delivery:
    """Start the evaluation of the newest batch if enough new images have arrived.

    Raises:
      NoSuchModel: There is no champion to evaluate; nothing was started.
    """
    return tick(workspace.platform, workspace.batches, workspace.triggers, workspace.settings.collection.min_images)


def planned(workspace: Workspace, *, whole: bool = True) -> tuple[State, Plan]:
    """Return the trigger's current state and its plan, given a champion; `whole`: with all images counted."""
    state = _look(workspace, whole=whole)
    return state, plan(state)


def current_evidence(workspace: Workspace) -> Evidence | None:
    """Return the evidence against the champion so far; None without a champion, or under a rule without memory.

    Raises:
      AdaptationError: Under the rule `drop`, the champion's own figures are missing or say too little.
    """
    from adaptation.evaluation.decision import evidence_under
    from adaptation.evaluation.log import EvaluationLog, version_id

    champion = workspace.platform.registry.champion()
    if champion is None:
        return None
    log = EvaluationLog(workspace.batches, version_id(champion.number, champion.key))
    return evidence_under(workspace.settings.evaluation.criterion, log.blocks(), champion.recalls)


def _look(workspace: Workspace, batch: Batch | None = None, *, force: bool = False, whole: bool = False) -> State:
    jobs, min_images = workspace.platform.jobs, workspace.settings.collection.min_images
    training = retraining.look(workspace.triggers, jobs, workspace.platform.registry)
    return look(
        workspace.batches,
        workspace.triggers,
        jobs,
        min_images,
        batch=batch,
        force=force,
        whole=whole,
        training=training,
    )
