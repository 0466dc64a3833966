"""Simulations: streams of images with a known truth, and the decisions on them.

Each function returns what came of every stream: whether something happened, or how long it took. The decisions are
those of `adaptation.evaluation`; those of version 0.1.0, `decide` and plain accuracies at the gate, go over the same
streams. Seeds are fixed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from adaptation.data.splits import test_share
from adaptation.evaluation.accuracy import Evaluation, wilson_interval
from adaptation.evaluation.decision import Criterion, Rule, decide
from adaptation.evaluation.evidence import HORIZON, Detector, drop_threshold
from adaptation.evaluation.gate import Further, Outcome, Tests, Verdict, judge
from adaptation.evaluation.mix import Cause, Recall, split
from adaptation.evaluation.paired import Pairs, total

LOOK = 100
CLASSES = tuple(f"class-{number}" for number in range(10))
RECALLS = (0.87, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.96, 0.96)
UNLIKE = (0.80, 0.86, 0.90, 0.93, 0.95, 0.96, 0.97, 0.97, 0.98, 0.98)
SEED = 2021

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator, int, int, int], Ints]


# Evidence


@dataclass(frozen=True)
class Months:
    """Months of images for a champion.

    Attributes:
      images: Labelled images a month.
      accuracy: The champion's true accuracy.
      threshold: The accuracy that it must reach.
      false_alarms: The accepted rate of false alarms.
    """

    images: int
    accuracy: float
    threshold: float = 0.9
    false_alarms: float = 0.2


def retrained(months: Months, streams: int, draw: Draw | None = None) -> Bools:
    """Return by stream if the evidence is ever enough in 36 months, looked at every 100 images."""
    return np.isfinite(seen_after(months, streams, draw=draw))


def seen_after(months: Months, streams: int, *, good: int = 0, before: float = 1.0, draw: Draw | None = None) -> Floats:
    """Return by stream the images until the evidence is enough; infinite if it never is in 36 months.

    Args:
      months: The months; those after the fall if there were good ones.
      streams: Number of streams.
      good: Months before, which do not count; a stream with an alarm in them is left out.
      before: True accuracy in these.
      draw: Draws the correct images of a look (generator, look of the month, images, streams), instead of a Binomial.
    """
    generator, limit = np.random.default_rng(SEED), math.log(HORIZON / months.false_alarms)
    detector, images = Detector.start(months.threshold, (streams,)), 0
    seen, kept = np.full(streams, np.inf), np.ones(streams, bool)
    for month in range(good + HORIZON):
        detector = detector.begin_batch()
        accuracy = before if month < good else months.accuracy
        for look, size in enumerate(_looks(months.images)):
            correct = draw(generator, look, size, streams) if draw else generator.binomial(size, accuracy, streams)
            detector = detector.add(size, correct)
            enough = _enough(detector, limit)
            if month < good:
                kept &= ~enough
                continue
            images += size
            seen[np.isinf(seen) & enough] = images
        if np.isfinite(seen).all():
            break
    return seen[kept]


def retrained_before(months: Months, streams: int, draw: Draw | None = None) -> Bools:
    """Return by stream if the earlier rule retrains in 36 months: the accuracy of the month so far, at every look."""
    generator, retrains = np.random.default_rng(SEED), np.zeros(streams, bool)
    for _ in range(HORIZON):
        correct, images = np.zeros(streams, int), 0
        for look, size in enumerate(_looks(months.images)):
            correct += (
                draw(generator, look, size, streams) if draw else generator.binomial(size, months.accuracy, streams)
            )
            images += size
            retrains |= correct < least_kept(images, months.threshold)
    return retrains


@functools.cache
def least_kept(images: int, threshold: float) -> int:
    """Return the least number of correct images with which the earlier rule keeps the model."""
    low, high = 0, images
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _retrains(middle, images, threshold) else (low, middle)
    return low


def class_by_class(recalls: Sequence[float]) -> Draw:
    """Draw months in which ten classes arrive one after the other, in a random order: a class each look."""
    order = np.empty((0, 0))

    def draw(generator: np.random.Generator, look: int, size: int, streams: int) -> Ints:
        nonlocal order
        if look == 0:
            order = generator.permuted(np.tile(np.array(recalls), (streams, 1)), axis=1)
        return generator.binomial(size, order[:, look])

    return draw


def retrained_for_drop(test_images: int, accuracy: float, drop: float, streams: int) -> Bools:
    """Return by stream if a champion that has fallen by exactly the accepted `drop` is retrained in 36 months."""
    generator, limit = np.random.default_rng(SEED), math.log(HORIZON / 0.1)
    correct = generator.binomial(test_images, accuracy, streams)
    retrains = np.zeros(streams, bool)
    for value, count in zip(*np.unique(correct, return_counts=True), strict=True):
        detector = Detector.start(drop_threshold(int(value), test_images, drop), (count,))
        alarmed = np.zeros(count, bool)
        for _ in range(HORIZON):
            detector = detector.begin_batch()
            for size in _looks(1000):
                detector = detector.add(size, generator.binomial(size, accuracy - drop, count))
                alarmed |= _enough(detector, limit)
        retrains[correct == value] = alarmed
    return retrains


def _enough(detector: Detector, limit: float) -> Bools:
    """Return by stream if the evidence is enough; the mixture is computed only if a part of it is."""
    enough: Bools = detector.log_values.max(axis=-1) >= limit
    if enough.any():
        enough[enough] = replace(detector, log_values=detector.log_values[enough]).log_evidence >= limit
    return enough


def _looks(images: int) -> Iterator[int]:
    return (min(LOOK, images - start) for start in range(0, images, LOOK))


def _retrains(correct: int, images: int, threshold: float) -> bool:
    share, interval = correct / images, wilson_interval(correct, images)
    evaluation = Evaluation("2021-10", images, correct, share, interval, (), (), (), (), ())
    return decide(evaluation, Criterion(threshold, Rule.POINT, LOOK)).retrain


# Mix or skill


def causes(images: int, mix: Sequence[float], falls: Sequence[float], streams: int) -> list[Cause]:
    """Return the assumed causes in months of a mix of classes with recalls lower by `falls`. Test splits are even."""
    generator = np.random.default_rng(SEED)
    own_images = np.full(len(UNLIKE), 100)
    found = []
    for _ in range(streams):
        own = generator.binomial(own_images, UNLIKE)
        counts = generator.multinomial(images, np.array(mix) / sum(mix))
        correct = generator.binomial(counts, np.array(UNLIKE) - falls)
        found.append(split(_recalls(own_images, own), _recalls(counts, correct)).cause)
    return found


def _recalls(images: Ints, correct: Ints) -> dict[str, Recall]:
    return {name: Recall(int(n), int(k)) for name, n, k in zip(CLASSES, images, correct, strict=True)}


# The gate


@dataclass(frozen=True)
class Truth:
    """Probabilities that only one of two models, or both, are right on images of a span.

    Attributes:
      champion_only: Probability that only the champion is right.
      challenger_only: Probability that only the challenger is right.
      both: Probability that both are right.
      lost: Number of classes on which the challenger is right only with `kept` of what the champion is right on.
      kept: Share of these; the rest is the champion's alone.
    """

    champion_only: float
    challenger_only: float
    both: float = 0.7
    lost: tuple[int, ...] = ()
    kept: float = 0.0

    def draw(self, generator: np.random.Generator, images: int, classes: int = 1) -> dict[str, Pairs]:
        """Return counts on images that are spread evenly over the classes."""
        sizes = [images // classes + (number < images % classes) for number in range(classes)]
        return {CLASSES[number]: self._draw(generator, size, number) for number, size in enumerate(sizes)}

    def _draw(self, generator: np.random.Generator, images: int, number: int) -> Pairs:
        shares = [self.both, self.champion_only, self.challenger_only]
        if number in self.lost:
            champion = self.both + self.champion_only
            shares = [champion * self.kept, champion * (1 - self.kept), 0.0]
        both, champion_only, challenger_only, neither = generator.multinomial(images, [*shares, 1 - sum(shares)])
        return Pairs(int(both), int(champion_only), int(challenger_only), int(neither))


@dataclass(frozen=True)
class Challenge:
    """A comparison: spans with their number of test images and the truth on each, the newest last.

    Attributes:
      spans: Test images and truth of each.
      classes: Number of classes.
      floor: The least accuracy.
      has_champion: True if there is a champion.
    """

    spans: tuple[tuple[int, Truth], ...]
    classes: int = 1
    floor: float = 0.3
    has_champion: bool = True

    def tests(self, generator: np.random.Generator) -> Tests:
        """Return counts on the test splits."""
        return {
            (number, name): pairs
            for number, (images, truth) in enumerate(self.spans, 1)
            for name, pairs in truth.draw(generator, images, self.classes).items()
        }

    def judge(self, tests: Tests, further: Sequence[Further] = ()) -> Verdict:
        """Return our verdict."""
        return judge(tests, further, has_champion=self.has_champion, floor=self.floor)


def verdicts(challenge: Challenge, streams: int) -> list[Verdict]:
    """Return the last verdict of each stream: repeated after every 100 further images while it is undecided."""
    generator = np.random.default_rng(SEED)
    return [_last(challenge, generator) for _ in range(streams)]


def first_verdicts(challenge: Challenge, streams: int) -> list[Verdict]:
    """Return the verdict of each stream's first look."""
    generator = np.random.default_rng(SEED)
    return [challenge.judge(challenge.tests(generator)) for _ in range(streams)]


