"""The trigger: starts the evaluation of a batch exactly once when enough new images have arrived.

`look` reads the state, `plan` decides, `act` carries it out. Any number of deliveries may do so at the same time, and
any of them may be cut off after any step: a journal records what is triggered before its job is created, and the
record's number names the job. So a record is made once, its job is created once, and the next delivery creates a job
that is missing.

    <records root>/2021-10/0001.json  ->  job evaluation-2021-10-0001

An evaluation that waits for labels is continued once by those that come, see `waiting`. Its record says with how many,
and that its job is about the images that wait, also in a retry.

One requirement on the jobs: an evaluation marks its images as evaluated (`BatchStore.mark_evaluated`) before it
succeeds. The trainings that evaluations decide on are in `retraining`; each delivery advances them, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from adaptation import retraining
from adaptation.codec import UnreadableState
from adaptation.data.batches import Batch, BatchStore, Snapshot
from adaptation.data.waiting import Waiting, labelled_now, latest_waiting, waiting_of
from adaptation.io import storage
from adaptation.io.journal import Journal, Record
from adaptation.platforms.base import Job, JobRequest, Jobs, JobState, Platform
from adaptation.retraining import NO_TRAINING, Step, Training

EVALUATION = "evaluation"
MAX_ATTEMPTS = 3


class Outcome(StrEnum):
    """The result of a delivery."""

    NO_BATCH = "no batch"
    NOTHING_NEW = "nothing new"
    NOT_ENOUGH = "not enough"
    WAITING = "waiting for labels"
    RUNNING = "running"
    START = "start"
    RESUME = "resume"
    RETRY = "retry"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class TriggerRecord:
    """An evaluation that was triggered.

    Attributes:
      job: Id of the job.
      attempt: 1 for an evaluation's first job, 2 for its first retry after a failure ...
      images: Number of images of the batch. For a first attempt a lower bound: counting stops at enough. The last
        attempt's record has them all; later arrivals are counted from it.
      digest: Digest of the list of the counted images.
      time: ISO 8601, UTC.
      reason: Why it was triggered.
      labelled: Number of labels with which it continues a waiting evaluation; 0 if it evaluates new images.
    """

    job: str
    attempt: int
    images: int
    digest: str
    time: str
    reason: str
    labelled: int = 0


@dataclass(frozen=True)
class State:
    """The state that a delivery finds.

    Attributes:
      batch: The batch, or None if there is none.
      images: Number of counted images of the batch.
      new: How many of them have not been evaluated.
      digest: Digest of the list of the counted images.
      whole: True if all images of the batch were counted; else there are at least so many.
      last: The batch's last record.
      job: The job of that record, if it exists.
      min_images: New images that are worth an evaluation.
      force: True if a person requested an evaluation whatever the number of new images.
      training: The training that was decided last.
      waiting: The batch's last evaluation whose labels people give, if any.
      labelled: Number of its images whose labels count now.
      damaged: What could not be read of other batches, a sentence each.
    """

    batch: Batch | None
    images: int = 0
    new: int = 0
    digest: str = ""
    whole: bool = True
    last: Record[TriggerRecord] | None = None
    job: Job | None = None
    min_images: int = 100
    force: bool = False
    training: Training = NO_TRAINING
    waiting: Waiting | None = None
    labelled: int = 0
    damaged: tuple[str, ...] = ()

    @property
    def has_labels(self) -> bool:
        """Whether more labels count than any evaluation of the batch has counted."""
        continued = self.last.value.labelled if self.last and self.job and self.job.state is JobState.SUCCEEDED else 0
        return self.waiting is not None and self.labelled > max(self.waiting.counted, continued)


@dataclass(frozen=True)
class Plan:
    """The next action for a state, and the reason for a person to read.

    `job_id`, `number` and `attempt` describe the job to create for START, RESUME and RETRY, the recorded one for the
    others, or no job ("", 0, 0). `images`, `digest` and `labelled` go into the record.
    """

    outcome: Outcome
    reason: str
    batch: Batch | None = None
    job_id: str = ""
    number: int = 0
    attempt: int = 0
    images: int = 0
    digest: str = ""
    labelled: int = 0


@dataclass(frozen=True)
class Delivery:
    """The result of a delivery.

    Attributes:
      plan: The plan.
      job: The job, if one was created.
      training: The training that was decided last.
      damaged: What could not be read of other batches and of trainings, a sentence each; the delivery goes on without.
    """

    plan: Plan
    job: Job | None
    training: Training = NO_TRAINING
    damaged: tuple[str, ...] = ()


def tick(platform: Platform, batches: BatchStore, records_root: str, min_images: int) -> Delivery:
    """Make one delivery if there is a champion: the action of a schedule, an event or the watch.

    Raises:
      LookupError: There is no champion to evaluate; nothing was started.

    Failure: as for `deliver`.
    """
    platform.registry.find()
    training, damaged = NO_TRAINING, list[str]()
    try:
        training = retraining.deliver(records_root, platform.jobs, platform.registry)
        _archive_trained(training, batches)
    except UnreadableState as error:
        damaged.append(str(error))
    delivery = deliver(batches, records_root, platform.jobs, min_images, training)
    return replace(delivery, damaged=(*damaged, *delivery.damaged))


def deliver(
    batches: BatchStore,
    records_root: str,
    jobs: Jobs,
    min_images: int,
    training: Training = NO_TRAINING,
    batch: Batch | None = None,
) -> Delivery:
    """Look, plan and act once, for the evaluations alone. The plan says if another delivery was faster.

    If a person named a batch, it is looked at; else the one that needs it most.

    Failure: repeat it. It finds what was done and does the rest.
    """
    state = look(batches, records_root, jobs, min_images, batch=batch, training=training)
    planned = plan(state)
    job = act(planned, records_root, jobs)
    if job is None and planned.outcome in (Outcome.START, Outcome.RETRY):
        reason = f"another delivery has just triggered {planned.job_id}"
        planned = replace(planned, outcome=Outcome.RUNNING, reason=reason)
    return Delivery(planned, job, training, state.damaged)


def _archive_trained(training: Training, batches: BatchStore) -> None:
    """Archive the batch that a training was about if its job died between the deployment and its last step, this one.

    Failure: the next delivery moves the rest.
    """
    decision = training.record.decision if training.record else None
    if decision and training.step is Step.DONE and training.job and training.job.state is JobState.FAILED:
        from adaptation.data.spans import Span, SpanStore  # other deliveries do not need them

        store, span = SpanStore(decision.data_root), Span(decision.span)
        batch, _, digest = store.manifest(span).key.partition(":")
        if not batches.is_archived(Batch.parse(batch), digest) and (snapshot := store.snapshot(span)):
            batches.archive(snapshot)


def look(
    batches: BatchStore,
    records_root: str,
    jobs: Jobs,
    min_images: int,
    *,
    batch: Batch | None = None,
    force: bool = False,
    whole: bool = False,
    training: Training = NO_TRAINING,
) -> State:
    """Read the state of a batch: `batch`, or one whose evaluation was cut off, or got its labels, or the newest.

    Reads no more than the plan depends on: on object storage, with enough new images, at most 16 pages of listings (of
    1,000 names each), usually 9, whatever the number of batches: two for each step back to the latest batch, at most
    five (see `BatchStore.latest`); the journals of the two latest; what was evaluated in the batch, an object for each
    evaluation; and its images up to the last that is needed, none while an evaluation is running. Images that were
    evaluated and are still in the batch add their pages. The batch is read to its end if too few images are new, or
    if its evaluation has failed, so that later arrivals count.

    Args:
      batches: The collected images.
      records_root: URI of the folder with the journals of what was triggered.
      jobs: Where the evaluations run.
      min_images: New images that are worth an evaluation.
      batch: The batch to look at, if a person named one.
      force: True if a person requested an evaluation; all images are counted.
      whole: Whether to count all images in any case, for a person to read.
      training: The training that was decided last, as `retraining.look` returns it.
    """
    unfinished, damaged = (batch, ()) if batch else _unfinished(batches, records_root, jobs, training)
    batch = unfinished or _labelled(batches, records_root, jobs, training) or next(iter(batches.latest(1)), None)
    others = tuple(text for name, text in damaged if name != batch)  # the batch's own is an error
    found = State(batch, min_images=min_images, force=force, training=training, damaged=others)
    if batch is None:
        return found
    # The order matters: an evaluation may begin and end between two of these reads. Images counted before it marked
    # them, then its record, would give a second job for the same images. A record from before, then images counted
    # late, is harmless: `act` refuses to append after a record that is not the last.
    last = journal(records_root, batch).last()
    job = jobs.get(last.value.job) if last else None
    waiting = waiting_of(batches, batch)
    labelled = labelled_now(batches, waiting) if waiting else 0
    enough = math.inf if whole or force else _enough(last, job, min_images)
    images, new = _counted(batches, batch, enough)
    digest = Snapshot(str(batch), batches.folder(batch), tuple(sorted(images))).digest
    counted = replace(found, images=len(images), new=new, digest=digest, whole=new < enough)
    return replace(counted, last=last, job=job, waiting=waiting, labelled=labelled)


def plan(state: State) -> Plan:
    """Decide on the next action. Every state has one outcome."""
    if state.batch is None:
        return Plan(Outcome.NO_BATCH, "there is no batch yet: no folder is named after a month, like 2021-10")
    if state.last is None:
        return _plan_by_images(state)
    if state.job is None or state.job.state is JobState.PENDING:
        return _about(state, Outcome.RESUME, f"{state.last.value.job} was recorded, but its job has not started")
    if state.job.state is JobState.RUNNING:
        message = f" ({state.job.message})" if state.job.message else ""
        return _about(state, Outcome.RUNNING, f"{state.last.value.job} is running{message}")
    if state.job.state is JobState.FAILED and not state.training.follows(state.last.value.job):
        return _plan_after_failure(state, state.last.value, state.job)
    return _plan_by_images(state)


def act(planned: Plan, records_root: str, jobs: Jobs) -> Job | None:
    """Carry out a plan.

    Returns:
      The created job, or None if nothing was to be done or another delivery has triggered it already.

    Failure: repeat the delivery. It finds the record without a job and resumes it.
    """
    if planned.batch is None or planned.outcome not in (Outcome.START, Outcome.RETRY, Outcome.RESUME):
        return None
    if planned.outcome is not Outcome.RESUME and not _recorded(planned, journal(records_root, planned.batch)):
        return None
    return jobs.create(JobRequest(planned.job_id, EVALUATION, {"batch": str(planned.batch)}))


def journal(records_root: str, batch: Batch) -> Journal[TriggerRecord]:
    """Return the journal of a batch's triggered evaluations."""
    return Journal(storage.join(records_root, str(batch)), TriggerRecord)


