"""Events: what a person or another system should know, each derived from the record that it is about.

    <records root>/events/0001.json    the events that one reading of the records found, and how far it read

Nothing announces an event: `Outbox.collect` reads the records that are new since it read last (trainings, evaluations
and their jobs, decisions, looks, what became of versions) and adds their events to the outbox. Whatever is cut off
before that is found by the next reading, and of any number of readings at once one adds an event. Sending is in
`notify`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from adaptation import codec, retraining, trigger
from adaptation.data.batches import BatchStore
from adaptation.evaluation import decisions, look_records
from adaptation.evaluation.decisions import WAITING_FOR_LABELS, Decided
from adaptation.evaluation.look_records import LookRecord, Outcome
from adaptation.io import storage
from adaptation.io.journal import Journal, Record
from adaptation.platforms.base import (
    Job,
    Jobs,
    JobState,
    Promotion,
    Registry,
    Standing,
    StandingRecord,
    trail_of,
)
from adaptation.retraining import Step, TrainingRecord
from adaptation.trigger import TriggerRecord

FOLDER = "events"
NEWS = timedelta(days=1)  # what is older when the first reading is made is history
_CLOCKS = timedelta(hours=1)  # standings come from several machines, whose clocks differ

Data = Mapping[str, str | int | float | bool | None]


class Kind(StrEnum):
    """What happened; the last part of a CloudEvent's type."""

    LOOK = "batch.look"
    LABELS = "batch.waiting-for-labels"
    SKIPPED = "batch.skipped"
    EVALUATION_FAILED = "evaluation.failed"
    EVALUATION_GIVEN_UP = "evaluation.given-up"
    RETRAINING = "retraining.decided"
    TRAINING_STARTED = "training.started"
    TRAINING_FAILED = "training.failed"
    TRAINING_GIVEN_UP = "training.given-up"
    DEPLOYED = "challenger.deployed"
    REFUSED = "challenger.refused"
    UNDECIDED = "challenger.undecided"
    WAITING = "challenger.waiting-for-approval"
    DROPPED = "challenger.dropped"
    REJECTED = "challenger.rejected"
    ROLLBACK_PROPOSED = "rollback.proposed"
    ROLLED_BACK = "rollback.done"
    TEST = "test"


NEEDS_A_PERSON = frozenset(
    {
        Kind.LOOK,
        Kind.LABELS,
        Kind.SKIPPED,
        Kind.EVALUATION_GIVEN_UP,
        Kind.TRAINING_GIVEN_UP,
        Kind.WAITING,
        Kind.ROLLBACK_PROPOSED,
    }
)
_OF_STANDING = {
    Standing.CANDIDATE: Kind.UNDECIDED,
    Standing.WAITING: Kind.WAITING,
    Standing.REFUSED: Kind.REFUSED,
    Standing.DROPPED: Kind.DROPPED,
    Standing.REJECTED: Kind.REJECTED,
}


@dataclass(frozen=True)
class Event:
    """Something that a person or another system should know.

    Attributes:
      kind: What happened.
      id: Derived from the record that it is about: the same record always gives the same event.
      subject: What it happened to, like `batch/2021-10`, `version/3` or `job/training-span-2-1a2b3c4d-1`.
      time: When; ISO 8601, UTC.
      message: A sentence for a person, with what to do if anything is.
      data: Figures and names for programs.
      number: 1, 2, 3 ... in the order in which the events of a deployment were found; 0: not in the outbox.
    """

    kind: Kind
    id: str
    subject: str
    time: str
    message: str
    data: Data = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True)
class Sources:
    """Where the records are.

    Attributes:
      batches: The collected images, with the decisions and looks beside them.
      records_root: Folder of the trigger's records, and of the outbox.
      jobs: The pipeline runs.
      registry: The versions of the model.
    """

    batches: BatchStore
    records_root: str
    jobs: Jobs
    registry: Registry


