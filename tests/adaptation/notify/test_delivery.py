"""Delivery: at least once, in order, whatever is cut off, out of order, slow, or done by two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from adaptation.events import Kind
from adaptation.notify import delivery
from adaptation.notify.config import NotifyConfig
from adaptation.notify.delivery import Delivery, Undelivered, notify
from adaptation.notify.receivers import Receiver
from tests.worlds.events import EventWorld, HttpReceiver, ListReceiver

KINDS = set(Kind) - {Kind.TEST}

_SENDER = """
import sys, time
from pathlib import Path
from adaptation.notify.config import NotifyConfig
from adaptation.notify.delivery import notify
from adaptation.notify import delivery, receivers
from tests.worlds.events import EventWorld

root, url, stage = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def stop(*_, **__):
    print("now", flush=True)
    time.sleep(600)

if stage == "before sending":
    receivers.Webhook.send = stop
elif stage == "before its record":
    delivery._sent = (lambda sent: lambda *given: (sent(*given), stop()))(delivery._sent)
notify(EventWorld(root).sources, NotifyConfig("digits", (url,)))
"""


@pytest.fixture
def world(tmp_path: Path) -> EventWorld:
    return EventWorld(tmp_path)


def delivered(world: EventWorld, *receivers: Receiver) -> list[Undelivered]:
    """Do what `notify` does, with these receivers."""
    sending = Delivery(world.outbox, receivers)
    sending.begin()
    world.collect()
    return sending.send()


def test_every_receiver_gets_every_event_in_order(world: EventWorld) -> None:
    world.live()
    first, second = ListReceiver("first"), ListReceiver("second")
    assert delivered(world, first, second) == []
    assert {event.kind for event in first.events} == KINDS
    assert first.events == second.events == world.outbox.after(0)


def test_second_delivery_sends_nothing(world: EventWorld) -> None:
    world.live()
    receiver = ListReceiver()
    delivered(world, receiver)
    count = len(receiver.events)
    delivered(world, receiver)
    assert len(receiver.events) == count


def test_new_receiver_gets_what_happens_from_then_on(world: EventWorld) -> None:
    world.train("training-1")
    delivered(world, ListReceiver("first"))
    late = ListReceiver("late")
    world.fail("training-1")
    delivered(world, late)
    assert [event.kind for event in late.events] == [Kind.TRAINING_FAILED]


def test_receiver_that_is_down_loses_nothing_and_holds_nobody_up(
    world: EventWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE", timedelta(0))
    world.live()
    down, other = ListReceiver("down", broken="no route to host"), ListReceiver("other")
    (left,) = delivered(world, down, other)
    assert (left.receiver, left.failed, left.error) == ("down", 1, "no route to host")
    assert left.events == len(other.events) == len(world.outbox.after(0))
    down.broken = ""
    assert delivered(world, down, other) == []
    assert down.numbers == other.numbers


def test_pauses_grow_and_a_person_need_not_wait(world: EventWorld) -> None:
    world.train("training-1")
    down = ListReceiver(broken="no route to host")
    delivered(world, down)
    sending = Delivery(world.outbox, [down])
    assert sending.send()[0].failed == 1  # within the pause nothing was tried
    assert sending.send(at_once=True)[0].failed == 2
    pauses = [
        delivery._sent(down, world.outbox.after(0), delivery.Progress(0, failed), _never()) for failed in (0, 1, 2)
    ]
    first, second, third = (delivery.datetime.fromisoformat(one.pause) for one in pauses)
    assert second - first > timedelta(seconds=20) and third - second > timedelta(seconds=40)
    longest = delivery._sent(down, world.outbox.after(0), delivery.Progress(0, 1000), _never())
    assert delivery.datetime.fromisoformat(longest.pause) - delivery._now() <= delivery.LONGEST_PAUSE


def test_order_is_kept_when_one_event_is_not_taken(world: EventWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE", timedelta(0))
    world.live()
    receiver = _Picky(broken_at=3)
    delivered(world, receiver)
    assert receiver.numbers == [1, 2]
    receiver.broken_at = 0
    delivered(world, receiver)
    assert receiver.numbers == list(range(1, len(world.outbox.after(0)) + 1))


@pytest.mark.parametrize("stage", ["before sending", "before its record"])
def test_sender_killed_after_the_record_loses_nothing(
    world: EventWorld, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.live()
    with HttpReceiver() as receiver:
        _kill_at(world.root, receiver.url, stage)
        monkeypatch.setattr(delivery, "_now", _in_a_minute)  # the claim of the killed one has run out
        assert notify(world.sources, NotifyConfig("digits", (receiver.url,))) == []
    recorded = [event.id for event in world.outbox.after(0)]
    assert receiver.ids[-len(recorded) :] == recorded
    assert set(receiver.ids) == set(recorded)


def test_claim_of_a_living_sender_keeps_others_out(world: EventWorld) -> None:
    world.train("training-1")
    slow = _Slow()
    threads = [threading.Thread(target=delivered, args=(world, slow)) for _ in range(2)]
    for thread in threads:
        thread.start()
    slow.go.set()
    for thread in threads:
        thread.join()
    assert slow.numbers == [1]


def test_many_senders_at_once_send_each_event_once_in_order(world: EventWorld) -> None:
    world.live()
    with HttpReceiver() as receiver:
        config = NotifyConfig("digits", (receiver.url,))
        threads = [threading.Thread(target=notify, args=(world.sources, config)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        notify(world.sources, config)  # what another one recorded after the last claim
    assert receiver.ids == [event.id for event in world.outbox.after(0)]


def test_slow_receiver_does_not_hold_up_the_caller(world: EventWorld) -> None:
    world.train("training-1")
    slow = _Slow()
    sending = Delivery(world.outbox, [slow])
    sending.begin()
    world.collect()
    (left,) = sending.send(seconds=0.2)
    assert (left.events, left.failed) == (1, 0)
    slow.go.set()


def test_receiver_that_raises_anything_is_only_recorded(world: EventWorld) -> None:
    class Odd(ListReceiver):
        def send(self, event: object) -> None:
            raise RuntimeError("a defect of a library")

    world.train("training-1")
    (left,) = delivered(world, Odd())
    assert left.error == "a defect of a library"


class _Picky(ListReceiver):
    def __init__(self, broken_at: int) -> None:
        super().__init__("picky")
        self.broken_at = broken_at

    def send(self, event: object) -> None:
        if event.number == self.broken_at:  # type: ignore[attr-defined]
            raise OSError("not this one")
        super().send(event)  # type: ignore[arg-type]


class _Slow(ListReceiver):
    def __init__(self) -> None:
        super().__init__("slow")
        self.go = threading.Event()

    def send(self, event: object) -> None:
        self.go.wait(30)
        super().send(event)  # type: ignore[arg-type]


def _kill_at(root: Path, url: str, stage: str) -> None:
    command: Sequence[str] = (sys.executable, "-c", _SENDER, str(root), url, stage)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def _never() -> delivery.datetime:
    return delivery._now() + timedelta(days=1)


_NOW = delivery._now


def _in_a_minute() -> delivery.datetime:
    return _NOW() + timedelta(seconds=delivery.SECONDS + 30)
