"""The decisions' error rates, simulated: ours and those of the earlier rules on the same streams.

A row is reached if the whole 95 % interval of the simulated figure is within its reach, and missed if none of it is.
Rates are in percent. `docs/judgement.md` says what each row means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adaptation.evaluation.gate import Outcome, Verdict
from adaptation.evaluation.mix import Cause
from adaptation.evaluation.paired import upper_bound
from benchmarks import simulations as sim
from benchmarks.runner import Bench, Figure, Reach, at_most
from benchmarks.simulations import RECALLS, Challenge, Months, Truth

STREAMS = 2000
MIX = (10, 3, 1, 1, 1, 1, 1, 1, 1, 1)


@dataclass(frozen=True)
class Estimate:
    """A simulated figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def rate(cls, happened: Sequence[bool] | npt.NDArray[np.bool_]) -> Estimate:
        """Estimate a probability, in percent; Clopper and Pearson's interval."""
        hits, streams = int(np.sum(happened)), len(happened)
        low, high = 1 - upper_bound(streams - hits, streams, 0.025), upper_bound(hits, streams, 0.025)
        return cls(100 * hits / streams, 100 * low, 100 * high)

    @classmethod
    def mean(cls, values: Sequence[float] | npt.NDArray[np.float64]) -> Estimate:
        """Estimate an expectation; the normal interval."""
        value, half = float(np.mean(values)), 1.96 * float(np.std(values)) / len(values) ** 0.5
        return cls(value, value - half, value + half)


@dataclass(frozen=True)
class Row:
    """A figure to reach.

    Attributes:
      name: Its name in the table.
      reach: The value to reach.
      ours: Simulates it with so many streams.
      before: Simulates it with the earlier rules; None if they have no such thing.
      streams: Number of streams that suffice to say if it is reached.
    """

    name: str
    reach: Reach
    ours: Callable[[int], Estimate]
    before: Callable[[int], Estimate] | None = None
    streams: int = 1000

    def figure(self, streams: int) -> Figure:
        """Simulate both, with so many streams or more."""
        streams = max(streams, self.streams)
        ours = self.ours(streams)
        return Figure(
            subject=self.name,
            against="-" if self.before is None else f"before: {self.before(STREAMS).value:.3g}",
            ratio=round(ours.value, 3),
            spread=round((ours.high - ours.low) / 2, 3),
            reach=str(self.reach),
            ok=self.holds(ours),
        )

    def holds(self, estimate: Estimate) -> bool | None:
        """Return True if it is reached; None if the interval leaves that open."""
        low, high = self.reach.holds(estimate.low), self.reach.holds(estimate.high)
        return low if low == high else None


