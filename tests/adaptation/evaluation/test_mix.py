"""Mix or skill: the fall split into both, and its reason; error rates are in `test_evidence_simulated`."""

from __future__ import annotations

import pytest

from adaptation.evaluation.mix import Cause, Recall, split

OWN = {"cat": Recall(200, 160), "ship": Recall(200, 196)}


def test_parts_of_the_fall_add_up() -> None:
    shift = split(OWN, {"cat": Recall(270, 200), "ship": Recall(30, 29)})
    assert shift.own == pytest.approx(0.89)
    assert shift.expected == pytest.approx(0.9 * 0.8 + 0.1 * 0.98)
    assert shift.measured == pytest.approx(229 / 300)
    assert shift.mix + shift.skill == pytest.approx(shift.own - shift.measured)


def test_changed_mix_with_unchanged_recalls_is_the_mix() -> None:
    shift = split(OWN, {"cat": Recall(270, 216), "ship": Recall(30, 29)})
    assert (shift.cause, shift.fallen) == (Cause.MIX, ())
    assert shift.reason == (
        "the mix of classes has changed, not the model's skill: accuracy 0.8167, on the test splits 0.8900, and 0.8180 "
        "with its recalls there and this mix of classes: +0.0720 of the fall is the mix, +0.0013 the skill"
    )


def test_class_below_its_own_recall_is_named() -> None:
    shift = split(OWN, {"cat": Recall(150, 120), "ship": Recall(150, 120)})
    assert (shift.cause, shift.fallen) == (Cause.SKILL, ("ship",))
    assert "the model's skill has fallen (ship)" in shift.reason


def test_small_loss_in_all_classes_is_found_over_all_together() -> None:
    own = {f"class-{number}": Recall(500, 450) for number in range(10)}
    shift = split(own, {name: Recall(60, 49) for name in own})
    assert (shift.cause, shift.fallen) == (Cause.SKILL, ())
    assert "over all classes together" in shift.reason


def test_mix_that_explains_less_than_half_is_no_explanation() -> None:
    shift = split(OWN, {"cat": Recall(26, 19), "ship": Recall(24, 23)})
    assert shift.cause is Cause.UNCLEAR


def test_accuracy_equal_to_the_champions_own_is_no_fall() -> None:
    assert split(OWN, {"cat": Recall(100, 80), "ship": Recall(100, 98)}).cause is Cause.NONE


def test_loss_of_skill_is_found_behind_a_mix_that_hides_it() -> None:
    shift = split(OWN, {"cat": Recall(20, 16), "ship": Recall(280, 255)})
    assert shift.measured > shift.own
    assert shift.cause is Cause.SKILL


def test_class_without_test_images_is_compared_with_the_accuracy() -> None:
    month = {"cat": Recall(100, 80), "ship": Recall(100, 98), "truck": Recall(30, 2)}
    shift = split(OWN | {"truck": Recall()}, month)
    assert split(OWN, month) == shift
    assert shift.fallen == ("truck",)


def test_class_without_images_in_the_batch_changes_nothing() -> None:
    month = {"cat": Recall(100, 80)}
    assert split(OWN, month | {"ship": Recall()}) == split(OWN, month)
    assert split(OWN, month).cause is Cause.MIX
