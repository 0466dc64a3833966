"""Retraining: a training that was decided is started once, repeated after a failure, and followed to its end.

    <records root>/trainings/0001.json   ->   job training-span-2-1a2b3c4d-1

The decision is recorded before the span that it is about is published, and each attempt before its job is created. So
it is never lost: any later delivery creates a missing job, repeats a failed one (`MAX_ATTEMPTS` in all), or finds
nothing to do. One training runs at a time. What is decided meanwhile waits for its end, and lapses if there is a new
champion then.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.platforms.base import Job, JobFailed, JobRequest, Jobs, JobState, Registry

TRAINING = "training"
MAX_ATTEMPTS = 3
FOLDER = "trainings"


class Step(StrEnum):
    """What the last decided training needs."""

    NONE = "no training decided"
    DONE = "training done"
    RUNNING = "training"
    WAIT = "training waits"
    START = "start training"
    RESUME = "resume training"
    RETRY = "retry training"
    GIVE_UP = "training given up"


@dataclass(frozen=True)
class Decision:
    """A decided retraining.

    Attributes:
      span: Number of the span that it is about.
      cause: The evaluation run that decided it.
      champion: Number of the version that was found to be too bad.
      data_root: Folder or gs:// URI of the spans.
      window: Which spans to train on, see `windows.Window`; resolved when the training starts.
      ingestion: `spans` or `import`, see `windows.training_parameters`.
    """

    span: int
    cause: str
    champion: int
    data_root: str
    window: str
    ingestion: str


@dataclass(frozen=True)
class TrainingRecord:
    """The state of a training.

    Attributes:
      decision: What was decided; None for a training that a person started.
      job: Id of its job; of a training that has not begun, the job recorded before it, or none.
      attempt: 1 for the first job, 2 for the one that repeats it ...; 0 where it has not begun.
      parameters: What the job's pipeline gets; none where it has not begun.
      time: ISO 8601, UTC.
    """

    decision: Decision | None
    job: str
    attempt: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    time: str = ""


@dataclass(frozen=True)
class Training:
    """Return the training that was decided or started last, as it is now.

    Attributes:
      step: What it needs.
      reason: Why, as a sentence.
      record: The record; None where there is none yet.
      number: Number of the record; 0 where there is none.
      job: The job that the record names, if it exists.
    """

    step: Step = Step.NONE
    reason: str = "no training was decided yet"
    record: TrainingRecord | None = None
    number: int = 0
    job: Job | None = None

    @property
    def is_open(self) -> bool:
        """Return True until it has ended: it runs, waits, or needs a delivery or a person."""
        return self.step not in (Step.NONE, Step.DONE)

    @property
    def advice(self) -> str:
        """What a person has to know or to do for its end; empty if nothing."""
        if self.step in (Step.START, Step.RESUME, Step.RETRY):
            return f'{self.reason}. "adapt watch", "adapt evaluate" or the Cloud Function continues it.'
        return self.reason if self.step is Step.GIVE_UP else ""

    def follows(self, run: str) -> bool:
        """Return whether it was decided by this evaluation run, and the span that it is about is published."""
        decision = self.record.decision if self.record else None
        return decision is not None and is_run_of(decision.cause, run) and _is_published(decision)


NO_TRAINING = Training()


def decide(records_root: str, decision: Decision) -> None:
    """Record a decision, once. The training begins by `deliver`, after the span was published.

    Failure: repeat it.
    """

    def change(record: TrainingRecord | None) -> TrainingRecord | None:
        if record and record.decision and record.decision.span == decision.span:
            return None
        return TrainingRecord(_kept(decision, records_root), record.job if record else "", 0, time=_now())

    _update(records_root, change)


def look(records_root: str, jobs: Jobs, registry: Registry) -> Training:
    """Return the last training and what it needs. Nothing is changed."""
    last = _journal(records_root).last()
    if last is None:
        return NO_TRAINING
    record = replace(last.value, decision=_resolved_root(last.value.decision, records_root))
    job = jobs.get(record.job) if record.job else None
    return Training(*next_step(record, job, registry), record, last.number, job)


def deliver(records_root: str, jobs: Jobs, registry: Registry) -> Training:
    """Start, resume or repeat the last training if it needs that.

    Returns:
      The training as it was found, with the record and the job that were made if any were.

    Failure: repeat the delivery. Of any number of them at once, one records each step.
    """
    training = look(records_root, jobs, registry)
    if training.record is None or training.step not in (Step.START, Step.RESUME, Step.RETRY):
        return training
    record = training.record if training.step is Step.RESUME else _next_attempt(training.record)
    if record != training.record and not _is_recorded(records_root, record, training.number):
        return look(records_root, jobs, registry)
    return replace(training, record=record, job=jobs.create(JobRequest(record.job, TRAINING, record.parameters)))


def start(records_root: str, jobs: Jobs, registry: Registry, decision: Decision) -> Job:
    """Start the training on a published span, once, or return the running job that it waits for.

    Raises:
      JobFailed: It has failed as often as it may be tried.
      InvalidWindow: Its window cannot be trained on.

    Failure: repeat it, or leave it to the next delivery.
    """
    decide(records_root, decision)
    training = deliver(records_root, jobs, registry)
    if training.step is Step.GIVE_UP or training.job is None:
        raise JobFailed(training.reason)
    return training.job


def start_by_hand(records_root: str, jobs: Jobs, registry: Registry, request: JobRequest) -> Job:
    """Start a training that a person asks for. It is not repeated after a failure.

    Raises:
      AdaptationError: Another training is running.

    Failure: repeat it, or leave it to the next delivery.
    """
    while True:
        training = deliver(records_root, jobs, registry)
        if training.job is not None and not training.job.state.ended:
            raise AdaptationError(f'{training.job.id} is running. Wait for its end; "adapt watch" shows it.')
        record = TrainingRecord(None, request.id, 1, dict(request.parameters), _now())
        if _is_recorded(records_root, record, training.number):
            return jobs.create(request)


def next_step(record: TrainingRecord, job: Job | None, registry: Registry) -> tuple[Step, str]:
    """Return what a recorded training needs, and why.

    Args:
      record: The record.
      job: The job that it names, if it exists.
      registry: The registry of the model.
    """
    if record.decision is not None and record.attempt == 0:
        return _before_start(record, record.decision, job, registry)
    if job is None or job.state is JobState.PENDING:
        return Step.RESUME, f"{record.job} was recorded, but nothing is known to run it"
    if job.state is JobState.RUNNING:
        return Step.RUNNING, f"{job.id} is running"
    if job.state is JobState.SUCCEEDED or _is_deployed(job, registry):
        return Step.DONE, f"{job.id} has ended"
    return _after_failure(record, job)


def _before_start(record: TrainingRecord, decision: Decision, job: Job | None, registry: Registry) -> tuple[Step, str]:
    training = f"the training on span-{decision.span}, decided by {decision.cause},"
    if job is not None and not job.state.ended:
        return Step.WAIT, f"{training} waits for {job.id}"
    if not _is_published(decision):
        return Step.WAIT, f"{training} waits for its span to be published"
    if (champion := registry.champion()) is not None and champion.number != decision.champion:
        return Step.DONE, f"{training} has lapsed: version {champion.number} has become the champion since"
    return Step.START, f"{training} has not begun"


def _after_failure(record: TrainingRecord, job: Job) -> tuple[Step, str]:
    failed = f"{job.id} failed ({job.message})"
    if record.decision is not None and record.attempt < MAX_ATTEMPTS:
        return Step.RETRY, f"{failed}; attempt {record.attempt + 1} of {MAX_ATTEMPTS}"
    times = f" at attempt {record.attempt} of {MAX_ATTEMPTS}" if record.decision else ""
    return Step.GIVE_UP, f'{failed}{times}. See {job.link}, fix the cause, then run "adapt train"'


def _is_deployed(job: Job, registry: Registry) -> bool:
    """Return True if the job's model became the champion. If the job died after that, nothing is left to repeat."""
    made = {version.number for version in registry.versions() if is_run_of(version.run, job.id)}
    return any(promotion.version in made for promotion in registry.promotions())