def at_least(value: float) -> Reach:
    """Return the reach of at least so much; a rate, unlike a speed, is its own measure."""
    return Reach("at least", value)


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Simulate all rows; nothing is written."""
    yield Bench((), f"{STREAMS:,} streams or more a row", lambda: [row.figure(STREAMS) for row in ROWS])


def _evidence() -> Iterator[Row]:
    for above, most, streams in ((0, 10, 4000), (1, 1, 4000), (3, 0.3, 2000)):
        for images in (100, 300, 1000, 3000):
            months = Months(images, 0.9 + above / 100)
            yield Row(
                f"retrained in 36 months of {images:,}, +{above} points, a = 0.2, %",
                at_most(most),
                partial(_retrained, months),
                partial(_retrained_before, months),
                streams,
            )
    for images in (100, 300, 1000, 3000):
        months = Months(images, 0.9, false_alarms=0.05)
        name = f"retrained in 36 months of {images:,}, +0 points, a = 0.05, %"
        yield Row(name, at_most(3.5), partial(_retrained, months), streams=4000)
    for threshold, reaches in ((0.9, (700, 330, 125)), (0.75, (1200, 540, 170))):
        for fall, most in zip((5, 8, 18), reaches, strict=True):
            name = f"images until a fall from +3 to -{fall} points is seen, threshold {threshold:g}, mean"
            yield Row(name, at_most(most), partial(_seen, Months(1000, threshold - fall / 100, threshold)))
    yield Row(
        "retrained in 36 months of 1,000 that arrive class by class, +3 points, %",
        at_most(5),
        lambda streams: _retrained(Months(1000, 0.93), streams, sim.class_by_class(RECALLS)),
        lambda streams: _retrained_before(Months(1000, 0.93), streams, sim.class_by_class(RECALLS)),
    )
    yield Row(
        "drop rule: retrained in 36 months though fallen by just what is accepted, 200 test images, %",
        at_most(20),
        lambda streams: Estimate.rate(sim.retrained_for_drop(200, 0.95, 0.05, streams)),
    )
    yield Row("a change of mix alone (months of 300) reported as such, %", at_least(90), _reported)


def _retrained(months: Months, streams: int, draw: sim.Draw | None = None) -> Estimate:
    return Estimate.rate(sim.retrained(months, streams, draw))


def _retrained_before(months: Months, streams: int, draw: sim.Draw | None = None) -> Estimate:
    return Estimate.rate(sim.retrained_before(months, streams, draw))


def _seen(months: Months, streams: int) -> Estimate:
    return Estimate.mean(sim.seen_after(months, streams, good=6, before=months.threshold + 0.03))


def _reported(streams: int) -> Estimate:
    return Estimate.rate([cause is Cause.MIX for cause in sim.causes(300, MIX, (0.0,) * 10, streams)])


def _gate() -> Iterator[Row]:
    for name, reach, truth in (
        ("+0 points (5 and 5 % differ)", at_most(5), Truth(0.05, 0.05)),
        ("+0 points (15 and 15 % differ)", at_most(5), Truth(0.15, 0.15, 0.5)),
        ("-2 points (7 and 5 % differ)", at_most(1), Truth(0.07, 0.05)),
        ("+5 points (5 and 10 % differ)", at_least(85), Truth(0.05, 0.10)),
        ("+5 points (10 and 15 % differ)", at_least(85), Truth(0.10, 0.15)),
        ("+10 points (5 and 15 % differ)", at_least(99), Truth(0.05, 0.15)),
        ("+10 points (10 and 20 % differ)", at_least(99), Truth(0.10, 0.20)),
    ):
        ours, before = (Challenge(((images, truth),)) for images in (100, 20))
        yield _deployment(f"deployed within 1,000 further images, {name}, %", reach, ours, before)
    forgets = Challenge(((200, Truth(0.10, 0.02, 0.85)), (100, Truth(0.05, 0.15))))
    name = "deployed though it forgot (0.95 to 0.87, 200 older images), +10 on the newest, %"
    yield _deployment(name, at_most(5), forgets)
    for images, least in ((600, 75), (1200, 95)):
        equal = Challenge(((images, Truth(0.015, 0.015, 0.94)), (100, Truth(0.05, 0.25, 0.6))))
        name = f"an equal challenger passes the older spans' rule, {images:,} images (1.5 and 1.5 % differ), %"
        yield Row(name, at_least(least), partial(_older_passed, equal))
    for images, kept, name in ((100, 0.0, "at recall 0 (200 test images)"), (500, 0.5, "halved (1,000)")):
        truths = (Truth(0.02, 0.02, 0.88, (0,), kept), Truth(0.05, 0.25, 0.6, (0,), kept))
        lost = Challenge(tuple((images, truth) for truth in truths), classes=10)
        yield _deployment(f"deployed with a class of 10 {name}, %", at_most(5), lost)
    same = Challenge(((500, Truth(0.05, 0.05)), (500, Truth(0.05, 0.05))), classes=10)
    name = "an equal challenger refused by the classes' rule, at any look, %"
    yield Row(name, at_most(5), partial(_class_refused, same), streams=300)
    for floor, spans in ((0.9, 24), (0.75, 12)):
        good = Truth(0.0, floor + 0.05, 0.0)
        fine = Challenge(((100, good),) * 24, floor=floor, has_champion=False)
        name = f"blocked by the floor of {floor:g}, 5 points above it, 24 spans of 100, %"
        yield Row(name, at_most(2), partial(_refused, fine), partial(_refused_before, fine))
        below = ((100, good),) * (spans - 1) + ((200, Truth(0.0, floor - 0.1, 0.0)),)
        name = f"one of {spans} spans 10 points below the floor of {floor:g} caught, 200 images of it, %"
        caught = Challenge(below, floor=floor, has_champion=False)
        yield Row(name, at_least(65), partial(_refused, caught), partial(_refused_before, caught))


def _deployment(name: str, reach: Reach, challenge: Challenge, before: Challenge | None = None) -> Row:
    """Return the row of how often a challenger is deployed."""
    return Row(name, reach, partial(_deployed, challenge), partial(_deployed_before, before or challenge))


def _deployed(challenge: Challenge, streams: int) -> Estimate:
    return _outcomes(sim.verdicts(challenge, streams), Outcome.DEPLOY)


def _deployed_before(challenge: Challenge, streams: int) -> Estimate:
    return Estimate.rate(sim.deployed_before(challenge, streams))


def _refused(challenge: Challenge, streams: int) -> Estimate:
    return _outcomes(sim.first_verdicts(challenge, streams), Outcome.REFUSE)


def _refused_before(challenge: Challenge, streams: int) -> Estimate:
    return Estimate.rate(~sim.deployed_before(challenge, streams))


def _older_passed(challenge: Challenge, streams: int) -> Estimate:
    return _rule(sim.first_verdicts(challenge, streams), "older spans", Outcome.DEPLOY)


def _class_refused(challenge: Challenge, streams: int) -> Estimate:
    return _rule(sim.verdicts(challenge, streams), "classes", Outcome.REFUSE)


def _outcomes(verdicts: Sequence[Verdict], outcome: Outcome) -> Estimate:
    return Estimate.rate([verdict.outcome is outcome for verdict in verdicts])


def _rule(verdicts: Sequence[Verdict], name: str, outcome: Outcome) -> Estimate:
    return Estimate.rate([rule.outcome is outcome for one in verdicts for rule in one.rules if rule.name == name])


def _years() -> Iterator[Row]:
    yield _year("trainings", 0.2, lambda years: Estimate.mean([year.trainings for year in years]))
    yield _year("new champions", 0.1, lambda years: Estimate.mean([year.champions for year in years]))
    yield _year("a step down over 1 point, %", 1, lambda years: Estimate.rate([one.step_down > 0.01 for one in years]))


def _year(name: str, most: float, value: Callable[[Sequence[sim.Year]], Estimate]) -> Row:
    return Row(
        f"a year without change: {name}",
        at_most(most),
        lambda streams: value(sim.years(streams, ours=True)),
        lambda streams: value(sim.years(streams, ours=False)),
    )


EVIDENCE = tuple(_evidence())
GATE = (*_gate(), *_years())
ROWS = EVIDENCE + GATE
