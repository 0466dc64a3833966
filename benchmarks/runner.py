"""The runner: a subject and its baselines are run in turn, and what comes of it is a ratio, or nothing.

Machines differ, and a shared one differs from minute to minute: so nothing here is an absolute time. A subject and its
baselines take turns within a round, in one order and then in the other; each round gives a ratio; their median counts,
and half the distance between their quartiles is the spread. What is done, and against what, is in the subjects' files.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

PATIENCE = 10.0
Run = Callable[[], float]


@dataclass(frozen=True)
class Reach:
    """What a ratio is held against.

    Attributes:
      kind: `at least`: so many times as fast as the baseline; `at most`: so many times as long, or as large.
      value: How many times.
    """

    kind: Literal["at least", "at most"]
    value: float

    def ratio(self, cost: float, baseline: float) -> float:
        """The ratio of two costs, such that the baseline's own is 1."""
        return baseline / cost if self.kind == "at least" else cost / baseline

    def holds(self, ratio: float) -> bool:
        """Whether a ratio is within reach."""
        return ratio >= self.value if self.kind == "at least" else ratio <= self.value

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g}"


@dataclass(frozen=True)
class Baseline:
    """What a subject is measured against.

    Attributes:
      name: What it is.
      run: Does it once and returns what it cost, as the subject's does.
      reach: What the ratio is held against.
      once: Whether one run counts for all rounds: it is long, and nothing that it varies by could change the answer.
    """

    name: str
    run: Run
    reach: Reach
    once: bool = False


@dataclass(frozen=True)
class Subject:
    """Work that is measured.

    Attributes:
      name: What it is.
      run: Does it once and returns what it cost: seconds or bytes.
      baselines: Other ways to the same result, and the least that must be done for it.
      rounds: How often it is measured at least; 2 or more.
      warm_up: Whether a round goes before those that count, so that all find the same caches.
    """

    name: str
    run: Run
    baselines: tuple[Baseline, ...]
    rounds: int = 5
    warm_up: bool = True


@dataclass(frozen=True)
class Bench:
    """What one file measures, ready to be run.

    Attributes:
      subjects: What is measured.
      remark: What it works on, for below the table; asked for when all is measured.
      figures: Returns figures that are not measured against the clock.
    """

    subjects: tuple[Subject, ...]
    remark: str | Callable[[], str] = ""
    figures: Callable[[], Sequence[Figure]] = tuple


@dataclass(frozen=True)
class Figure:
    """What came of a subject against one baseline.

    Attributes:
      subject: What was measured.
      against: The baseline.
      ratio: Median over the rounds; None where the spread leaves open on which side of the reach it lies.
      spread: Half the distance between the quartiles of the rounds' ratios.
      reach: What it is to reach, as text.
      ok: Whether it does; None where there is no ratio.
    """

    subject: str
    against: str
    ratio: float | None
    spread: float
    reach: str
    ok: bool | None


@dataclass(frozen=True)
class _Round:
    cost: float
    baselines: tuple[float, ...]


def measure(subject: Subject, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic) -> list[Figure]:
    """Measures a subject against each of its baselines.

    Args:
      subject: The subject.
      patience: Seconds for which rounds are added where a figure is not clear after those that the subject asks for.
      clock: Tells the time, in seconds.
    """
    subject = replace(subject, baselines=tuple(map(_as_often_as_needed, subject.baselines)))
    if subject.warm_up:
        _round(subject, backwards=False)
    rounds = [_round(subject, backwards=number % 2 == 1) for number in range(subject.rounds)]
    end = clock() + patience
    while any(figure.ok is None for figure in _figures(subject, rounds)) and clock() < end:
        rounds.append(_round(subject, backwards=len(rounds) % 2 == 1))
    return _figures(subject, rounds)


def timed(work: Callable[[], object], before: Callable[[], object] | None = None) -> Run:
    """A run that costs the seconds that `work` takes; what it takes to get ready, `before`, is not counted."""

    def run() -> float:
        if before:
            before()
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def at_least(times: float) -> Reach:
    """So many times as fast as the baseline, or faster."""
    return Reach("at least", times)


def at_most(times: float) -> Reach:
    """So many times as long as the baseline, or as large, or less."""
    return Reach("at most", times)


def _as_often_as_needed(baseline: Baseline) -> Baseline:
    return replace(baseline, run=cache(baseline.run)) if baseline.once else baseline


def _round(subject: Subject, backwards: bool) -> _Round:
    runs = [subject.run, *(baseline.run for baseline in subject.baselines)]
    costs = [run() for run in (reversed(runs) if backwards else runs)]
    cost, *baselines = reversed(costs) if backwards else costs
    return _Round(cost, tuple(baselines))


def _figures(subject: Subject, rounds: Sequence[_Round]) -> list[Figure]:
    return [_figure(subject, number, rounds) for number in range(len(subject.baselines))]


def _figure(subject: Subject, number: int, rounds: Sequence[_Round]) -> Figure:
    baseline = subject.baselines[number]
    ratios = [baseline.reach.ratio(one.cost, one.baselines[number]) for one in rounds]
    ratio = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios)
    spread = (high - low) / 2
    clear = spread < abs(ratio - baseline.reach.value)
    return Figure(
        subject=subject.name,
        against=baseline.name,
        ratio=round(ratio, 3) if clear else None,
        spread=round(spread, 3),
        reach=str(baseline.reach),
        ok=baseline.reach.holds(ratio) if clear else None,
    )