def continued(batches: BatchStore, records_root: str, batch: Batch, run: str) -> Waiting | None:
    """Return the waiting evaluation that a run of the pipeline continues, or None if it evaluates new images.

    Args:
      batches: The collected images.
      records_root: URI of the folder with the journals of what was triggered.
      batch: The batch.
      run: Name of the run.
    """
    last = journal(records_root, batch).last()
    is_continued = last is not None and last.value.labelled and retraining.is_run_of(run, last.value.job)
    return waiting_of(batches, batch) if is_continued else None


def _unfinished(
    batches: BatchStore, records_root: str, jobs: Jobs, training: Training
) -> tuple[Batch | None, tuple[tuple[Batch, str], ...]]:
    """Return the batch whose evaluation needs a delivery to go on; a newer batch must not hide it.

    Two batches are looked at: the one triggered last, and the one before, which may still have been running then. What
    cannot be read of one of them is returned with its batch, and does not stand in the way of the other.
    """
    damaged: list[tuple[Batch, str]] = []
    for batch in reversed(BatchStore(records_root).latest(2)):
        try:
            if _needs_delivery(batch, batches, records_root, jobs, training):
                return batch, tuple(damaged)
        except UnreadableState as error:
            damaged.append((batch, str(error)))
    return None, tuple(damaged)


