"""Decision: which rule retrains on which figures, and the reason that it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adaptation.errors import AdaptationError
from adaptation.evaluation.accuracy import ClassFigures, Evaluation, wilson_interval
from adaptation.evaluation.decision import Criterion, Decision, Outcome, Rule, decide
from adaptation.evaluation.evidence import Block
from adaptation.evaluation.mix import Cause, Recall


def evaluation_of(correct: int, images: int, classes: tuple[ClassFigures, ...] = ()) -> Evaluation:
    """Return an evaluation with these counts."""
    return Evaluation(
        batch="2021-10",
        images=images,
        correct=correct,
        accuracy=correct / images if images else None,
        interval=wilson_interval(correct, images),
        classes=classes,
        label_names=("cat", "dog"),
        confusion=(),
        skipped=(),
        mistakes=(),
    )


def of_class(label: str, images: int, correct: int) -> ClassFigures:
    return ClassFigures(label, images, correct, correct / images, None, None)


@pytest.mark.parametrize(
    ("correct", "images", "rule", "outcome"),
    [
        (89, 100, Rule.POINT, Outcome.RETRAIN),
        (90, 100, Rule.POINT, Outcome.KEEP),
        (91, 100, Rule.POINT, Outcome.KEEP),
        (89, 100, Rule.WILSON, Outcome.KEEP),
        (80, 100, Rule.WILSON, Outcome.RETRAIN),
        (0, 99, Rule.POINT, Outcome.TOO_FEW),
        (0, 99, Rule.WILSON, Outcome.TOO_FEW),
    ],
)
def test_decision_follows_the_rule(correct: int, images: int, rule: Rule, outcome: Outcome) -> None:
    decision = decide(evaluation_of(correct, images), Criterion(0.9, rule, 100))
    assert (decision.outcome, decision.retrain) == (outcome, outcome is Outcome.RETRAIN)


def test_reason_has_the_figures() -> None:
    figures = "89 of 100 images are right: accuracy 0.8900 (95 % interval 0.8137 to 0.9375); "
    good = evaluation_of(89, 100)
    below = f"{figures}the accuracy is below the threshold 0.9"
    assert decide(good, Criterion(0.9, Rule.POINT, 100)) == Decision(True, Outcome.RETRAIN, below)
    above = f"{figures}the interval's upper bound is not below the threshold 0.9"
    assert decide(good, Criterion(0.9, Rule.WILSON, 100)) == Decision(False, Outcome.KEEP, above)
    few = "100 images were evaluated, too few to say anything: it takes 101"
    assert decide(good, Criterion(0.9, Rule.POINT, 101)) == Decision(False, Outcome.TOO_FEW, few)


def test_threshold_of_one_accepts_only_a_perfect_model() -> None:
    perfect = evaluation_of(2, 2)
    assert not decide(perfect, Criterion(1.0, Rule.POINT, 1)).retrain
    assert all(
        wilson_interval(images, images).high == 1 and wilson_interval(0, images).low == 0 for images in range(99)
    )
    assert decide(replace(perfect, accuracy=0.999), Criterion(1.0, Rule.POINT, 1)).retrain


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, 90.0, float("nan")])
def test_threshold_that_is_no_accuracy_is_refused(threshold: float) -> None:
    with pytest.raises(AdaptationError, match=f"the threshold {threshold} is no accuracy"):
        Criterion(threshold)


def test_evidence_rule_keeps_a_single_bad_block_of_a_good_model() -> None:
    found = decide(evaluation_of(84, 100), Criterion(), [Block("2021-10", 100, 84)])
    assert (found.outcome, found.retrain) == (Outcome.KEEP, False)
    assert found.evidence is not None and 0 < found.evidence < 0.5
    assert "of what a retraining takes (threshold 0.9)" in found.reason


def test_evidence_rule_retrains_when_blocks_add_up() -> None:
    blocks = [Block("2021-10", 100, 80)] * 3
    assert not decide(evaluation_of(80, 100), Criterion(), blocks[:1]).retrain
    found = decide(evaluation_of(80, 100), Criterion(), blocks)
    assert found.retrain and found.evidence == 1


def test_careful_evidence_rule_takes_more_images() -> None:
    blocks = [Block("2021-10", 100, 82)] * 2
    assert decide(evaluation_of(82, 100), Criterion(false_alarms=0.5), blocks).retrain
    assert not decide(evaluation_of(82, 100), Criterion(false_alarms=0.001), blocks).retrain


def test_drop_rule_compares_with_the_champions_own_accuracy() -> None:
    criterion, own = Criterion(0.9, Rule.DROP, drop=0.05), {"cat": Recall(1000, 750), "dog": Recall(1000, 750)}
    batch = (of_class("cat", 250, 187), of_class("dog", 250, 187))
    assert not decide(evaluation_of(374, 500, batch), criterion, [Block("2021-10", 500, 374)], own).retrain
    fallen = (of_class("cat", 250, 140), of_class("dog", 250, 140))
    assert decide(evaluation_of(280, 500, fallen), criterion, [Block("2021-10", 500, 280)], own).retrain


def test_drop_rule_without_the_champions_own_figures_is_refused() -> None:
    with pytest.raises(AdaptationError, match="0 of 0 test images"):
        decide(evaluation_of(80, 100), Criterion(rule=Rule.DROP), [Block("2021-10", 100, 80)])


def test_change_of_mix_is_reported_and_kept_by_setting() -> None:
    own = {"cat": Recall(1000, 980), "dog": Recall(1000, 800)}
    mixed = evaluation_of(816, 1000, (of_class("cat", 100, 98), of_class("dog", 900, 718)))
    blocks = [Block("2021-10", 1000, 816)]
    found = decide(mixed, Criterion(), blocks, own)
    assert (found.retrain, found.cause) == (True, Cause.MIX)
    assert "the mix of classes has changed, not the model's skill" in found.reason
    kept = decide(mixed, Criterion(ignore_mix=True), blocks, own)
    assert (kept.retrain, kept.outcome) == (False, Outcome.KEEP) and "ignore_mix" in kept.reason


@pytest.mark.parametrize(("correct", "said"), [(470, False), (455, True)])
def test_cause_of_a_fall_is_named_only_where_accuracy_has_fallen(correct: int, said: bool) -> None:
    own = {"cat": Recall(100, 95), "dog": Recall(100, 95)}
    batch = evaluation_of(correct, 500, (of_class("cat", 250, 235), of_class("dog", 250, correct - 235)))
    found = decide(batch, Criterion(0.8), [Block("2021-10", 500, correct)], own)
    assert found.cause is Cause.UNCLEAR
    assert ("neither the mix of classes" in found.reason) is said


def test_first_batch_below_the_gates_promise_proposes_a_rollback() -> None:
    own = {"cat": Recall(1000, 980), "dog": Recall(1000, 980)}
    fallen = evaluation_of(850, 1000, (of_class("cat", 500, 425), of_class("dog", 500, 425)))
    found = decide(fallen, Criterion(), [Block("2021-10", 1000, 850)], own)
    assert found.cause is Cause.SKILL
    assert '"adapt rollback" goes back' in found.in_first_batch(2).reason
    calm = evaluation_of(975, 1000, (of_class("cat", 500, 488), of_class("dog", 500, 487)))
    kept = decide(calm, Criterion(), [Block("2021-10", 1000, 975)], own)
    assert kept.in_first_batch(2) == kept