def deployed_before(challenge: Challenge, streams: int) -> Bools:
    """Return by stream if the earlier gate deploys: from the accuracies of the test splits."""
    generator = np.random.default_rng(SEED)
    return np.array([_blessed(challenge.tests(generator), challenge) for _ in range(streams)])


def _last(challenge: Challenge, generator: np.random.Generator) -> Verdict:
    tests, further = challenge.tests(generator), list[Further]()
    verdict = challenge.judge(tests)
    while verdict.outcome is Outcome.UNDECIDED:
        further.append(challenge.spans[-1][1].draw(generator, LOOK, challenge.classes))
        verdict = challenge.judge(tests, further)
    return verdict


def _blessed(tests: Tests, challenge: Challenge) -> bool:
    spans = {number: total(pairs for (span, _), pairs in tests.items() if span == number) for number, _ in tests}
    newest = spans[max(spans)]
    reached = all(pairs.challenger >= challenge.floor * pairs.images for pairs in spans.values())
    return reached and (newest.challenger >= newest.champion or not challenge.has_champion)


# A year without change


@dataclass(frozen=True)
class Year:
    """A year's trainings, new champions, and the largest fall of the accuracy below the first champion's."""

    trainings: int
    champions: int
    step_down: float


@functools.cache
def years(streams: int, ours: bool, accuracy: float = 0.92, sd: float = 0.015) -> list[Year]:
    """Simulate years of 1,000 images a month without change; challengers differ from the first champion by chance.

    A retraining makes a challenger whose true accuracy is the first champion's plus a normal error of `sd`. Its test
    images are a share of the month's so far, those of the older spans 500.
    """
    generator = np.random.default_rng(SEED)
    return [_year(generator, ours, accuracy, sd) for _ in range(streams)]