def _labelled(batches: BatchStore, records_root: str, jobs: Jobs, training: Training) -> Batch | None:
    """Return the oldest batch that got labels which no evaluation has counted, and whose evaluation can go on."""
    for waiting in latest_waiting(batches):
        batch = Batch.parse(waiting.batch)
        last = journal(records_root, batch).last()
        job = jobs.get(last.value.job) if last else None
        labelled = labelled_now(batches, waiting)
        if _goes_on(State(batch, last=last, job=job, training=training, waiting=waiting, labelled=labelled)):
            return batch
    return None


def _goes_on(state: State) -> bool:
    """Return True if labels have come, or if the evaluation that they started was cut off and is to be repeated."""
    if state.last is None:
        return state.has_labels
    record, job = state.last.value, state.job
    if job is None or job.state is JobState.PENDING:
        return record.labelled > 0
    if job.state is JobState.FAILED and not state.training.follows(job.id):
        is_repeated = record.labelled > 0 and record.attempt < MAX_ATTEMPTS
        return is_repeated or (state.has_labels and state.labelled > record.labelled)
    return state.has_labels and job.state is not JobState.RUNNING


def _needs_delivery(batch: Batch, batches: BatchStore, records_root: str, jobs: Jobs, training: Training) -> bool:
    last = journal(records_root, batch).last()
    job = jobs.get(last.value.job) if last else None
    if last is None or job is None or job.state is JobState.PENDING:
        return last is not None
    failed = job.state is JobState.FAILED and not training.follows(job.id)
    return failed and last.value.attempt < MAX_ATTEMPTS and any(batches.iter_images(batch))


