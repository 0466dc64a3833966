"""Evidence: when is the model too bad? A test that may be looked at after every image, month after month.

The unit is a block: the labelled images of one evaluation that no evaluation of this champion has counted before.
Blocks are folded, in the order in which they were recorded, into one figure, the evidence. What is done when there is
enough of it is decided elsewhere.

The method is a Shiryaev-Roberts e-detector (Shin, Ramdas, Rinaldo: "E-detectors", 2022) on likelihood ratios of the
Binomial distribution, mixed over five alternatives. Guarantee: with a model that is never below the threshold, the
probability of any retraining within 36 batches is at most `false_alarms`, for any number of evaluations and any sizes
of blocks. Proof: for every accuracy p >= t and every alternative q < t a block's ratio has an expectation of at most 1,
so that the statistic minus the number of batches begun is a supermartingale, and Markov's inequality at the first time
it reaches 36 / false_alarms does the rest. Assumptions: given the past, a block is a fair sample of images, judged one
by one and rightly labelled. Near-duplicates break the first: ten copies of a wrong image count ten times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from adaptation.errors import AdaptationError
from adaptation.evaluation.accuracy import wilson_interval
from adaptation.evaluation.paired import upper_bound
from adaptation.evaluation.sampling import Interval

HORIZON = 36
FALSE_ALARMS = 0.2
_FALLS = (0.01, 0.02, 0.04, 0.08, 0.16)
_SEED = 20211001
_LONGEST = 120

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """Labelled images of one evaluation that no earlier evaluation of this champion has counted.

    Attributes:
      batch: Name of the batch they belong to.
      images: Number of images.
      correct: Number of those that were predicted correctly.
    """

    batch: str
    images: int
    correct: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.images:
            raise AdaptationError(
                f"{self.correct} of {self.images} images of {self.batch} cannot be correct. Count again."
            )


@dataclass(frozen=True)
class Measured:
    """An accuracy with what it rests on; the interval is Wilson's at 95 %.

    Attributes:
      images: Number of images, above 0.
      correct: Number of those that were predicted correctly.
    """

    images: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Share of the images that were predicted correctly."""
        return self.correct / self.images

    @property
    def interval(self) -> Interval:
        """The 95 % interval, for a reader: no decision rests on it, and it does not allow for repeated looks."""
        return wilson_interval(self.correct, self.images)

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        return f"{self.correct} of {self.images} correct, accuracy {self.accuracy:.4f} ({low:.4f} to {high:.4f})"


@dataclass(frozen=True)
class Evidence:
    """The evidence that a champion is below its threshold.

    Attributes:
      share: Share of what a retraining takes, 0 to 1, on a logarithmic scale: each further image adds to it alike.
      reached: Whether it is enough to retrain.
      reason: The same as a sentence, with all figures.
      block: The last block; None if there are no images.
      month: All blocks of the last block's batch; None if there are no images.
    """

    share: float
    reached: bool
    reason: str
    block: Measured | None
    month: Measured | None


def evidence(blocks: Sequence[Block], threshold: float, false_alarms: float = FALSE_ALARMS) -> Evidence:
    """Return the evidence that the champion is below the threshold, from all of its blocks.

    The guarantee is the module's. Labels that come late for an older batch are ordinary evidence: their block counts at
    the time when it was recorded, and begins a batch only if the batch had no block before. That takes nothing from the
    guarantee, which is about the number of batches and not about their order. Blocks without images change nothing.

    Args:
      blocks: The blocks of this champion in the order in which they were recorded; not those of champions before it.
      threshold: The accuracy that the model must reach, above 0 and up to 1.
      false_alarms: Accepted probability of any needless retraining in 36 batches, above 0 and below 1.

    Raises:
      AdaptationError: The threshold or `false_alarms` is out of its range.
    """
    counted = [block for block in blocks if block.images]
    detector, limit = _fold(Detector.start(threshold), counted), _limit(false_alarms)
    if not counted:
        return Evidence(0.0, False, "no labelled images were counted yet", None, None)
    value = float(detector.log_evidence)
    share, reached = min(1.0, max(0.0, value / limit)), value >= limit
    last = counted[-1]
    block, month = _measured([last]), _measured(one for one in counted if one.batch == last.batch)
    reason = (
        f"evidence {_percent(share, reached)} % of what a retraining takes (threshold {threshold:g}); "
        f"new images: {block}; all of {last.batch}: {month}"
    )
    return Evidence(share, reached, reason, block, month)