def _year(generator: np.random.Generator, ours: bool, accuracy: float, sd: float) -> Year:
    serving, lowest, trainings, champions = accuracy, accuracy, 0, 0
    detector, limit = Detector.start(0.9), math.log(HORIZON / 0.2)
    for _ in range(12):
        correct = images = 0
        detector = detector.begin_batch()
        for _ in range(10):
            right = int(generator.binomial(LOOK, serving))
            correct, images, detector = correct + right, images + LOOK, detector.add(LOOK, right)
            if not (detector.log_evidence >= limit if ours else correct < least_kept(images, 0.9)):
                continue
            trainings += 1
            challenger = min(0.99, accuracy + generator.normal(0, sd))
            if _is_deployed(generator, serving, challenger, images, ours):
                champions, serving, lowest = champions + 1, challenger, min(lowest, challenger)
                detector = Detector.start(0.9).begin_batch()
            correct = images = 0
    return Year(trainings, champions, accuracy - lowest)


def _is_deployed(generator: np.random.Generator, serving: float, challenger: float, images: int, ours: bool) -> bool:
    difference = challenger - serving
    truth = Truth(0.02 + max(0.0, -difference), 0.02 + max(0.0, difference), min(serving, challenger) - 0.02)
    newest = round(images * (test_share(images, 0.2) if ours else 0.2))
    challenge = Challenge(((500, truth), (newest, truth)), floor=0.9)
    if ours:
        return _last(challenge, generator).outcome is Outcome.DEPLOY
    return _blessed(challenge.tests(generator), challenge)
