"""The interval of a drawn sample: it covers the true accuracy of the batch, whatever the batch and the draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from adaptation.data.draws import draw
from adaptation.errors import AdaptationError
from adaptation.evaluation.sampling import Sample, exact_interval

STREAMS = 2000
BUDGETS = (50, 100, 200)


def coverage(population: int, drawn: int) -> tuple[float, int]:
    """Return the least probability, over all batches of this size, that the interval covers, and that batch's count."""
    intervals = [exact_interval(correct, drawn, Sample(population, drawn)) for correct in range(drawn + 1)]
    low, high = (np.array([getattr(one, end) for one in intervals]) for end in ("low", "high"))
    correct = np.arange(population + 1)[:, None]
    covers = (low <= correct / population) & (correct / population <= high)
    chances = hypergeom.pmf(np.arange(drawn + 1), population, correct, drawn)
    covered = (chances * covers).sum(axis=1)
    return float(covered.min()), int(covered.argmin())


@pytest.mark.parametrize("population", [60, 300, 797])
@pytest.mark.parametrize("drawn", BUDGETS)
def test_interval_covers_in_every_batch_of_a_size(population: int, drawn: int) -> None:
    assert coverage(population, min(drawn, population))[0] >= 0.95


@pytest.mark.parametrize("drawn", BUDGETS)
def test_interval_of_real_draws_covers_in_the_worst_batch(drawn: int) -> None:
    """Draws by the hash of names, of which the wrong ones are the same in all: 2 standard errors are 1 point."""
    population = 797
    _, correct = coverage(population, drawn)
    intervals = (exact_interval(found, drawn, Sample(population, drawn)) for found in range(drawn + 1))
    covers = [one.low <= correct / population <= one.high for one in intervals]
    covered = 0
    for stream in range(STREAMS):
        names = [f"{stream}/ship_{number:04}.jpg" for number in range(population)]
        right = set(names[:correct])
        sample = draw("2021-10", names, drawn, "").of(names)
        covered += covers[sum(name in right for name in sample)]
    error = 2 * math.sqrt(0.05 * 0.95 / STREAMS)
    print(f"draw of {drawn} from {population}: {covered / STREAMS:.3f} +- {error:.3f} covered in the worst batch")
    assert covered / STREAMS - error >= 0.93


def test_least_confident_images_are_no_sample() -> None:
    """The same interval on picked images misses the truth: why only drawn ones count."""
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        confidence = generator.beta(8, 2, 797)
        right = generator.random(797) < confidence
        picked = right[np.argsort(confidence)[:50]]
        interval = exact_interval(int(picked.sum()), 50, Sample(797, 50))
        covered += interval.low <= right.mean() <= interval.high
    assert covered / 200 < 0.27


@pytest.mark.parametrize(
    ("correct", "population", "drawn"), [(50, 50, 50), (0, 797, 50), (45, 797, 50), (199, 300, 200)]
)
def test_interval_holds_what_neither_test_refuses(correct: int, population: int, drawn: int) -> None:
    numbers = np.arange(population + 1)
    too_few = hypergeom.sf(correct - 1, population, numbers, drawn) <= 0.025
    too_many = hypergeom.cdf(correct, population, numbers, drawn) <= 0.025
    kept = numbers[~too_few & ~too_many]
    found = exact_interval(correct, drawn, Sample(population, drawn))
    assert (found.low, found.high) == (kept[0] / population, kept[-1] / population)


def test_interval_of_a_large_batch_is_that_of_clopper_and_pearson() -> None:
    found = exact_interval(45, 50, Sample(1_000_000, 50))
    assert (found.low, found.high) == pytest.approx((0.78186, 0.96672), abs=1e-4)


def test_unlabelled_images_of_a_draw_widen_the_interval_on_both_sides() -> None:
    whole, partly = (exact_interval(correct, labelled, Sample(797, 50)) for correct, labelled in ((45, 50), (45, 48)))
    assert partly.low == whole.low
    assert partly.high == exact_interval(47, 50, Sample(797, 50)).high > whole.high


@pytest.mark.parametrize("counts", [(3, 2, 5, 10), (1, 2, 5, 4), (-1, 2, 5, 10), (0, 0, 0, 10), (1, 6, 5, 10)])
def test_contradicting_counts_are_refused(counts: tuple[int, int, int, int]) -> None:
    correct, labelled, drawn, population = counts
    with pytest.raises(AdaptationError, match="Count again"):
        exact_interval(correct, labelled, Sample(population, drawn))
