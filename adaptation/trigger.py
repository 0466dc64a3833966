"""The trigger: when enough new images have arrived, their evaluation is started, exactly once.

`look` reads the state of things, `plan` says what follows from it, `act` carries it out. Any number of deliveries may
do so at the same time, and any of them may be cut off after any step: what is triggered is recorded in a journal before
its job is created, and the number of the record names the job. So a record is made once, its job is created once, and a
job that is missing is created by the next delivery.

    <records root>/2021-10/0001.json  ->  job evaluation-2021-10-0001

What the jobs do is the pipelines' matter. One thing is asked of them: an evaluation has marked its images as evaluated
(`BatchStore.mark_evaluated`) before it has succeeded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from adaptation import storage
from adaptation.batches import Batch, BatchStore, NoBatch, Snapshot
from adaptation.errors import AdaptationError
from adaptation.journal import Journal, Record
from adaptation.platforms.base import Job, JobRequest, Jobs, JobState

EVALUATION, TRAINING = "evaluation", "training"
MAX_ATTEMPTS = 3


class TrainingFailed(AdaptationError, RuntimeError):
    """A training that failed as often as it may be tried."""


class Outcome(StrEnum):
    """What a delivery leads to."""

    NO_BATCH = "no batch"
    NOTHING_NEW = "nothing new"
    NOT_ENOUGH = "not enough"
    RUNNING = "running"
    START = "start"
    RESUME = "resume"
    RETRY = "retry"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class TriggerRecord:
    """An evaluation that was triggered.

    Attributes:
      number: Number of the record in its batch's journal.
      job: Id of the job.
      attempt: 1 for an evaluation's first job, 2 for the one that repeats it after a failure ...
      images: How many images the batch had.
      digest: Names their list.
      time: ISO 8601, UTC.
      reason: Why it was triggered.
    """

    number: int
    job: str
    attempt: int
    images: int
    digest: str
    time: str
    reason: str


@dataclass(frozen=True)
class State:
    """What a delivery finds.

    Attributes:
      batch: The month that it is about; None where there is none.
      images: How many images the batch has now.
      new: How many of them have not been evaluated.
      digest: Names the list of the batch's images.
      last: The batch's last record.
      job: The job that it names, where there is one.
      min_images: New images that are worth an evaluation.
      max_attempts: How often an evaluation is tried.
      force: Whether a person asked for an evaluation whatever the number of new images.
    """

    batch: Batch | None
    images: int = 0
    new: int = 0
    digest: str = ""
    last: TriggerRecord | None = None
    job: Job | None = None
    min_images: int = 100
    max_attempts: int = MAX_ATTEMPTS
    force: bool = False


@dataclass(frozen=True)
class Plan:
    """What follows from a state, and the reason for a person to read.

    `job_id`, `number` and `attempt` tell of the job that is meant: the one to create for START, RESUME and RETRY, the
    one recorded for the others, or none ("", 0, 0). `images` and `digest` go into the record.
    """

    outcome: Outcome
    reason: str
    batch: Batch | None = None
    job_id: str = ""
    number: int = 0
    attempt: int = 0
    images: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Delivery:
    """What became of a delivery: the plan and, where one was created, the job."""

    plan: Plan
    job: Job | None


def deliver(batches: BatchStore, records_root: str, jobs: Jobs, min_images: int, force: bool = False) -> Delivery:
    """Looks, plans and acts once. Where another delivery was faster, the plan tells so.

    Failure: repeat it. Whatever was done is found, and the rest is done.
    """
    planned = plan(look(batches, records_root, jobs, min_images, force=force))
    job = act(planned, records_root, jobs)
    if job is None and planned.outcome in (Outcome.START, Outcome.RETRY):
        reason = f"another delivery has just triggered {planned.job_id}"
        planned = replace(planned, outcome=Outcome.RUNNING, reason=reason)
    return Delivery(planned, job)


def look(
    batches: BatchStore,
    records_root: str,
    jobs: Jobs,
    min_images: int,
    *,
    batch: Batch | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    force: bool = False,
) -> State:
    """Reads the state of a batch: of `batch`, else of the month whose evaluation was cut off, else of the newest.

    Args:
      batches: The collected images.
      records_root: URI of the folder with the journals of what was triggered.
      jobs: Where the evaluations run.
      min_images: New images that are worth an evaluation.
      batch: The month to look at, where a person named one.
      max_attempts: How often an evaluation is tried.
      force: Whether a person asked for an evaluation.
    """
    batch = batch or _unfinished(batches, records_root, jobs, max_attempts) or _newest(batches)
    if batch is None:
        return State(None, min_images=min_images, max_attempts=max_attempts, force=force)
    # The order matters. An evaluation may begin and end between two of these reads. With its record in hand, but images
    # counted before it marked them, it would be followed by a second job for the same images. With its images counted
    # late and a record from before, no harm is done: `act` refuses to append after a record that is not the last.
    last = _last_record(records_root, batch)
    job = jobs.get(last.job) if last else None
    evaluated = batches.evaluated(batch)
    images = batches.images(batch)
    return State(
        batch=batch,
        images=len(images),
        new=sum(image not in evaluated for image in images),
        digest=Snapshot(str(batch), batches.folder(batch), images).digest,
        last=last,
        job=job,
        min_images=min_images,
        max_attempts=max_attempts,
        force=force,
    )


def plan(state: State) -> Plan:
    """What follows from a state. Every state has one outcome."""
    if state.batch is None:
        return Plan(Outcome.NO_BATCH, "there is no batch yet: no folder is named after a month, like 2021-10")
    if state.last is None:
        return _plan_by_images(state)
    if state.job is None or state.job.state is JobState.PENDING:
        return _about(state, Outcome.RESUME, f"{state.last.job} was recorded, but nobody is known to run it")
    if state.job.state is JobState.RUNNING:
        return _about(state, Outcome.RUNNING, f"{state.last.job} is running")
    if state.job.state is JobState.FAILED:
        return _plan_after_failure(state, state.last, state.job)
    return _plan_by_images(state)


def act(planned: Plan, records_root: str, jobs: Jobs) -> Job | None:
    """Carries a plan out.

    Returns:
      The job that was created; None where nothing was to be done, or where another delivery has triggered it already.

    Failure: repeat the delivery. A record without a job is found and resumed.
    """
    if planned.batch is None or planned.outcome not in (Outcome.START, Outcome.RETRY, Outcome.RESUME):
        return None
    if planned.outcome is not Outcome.RESUME and not _recorded(planned, _journal(records_root, planned.batch)):
        return None
    return jobs.create(JobRequest(planned.job_id, EVALUATION, {"batch": str(planned.batch)}))


def watch(tick: Callable[[], Delivery], interval: float, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Delivers again and again until it is stopped; says one line a change.

    Args:
      tick: Makes one delivery. One that fails is said and made again at the next interval.
      interval: Seconds between two deliveries.
      stop: Ends the watch, at once where it waits, else after the delivery at hand.
      say: Gets the lines.
    """
    said = None
    while not stop.is_set():
        try:
            delivery = tick()
            change, line = _change(delivery), _line(delivery)
        except (AdaptationError, OSError) as error:
            change = line = f"could not look: {error}; trying again every {interval:g} s"
        if change != said:
            say(line)
            said = change
        stop.wait(interval)


