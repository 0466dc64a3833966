"""Watch: one line per change, through any failure, until it is stopped."""

from __future__ import annotations

import threading

import pytest

from adaptation.data.batches import Batch
from adaptation.errors import AdaptationError
from adaptation.trigger import Delivery, Outcome, Plan
from adaptation.watch import watch

OCTOBER = Batch(2021, 10)


def a_delivery(outcome: Outcome, reason: str = "because", job_id: str = "") -> Delivery:
    return Delivery(Plan(outcome, reason, OCTOBER, job_id), None)


def lines_of(ticks: list[Delivery | Exception]) -> list[str]:
    stop, coming = threading.Event(), list(ticks)
    lines: list[str] = []

    def tick() -> Delivery:
        result = coming.pop(0)
        if not coming:
            stop.set()
        if isinstance(result, Exception):
            raise result
        return result

    watch(tick, 0.001, stop, lines.append)
    return lines


def test_watch_prints_one_line_per_change() -> None:
    few = [a_delivery(Outcome.NOT_ENOUGH, f"{count} new images") for count in (1, 2, 3)]
    running = [a_delivery(Outcome.RUNNING, job_id="evaluation-2021-10-0001")] * 2
    start = a_delivery(Outcome.START, job_id="evaluation-2021-10-0001")
    assert lines_of([*few, start, *running, *few]) == [
        "2021-10: not enough: 1 new images",
        "2021-10: start: because",
        "2021-10: running: because",
        "2021-10: not enough: 1 new images",
    ]


def test_watch_survives_a_failing_delivery_and_reports_it_once() -> None:
    nothing = a_delivery(Outcome.NOTHING_NEW)
    lines = lines_of([nothing, OSError("disk gone"), OSError("disk gone"), nothing, AdaptationError("odd"), nothing])
    assert [line.split(";")[0] for line in lines] == [
        "2021-10: nothing new: because",
        "could not look: disk gone",
        "2021-10: nothing new: because",
        "could not look: odd",
        "2021-10: nothing new: because",
    ]


def test_watch_does_not_hide_a_defect() -> None:
    with pytest.raises(ZeroDivisionError):
        lines_of([a_delivery(Outcome.NOTHING_NEW), ZeroDivisionError()])


def test_watch_stops_at_once_while_it_waits() -> None:
    stop, ticked = threading.Event(), threading.Event()

    def tick() -> Delivery:
        ticked.set()
        return a_delivery(Outcome.NOTHING_NEW)

    watching = threading.Thread(target=watch, args=(tick, 3600, stop, lambda line: None))
    watching.start()
    assert ticked.wait(5)
    stop.set()
    watching.join(5)
    assert not watching.is_alive()
