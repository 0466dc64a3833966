"""The records of looks: how each batch seemed, whether or not anybody has labelled it.

    <collection>/_looks/2021-10/0001.json    a journal; the last record is how the batch seems now

It loads no numpy, so that the status is quick and the Cloud Function needs none. What looks is in `look`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adaptation.data.batches import Batch, BatchStore
from adaptation.io import storage
from adaptation.io.journal import Journal, Record

FOLDER = "_looks"
CAVEAT = "if nothing new is in the images"


class Outcome(StrEnum):
    """What is to be done. UNKNOWN: nothing could be compared; the reason says why."""

    CALM = "calm"
    LOOK = "look"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Look:
    """How a batch seems.

    Attributes:
      outcome: What is to be done.
      reason: Why, as a sentence with the figures and, for LOOK, the command.
      images: Number of the batch's predicted images.
      confidence: Their mean confidence; None without confidences.
      reference_confidence: That of the reference; likewise.
      confidence_p: W1: p value of "the mean confidence has not fallen"; None if it was not tested.
      classes_p: W2: p value of "the classes are predicted in the same shares"; likewise.
      confidence_divergence: Jensen-Shannon divergence of the confidences in 20 parts, in bits, 0 to 1; for the eye,
        nothing is decided by it.
      classes_divergence: The same of the predicted classes.
      estimate: DoC, an estimate of the accuracy: the reference's, less the fall of the mean confidence (Guillory et
        al., 2021). Right only `if nothing new is in the images`; see `caveat`.
      caveat: The sentence without which the estimate must not be shown.
      probabilities_divergence: Jensen-Shannon divergence of the mean probabilities of the classes, in bits: as
        `classes_divergence`, with less of what chance alone gives; None unless both models give the same classes'.
    """

    outcome: Outcome
    reason: str
    images: int = 0
    confidence: float | None = None
    reference_confidence: float | None = None
    confidence_p: float | None = None
    classes_p: float | None = None
    confidence_divergence: float | None = None
    classes_divergence: float | None = None
    estimate: float | None = None
    caveat: str = CAVEAT
    probabilities_divergence: float | None = None


def unknown(why: str, images: int = 0) -> Look:
    """Return the look at a batch that could not be compared, with the reason."""
    return Look(Outcome.UNKNOWN, why, images)


@dataclass(frozen=True)
class Predicted:
    """An image and what was predicted; `confidence` is None if the model gave none."""

    name: str
    label: str
    confidence: float | None


@dataclass(frozen=True)
class LookRecord:
    """A look at a batch.

    Attributes:
      batch: Name of the batch.
      snapshot: Digest of the list of images that were looked at.
      version: Number of the champion that predicted them; 0 for predictions from elsewhere.
      champion: That version's id, see `log.version_id`; empty likewise.
      look: What came out.
      typical: A few of the images, drawn by chance.
      strangest: The images with the lowest confidence, the lowest first.
      run: Name of the pipeline run.
      time: ISO 8601, UTC.
    """

    batch: str
    snapshot: str
    version: int
    champion: str
    look: Look
    typical: tuple[Predicted, ...]
    strangest: tuple[Predicted, ...]
    run: str
    time: str


def record_look(batches: BatchStore, record: LookRecord) -> None:
    """Add a record; do nothing if the batch's last one is about the same images and the same champion.

    Failure: the record exists, complete, or it does not; a repeat makes no second one.
    """

    def change(last: Record[LookRecord] | None) -> LookRecord | None:
        return None if last and _subject(last.value) == _subject(record) else record

    _journal(batches, record.batch).update(change)


def last_look(batches: BatchStore, batch: Batch | str) -> LookRecord | None:
    """Return the last look at a batch, or None if there was none."""
    last = _journal(batches, batch).last()
    return last.value if last else None


def newest_look(batches: BatchStore) -> LookRecord | None:
    """Return the last look at the newest batch that was looked at, or None if there was none."""
    looked = storage.folders(storage.join(batches.root, FOLDER))
    return last_look(batches, looked[-1]) if looked else None


def _journal(batches: BatchStore, batch: Batch | str) -> Journal[LookRecord]:
    return Journal(storage.join(batches.root, FOLDER, str(batch)), LookRecord)


def _subject(record: LookRecord) -> tuple[str, str]:
    return record.snapshot, record.champion
