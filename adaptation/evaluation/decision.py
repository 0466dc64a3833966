"""The decision: is the model too bad to keep? Taken on the figures of an evaluation and on those before it.

How the figures come about is in `accuracy`, how evidence adds up in `evidence`. What follows is up to the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from adaptation.errors import AdaptationError
from adaptation.evaluation import mix
from adaptation.evaluation.accuracy import Evaluation
from adaptation.evaluation.evidence import FALSE_ALARMS, Block, Evidence, evidence, evidence_of_drop
from adaptation.evaluation.mix import Cause, Recall


class Rule(StrEnum):
    """When a model counts as too bad.

    EVIDENCE: the new images are enough evidence that its accuracy is below the threshold, however often one looks.
    DROP: the same against its own accuracy on its test splits, minus the accepted drop.
    POINT: the batch's accuracy is below the threshold. WILSON: even the upper end of its interval is. Both decide on
    noise: looked at often enough, they retrain a good model.
    """

    EVIDENCE = "evidence"
    DROP = "drop"
    POINT = "point"
    WILSON = "wilson"


class Outcome(StrEnum):
    """What is to be done."""

    RETRAIN = "retrain"
    KEEP = "keep"
    TOO_FEW = "too few"
    WAITING = "waiting for labels"


@dataclass(frozen=True)
class Criterion:
    """What decides.

    Attributes:
      threshold: The accuracy that the model must reach, above 0 and up to 1.
      rule: What must be below it.
      min_images: With fewer evaluated images, and always with none, nothing is concluded.
      false_alarms: For EVIDENCE and DROP: accepted probability of any needless retraining in 36 batches.
      drop: For DROP: how far the accuracy may fall below the champion's own, 0 to 1.
      ignore_mix: Whether to keep a model if only the mix of classes has changed.

    Raises:
      AdaptationError: The threshold is not above 0 and up to 1.
    """

    threshold: float = 0.9
    rule: Rule = Rule.EVIDENCE
    min_images: int = 30
    false_alarms: float = FALSE_ALARMS
    drop: float = 0.05
    ignore_mix: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise AdaptationError(
                f"the threshold {self.threshold} is no accuracy. Set one above 0 and up to 1, such as 0.9."
            )


@dataclass(frozen=True)
class Decision:
    """Whether to retrain.

    Attributes:
      retrain: Whether to.
      outcome: The same, or that there were too few images.
      reason: What it rests on, as a sentence with the figures.
      evidence: Share of the evidence that a retraining takes, 0 to 1; None under rules without memory.
      cause: What has changed, if the champion's own recalls are known.
      rollback: Whether going back to the champion before is proposed.
      look: How the batch seemed before its labels were read, as a sentence; empty if nobody looked.
    """

    retrain: bool
    outcome: Outcome
    reason: str
    evidence: float | None = None
    cause: Cause | None = None
    rollback: bool = False
    look: str = ""

    def in_first_batch(self, version: int) -> Decision:
        """Return the decision with a word on what the gate promised, if that has not come true in the first batch."""
        if self.cause is not Cause.SKILL:
            return self
        proposal = f"this is the first batch under version {version}, and it does worse than on its test splits: "
        reason = f'{self.reason}; {proposal}"adapt rollback" goes back to the champion before it'
        return replace(self, reason=reason, rollback=True)

    def kept(self, why: str) -> Decision:
        """Return the decision not to retrain all the same, with the reason for that first."""
        return replace(self, retrain=False, outcome=Outcome.KEEP, reason=f"{why}; {self.reason}", rollback=False)


def decide(
    evaluation: Evaluation, criterion: Criterion, blocks: Sequence[Block] = (), own: Mapping[str, Recall] | None = None
) -> Decision:
    """Decide whether the model must be retrained.

    Args:
      evaluation: The evaluation of the batch.
      criterion: What decides.
      blocks: What was counted of this champion, in order, this evaluation included; for EVIDENCE and DROP.
      own: The champion's counts on its test splits, by class; empty if they are not known.

    Raises:
      AdaptationError: Under DROP, the champion's own counts are missing, or too few to say anything.
    """
    if evaluation.accuracy is None or evaluation.images < criterion.min_images:
        least = max(1, criterion.min_images)
        reason = f"{evaluation.images} images were evaluated, too few to say anything: it takes {least}"
        return Decision(False, Outcome.TOO_FEW, reason)
    found = _found(evaluation, criterion, blocks, own or {})
    return _with_cause(found, evaluation, criterion, own) if own else found


def evidence_under(criterion: Criterion, blocks: Sequence[Block], own: Mapping[str, Recall]) -> Evidence | None:
    """Return the evidence under EVIDENCE or DROP, None under rules without memory; errors as for `decide`."""
    if criterion.rule is Rule.EVIDENCE:
        return evidence(blocks, criterion.threshold, criterion.false_alarms)
    if criterion.rule is Rule.DROP:
        images, correct = (sum(getattr(one, name) for one in own.values()) for name in ("images", "correct"))
        return evidence_of_drop(blocks, correct, images, criterion.drop, criterion.false_alarms)
    return None


def _found(
    evaluation: Evaluation, criterion: Criterion, blocks: Sequence[Block], own: Mapping[str, Recall]
) -> Decision:
    found = evidence_under(criterion, blocks, own)
    if found is None:
        return _at_once(evaluation, criterion)
    return Decision(found.reached, _outcome(found.reached), found.reason, found.share)


def _at_once(evaluation: Evaluation, criterion: Criterion) -> Decision:
    point, interval = criterion.rule is Rule.POINT, evaluation.interval
    measured, name = (evaluation.accuracy, "the accuracy") if point else (interval.high, "the interval's upper bound")
    assert measured is not None  # there are images
    retrain = measured < criterion.threshold
    reason = (
        f"{evaluation.correct} of {evaluation.images} images are right: accuracy {evaluation.accuracy:.4f} "
        f"(95 % interval {interval.low:.4f} to {interval.high:.4f}); {name} is {'below' if retrain else 'not below'} "
        f"the threshold {criterion.threshold:g}"
    )
    return Decision(retrain, _outcome(retrain), reason)


def _with_cause(found: Decision, evaluation: Evaluation, criterion: Criterion, own: Mapping[str, Recall]) -> Decision:
    batch = {one.label: Recall(one.images, one.correct) for one in evaluation.classes}
    shift = mix.split(own, batch)
    kept = found.retrain and criterion.ignore_mix and shift.cause is Cause.MIX
    retrain = found.retrain and not kept
    setting = "; kept, because evaluation.ignore_mix is set" if kept else ""
    has_fallen = found.retrain or shift.cause is Cause.SKILL or evaluation.interval.high < shift.own
    explained = f"; {shift.reason}{setting}" if has_fallen else ""
    return Decision(retrain, _outcome(retrain), f"{found.reason}{explained}", found.evidence, shift.cause)


def _outcome(retrain: bool) -> Outcome:
    return Outcome.RETRAIN if retrain else Outcome.KEEP
