"""Evidence: a fold over blocks and its reason; the error rates are in `test_evidence_simulated`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adaptation.errors import AdaptationError
from adaptation.evaluation.evidence import Block, Detector, drop_threshold, evidence, evidence_of_drop, power

GOOD, BAD = Block("2021-10", 100, 95), Block("2021-10", 100, 78)


def log_evidence(*blocks: tuple[int, int], threshold: float = 0.9) -> float:
    """Return the logarithm of the evidence after blocks of one batch."""
    detector = Detector.start(threshold).begin_batch()
    for images, correct in blocks:
        detector = detector.add(images, correct)
    return float(detector.log_evidence)


def test_no_image_is_no_evidence() -> None:
    found = evidence([], 0.9)
    assert (found.share, found.reached, found.block, found.month) == (0.0, False, None, None)
    assert evidence([GOOD, Block("2021-11", 0, 0)], 0.9) == evidence([GOOD], 0.9)


def test_value_is_the_mixture_of_likelihood_ratios() -> None:
    ratios = [(q / 0.9) ** 80 * ((1 - q) / 0.1) ** 20 for q in (0.89, 0.88, 0.86, 0.82, 0.74)]
    assert log_evidence((100, 80)) == pytest.approx(math.log(np.mean(ratios)))


def test_blocks_of_a_batch_count_like_one_block_in_any_order() -> None:
    assert log_evidence((60, 50), (40, 30)) == pytest.approx(log_evidence((40, 30), (60, 50)))
    assert log_evidence((60, 50), (40, 30)) == pytest.approx(log_evidence((100, 80)))


def test_new_batch_adds_1_before_its_first_block() -> None:
    both = Detector.start(0.9).begin_batch().add(100, 95).begin_batch().add(100, 80)
    first = np.exp(Detector.start(0.9).begin_batch().add(100, 95).log_values)
    ratio = np.exp(Detector.start(0.9).begin_batch().add(100, 80).log_values)
    assert np.exp(both.log_values) == pytest.approx((first + 1) * ratio)


def test_late_block_of_an_older_batch_counts_and_begins_no_batch() -> None:
    november, late = Block("2021-11", 100, 90), Block("2021-10", 50, 38)
    found = evidence([GOOD, november, late], 0.9)
    detector = Detector.start(0.9).begin_batch().add(100, 95).begin_batch().add(100, 90).add(50, 38)
    assert found.share == pytest.approx(max(0.0, float(detector.log_evidence) / math.log(180)))
    assert found.month is not None
    assert (found.month.images, found.month.correct) == (150, 133)


def test_retraining_is_due_at_36_over_a() -> None:
    blocks = [BAD, BAD]
    careless, careful = evidence(blocks, 0.9, 0.2), evidence(blocks, 0.9, 0.0001)
    assert careless.reached
    assert careless.share == 1.0
    assert not careful.reached
    assert 0 < careful.share < 1


def test_share_is_below_100_percent_until_it_is_reached() -> None:
    value = log_evidence((100, 78))
    just_below = 36 / math.exp(value) * 0.9999
    found = evidence([BAD], 0.9, just_below)
    assert not found.reached
    assert "evidence 99 %" in found.reason
    assert evidence([BAD], 0.9, 36 / math.exp(value) * 1.0001).reason.startswith("evidence 100 %")


def test_reason_has_all_figures() -> None:
    found = evidence([GOOD, Block("2021-10", 50, 40)], 0.9)
    assert found.reason == (
        "evidence 0 % of what a retraining takes (threshold 0.9); "
        "new images: 40 of 50 correct, accuracy 0.8000 (0.6696 to 0.8876); "
        "all of 2021-10: 135 of 150 correct, accuracy 0.9000 (0.8416 to 0.9385)"
    )


@pytest.mark.parametrize("threshold", [0.0005, 0.01, 0.02, 0.05, 0.5, 0.999, 1.0])
def test_any_threshold_gives_a_finite_share(threshold: float) -> None:
    for block in (Block("2021-10", 10**7, 0), Block("2021-10", 10**7, 10**7), Block("2021-10", 1, 0)):
        assert 0 <= evidence([block, GOOD, block], threshold).share <= 1


def test_alternatives_at_or_below_0_are_left_out() -> None:
    assert np.exp(Detector.start(0.05).log_correct) == pytest.approx([0.04 / 0.05, 0.03 / 0.05, 0.01 / 0.05])
    assert np.exp(Detector.start(0.01).log_correct) == pytest.approx([0.5])


def test_one_wrong_image_refutes_a_threshold_of_1() -> None:
    assert evidence([Block("2021-10", 100, 99)], 1.0).reached
    assert not evidence([Block("2021-10", 100, 100)], 1.0).reached


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, math.nan])
def test_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(AdaptationError, match="is no accuracy"):
        evidence([GOOD], threshold)


@pytest.mark.parametrize("false_alarms", [0.0, 1.0, -1.0, math.nan])
def test_impossible_false_alarms_are_refused(false_alarms: float) -> None:
    with pytest.raises(AdaptationError, match="false_alarms"):
        evidence([], 0.9, false_alarms)


@pytest.mark.parametrize(("images", "correct"), [(10, 11), (10, -1), (-1, 0)])
def test_impossible_counts_are_refused(images: int, correct: int) -> None:
    with pytest.raises(AdaptationError, match="2021-10"):
        Block("2021-10", images, correct)


def test_drop_starts_from_the_lower_bound_of_the_champions_accuracy() -> None:
    assert drop_threshold(190, 200, 0.05) == pytest.approx(0.8740, abs=1e-4)
    assert drop_threshold(19_000, 20_000, 0.05) == pytest.approx(0.8980, abs=1e-4)
    found = evidence_of_drop([BAD], 190, 200, 0.05)
    assert found.share == evidence([BAD], drop_threshold(190, 200, 0.05), 0.1).share
    assert "0.8740 is 0.05 below the lower bound of 190 of 200" in found.reason


def test_drop_that_leaves_no_threshold_is_refused() -> None:
    with pytest.raises(AdaptationError, match="more test images"):
        drop_threshold(1, 2, 0.5)


def test_power_is_the_same_for_the_same_question() -> None:
    assert power(1000, 0.9, streams=200) == power(1000, 0.9, streams=200)


def test_power_grows_with_the_fall_and_shrinks_with_care() -> None:
    careless, careful = (power(1000, 0.9, a, streams=300) for a in (0.2, 0.01))
    images = [one.median_images for one in careless]
    assert images == sorted(images, reverse=True)
    assert all(one.images_90 <= two.images_90 for one, two in zip(careless, careful, strict=True))
    assert [one.fall for one in careless] == [0.02, 0.05, 0.1, 0.2]


def test_power_is_given_in_months_up_to_ten_years() -> None:
    (fall,) = power(50, 0.9, falls=[0.1], streams=200)
    assert (fall.median_images, fall.median_months) == (150, 3)
    (hidden,) = power(10, 0.9, 0.001, falls=[0.005], streams=50)
    assert (hidden.median_images, hidden.months_90) == (None, None)
    assert power(100, 0.15, falls=[0.2], streams=10) == []