@dataclass(frozen=True)
class Reading:
    """What one reading of the records found, and how far it has read.

    Attributes:
      events: The new events.
      count: Number of the last event so far.
      read: Number of the last record that was read, by journal.
      following: Records, like `trainings/0003`, whose jobs had not ended.
      standings: Time of the newest standing that was read.
      recent: Ids of the events about standings that are not much older than that.
    """

    events: tuple[Event, ...] = ()
    count: int = 0
    read: Mapping[str, int] = field(default_factory=dict)
    following: tuple[str, ...] = ()
    standings: str = ""
    recent: tuple[str, ...] = ()


class Outbox:
    """The events of one deployment, in order."""

    def __init__(self, records_root: str) -> None:
        """Open the outbox; its folder need not exist."""
        self.folder = storage.join(records_root, FOLDER)
        self._journal = Journal(self.folder, Reading)

    def collect(self, sources: Sources) -> tuple[Event, ...]:
        """Add the events of what was recorded since the last reading; return those that this call added.

        The first reading of a deployment leaves out what is older than a day.

        Failure: an event is in the outbox or found by the next reading.
        """
        record = self._journal.update(lambda last: _next(sources, last))
        return record.value.events if record else ()

    def after(self, number: int) -> list[Event]:
        """Return the events after the one of that number, in order."""
        return list(reversed(list(itertools.takewhile(lambda event: event.number > number, self.newest_first()))))

    def newest_first(self) -> Iterator[Event]:
        """Yield the events, the newest first; the entries are read as they are asked for."""
        for record in self._journal.newest_first():
            yield from reversed(record.value.events)

    def count(self) -> int:
        """Return the number of the last event, 0 if there is none."""
        last = self._journal.last()
        return last.value.count if last else 0


def _next(sources: Sources, last: Record[Reading] | None) -> Reading | None:
    """Return the next reading, or None if it has nothing to say."""
    before = last.value if last else Reading()
    reader = _Reader(sources, before, "" if last else _ago(NEWS))
    events, found = reader.events(), reader.found()
    numbered = tuple(replace(event, number=before.count + count) for count, event in enumerate(events, start=1))
    reading = replace(found, events=numbered, count=before.count + len(numbered))
    return None if reading == replace(before, events=()) else reading