def _enough(last: Record[TriggerRecord] | None, job: Job | None, min_images: int) -> float:
    """Return the number of new images at which counting may stop."""
    if last is None or (job and job.state is JobState.SUCCEEDED):
        return min_images
    return math.inf if job and job.state is JobState.FAILED else 0


def _counted(batches: BatchStore, batch: Batch, enough: float) -> tuple[list[storage.File], int]:
    """Return the images of a batch, read until enough of them are new, and the number of new ones."""
    if not enough:
        return [], 0
    evaluated = batches.evaluated(batch)
    images, new = [], 0
    for image in batches.iter_images(batch):
        images.append(image)
        new += image not in evaluated
        if new >= enough:
            break
    return images, new


def _plan_after_failure(state: State, last: TriggerRecord, job: Job) -> Plan:
    failed = f"{last.job} failed ({job.message})"
    if state.images == 0:
        return _about(state, Outcome.GIVE_UP, f"{failed}, and the batch has no images any more; see {job.link}")
    labelled = max(last.labelled, state.labelled if state.has_labels else 0)  # it is continued until it has ended well
    if state.force:
        return _next(state, Outcome.START, f"requested, after {failed}", labelled=labelled)
    if last.attempt < MAX_ATTEMPTS:
        reason = f"{failed}; attempt {last.attempt + 1} of {MAX_ATTEMPTS}"
        return _next(state, Outcome.RETRY, reason, last.attempt + 1, labelled)
    if labelled > last.labelled:
        return _next(state, Outcome.START, f"{labelled} images are labelled now, since {failed}", labelled=labelled)
    arrived = state.images - last.images
    if arrived >= state.min_images:
        return _next(state, Outcome.START, f"{arrived} images have arrived since {failed}", labelled=labelled)
    return _about(
        state, Outcome.GIVE_UP, f"{failed} at attempt {last.attempt}; see {job.link}. {_wait(state, arrived)}"
    )


def _plan_by_images(state: State) -> Plan:
    if state.waiting and state.has_labels:
        reason = f"{state.labelled} images have labels that count, {state.waiting.counted} had when it was evaluated"
        return _next(state, Outcome.START, reason, labelled=state.labelled)
    if state.force and state.images:
        return _next(state, Outcome.START, f"requested: {state.images} images, {state.new} of them new")
    if state.waiting and not state.waiting.counted and state.new < state.min_images:
        return _about(state, Outcome.WAITING, _review(state.waiting, state.new))
    if state.new == 0:
        return _about(state, Outcome.NOTHING_NEW, f"no new images ({state.images} in the batch, all evaluated)")
    if state.new < state.min_images:
        missing = state.min_images - state.new
        return _about(state, Outcome.NOT_ENOUGH, f"{state.new} new images, {missing} more are needed")
    count = state.new if state.whole else f"{state.new} or more"
    return _next(state, Outcome.START, f"{count} new images ({state.min_images} are enough)")


def _review(waiting: Waiting, new: int) -> str:
    arrived = f" ({new} have arrived since)" if new else ""
    return (
        f'{waiting.images} images wait for labels{arrived}: "adapt review export --batch {waiting.batch} --budget N" '
        'draws N of them, "adapt review import" takes their labels'
    )


def _wait(state: State, arrived: int) -> str:
    return f"The next attempt follows after {state.min_images - max(arrived, 0)} more images, or on request"


def _about(state: State, outcome: Outcome, reason: str) -> Plan:
    """Return a plan about the recorded job."""
    last = state.last
    job_id, number, attempt = (last.value.job, last.number, last.value.attempt) if last else ("", 0, 0)
    return Plan(outcome, reason, state.batch, job_id, number, attempt, state.images, state.digest)


def _next(state: State, outcome: Outcome, reason: str, attempt: int = 1, labelled: int = 0) -> Plan:
    """Return a plan for the evaluation after the recorded one."""
    number = state.last.number + 1 if state.last else 1
    job_id = f"{EVALUATION}-{state.batch}-{number:04d}"
    return Plan(outcome, reason, state.batch, job_id, number, attempt, state.images, state.digest, labelled)


def _recorded(planned: Plan, triggered: Journal[TriggerRecord]) -> bool:
    """Record the evaluation to trigger; return False if another delivery was first."""
    record = TriggerRecord(
        job=planned.job_id,
        attempt=planned.attempt,
        images=planned.images,
        digest=planned.digest,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=planned.reason,
        labelled=planned.labelled,
    )
    try:
        triggered.append(record, after=planned.number - 1)
    except FileExistsError:
        return False
    return True
