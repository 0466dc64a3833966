"""Look: the error rates of its two tests, simulated with fixed seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from adaptation.evaluation.look import LEVEL, Profile, Reference, look
from adaptation.evaluation.look_records import Look, Outcome
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.paired import upper_bound

STREAMS = 1000
CLASSES = tuple("0123456789")
Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def even(generator: np.random.Generator, images: int) -> npt.NDArray[np.float64]:
    return 0.2 + 0.8 * generator.beta(1.5, 0.6, images)


def confident(generator: np.random.Generator, images: int) -> npt.NDArray[np.float64]:
    """Confidences of a nearly perfect model: three in a hundred are unsure, the others have 0.999."""
    return np.where(
        generator.random(images) < 0.03, generator.uniform(0.3, 0.9, images), 1 - generator.exponential(1e-3, images)
    )


def looks(reference: int, batch: int, draw: Draw, fall: float = 0.0, streams: int = STREAMS) -> list[Look]:
    """Look at batches that differ from the reference by the fall of their confidences alone."""
    generator = np.random.default_rng(7)

    def profile(images: int, fall: float = 0.0) -> Profile:
        counts = dict(zip(CLASSES, generator.multinomial(images, [0.1] * 10).tolist(), strict=True))
        return Profile.of(counts, draw(generator, images) - fall)

    recalls = {"0": Recall(reference, reference)}
    return [look(Reference(profile(reference), recalls), profile(batch, fall), "b") for _ in range(streams)]


@pytest.mark.parametrize("draw", [even, confident])
@pytest.mark.parametrize(("reference", "batch"), [(70, 1000), (200, 300), (1000, 300)])
def test_each_test_warns_of_unchanged_batches_at_its_level(reference: int, batch: int, draw: Draw) -> None:
    made = looks(reference, batch, draw)
    for p_values in ([one.confidence_p for one in made], [one.classes_p for one in made]):
        assert np.mean([p is not None and p <= LEVEL for p in p_values]) <= LEVEL + 3 * (LEVEL / STREAMS) ** 0.5
    seen = sum(one.outcome is Outcome.LOOK for one in made)
    assert upper_bound(seen, STREAMS, 0.5) <= 0.03


def test_fall_of_confidence_by_10_points_is_seen() -> None:
    assert np.mean([one.outcome is Outcome.LOOK for one in looks(1000, 300, even, 0.1, 200)]) >= 0.98
