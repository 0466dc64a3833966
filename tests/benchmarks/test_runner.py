"""Benchmarks' runner: its rules, on given costs and without a clock."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator

import pytest

from benchmarks import runner
from benchmarks.runner import Baseline, Figure, Run, Subject, at_least, at_most, measure, timed


def costs(*values: float) -> Run:
    """Return a run that costs these one after the other, and then always the last."""
    coming = itertools.chain(values, itertools.repeat(values[-1]))
    return lambda: next(coming)


def one(figures: list[Figure]) -> Figure:
    (figure,) = figures
    return figure


def measured(ours: Run, theirs: Run, reach: runner.Reach, rounds: int = 3) -> Figure:
    subject = Subject("ours", ours, (Baseline("theirs", theirs, reach),), rounds, warm_up=False)
    return one(measure(subject, extra_seconds=0))


def ticking(seconds: float) -> Iterator[float]:
    return itertools.count(0.0, seconds)


def test_at_least_is_the_baselines_cost_divided_by_ours() -> None:
    figure = measured(costs(2.0), costs(10.0), at_least(4))
    assert figure == Figure("ours", "theirs", 5.0, 0.0, "at least 4", True)
    assert measured(costs(2.0), costs(6.0), at_least(4)).ok is False


def test_at_most_is_our_cost_divided_by_the_baselines() -> None:
    figure = measured(costs(12.0), costs(10.0), at_most(1.3))
    assert figure == Figure("ours", "theirs", 1.2, 0.0, "at most 1.3", True)
    assert measured(costs(14.0), costs(10.0), at_most(1.3)).ok is False


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert measured(costs(1.0), costs(9.0, 100.0, 10.0, 11.0, 10.0, 12.0, 9.0), at_least(2), rounds=7).ratio == 10.0


def test_ratio_compares_costs_of_the_same_round() -> None:
    """The machine becomes ten times slower for both sides: the ratio stays."""
    figure = measured(costs(1.0, 10.0, 100.0), costs(5.0, 50.0, 500.0), at_least(4))
    assert (figure.ratio, figure.spread) == (5.0, 0.0)


def test_spread_is_half_the_distance_between_the_quartiles() -> None:
    figure = measured(costs(1.0), costs(10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 22.0), at_least(2), rounds=7)
    assert (figure.ratio, figure.spread) == (16.0, 4.0)


def test_ratio_is_none_if_its_spread_reaches_the_bound() -> None:
    figure = measured(costs(1.0), costs(4.0, 5.0, 6.0), at_least(4.5))
    assert (figure.ratio, figure.ok) == (None, None)
    assert figure.spread == 1.0
    assert measured(costs(1.0), costs(4.0, 5.0, 6.0), at_least(3.5)).ratio == 5.0


def test_ratio_of_two_rounds_that_differ_a_lot_is_none() -> None:
    assert measured(costs(1.0), costs(3.0, 9.0), at_least(4), rounds=2).ratio is None


def test_order_of_the_runs_alternates_between_rounds() -> None:
    order: list[str] = []
    ours, first, second = (lambda name=name: order.append(name) or 1.0 for name in ("ours", "first", "second"))
    baselines = (Baseline("first", first, at_most(2)), Baseline("second", second, at_most(2)))
    measure(Subject("ours", ours, baselines, rounds=2, warm_up=False), extra_seconds=0)
    assert order == ["ours", "first", "second", "second", "first", "ours"]


def test_costs_stay_with_their_side_in_either_order() -> None:
    subject = Subject(
        "ours",
        costs(2.0),
        (Baseline("slow", costs(20.0), at_least(4)), Baseline("quick", costs(1.0), at_least(0.4))),
        rounds=4,
    )
    assert [figure.ratio for figure in measure(subject)] == [10.0, 0.5]


def test_warm_up_does_not_count() -> None:
    subject = Subject("ours", costs(99.0, 1.0), (Baseline("theirs", costs(1.0, 5.0), at_least(4)),), rounds=2)
    assert one(measure(subject, extra_seconds=0)).ratio == 5.0


def test_rounds_are_added_until_the_figure_is_clear() -> None:
    theirs = costs(3.0, 9.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0)
    subject = Subject("ours", costs(1.0), (Baseline("theirs", theirs, at_least(5)),), rounds=2, warm_up=False)
    clock = ticking(1.0)
    assert one(measure(subject, extra_seconds=100, clock=lambda: next(clock))).ratio == 6.0


def test_baseline_that_is_run_once_counts_for_all_rounds() -> None:
    baseline = Baseline("theirs", costs(12.0, 99.0), at_least(2), once=True)
    figure = one(measure(Subject("ours", costs(1.0, 2.0, 3.0, 4.0), (baseline,), rounds=3), extra_seconds=0))
    assert (figure.ratio, figure.spread) == (4.0, 1.5)


def test_rounds_are_added_no_longer_than_the_time_limit() -> None:
    runs = itertools.count()
    subject = Subject(
        "ours",
        lambda: next(runs) * 0.0 + 1.0,
        (Baseline("theirs", lambda: itertools.cycle((1.0, 9.0)).__next__(), at_least(1)),),
        rounds=2,
        warm_up=False,
    )
    clock = ticking(1.0)
    assert one(measure(subject, extra_seconds=5, clock=lambda: next(clock))).ok is None
    assert next(runs) == 2 + 5 - 1


def test_setup_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(runner.time, "perf_counter", lambda: now[0])

    def take(seconds: float) -> None:
        now[0] += seconds

    assert timed(lambda: take(2), before=lambda: take(40))() == 2
    assert timed(lambda: take(3))() == 3


def test_subject_that_exceeds_its_time_limit_is_reported() -> None:
    def too_long() -> float:
        raise subprocess.TimeoutExpired("adapt demo", 900)

    baselines = (Baseline("theirs", costs(1.0), at_most(1.3)), Baseline("slow", costs(2.0), at_least(2)))
    figures = runner.measured(Subject("ours", too_long, baselines))
    assert [(one.against, one.ratio, one.ok) for one in figures] == [("theirs", None, None), ("slow", None, None)]
    assert {one.failure for one in figures} == {"TimeoutExpired: Command 'adapt demo' timed out after 900 seconds"}
