"""The gate's error rates, simulated: the whole 95 % interval of each is within its reach."""

from __future__ import annotations

import numpy as np
import pytest

from adaptation.evaluation.judgement import BETTER
from adaptation.evaluation.paired import Pairs, log_bet, tango_lower_bound, upper_bound
from benchmarks.judgement import GATE, Estimate, Row


@pytest.mark.parametrize("row", GATE, ids=[row.name for row in GATE])
def test_figure_is_reached(row: Row) -> None:
    estimate = row.ours(row.streams)
    assert row.holds(estimate), estimate


def test_bet_looked_at_after_every_image_is_right_by_chance_in_5_of_100() -> None:
    steps = np.random.default_rng(5).random((2000, 1000)) < 0.5
    challenger_only = steps.cumsum(axis=1)
    champion_only = np.arange(1, 1001) - challenger_only
    ever = (log_bet(champion_only, challenger_only) >= np.log(20)).any(axis=1)
    assert 1 < Estimate.rate(ever).low < Estimate.rate(ever).high <= 5


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


def _looks(generator: np.random.Generator, images: int) -> list[Pairs]:
    """A look for each image; a fifth of them differ, and neither model is better."""
    kinds = (Pairs(both=1), Pairs(champion_only=1), Pairs(challenger_only=1))
    return [kinds[kind] for kind in generator.choice(3, images, p=[0.8, 0.1, 0.1])]