def evidence_of_drop(
    blocks: Sequence[Block], correct: int, images: int, drop: float, false_alarms: float = FALSE_ALARMS
) -> Evidence:
    """Return the evidence that the champion has fallen by more than `drop` below its accuracy on its test splits.

    That accuracy is itself an estimate. Half of `false_alarms` is therefore spent on its exact lower bound
    (Clopper-Pearson), from which `drop` is subtracted, and the other half on the evidence against the result: by the
    union bound the guarantee is that of `evidence`. The price is sensitivity: with 200 test images the bound is about 3
    points below the estimate, with 2,000 about 1. Assumption beyond those of the module: the test images are a fair
    sample, too, and were not what the champion was chosen by. A champion that was picked as the best of many on the
    same images has a bound that is too high.

    Args:
      blocks: As for `evidence`.
      correct: Number of test images that the champion predicted correctly.
      images: Number of its test images.
      drop: The fall that is accepted, 0 to 1.
      false_alarms: As for `evidence`.

    Raises:
      AdaptationError: The bound is not above `drop`, or `false_alarms` is out of its range.
    """
    threshold = drop_threshold(correct, images, drop, false_alarms)
    found = evidence(blocks, threshold, false_alarms / 2)
    own = f"{threshold:.4f} is {drop:g} below the lower bound of {correct} of {images} on its test splits"
    return replace(found, reason=f"{found.reason}; {own}")


def drop_threshold(correct: int, images: int, drop: float, false_alarms: float = FALSE_ALARMS) -> float:
    """Return the threshold that `evidence_of_drop` tests: the champion's lower bound at `false_alarms` / 2, minus drop.

    Raises:
      AdaptationError: The bound is not above `drop`, or `false_alarms` is out of its range.
    """
    _limit(false_alarms)
    lower = 1 - upper_bound(images - correct, images, false_alarms / 2)
    if lower <= drop:
        raise AdaptationError(
            f"{correct} of {images} test images say only that the champion's accuracy is above {lower:.4f}, which is "
            f"no more than the accepted drop of {drop:g}. Give it more test images, or set a threshold."
        )
    return lower - drop


@dataclass(frozen=True)
class Detector:
    """The e-detector's state, for one stream of blocks or for many side by side.

    Attributes:
      log_correct: Log ratio of one correct image, by alternative.
      log_wrong: Log ratio of one wrong image, by alternative; infinite at a threshold of 1.
      log_values: Logarithms of the statistics, by stream and alternative (the last axis).
    """

    log_correct: Floats
    log_wrong: Floats
    log_values: Floats

    @classmethod
    def start(cls, threshold: float, streams: tuple[int, ...] = ()) -> Detector:
        """Begin without evidence.

        The alternatives are 1, 2, 4, 8 and 16 points below the threshold, in equal parts. Those at or below 0 are left
        out; at a threshold of a point or less half the threshold stands for them all.

        Raises:
          AdaptationError: The threshold is not above 0 and up to 1.
        """
        if not 0 < threshold <= 1:
            raise AdaptationError(f"the threshold {threshold} is no accuracy. Set one above 0 and up to 1, e.g. 0.9.")
        lower = np.array([threshold - fall for fall in _FALLS if threshold - fall > 1e-9] or [threshold / 2])
        with np.errstate(divide="ignore"):
            wrong = np.log1p(-lower) - np.log1p(-np.float64(threshold))
        return cls(np.log(lower / threshold), wrong, np.full((*streams, len(lower)), -np.inf))

    def begin_batch(self) -> Detector:
        """Add 1 to each statistic: from here on a fall may begin that was not there before."""
        return replace(self, log_values=np.logaddexp(self.log_values, 0.0))

    def add(self, images: npt.ArrayLike, correct: npt.ArrayLike) -> Detector:
        """Multiply each statistic with the likelihood ratio of a block, or of a block for each stream."""
        right = np.asarray(correct, float)[..., None]
        wrong = np.asarray(images, float)[..., None] - right
        with np.errstate(invalid="ignore"):
            ratio = right * self.log_correct + np.where(wrong > 0, wrong * self.log_wrong, 0.0)
        return replace(self, log_values=self.log_values + ratio)

    @property
    def log_evidence(self) -> Floats:
        """Logarithm of the mixture, by stream."""
        mixed: Floats = np.logaddexp.reduce(self.log_values, axis=-1) - math.log(self.log_values.shape[-1])
        return mixed


