"""The status of a deployment on one screen, for a person and for monitoring. Reading it changes nothing.

The checks of machine and settings are the doctor's, the course of everything the report's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from adaptation.evaluation.decisions import WAITING_FOR_LABELS, Decided, last_decision
from adaptation.evaluation.look_records import LookRecord, newest_look
from adaptation.events import Event, Outbox
from adaptation.notify.delivery import Delivery, Undelivered
from adaptation.notify.receivers import receivers
from adaptation.platforms.base import ModelVersion, Promotion, Standing, StandingRecord, current_standings
from adaptation.retraining import Step, Training
from adaptation.trigger import Outcome, Plan, State
from pipeline.jobs import planned
from pipeline.workspace.workspace import Workspace

SCHEMA = 1
_EVENTS = 5
_OPEN = {
    Standing.CANDIDATE: "it is compared with the champion on further labelled images",
    Standing.WAITING: "a person decides",
}


@dataclass(frozen=True)
class Serving:
    """The champion.

    Attributes:
      version: Its number.
      since: ISO 8601, UTC; empty if unknown.
      reason: Why it is the champion.
      run: The run that made it.
    """

    version: int
    since: str
    reason: str
    run: str


@dataclass(frozen=True)
class Batch:
    """What was found about a batch.

    Attributes:
      batch: Its name.
      time: When; ISO 8601, UTC.
      outcome: A word: `retrain`, `keep` or `too few` of a decision, `calm`, `look` or `unknown` of a look.
      reason: A sentence with the figures.
    """

    batch: str
    time: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Item:
    """Something that is under way, waits or was given up.

    Attributes:
      subject: A job's id, or a version like `version 3`.
      reason: A sentence.
    """

    subject: str
    reason: str


@dataclass(frozen=True)
class Status:
    """The status of a deployment.

    Attributes:
      schema: Version of this form; a new one is given if a member changes its meaning or is removed.
      deployment: Name of the deployment.
      time: When it was read; ISO 8601, UTC.
      champion: The champion, if there is one.
      evidence: The share of the evidence that a retraining takes, 0 to 1, after the champion's last evaluation; None
        before that and under rules without memory.
      decision: The last decision, if any.
      look: The last look at a batch, if any.
      delivery: What the next delivery of the trigger would do, like `not enough`, with the reason.
      running: The jobs that run.
      waiting: What goes on by itself, or waits for a person: trainings, candidates, versions.
      given_up: What has failed too often.
      undelivered: Events that receivers have not taken.
      events: The newest events, the newest first.
      todo: What a person should do, the most urgent first.
    """

    schema: int
    deployment: str
    time: str
    champion: Serving | None
    evidence: float | None
    decision: Batch | None
    look: Batch | None
    delivery: Item
    running: tuple[Item, ...]
    waiting: tuple[Item, ...]
    given_up: tuple[Item, ...]
    undelivered: tuple[Undelivered, ...]
    events: tuple[Event, ...]
    todo: tuple[str, ...]

    @property
    def needs_a_person(self) -> bool:
        """Whether there is something that a person should do."""
        return bool(self.todo)


def read_status(workspace: Workspace) -> Status:
    """Return the status of a workspace's deployment.

    Raises:
      AdaptationError: A record is unreadable, or the platform does not answer.
    """
    registry, outbox = workspace.platform.registry, Outbox(workspace.triggers)
    state, plan = planned(workspace, whole=False)
    champion, promotions = registry.champion(), registry.promotions()
    current = current_standings(registry.standings(), promotions)
    standings = [record for record in current.values() if record.standing in _OPEN]
    looked, decided = newest_look(workspace.batches), last_decision(workspace.batches)
    undelivered = Delivery(outbox, receivers(workspace.notification)).undelivered()
    return Status(
        schema=SCHEMA,
        deployment=workspace.settings.name,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        champion=_serving(champion, promotions) if champion else None,
        evidence=decided.evidence if decided and champion and decided.version == champion.number else None,
        decision=_of_decision(decided) if decided else None,
        look=Batch(looked.batch, looked.time, looked.look.outcome, looked.look.reason) if looked else None,
        delivery=Item(plan.outcome, plan.reason) if champion else Item("none", "there is no champion to evaluate"),
        running=tuple(_running(state)),
        waiting=tuple(_waiting(state.training, standings)),
        given_up=tuple(_given_up(state, plan)),
        undelivered=tuple(undelivered),
        events=tuple(islice(outbox.newest_first(), _EVENTS)),
        todo=tuple(_todo(champion, state, plan, standings, looked, decided, undelivered)),
    )


def _serving(champion: ModelVersion, promotions: Sequence[Promotion]) -> Serving:
    last = promotions[-1]
    return Serving(champion.number, last.time, last.reason, champion.run)


def _of_decision(decided: Decided) -> Batch:
    return Batch(decided.batch, decided.time, decided.outcome, decided.reason)


def _running(state: State) -> Iterator[Item]:
    for job in (state.job, state.training.job):
        if job is not None and not job.state.ended:
            yield Item(job.id, f"since {job.created}; see {job.link}")


def _waiting(training: Training, standings: Sequence[StandingRecord]) -> Iterator[Item]:
    if training.step in (Step.WAIT, Step.START, Step.RESUME, Step.RETRY):
        yield Item("training", training.reason)
    for record in standings:
        yield Item(f"version {record.version}", f"{record.standing}: {record.reason}; {_OPEN[record.standing]}")


def _given_up(state: State, plan: Plan) -> Iterator[Item]:
    if state.training.step is Step.GIVE_UP and state.training.record:
        yield Item(state.training.record.job, state.training.reason)
    if plan.outcome is Outcome.GIVE_UP:
        yield Item(plan.job_id, plan.reason)


def _todo(
    champion: ModelVersion | None,
    state: State,
    plan: Plan,
    standings: Sequence[StandingRecord],
    looked: LookRecord | None,
    decided: Decided | None,
    undelivered: Sequence[Undelivered],
) -> Iterator[str]:
    if state.training.step is Step.GIVE_UP:
        yield state.training.reason
    if champion is None and not _is_running(state.training):
        yield 'There is no champion. "adapt train" makes the first one.'
    if champion and decided and decided.rollback and decided.version == champion.number:
        yield decided.reason
    for record in standings:
        if record.standing is Standing.WAITING:
            yield f'Decide on version {record.version}: "adapt models approve {record.version}", or reject.'
    if plan.outcome is Outcome.GIVE_UP:
        yield f'{plan.reason}. Fix the cause, then run "adapt evaluate".'
    if decided and decided.outcome == WAITING_FOR_LABELS:
        yield decided.reason
    if looked and looked.look.outcome == "look" and not (decided and decided.time >= looked.time):
        yield looked.look.reason
    for one in undelivered:
        if one.failed:
            yield f'{one.receiver} lacks {one.events} events ({one.error}). Fix that; "adapt notify" sends them.'


def _is_running(training: Training) -> bool:
    return training.job is not None and not training.job.state.ended
