"""Sampling: the accuracy of a whole batch, of which only a drawn part was labelled.

Guarantee of the interval: whatever the batch, the probability that a draw gives an interval without the batch's true
accuracy is at most 5 %. The number of correct images in a draw without replacement is hypergeometric; the interval
holds every number of correct images in the batch that neither of the two one-sided tests at 2.5 % refuses (Wright,
"Exact confidence bounds when sampling from small finite universes", 1991). Drawn images that nobody could label are
counted as wrong for the lower end and as correct for the upper one. Assumptions: the images were drawn, see
`adaptation.data.draws`, nobody chose them; the labels are right; the size of the draw was not chosen by its results.
Which images were drawn and labelled is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adaptation.errors import AdaptationError


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a share, both ends in 0 to 1."""

    low: float
    high: float


@dataclass(frozen=True)
class Sample:
    """What the figures of an evaluation rest on if only a drawn part of the batch counts.

    Attributes:
      population: Number of images of the batch.
      drawn: How many of them were drawn.
    """

    population: int
    drawn: int


def exact_interval(correct: int, labelled: int, sample: Sample, level: float = 0.05) -> Interval:
    """Return the exact interval of the accuracy of a whole batch from a drawn sample of it.

    >>> exact_interval(50, 50, Sample(population=50, drawn=50))
    Interval(low=1.0, high=1.0)

    Args:
      correct: Number of labelled images that were predicted correctly.
      labelled: Number of drawn images with a label and a prediction.
      sample: The draw.
      level: Accepted probability that the true accuracy is outside, above 0 and below 1.

    Raises:
      AdaptationError: The counts contradict each other.
    """
    population, drawn = sample.population, sample.drawn
    if not 0 <= correct <= labelled <= drawn <= population or not drawn:
        raise AdaptationError(
            f"{correct} correct of {labelled} labelled of {drawn} drawn of {population} images cannot be. Count again."
        )
    low, wrong = _least(correct, sample, level), _least(labelled - correct, sample, level)
    return Interval(low / population, (population - wrong) / population)


def _least(found: int, sample: Sample, level: float) -> int:
    """Return the least number in the population with which at least `found` in the draw are not too improbable."""
    from scipy.stats import hypergeom

    def is_probable(number: int) -> bool:
        return float(hypergeom.sf(found - 1, sample.population, number, sample.drawn)) > level / 2

    return _first(found, sample.population - (sample.drawn - found), is_probable)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first number from `low` to `high` for which it holds; it holds from there on, and for `high`."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