@dataclass(frozen=True)
class Power:
    """How long a fall goes unseen: half of such falls are seen by the median, nine in ten by the last figures.

    A figure is None if it lies beyond ten years.

    Attributes:
      fall: How far the accuracy is below the threshold, 0 to 1.
      median_images: Labelled images from the fall until the evidence is enough.
      images_90: The same for nine in ten.
      median_months: Batches begun by then.
      months_90: The same for nine in ten.
    """

    fall: float
    median_images: int | None
    images_90: int | None
    median_months: int | None
    months_90: int | None


def power(
    monthly: int,
    threshold: float,
    false_alarms: float = FALSE_ALARMS,
    *,
    block: int = 100,
    falls: Sequence[float] = (0.02, 0.05, 0.10, 0.20),
    streams: int = 2000,
) -> list[Power]:
    """Simulate how many labelled images it takes until a fall below the threshold is seen.

    The champion is new when the fall begins, with a batch. An older one is seen to fall a little sooner, because its
    evidence is never less than none. The seed is fixed: the same question has the same answer. With 2,000 streams a
    median is within about 5 % of its true value, or within one block.

    Args:
      monthly: Labelled images of a batch, above 0.
      threshold: As for `evidence`.
      false_alarms: As for `evidence`.
      block: Labelled images between two evaluations; a batch's last block may be smaller.
      falls: Distances below the threshold, 0 to 1; those that leave no accuracy above 0 are left out.
      streams: Number of simulated champions for each fall.

    Raises:
      AdaptationError: The threshold or `false_alarms` is out of its range.
    """
    return [
        _power(fall, _images_until_seen(monthly, threshold, threshold - fall, false_alarms, block, streams), monthly)
        for fall in falls
        if fall < threshold
    ]


def _limit(false_alarms: float) -> float:
    """Return the logarithm of the evidence that a retraining takes."""
    if not 0 < false_alarms < 1:
        raise AdaptationError(f"false_alarms is {false_alarms}, not a probability between 0 and 1. Set e.g. 0.2.")
    return math.log(HORIZON / false_alarms)


def _fold(detector: Detector, blocks: Iterable[Block]) -> Detector:
    begun: set[str] = set()
    for block in blocks:
        if block.batch not in begun:
            begun.add(block.batch)
            detector = detector.begin_batch()
        detector = detector.add(block.images, block.correct)
    return detector


def _measured(blocks: Iterable[Block]) -> Measured:
    counts = [(block.images, block.correct) for block in blocks]
    return Measured(*map(sum, zip(*counts, strict=True)))


def _percent(share: float, reached: bool) -> int:
    """Return whole percents that say 100 only where it is reached."""
    return 100 if reached else min(99, round(100 * share))


def _images_until_seen(
    monthly: int, threshold: float, accuracy: float, false_alarms: float, block: int, streams: int
) -> Floats:
    """Return, by stream, the images until the evidence is enough; infinite beyond ten years."""
    generator, limit = np.random.default_rng(_SEED), _limit(false_alarms)
    detector = Detector.start(threshold, (streams,))
    seen, images = np.full(streams, np.inf), 0
    for size, first in _blocks(monthly, block):
        detector = detector.begin_batch() if first else detector
        detector = detector.add(size, generator.binomial(size, accuracy, streams))
        images += size
        seen[np.isinf(seen) & (detector.log_evidence >= limit)] = images
        if np.isfinite(seen).all():
            break
    return seen


def _blocks(monthly: int, block: int) -> Iterator[tuple[int, bool]]:
    """Yield the sizes of ten years of blocks, and whether each is the first of its batch."""
    for _ in range(_LONGEST):
        for start in range(0, monthly, block):
            yield min(block, monthly - start), start == 0


def _power(fall: float, seen: Floats, monthly: int) -> Power:
    half, most = (_whole(value) for value in np.quantile(seen, [0.5, 0.9], method="higher"))
    return Power(fall, half, most, _months(half, monthly), _months(most, monthly))


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None


def _months(images: int | None, monthly: int) -> int | None:
    return None if images is None else math.ceil(images / monthly)
