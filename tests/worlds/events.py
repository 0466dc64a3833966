"""The records of a deployment, written as the pipelines write them, and receivers of its events."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from adaptation.data.batches import Batch, BatchStore
from adaptation.evaluation.decisions import Decided, record_decision
from adaptation.evaluation.look_records import Look, LookRecord, Outcome, record_look
from adaptation.events import Event, Outbox, Sources
from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.platforms.base import JobRequest, JobState, ModelVersion, Standing, Upload
from adaptation.platforms.local import LocalRegistry
from adaptation.retraining import Decision as Retraining
from adaptation.retraining import TrainingRecord
from adaptation.trigger import TriggerRecord, journal
from emulators.http_server import LoopbackServer, Request
from tests.worlds.trigger import MemoryJobs

BATCH = "2021-10"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass
class EventWorld:
    """A deployment in one folder, whose jobs the test ends."""

    root: Path
    jobs: MemoryJobs = field(default_factory=MemoryJobs)

    @property
    def batches(self) -> BatchStore:
        return BatchStore(str(self.root / "collection"))

    @property
    def records(self) -> str:
        return str(self.root / "triggers")

    @property
    def registry(self) -> LocalRegistry:
        return LocalRegistry(str(self.root / "registry"))

    @property
    def sources(self) -> Sources:
        return Sources(self.batches, self.records, self.jobs, self.registry)

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.records)

    def collect(self) -> list[Event]:
        return list(self.outbox.collect(self.sources))

    def version(self, key: str) -> ModelVersion:
        model = str(self.root / "model")
        storage.write(storage.join(model, "saved_model.pb"), b"model")
        return self.registry.upload(Upload(model, key, (1,), {}, key, key))

    def train(self, job: str, attempt: int = 1, span: int | None = 2, time: str = "", *, created: bool = True) -> None:
        """Record a training and, unless its delivery died before that, create its job."""
        decision = Retraining(span, "evaluation-1", 1, str(self.root / "data"), "all", "spans") if span else None
        trainings: Journal[TrainingRecord] = Journal(storage.join(self.records, "trainings"), TrainingRecord)
        last = trainings.last()
        trainings.append(TrainingRecord(decision, job, attempt, {}, time or now()), after=last.number if last else 0)
        if created:
            self.jobs.create(JobRequest(job, "training"))

    def evaluate(self, job: str, attempt: int = 1) -> None:
        triggered = journal(self.records, Batch.parse(BATCH))
        last = triggered.last()
        triggered.append(TriggerRecord(job, attempt, 10, "digest", now(), "new"), after=last.number if last else 0)
        self.jobs.create(JobRequest(job, "evaluation"))

    def fail(self, job: str, message: str = "the disk is full") -> None:
        self.jobs.end(job, JobState.FAILED, message)

    def decide(self, run: str, *, retrain: bool = False, rollback: bool = False, outcome: str = "") -> None:
        outcome = outcome or ("retrain" if retrain else "keep")
        reason = "62 of 100 images are right"
        record_decision(self.batches, Decided(BATCH, 1, 100, 0.62, retrain, outcome, reason, 0.5, rollback, run, now()))

    def look(self, number: int, outcome: str) -> None:
        """Add a look; each is of other images."""
        found = Look(Outcome(outcome), "the confidence has fallen", 100)
        record_look(
            self.batches, LookRecord(BATCH, f"digest-{number}", 1, "1-abc", found, (), (), "evaluation-1", now())
        )

    def live(self) -> None:
        """Let one event of every kind happen."""
        first, second, third = (self.version(key) for key in ("one", "two", "three"))
        self.registry.promote(first, "the first")
        self.look(1, "look")
        self.decide("evaluation-0", outcome="waiting for labels")
        self.evaluate("evaluation-1")
        self.fail("evaluation-1", "TooManySkipped: 40 of 100 images were skipped")
        self.evaluate("evaluation-2", attempt=2)
        self.fail("evaluation-2")
        self.evaluate("evaluation-3", attempt=3)
        self.fail("evaluation-3")
        self.decide("evaluation-4", retrain=True)
        self.train("training-1")
        self.fail("training-1")
        self.train("training-2", attempt=3)
        self.fail("training-2")
        self.registry.mark(second, Standing.CANDIDATE, "undecided")
        self.registry.mark(third, Standing.CANDIDATE, "undecided")  # drops the second
        self.registry.mark(third, Standing.WAITING, "better")
        self.registry.mark(third, Standing.REJECTED, "a person knows why")
        self.registry.mark(second, Standing.REFUSED, "worse")
        self.registry.promote(third, "better")
        self.decide("evaluation-5", rollback=True)
        self.registry.promote(first, "rolled back to version 1")


class HttpReceiver(LoopbackServer):
    """A web server that keeps what is posted to it."""

    def __init__(self, answer: Callable[[Request], web.Response] | None = None) -> None:
        super().__init__()
        self.received: list[Request] = []
        self._answer_with = answer or (lambda _: web.Response(text="thanks"))

    def answer(self, request: Request) -> web.Response:
        self.received.append(request)
        return self._answer_with(request)

    @property
    def ids(self) -> list[str]:
        """Ids of the events, as they came."""
        return [json.loads(request.body)["id"] for request in self.received]


@dataclass
class ListReceiver:
    """A receiver in memory that can be out of order."""

    name: str = "list"
    events: list[Event] = field(default_factory=list)
    broken: str = ""

    def send(self, event: Event) -> None:
        if self.broken:
            raise OSError(self.broken)
        self.events.append(event)

    @property
    def numbers(self) -> list[int]:
        return [event.number for event in self.events]


def writing_command(folder: Path) -> tuple[str, ...]:
    """Return a command that appends its input to a file in the folder, a line an event."""
    return ("sh", "-c", 'cat >> "$0"; echo >> "$0"', os.fspath(folder / "events.jsonl"))