def start_training(
    jobs: Jobs, span: int, digest: str, parameters: Mapping[str, str], max_attempts: int = MAX_ATTEMPTS
) -> Job:
    """Starts the training on a new span, once; a training that failed is tried again, `max_attempts` times in all.

    Args:
      jobs: Where the training runs.
      span: Number of the new span.
      digest: Names the content of the spans to train on; with the span it names the job.
      parameters: What the training pipeline is told, see `selection.training_parameters`.
      max_attempts: How often it is tried.

    Returns:
      The job: a new one, or the one that is there where it has not failed.

    Raises:
      TrainingFailed: It has failed that often.
    """
    for attempt in range(1, max_attempts + 1):
        job_id = f"training-span-{span}-{digest[:8]}-{attempt}"
        job = jobs.create(JobRequest(job_id, TRAINING, parameters))
        if job.state is not JobState.FAILED:
            return job
    raise TrainingFailed(
        f"training on span-{span} has failed {max_attempts} times, last as {job.id}: {job.message}. "
        f'See {job.link}, mend the cause, then run "adapt train".'
    )


def _unfinished(batches: BatchStore, records_root: str, jobs: Jobs, max_attempts: int) -> Batch | None:
    """The month whose evaluation goes on only by a delivery; a newer month must not hide it.

    Two months are looked at: the one triggered last, and the one before, which may still have been running then.
    """
    triggered = BatchStore(records_root).batches()[-2:]
    return next(
        (batch for batch in triggered if _needs_delivery(batch, batches, records_root, jobs, max_attempts)), None
    )


