"""Paired: two models on the same images. The counts that a comparison rests on, and the tests on them.

All that two models' answers to the same images say about which is better lies in two numbers: how many images only the
champion had right, and how many only the challenger. Assumption of every test here: the images are a fair sample, one
by one, and rightly labelled; near-duplicates count as often as they come, and make everything look surer than it is.
What follows from the tests is decided in `gate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

CHANCES = (0.55, 0.6, 0.65, 0.7, 0.8, 0.9)
_STEPS = 40

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Numbers of images by which of two models was right; without a champion it counts as wrong everywhere.

    Attributes:
      both: Both were right.
      champion_only: Only the champion was.
      challenger_only: Only the challenger was.
      neither: Both were wrong.
    """

    both: int = 0
    champion_only: int = 0
    challenger_only: int = 0
    neither: int = 0

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            self.both + other.both,
            self.champion_only + other.champion_only,
            self.challenger_only + other.challenger_only,
            self.neither + other.neither,
        )

    @property
    def images(self) -> int:
        """Number of images."""
        return self.both + self.champion_only + self.challenger_only + self.neither

    @property
    def champion(self) -> int:
        """Number of images that the champion had right."""
        return self.both + self.champion_only

    @property
    def challenger(self) -> int:
        """Number of images that the challenger had right."""
        return self.both + self.challenger_only

    @property
    def difference(self) -> float:
        """The challenger's accuracy minus the champion's; 0 if there are no images."""
        return (self.challenger_only - self.champion_only) / self.images if self.images else 0.0

    @property
    def swapped(self) -> Pairs:
        """The same images with the models in each other's place."""
        return Pairs(self.both, self.challenger_only, self.champion_only, self.neither)


def total(pairs: Iterable[Pairs]) -> Pairs:
    """Return the sum; no images if there is nothing to add."""
    return sum(pairs, Pairs())


def tango_lower_bound(pairs: Pairs, level: float = 0.05) -> float:
    """Return the lower bound of the challenger's accuracy minus the champion's: Tango's score interval, one-sided.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998). The coverage is 1 - level in large samples; in small ones it is near it,
    without a guarantee. A decision that must hold exactly uses `mcnemar` or `log_bet`.

    Args:
      pairs: The counts.
      level: Probability above 0 and below 0.5 that the bound lies above the true difference.

    Returns:
      A difference of -1 to 1; -1 if there are no images.
    """
    if not pairs.images or pairs.difference == -1:
        return -1.0
    quantile = NormalDist().inv_cdf(1 - level)
    low, high = -1.0, pairs.difference
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _tango_statistic(pairs, middle) > quantile else (low, middle)
    return low


def _tango_statistic(pairs: Pairs, difference: float) -> float:
    """Return the score statistic against a true difference above -1 and below the measured one."""
    champion_only, challenger_only, images = pairs.champion_only, pairs.challenger_only, pairs.images
    # The probability of "only the champion", estimated under the difference: the root of a quadratic (Tango, 1998).
    linear = (2 * images - challenger_only + champion_only) * difference - champion_only - challenger_only
    constant = champion_only * difference * (1 - difference)
    estimate = (math.sqrt(max(0.0, linear**2 + 8 * images * constant)) - linear) / (4 * images)
    variance = images * (2 * estimate + difference * (1 - difference))
    distance = challenger_only - champion_only - images * difference
    return distance / math.sqrt(variance) if variance > 0 else math.inf


def mcnemar(champion_only: npt.ArrayLike, challenger_only: npt.ArrayLike) -> Floats:
    """Return the exact one-sided p value of "the challenger is better": McNemar's test (1947) by the Binomial.

    Guarantee: if the challenger is not better, the value is at most x with a probability of at most x, for every x, any
    number of images and any agreement of the models. It holds for one look at a number of images that was not chosen
    by their results.

    Args:
      champion_only: Number of images, or an array of such numbers; as is the next one.
      challenger_only: As above.
    """
    from scipy.special import bdtr

    b, c = np.asarray(champion_only), np.asarray(challenger_only)
    value: Floats = bdtr(b.astype(float), b + c, 0.5)
    return value


def log_bet(champion_only: npt.ArrayLike, challenger_only: npt.ArrayLike) -> Floats:
    """Return the logarithm of what a bet on "the challenger is better" has made of 1: an e-process.

    Among the images that only one model had right, a challenger that is not better has at most half. The bet is on six
    higher shares, 0.55 to 0.9, in equal parts: an image for the challenger multiplies a part with 2 s, one for the
    champion with 2 (1 - s), and all others leave it. Guarantee (Ville's inequality; Shafer, "Testing by betting",
    2021): if the challenger is not better, the probability that the value is ever at or above 1 / a is at most a,
    however often it is looked at, whatever decides when, and without a last look.

    Args:
      champion_only: Number of images since the comparison began, or an array of such numbers; as is the next one.
      challenger_only: As above.
    """
    share = np.array(CHANCES)
    b, c = (np.asarray(value, float)[..., None] for value in (champion_only, challenger_only))
    made: Floats = np.logaddexp.reduce(c * np.log(2 * share) + b * np.log(2 - 2 * share), axis=-1)
    return made - math.log(len(share))


def upper_bound(correct: int, images: int, level: float = 0.05) -> float:
    """Return the exact one-sided upper bound of an accuracy (Clopper and Pearson, 1934).

    Guarantee: the true accuracy is above it with a probability of at most `level`, for any number of images.

    Args:
      correct: Number of images that were predicted correctly.
      images: Number of images; with none the bound is 1.
      level: Probability above 0 and below 1.
    """
    from scipy.special import betaincinv

    return 1.0 if correct >= images else float(betaincinv(correct + 1, images - correct, 1 - level))
