"""The runner: runs a subject and its baselines in turn, and returns their ratio, or nothing.

Machines differ, and a shared one differs from minute to minute: so nothing here is an absolute time. A subject and its
baselines take turns within a round, in one order and then in the other; each round gives a ratio; their median counts,
and half the distance between their quartiles is the spread. The subjects' files define the work and its baselines.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

EXTRA_SECONDS = 10.0
Run = Callable[[], float]


@dataclass(frozen=True)
class Reach:
    """The limit for a ratio.

    Attributes:
      kind: `at least`: so many times as fast as the baseline; `at most`: so many times as long, or as large.
      value: The limit of the ratio.
    """

    kind: Literal["at least", "at most"]
    value: float

    def ratio(self, cost: float, baseline: float) -> float:
        """Return the ratio of two costs, such that the baseline's own is 1."""
        return baseline / cost if self.kind == "at least" else cost / baseline

    def holds(self, ratio: float) -> bool:
        """Return True if a ratio is within reach."""
        return ratio >= self.value if self.kind == "at least" else ratio <= self.value

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g}"


@dataclass(frozen=True)
class Baseline:
    """A baseline to measure a subject against.

    Attributes:
      name: Its name in the table.
      run: Does the work once and returns its cost, like the subject's.
      reach: The limit for the ratio.
      once: If True, one run counts for all rounds: it is long, and no variation of it could change the result.
    """

    name: str
    run: Run
    reach: Reach
    once: bool = False


@dataclass(frozen=True)
class Subject:
    """Work that is measured.

    Attributes:
      name: Its name in the table.
      run: Does the work once and returns its cost: seconds or bytes.
      baselines: Other ways to the same result, and the least work for it.
      rounds: Least number of rounds; 2 or more.
      warm_up: If True, an uncounted round goes first, so that all find the same caches.
    """

    name: str
    run: Run
    baselines: tuple[Baseline, ...]
    rounds: int = 5
    warm_up: bool = True


@dataclass(frozen=True)
class Bench:
    """The measurements of one file, ready to be run.

    Attributes:
      subjects: The subjects to measure.
      remark: A text about the data, for below the table; computed when all is measured.
      figures: Returns figures that are not measured against the clock.
    """

    subjects: tuple[Subject, ...]
    remark: str | Callable[[], str] = ""
    figures: Callable[[], Sequence[Figure]] = tuple


@dataclass(frozen=True)
class Figure:
    """The result of a subject against one baseline.

    Attributes:
      subject: Name of the subject.
      against: Name of the baseline.
      ratio: Median over the rounds; None if the spread leaves open on which side of the reach it lies.
      spread: Half the distance between the quartiles of the rounds' ratios.
      reach: The limit, as text.
      ok: True if it is reached; None if there is no ratio.
      failure: Why nothing was measured; empty otherwise.
    """

    subject: str
    against: str
    ratio: float | None
    spread: float
    reach: str
    ok: bool | None
    failure: str = ""

    @classmethod
    def of_failure(cls, subject: str, error: Exception, baseline: Baseline | None = None) -> Figure:
        """Return the figure of a subject that could not be measured: it did not finish in time, or failed."""
        against, reach = (baseline.name, str(baseline.reach)) if baseline else ("-", "-")
        return cls(subject, against, None, 0.0, reach, None, f"{type(error).__name__}: {str(error) or 'no message'}")


@dataclass(frozen=True)
class _Round:
    cost: float
    baselines: tuple[float, ...]


def measured(subject: Subject) -> list[Figure]:
    """Measure a subject; where a run of it fails, as by a time limit on a busy machine, the figures say so."""
    try:
        return measure(subject)
    except Exception as error:  # whatever it is, the other subjects are still measured
        return [Figure.of_failure(subject.name, error, baseline) for baseline in subject.baselines]


def measure(
    subject: Subject, extra_seconds: float = EXTRA_SECONDS, clock: Callable[[], float] = time.monotonic
) -> list[Figure]:
    """Measure a subject against each of its baselines.

    Args:
      subject: The subject.
      extra_seconds: Time for further rounds if a figure is not clear after the subject's own rounds.
      clock: Returns the time in seconds.
    """
    subject = replace(subject, baselines=tuple(map(_as_often_as_needed, subject.baselines)))
    if subject.warm_up:
        _round(subject, backwards=False)
    rounds = [_round(subject, backwards=number % 2 == 1) for number in range(subject.rounds)]
    end = clock() + extra_seconds
    while any(figure.ok is None for figure in _figures(subject, rounds)) and clock() < end:
        rounds.append(_round(subject, backwards=len(rounds) % 2 == 1))
    return _figures(subject, rounds)


def timed(work: Callable[[], object], before: Callable[[], object] | None = None) -> Run:
    """Return a run whose cost is the seconds that `work` takes, without its preparation, `before`."""

    def run() -> float:
        if before:
            before()
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def at_least(times: float) -> Reach:
    """Return the reach of so many times as fast as the baseline, or faster."""
    return Reach("at least", times)


def at_most(times: float) -> Reach:
    """Return the reach of so many times as long as the baseline, or as large, or less."""
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