def _needs_delivery(batch: Batch, batches: BatchStore, records_root: str, jobs: Jobs, max_attempts: int) -> bool:
    last = _last_record(records_root, batch)
    job = jobs.get(last.job) if last else None
    if last is None or job is None or job.state is JobState.PENDING:
        return last is not None
    return job.state is JobState.FAILED and last.attempt < max_attempts and bool(batches.images(batch))


def _newest(batches: BatchStore) -> Batch | None:
    try:
        return batches.newest()
    except NoBatch:
        return None


def _last_record(records_root: str, batch: Batch) -> TriggerRecord | None:
    record = _journal(records_root, batch).last()
    return _trigger_record(record) if record else None


def _journal(records_root: str, batch: Batch) -> Journal:
    return Journal(storage.join(records_root, str(batch)))


def _trigger_record(record: Record) -> TriggerRecord:
    return TriggerRecord(number=record.number, **record.value)


def _plan_after_failure(state: State, last: TriggerRecord, job: Job) -> Plan:
    failed = f"{last.job} failed ({job.message})"
    if state.images == 0:
        return _about(state, Outcome.GIVE_UP, f"{failed}, and the batch has no images any more; see {job.link}")
    if state.force:
        return _next(state, Outcome.START, f"asked for, after {failed}")
    if last.attempt < state.max_attempts:
        reason = f"{failed}; attempt {last.attempt + 1} of {state.max_attempts}"
        return _next(state, Outcome.RETRY, reason, attempt=last.attempt + 1)
    arrived = state.images - last.images
    if arrived >= state.min_images:
        return _next(state, Outcome.START, f"{arrived} images have arrived since {failed}")
    return _about(
        state, Outcome.GIVE_UP, f"{failed} at attempt {last.attempt}; see {job.link}. {_wait(state, arrived)}"
    )


def _plan_by_images(state: State) -> Plan:
    if state.force and state.images:
        return _next(state, Outcome.START, f"asked for: {state.images} images, {state.new} of them new")
    if state.new == 0:
        return _about(state, Outcome.NOTHING_NEW, f"no image has arrived that was not evaluated ({state.images} there)")
    if state.new < state.min_images:
        missing = state.min_images - state.new
        return _about(state, Outcome.NOT_ENOUGH, f"{state.new} new images, {missing} more are needed")
    return _next(state, Outcome.START, f"{state.new} new images, at least {state.min_images} are needed")


def _wait(state: State, arrived: int) -> str:
    return f"It is tried again after {state.min_images - max(arrived, 0)} more images, or when asked for"


def _about(state: State, outcome: Outcome, reason: str) -> Plan:
    """A plan about what is recorded."""
    last = state.last
    job_id, number, attempt = (last.job, last.number, last.attempt) if last else ("", 0, 0)
    return Plan(outcome, reason, state.batch, job_id, number, attempt, state.images, state.digest)


def _next(state: State, outcome: Outcome, reason: str, attempt: int = 1) -> Plan:
    """A plan for the evaluation after the one recorded."""
    number = state.last.number + 1 if state.last else 1
    job_id = f"{EVALUATION}-{state.batch}-{number:04d}"
    return Plan(outcome, reason, state.batch, job_id, number, attempt, state.images, state.digest)


def _recorded(planned: Plan, journal: Journal) -> bool:
    """Records what is about to be triggered; False where another delivery was first."""
    value = {
        "job": planned.job_id,
        "attempt": planned.attempt,
        "images": planned.images,
        "digest": planned.digest,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "reason": planned.reason,
    }
    try:
        journal.append(value, after=planned.number - 1)
    except FileExistsError:
        return False
    return True


def _change(delivery: Delivery) -> str:
    planned = delivery.plan
    return f"{planned.batch} {planned.outcome} {planned.job_id}"


def _line(delivery: Delivery) -> str:
    planned = delivery.plan
    subject = f"{planned.batch}: " if planned.batch else ""
    link = f" ({delivery.job.link})" if delivery.job else ""
    return f"{subject}{planned.outcome}: {planned.reason}{link}"
