"""Paired tests against published figures, scipy and exact enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from adaptation.evaluation.paired import CHANCES, Pairs, log_bet, mcnemar, tango_lower_bound, total, upper_bound


def test_pairs_add_and_count_what_each_model_has_right() -> None:
    pairs = total([Pairs(1, 2, 3, 4), Pairs(10, 20, 30, 40)])
    assert pairs == Pairs(11, 22, 33, 44)
    assert (pairs.images, pairs.champion, pairs.challenger, pairs.difference) == (110, 33, 44, 0.1)
    assert pairs.swapped == Pairs(11, 33, 22, 44)
    assert (total([]), Pairs().difference) == (Pairs(), 0.0)


def test_tango_gives_the_published_interval() -> None:
    """Airway hyper-responsiveness: -0.517 to -0.026 (Fagerland, Lydersen, Laake 2013, table 5)."""
    pairs = Pairs(both=1, champion_only=1, challenger_only=7, neither=12)
    assert tango_lower_bound(pairs, 0.025) == pytest.approx(0.026, abs=5e-4)
    assert tango_lower_bound(pairs.swapped, 0.025) == pytest.approx(-0.517, abs=5e-4)


def test_tango_bound_excludes_0_exactly_where_mcnemars_score_does() -> None:
    for champion_only in range(12):
        for challenger_only in range(champion_only + 1, 40):
            pairs = Pairs(100, champion_only, challenger_only, 20)
            score = (challenger_only - champion_only) / math.sqrt(champion_only + challenger_only)
            assert (tango_lower_bound(pairs) > 0) is (score > 1.6448536)


@pytest.mark.parametrize("pairs", [Pairs(), Pairs(10), Pairs(0, 10), Pairs(0, 0, 10), Pairs(0, 0, 0, 10)])
def test_tango_bound_is_a_difference_at_every_edge(pairs: Pairs) -> None:
    assert -1 <= tango_lower_bound(pairs) <= pairs.difference


def test_mcnemar_is_the_binomial_test() -> None:
    for champion_only, challenger_only in ((0, 5), (3, 12), (12, 3), (7, 7)):
        images = champion_only + challenger_only
        exact = binomtest(challenger_only, images, alternative="greater").pvalue
        assert mcnemar(champion_only, challenger_only) == pytest.approx(exact)
    assert mcnemar(0, 0) == 1


def test_upper_bound_is_clopper_and_pearsons() -> None:
    for correct, images in ((0, 10), (18, 20), (99, 100)):
        exact = binomtest(correct, images).proportion_ci(0.9, method="exact").high
        assert upper_bound(correct, images, 0.05) == pytest.approx(exact)
    assert upper_bound(20, 20) == upper_bound(0, 0) == 1.0


def test_bet_is_the_mean_of_six_bets() -> None:
    made = np.mean([(2 * share) ** 9 * (2 - 2 * share) ** 4 for share in CHANCES])
    assert log_bet(4, 9) == pytest.approx(math.log(made))
    assert log_bet([0, 4], [0, 9]) == pytest.approx([0.0, math.log(made)])


@pytest.mark.parametrize("images", [1, 10, 200])
def test_bet_has_an_expectation_of_1_where_the_models_are_equal(images: int) -> None:
    """It is less if the challenger is worse: exact, over all outcomes."""
    outcomes = np.arange(images + 1)
    made = np.exp(log_bet(images - outcomes, outcomes))
    assert binom.pmf(outcomes, images, 0.5) @ made == pytest.approx(1)
    assert binom.pmf(outcomes, images, 0.45) @ made < 1
    assert binom.pmf(outcomes, images, 0.55) @ made > 1


def test_bet_on_many_images_does_not_overflow() -> None:
    assert math.isfinite(log_bet(10**7, 0)) and math.isfinite(log_bet(0, 10**7))
