"""Waiting: the last evaluation of each batch whose labels people give, so that further labels can continue it.

    <collection root>/_waiting/2021-10.json             the evaluation
                               images/<digest>.json     the images that it predicted

An evaluation is kept from its prediction on, and again each time that it counts labels. It waits for its first labels,
or it has counted those of a draw, and a larger draw adds to them. What starts the evaluation again is the trigger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from adaptation import codec
from adaptation.data.batches import Batch, BatchStore, Snapshot, collection_of
from adaptation.data.labelling import Labelling, labelling
from adaptation.data.labels import Labels
from adaptation.data.reviews import Reviews
from adaptation.io import storage

FOLDER = "_waiting"
_IMAGES = "images"
_ENDING = ".json"
_LOOKED_AT = 12


@dataclass(frozen=True)
class Waiting:
    """An evaluation that labels can continue.

    Attributes:
      batch: Name of the batch.
      snapshot: Digest of the list of its images.
      root: URI of the folder that the predictions name the images in.
      predictions: URI of the folder with the results of the prediction.
      version: Names the version that predicted, see `evaluation.log.version_id`.
      counted: Number of images whose labels were counted; 0 if it waits for the first.
      images: Number of its images.
      seen: Number of the batch's imports and draws that it has considered.
      labels: The source of the labels, as JSON text.
      max_skipped: Share of the images that may be skipped, 0 to 1.
      time: ISO 8601, UTC.
    """

    batch: str
    snapshot: str
    root: str
    predictions: str
    version: str
    counted: int
    images: int
    seen: int
    labels: str
    max_skipped: float
    time: str


def keep_waiting(
    batches: BatchStore,
    snapshot: Snapshot,
    found: Labelling,
    predictions: str,
    version: str,
    labels: str,
    max_skipped: float,
) -> None:
    """Keep an evaluation of a batch in the place of its earlier one.

    Args:
      batches: The collection that the batch is in.
      snapshot: The images that were predicted.
      found: Which of them have counted.
      predictions: URI of the folder with the results.
      version: Names the version that predicted.
      labels: The source of the labels, as JSON text.
      max_skipped: Share of the images that may be skipped, 0 to 1.

    Failure: the earlier one is kept, or this one; keep it again.
    """
    storage.write(_listed(batches, snapshot.digest), codec.encode(snapshot.images, indent=0))
    kept = Waiting(
        batch=snapshot.batch,
        snapshot=snapshot.digest,
        root=snapshot.root,
        predictions=predictions,
        version=version,
        counted=found.counting(snapshot),
        images=len(snapshot.images),
        seen=found.seen,
        labels=labels,
        max_skipped=max_skipped,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    storage.write(_uri(batches, snapshot.batch), codec.encode(kept))


def waiting_of(batches: BatchStore, batch: Batch | str) -> Waiting | None:
    """Return the evaluation of a batch that labels can continue, or None."""
    try:
        return codec.read(_uri(batches, batch), Waiting)
    except FileNotFoundError:
        return None


def latest_waiting(batches: BatchStore) -> list[Waiting]:
    """Return those of the twelve latest such batches, the oldest first."""
    files = storage.files(storage.join(batches.root, FOLDER))
    names = sorted(file.name.removesuffix(_ENDING) for file in files if file.name.endswith(_ENDING))
    found = storage.in_parallel(lambda name: waiting_of(batches, name), names[-_LOOKED_AT:])
    return [waiting for waiting in found if waiting]


def snapshot_of(batches: BatchStore, waiting: Waiting) -> Snapshot:
    """Return the images of the evaluation, also if the collection has been moved since."""
    images = codec.read(_listed(batches, waiting.snapshot), tuple[storage.File, ...])
    return Snapshot(waiting.batch, batches.folder(Batch.parse(waiting.batch)), images)


def stored_predictions(snapshot: Snapshot, version: str) -> str:
    """Return the URI of the results of an evaluation that waited, if they are those of this version on this snapshot.

    Args:
      snapshot: The images to predict.
      version: Names the version that predicts.

    Returns:
      The folder; "" if there is none, or if it was removed.
    """
    batches = collection_of(snapshot)
    waiting = waiting_of(batches, snapshot.batch) if batches else None
    if waiting is None or (waiting.snapshot, waiting.root, waiting.version) != (
        snapshot.digest,
        snapshot.root,
        version,
    ):
        return ""
    return waiting.predictions if storage.files(waiting.predictions) else ""


def labelled_now(batches: BatchStore, waiting: Waiting) -> int:
    """Return the number of images whose labels count now; it is read only if people have given some meanwhile."""
    if Reviews(batches).count(Batch.parse(waiting.batch)) == waiting.seen:
        return waiting.counted
    snapshot = snapshot_of(batches, waiting)
    return labelling(Labels.from_json(waiting.labels), snapshot, waiting.max_skipped).counting(snapshot)


def _uri(batches: BatchStore, batch: Batch | str) -> str:
    return storage.join(batches.root, FOLDER, f"{batch}{_ENDING}")


def _listed(batches: BatchStore, digest: str) -> str:
    return storage.join(batches.root, FOLDER, _IMAGES, f"{digest[:16]}{_ENDING}")