def is_run_of(run: str, job_id: str) -> bool:
    """Return True if a run is that of a job. A run's name on Vertex AI is the job's id after the deployment's name."""
    return run == job_id or run.endswith(f"-{job_id}")


def _is_published(decision: Decision) -> bool:
    from adaptation.data.spans import Span, SpanStore  # a delivery that finds no decision does not need them

    return SpanStore(decision.data_root).is_published(Span(decision.span))


def _next_attempt(record: TrainingRecord) -> TrainingRecord:
    """Return the record of the next job, which trains on the spans that the first attempt found."""
    assert record.decision is not None  # what a person started is not repeated
    parameters, digest = (record.parameters, "") if record.attempt else _resolved(record.decision)
    name = record.job.rpartition("-")[0] if record.attempt else f"{TRAINING}-span-{record.decision.span}-{digest[:8]}"
    attempt = record.attempt + 1
    return replace(record, job=f"{name}-{attempt}", attempt=attempt, parameters=parameters, time=_now())


def _resolved(decision: Decision) -> tuple[Mapping[str, str], str]:
    from adaptation.data.windows import select, training_parameters

    selection = select(decision.data_root, decision.window)
    return training_parameters(decision.data_root, selection, decision.ingestion), selection.digest


def _update(records_root: str, change: Callable[[TrainingRecord | None], TrainingRecord | None]) -> None:
    _journal(records_root).update(lambda last: change(last.value if last else None))


def _is_recorded(records_root: str, record: TrainingRecord, after: int) -> bool:
    """Make the record the current one; return False if another caller was faster."""
    try:
        kept = replace(record, decision=_kept(record.decision, records_root))
        _journal(records_root).append(kept, after=after)
    except FileExistsError:
        return False
    return True


def _kept(decision: Decision | None, records_root: str) -> Decision | None:
    """Return the decision as it is recorded: spans in the same workspace are named relative to it, which may move."""
    workspace = posixpath.dirname(records_root)
    if decision is None or not decision.data_root.startswith(f"{workspace}/"):
        return decision
    return replace(decision, data_root=posixpath.relpath(decision.data_root, workspace))


def _resolved_root(decision: Decision | None, records_root: str) -> Decision | None:
    if decision is None or posixpath.isabs(decision.data_root) or "://" in decision.data_root:
        return decision
    return replace(decision, data_root=storage.join(posixpath.dirname(records_root), decision.data_root))


def _journal(records_root: str) -> Journal[TrainingRecord]:
    return Journal(storage.join(records_root, FOLDER), TrainingRecord)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
