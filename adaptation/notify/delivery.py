"""Delivery of events: at least once, in order for each receiver, with pauses that grow while one does not answer.

    <records root>/events/sent/<receiver>/0001.json    a journal: how far the receiver has got

A sender claims a receiver for a limited time by the journal's next record, so that two senders do not send at once; one
that was killed leaves its claim to run out, and what it sent without recording it is sent again. The same event has the
same id.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from adaptation.events import Event, Kind, Outbox, Sources
from adaptation.io import storage
from adaptation.io.journal import Journal, Record
from adaptation.notify.config import NotifyConfig
from adaptation.notify.receivers import Receiver, receivers

SENT = "sent"
SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=1)


@dataclass(frozen=True)
class Progress:
    """How far a receiver has got.

    Attributes:
      sent: Number of the last event that it took.
      failed: Attempts since then that failed.
      error: Why the last one did.
      claimed: Until when a sender has it to itself; ISO 8601, UTC; empty: none has.
      pause: Until when nothing is sent after a failure, likewise.
    """

    sent: int
    failed: int = 0
    error: str = ""
    claimed: str = ""
    pause: str = ""


@dataclass(frozen=True)
class Undelivered:
    """The events that a receiver has not taken.

    Attributes:
      receiver: Its name.
      events: How many.
      failed: Attempts that failed since it took one.
      error: Why the last one did; empty if none was made.
    """

    receiver: str
    events: int
    failed: int
    error: str


def notify(sources: Sources, config: NotifyConfig, *, at_once: bool = False) -> list[Undelivered]:
    """Collect the events that are new, send what is waiting, and return what could not be sent.

    Args:
      sources: Where the records are.
      config: Whom to notify.
      at_once: Do not wait for the end of the pause after a failure.

    Failure: repeat it. An event that was recorded is sent at least once.
    """
    outbox = Outbox(sources.records_root)
    delivery = Delivery(outbox, receivers(config))
    delivery.begin()
    outbox.collect(sources)
    return delivery.send(at_once=at_once)


def try_receivers(receivers: Sequence[Receiver]) -> list[Undelivered]:
    """Send every receiver one event of the type `test`, which is not in the outbox; return those that failed."""
    time = _text(_now())
    event = Event(Kind.TEST, f"test/{time}", "test", time, "a test: this receiver hears of events")
    tried = [
        (receiver, _sent(receiver, [event], Progress(0), _now() + timedelta(seconds=SECONDS))) for receiver in receivers
    ]
    return [Undelivered(receiver.name, 1, 1, progress.error) for receiver, progress in tried if progress.failed]


class Delivery:
    """The delivery of one outbox's events to its receivers."""

    def __init__(self, outbox: Outbox, receivers: Sequence[Receiver]) -> None:
        """Open it; nothing is written or sent."""
        self._outbox, self._receivers = outbox, receivers

    def begin(self) -> None:
        """Record where the receivers that are new begin: after the events that are in the outbox by now."""
        for receiver in self._receivers:
            self._progress(receiver).update(lambda last: None if last else Progress(self._outbox.count()))

    def send(self, *, at_once: bool = False, seconds: float = SECONDS) -> list[Undelivered]:
        """Send what the receivers have not taken, to all at the same time, and return what is left.

        Args:
          at_once: Do not wait for the end of the pause after a failure.
          seconds: The time limit of this call. What is being sent then goes on in the background.

        Failure: what a receiver did not take is kept, with the reason; an event may be sent again.
        """
        threads = [
            threading.Thread(target=self._send, args=(receiver, at_once, seconds), daemon=True)
            for receiver in self._receivers
        ]
        for thread in threads:
            thread.start()
        until = _now() + timedelta(seconds=seconds)
        for thread in threads:
            thread.join(max(0.0, (until - _now()).total_seconds()))
        return self.undelivered()

    def undelivered(self) -> list[Undelivered]:
        """Return what each receiver has not taken; receivers that have everything are left out."""
        count = self._outbox.count()
        found = []
        for receiver in self._receivers:
            last = self._progress(receiver).last()
            progress = last.value if last else Progress(count)
            if progress.sent < count:
                found.append(Undelivered(receiver.name, count - progress.sent, progress.failed, progress.error))
        return found

    def _send(self, receiver: Receiver, at_once: bool, seconds: float) -> None:
        until = _now() + timedelta(seconds=seconds)
        journal = self._progress(receiver)
        last = journal.last()
        if last is None or self._outbox.count() <= last.value.sent:
            return
        claim = journal.update(lambda last: _claimed(last, at_once, until))
        if claim is None:
            return
        progress = _sent(receiver, self._outbox.after(claim.value.sent), claim.value, until)
        try:
            journal.append(progress, after=claim.number)
        except FileExistsError:
            return  # the claim has run out, and another sender has made one: it sends the same events

    def _progress(self, receiver: Receiver) -> Journal[Progress]:
        digest = hashlib.sha256(receiver.name.encode()).hexdigest()[:16]
        return Journal(storage.join(self._outbox.folder, SENT, digest), Progress)


def _claimed(last: Record[Progress] | None, at_once: bool, until: datetime) -> Progress | None:
    progress, now = (last.value if last else Progress(0)), _text(_now())
    if progress.claimed > now or (progress.pause > now and not at_once):
        return None
    return replace(progress, claimed=_text(until))


def _sent(receiver: Receiver, events: Sequence[Event], progress: Progress, until: datetime) -> Progress:
    """Send the events in order up to the first that is not taken; return how far the receiver has got."""
    for event in events:
        if _now() >= until:
            break
        try:
            receiver.send(event)
        except Exception as error:  # also what the libraries of receivers raise: the sender's own work goes on
            failed = progress.failed + 1
            pause = min(FIRST_PAUSE * 2 ** min(failed - 1, 10), LONGEST_PAUSE)
            return Progress(progress.sent, failed, str(error), "", _text(_now() + pause))
        progress = Progress(event.number)
    return replace(progress, claimed="")


def _now() -> datetime:
    return datetime.now(UTC)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
