"""Judgement: evaluates a batch under its champion and decides whether to retrain.

The figures are made in `accuracy`, remembered in `log` and weighed in `decision`; what follows from it is up to the
pipeline.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from adaptation.data.batches import Snapshot, collection_of
from adaptation.data.labels import Labels
from adaptation.evaluation.accuracy import Evaluation, evaluate, not_evaluated
from adaptation.evaluation.decision import Criterion, Decision, Outcome, decide
from adaptation.evaluation.evidence import Block
from adaptation.evaluation.log import EvaluationLog, evaluate_new, version_id
from adaptation.evaluation.look_records import Look
from adaptation.evaluation.look_records import Outcome as Seems
from adaptation.evaluation.mix import Recall


class Champion(Protocol):
    """The version that predicted, as far as it is used here; see `adaptation.platforms.base.ModelVersion`."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def key(self) -> str:
        """What it was made from."""

    @property
    def champion(self) -> int | None:
        """The version that it was compared with, if any."""

    @property
    def recalls(self) -> Mapping[str, Recall]:
        """Its counts on its own test splits, by class."""


@dataclass(frozen=True)
class Judgement:
    """A model's figures on a batch, and the decision on it."""

    evaluation: Evaluation
    decision: Decision

    def kept(self, why: str) -> Judgement:
        """Return the judgement with the decision not to retrain all the same, and the reason for that."""
        return replace(self, decision=self.decision.kept(why))

    def after(self, look: Look) -> Judgement:
        """Return the judgement with how the batch seemed before its labels were read; nothing is decided by that."""
        return replace(self, decision=replace(self.decision, look=look.reason))


def judge(
    snapshot: Snapshot,
    predictions_folder: str,
    labels: Labels,
    champion: Champion | None,
    criterion: Criterion,
    max_skipped: float,
    run: str,
    drawn: Collection[str] | None = None,
) -> Judgement:
    """Evaluate a batch, add its images that are new for the champion to the champion's log, and decide by that log.

    Images from outside a collection and predictions from elsewhere have no log: there, all images are new.

    Args:
      snapshot: The images that were predicted.
      predictions_folder: URI of the folder with the results.
      labels: The source of the true labels.
      champion: The version that predicted; None for predictions from elsewhere.
      criterion: What decides.
      max_skipped: Share of the images, 0 to 1, that may lack a prediction or a known label.
      run: Name of the pipeline run, for the log.
      drawn: Names of the images that count, a fair sample of all; None: all do.

    Raises:
      AdaptationError: As for `evaluate` and `decide`.

    Failure: as for `evaluate_new`; judging the same snapshot again counts no image twice.
    """
    evaluation, blocks = _evaluated(snapshot, predictions_folder, labels, champion, max_skipped, run, drawn)
    decision = decide(evaluation, criterion, blocks, champion.recalls if champion else None)
    if champion and champion.champion and {block.batch for block in blocks} == {snapshot.batch}:
        decision = decision.in_first_batch(champion.number)
    return Judgement(evaluation, _with_sample(decision, evaluation))


def wait_for_labels(snapshot: Snapshot, names: tuple[str, ...], look: Look | None, audit: int) -> Judgement:
    """Return the judgement on a batch that was predicted, and that nobody has labelled yet.

    Args:
      snapshot: The images that were predicted.
      names: The labels.
      look: How the batch seems; None if nobody looked.
      audit: How many images are proposed for review if it seems calm: no look can see everything.
    """
    waiting = f"{len(snapshot.images)} images of {snapshot.batch} wait for labels"
    if look and look.outcome is Seems.LOOK:
        advice = look.reason
    else:
        command = f'"adapt review export --batch {snapshot.batch} --budget {audit}"'
        advice = f"have {audit} of them reviewed, drawn by chance, because no look sees everything: {command}"
    return Judgement(not_evaluated(snapshot.batch, names), Decision(False, Outcome.WAITING, f"{waiting}; {advice}"))


def _with_sample(decision: Decision, evaluation: Evaluation) -> Decision:
    sample, interval = evaluation.sample, evaluation.interval
    if sample is None or not evaluation.images:
        return decision
    whole = (
        f"{evaluation.images} of {sample.population} images were drawn and labelled: the accuracy of all of "
        f"{evaluation.batch} is {interval.low:.4f} to {interval.high:.4f} (95 %)"
    )
    return replace(decision, reason=f"{decision.reason}; {whole}")


def _evaluated(
    snapshot: Snapshot,
    predictions_folder: str,
    labels: Labels,
    champion: Champion | None,
    max_skipped: float,
    run: str,
    drawn: Collection[str] | None,
) -> tuple[Evaluation, list[Block]]:
    """Return the evaluation, and the blocks of all evaluations of this champion including it."""
    collection = collection_of(snapshot)
    if collection is None or champion is None:
        evaluation = evaluate(snapshot, predictions_folder, labels, max_skipped, drawn=drawn)
        return evaluation, [Block(snapshot.batch, evaluation.images, evaluation.correct)]
    log = EvaluationLog(collection, version_id(champion.number, champion.key))
    return evaluate_new(log, snapshot, predictions_folder, labels, max_skipped, run, drawn), log.blocks()
