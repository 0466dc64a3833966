"""The gate's error rates, simulated: the whole 95 % interval of each is within its reach."""

from __future__ import annotations

import numpy as np
import pytest

from adaptation.evaluation.gate import BETTER
from adaptation.evaluation.paired import Pairs, log_bet, tango_lower_bound, upper_bound
from benchmarks.judgement import GATE, Estimate, Row


@pytest.mark.parametrize("row", GATE, ids=[row.name for row in GATE])
def test_simulated_rate_meets_its_bound(row: Row) -> None:
    estimate = row.ours(row.streams)
    assert row.holds(estimate), estimate


def test_bet_looked_at_after_every_image_is_right_by_chance_in_5_of_100() -> None:
    """Computed, not simulated; beyond the boundary, where the challenger is a little better, it is more."""
    assert 0.04 < _ever(0.5) <= 0.05
    assert _ever(0.48) < 0.03
    assert _ever(0.52) > 0.1


def test_budget_is_kept_when_every_image_is_looked_at() -> None:
    generator = np.random.default_rng(6)
    proven = [BETTER.proves(_looks(generator, 1101)) for _ in range(1000)]
    assert Estimate.rate(proven).high <= 5


def test_tango_bound_is_above_the_truth_in_about_5_of_100() -> None:
    generator = np.random.default_rng(4)
    drawn = generator.multinomial(600, [0.9, 0.03, 0.05, 0.02], 2000)
    above = [tango_lower_bound(Pairs(*map(int, counts))) > 0.02 for counts in drawn]
    assert 3 < Estimate.rate(above).low < Estimate.rate(above).high < 7


def test_upper_bound_is_below_the_truth_in_at_most_5_of_100() -> None:
    drawn = np.random.default_rng(3).binomial(100, 0.9, 2000)
    assert Estimate.rate([upper_bound(int(correct), 100) < 0.9 for correct in drawn]).low <= 5


def _ever(share: float, images: int = 1000) -> float:
    """Return the probability that the bet ever reaches 20 if all images differ, a share for the challenger."""
    paths, ever = np.ones(1), 0.0
    for number in range(1, images + 1):
        paths = np.convolve(paths, [1 - share, share])
        challenger_only = np.arange(number + 1)
        won = log_bet(number - challenger_only, challenger_only) >= np.log(20)
        ever += float(paths[won].sum())
        paths[won] = 0
    return ever


def _looks(generator: np.random.Generator, images: int) -> list[Pairs]:
    """Return a look for each image; a fifth of them differ, and neither model is better."""
    kinds = (Pairs(both=1), Pairs(champion_only=1), Pairs(challenger_only=1))
    return [kinds[kind] for kind in generator.choice(3, images, p=[0.8, 0.1, 0.1])]