class _Reader:
    """One reading of the records.

    Args:
      sources: Where they are.
      before: The reading before.
      since: Records from before this time are history; empty: none are.
    """

    def __init__(self, sources: Sources, before: Reading, since: str) -> None:
        self._sources, self._before, self._since = sources, before, since
        self._read, self._following = dict(before.read), [*before.following]
        self._standings, self._recent = before.standings, before.recent

    def events(self) -> list[Event]:
        """Read what is new and return its events, in the order of their times."""
        started = [*self._triggered(), *self._decided(), *self._looked()]
        ended = [event for name in tuple(self._following) for event in self._ended(name)]
        return sorted([*started, *ended, *self._promoted(), *self._marked()], key=lambda event: _moment(event.time))

    def found(self) -> Reading:
        """Return how far this has read, without events."""
        return Reading((), 0, self._read, tuple(self._following), self._standings, self._recent)

    def _triggered(self) -> Iterator[Event]:
        """Follow the jobs of new records; yield the events about trainings that have begun.

        A last record whose job was not created yet is left to the next reading.
        """
        for journal, names in _journals(self._sources.records_root).items():
            if journal.partition("/")[0] == FOLDER:
                continue
            for number, name in self._new(journal, names):
                record = self._record(name)
                if self._is_history(record.time):
                    continue
                job = self._sources.jobs.get(record.job) if _has_job(record) else None
                if job is None and _has_job(record) and number == max(names):
                    self._read[journal] = number - 1
                elif job is not None:
                    self._following.append(name)
                    yield from _begun(record, job)

    def _ended(self, name: str) -> Iterator[Event]:
        record = self._record(name)
        job = self._sources.jobs.get(record.job)
        if job is None or not job.state.ended:
            return
        self._following.remove(name)
        if isinstance(record, TrainingRecord):
            yield from _training_ended(record, job, *retraining.next_step(record, job, self._sources.registry))
        elif job.state is JobState.FAILED:
            yield _evaluation_failed(record, job)

    def _decided(self) -> Iterator[Event]:
        root = storage.join(self._sources.batches.root, decisions.FOLDER)
        for journal, names in _journals(root).items():
            for _, name in self._new(f"{decisions.FOLDER}/{journal}", names):
                decided = codec.read(storage.join(root, name), Decided)
                if not self._is_history(decided.time):
                    yield from _of_decision(decided)

    def _looked(self) -> Iterator[Event]:
        root = storage.join(self._sources.batches.root, look_records.FOLDER)
        for journal, names in _journals(root).items():
            for _, name in self._new(f"{look_records.FOLDER}/{journal}", names):
                looked = codec.read(storage.join(root, name), LookRecord)
                if looked.look.outcome is Outcome.LOOK and not self._is_history(looked.time):
                    yield _of_look(looked, name)

    def _promoted(self) -> Iterator[Event]:
        promotions = list(self._sources.registry.promotions())
        for index, promotion in enumerate(promotions):
            if promotion.number <= self._read.get("champion", 0) or not promotion.time:
                continue  # an alias that was moved by hand has no time, and its number is not its own
            self._read["champion"] = promotion.number
            if not self._is_history(promotion.time):
                yield _of_promotion(promotion, [one.version for one in promotions[:index]])

    def _marked(self) -> Iterator[Event]:
        """Yield the events about standings. They have no numbers: times and ids say what was read."""
        records = [record for record in self._sources.registry.standings() if not self._is_history(record.time)]
        recent = _before(self._before.standings, _CLOCKS)
        ids = {id: record for record in records if record.time >= recent and (id := _standing_id(record))}
        for id, record in ids.items():
            if id not in self._before.recent:
                yield _of_standing(record, id)
        self._standings = max([self._before.standings, *(record.time for record in records)])
        self._recent = tuple(sorted(id for id, one in ids.items() if one.time >= _before(self._standings, _CLOCKS)))

    def _new(self, journal: str, names: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        """Yield the number and the name of each new record of a journal, and note them as read."""
        for number in sorted(names):
            if number > self._read.get(journal, 0):
                self._read[journal] = number
                yield number, names[number]

    def _record(self, name: str) -> TrainingRecord | TriggerRecord:
        uri = storage.join(self._sources.records_root, name)
        if name.startswith(f"{retraining.FOLDER}/"):
            return codec.read(uri, TrainingRecord)
        return codec.read(uri, TriggerRecord)

    def _is_history(self, time: str) -> bool:
        return bool(self._since) and (not time or _moment(time) < _moment(self._since))


def _begun(record: TrainingRecord | TriggerRecord, job: Job) -> Iterator[Event]:
    if isinstance(record, TrainingRecord):
        span = record.decision.span if record.decision else None
        why = f" on span-{span}, attempt {record.attempt} of {retraining.MAX_ATTEMPTS}" if span else " by hand"
        data: Data = {"job": job.id, "attempt": record.attempt, "span": span, "link": job.link}
        yield Event(Kind.TRAINING_STARTED, f"{job.id}/started", f"job/{job.id}", record.time, f"training{why}", data)


def _training_ended(record: TrainingRecord, job: Job, step: Step, reason: str) -> Iterator[Event]:
    kinds = {Step.RETRY: Kind.TRAINING_FAILED, Step.GIVE_UP: Kind.TRAINING_GIVEN_UP}
    if step in kinds:
        data: Data = {"job": job.id, "attempt": record.attempt, "error": job.message, "link": job.link}
        yield Event(kinds[step], f"{job.id}/failed", f"job/{job.id}", job.ended or _now(), reason, data)


def _evaluation_failed(record: TriggerRecord, job: Job) -> Event:
    last = record.attempt >= trigger.MAX_ATTEMPTS
    kind = Kind.EVALUATION_GIVEN_UP if last else Kind.EVALUATION_FAILED
    if "TooManySkipped" in job.message:
        kind = Kind.SKIPPED
    message = f"{job.id} failed ({job.message}), attempt {record.attempt} of {trigger.MAX_ATTEMPTS}"
    remedy = f'. See {job.link}, fix the cause, then run "adapt evaluate"' if last else ""
    data: Data = {"job": job.id, "attempt": record.attempt, "error": job.message, "link": job.link}
    return Event(kind, f"{job.id}/failed", f"job/{job.id}", job.ended or _now(), message + remedy, data)


def _of_decision(decided: Decided) -> Iterator[Event]:
    subject = f"batch/{decided.batch}"
    data: Data = {
        "batch": decided.batch,
        "version": decided.version,
        "images": decided.images,
        "accuracy": decided.accuracy,
        "evidence": decided.evidence,
        "run": decided.run,
    }
    if decided.retrain:
        yield Event(Kind.RETRAINING, f"{decided.run}/retrain", subject, decided.time, decided.reason, data)
    if decided.outcome == WAITING_FOR_LABELS:
        yield Event(Kind.LABELS, f"{decided.run}/labels", subject, decided.time, decided.reason, data)
    if decided.rollback:
        yield Event(Kind.ROLLBACK_PROPOSED, f"{decided.run}/rollback", subject, decided.time, decided.reason, data)


def _of_look(looked: LookRecord, name: str) -> Event:
    data: Data = {"batch": looked.batch, "version": looked.version, "images": looked.look.images, "run": looked.run}
    record = name.removesuffix(".json")
    return Event(Kind.LOOK, f"look/{record}", f"batch/{looked.batch}", looked.time, looked.look.reason, data)


def _of_promotion(promotion: Promotion, before: Iterable[int]) -> Event:
    back = promotion.version in trail_of(before)
    message = f"version {promotion.version} is the champion{' again' if back else ''}: {promotion.reason}"
    return Event(
        Kind.ROLLED_BACK if back else Kind.DEPLOYED,
        f"champion/{promotion.number}",
        f"version/{promotion.version}",
        promotion.time,
        message,
        {"version": promotion.version},
    )


def _of_standing(record: StandingRecord, id: str) -> Event:
    remedy = f' "adapt models approve {record.version}" deploys it.' * (record.standing is Standing.WAITING)
    return Event(
        _OF_STANDING[record.standing],
        id,
        f"version/{record.version}",
        record.time,
        f"version {record.version}: {record.standing}: {record.reason}.{remedy}",
        {"version": record.version, "standing": str(record.standing)},
    )


def _standing_id(record: StandingRecord) -> str:
    return f"version/{record.version}/{record.standing.name.lower()}/{record.promotions}/{record.time}"


def _has_job(record: TrainingRecord | TriggerRecord) -> bool:
    return record.attempt > 0  # a training that was only decided names the job before it


def _journals(root: str) -> dict[str, dict[int, str]]:
    """Return the journals below a folder: by their folders, the names of the records by number."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for file in storage.files_below(root):
        folder, _, name = file.name.rpartition("/")
        stem = name.removesuffix(".json")
        if stem.isdecimal() and stem != name:
            found[folder][int(stem)] = file.name
    return dict(sorted(found.items()))


def _before(time: str, period: timedelta) -> str:
    return (_moment(time) - period).isoformat(timespec="seconds") if time else ""


def _ago(period: timedelta) -> str:
    return (datetime.now(UTC) - period).isoformat(timespec="seconds")


def _moment(time: str) -> datetime:
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
