"""The record of decisions: what each evaluation of a batch concluded, for the status and the events.

    <collection>/_decisions/0001.json    a journal in the order of the evaluations

It loads no numpy, so that the status is quick and the Cloud Function needs none. What decides is in `decision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from adaptation.data.batches import BatchStore
from adaptation.io import storage
from adaptation.io.journal import Journal, Record

if TYPE_CHECKING:
    from adaptation.evaluation.accuracy import Evaluation
    from adaptation.evaluation.decision import Decision

FOLDER = "_decisions"
WAITING_FOR_LABELS = "waiting for labels"  # the outcome of an evaluation whose labels people give


@dataclass(frozen=True)
class Decided:
    """What an evaluation concluded.

    Attributes:
      batch: Name of the batch.
      version: Number of the champion that was evaluated.
      images: How many images were evaluated.
      accuracy: Their share that was predicted correctly; None without images.
      retrain: Whether the model is retrained.
      outcome: `retrain`, `keep`, `too few` or `waiting for labels`.
      reason: Why, as a sentence with the figures.
      evidence: Share of the evidence that a retraining takes, 0 to 1; None under rules without memory.
      rollback: Whether going back to the champion before is proposed.
      run: Name of the pipeline run.
      time: ISO 8601, UTC.
    """

    batch: str
    version: int
    images: int
    accuracy: float | None
    retrain: bool
    outcome: str
    reason: str
    evidence: float | None
    rollback: bool
    run: str
    time: str

    @classmethod
    def of(cls, evaluation: Evaluation, decision: Decision, version: int, run: str) -> Decided:
        """Return what an evaluation has concluded now."""
        return cls(
            batch=evaluation.batch,
            version=version,
            images=evaluation.images,
            accuracy=evaluation.accuracy,
            retrain=decision.retrain,
            outcome=decision.outcome,
            reason=decision.reason,
            evidence=decision.evidence,
            rollback=decision.rollback,
            run=run,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def record_decision(batches: BatchStore, decided: Decided) -> None:
    """Record a decision; do nothing if the last record is of the same run.

    Failure: the record exists, complete, or it does not; a retry of the run makes no second one.
    """

    def change(last: Record[Decided] | None) -> Decided | None:
        return None if last and last.value.run == decided.run else decided

    _journal(batches).update(change)


def decisions(batches: BatchStore) -> list[Decided]:
    """Return all recorded decisions, in order."""
    return [record.value for record in _journal(batches).records()]


def last_decision(batches: BatchStore) -> Decided | None:
    """Return the last recorded decision, or None if there is none."""
    last = _journal(batches).last()
    return last.value if last else None


def _journal(batches: BatchStore) -> Journal[Decided]:
    return Journal(storage.join(batches.root, FOLDER), Decided)
