"""The log of evaluations: what was counted for each champion, in order, and which images that were.

    <collection>/_evaluations/<champion>/0001.json              an evaluation's block of newly counted images
                                         images/<digest>.json   the names of these images

The evidence against a champion is a fold over its log, so it survives restarts and is the same after a repeat. An image
counts once for a champion, however often its batch is evaluated.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from adaptation import codec
from adaptation.data.batches import BatchStore, Snapshot
from adaptation.data.labels import Labels
from adaptation.evaluation.accuracy import Evaluation, evaluate
from adaptation.evaluation.evidence import Block
from adaptation.io import storage
from adaptation.io.journal import Journal

FOLDER = "_evaluations"
_IMAGES = "images"


@dataclass(frozen=True)
class Counted:
    """The images of one evaluation that no earlier evaluation of the same champion had counted.

    Attributes:
      batch: Name of the batch.
      snapshot: Digest of the list of images that were evaluated.
      labels: The label names.
      images: How many images of each label were counted; int [labels].
      correct: How many of them were predicted correctly; int [labels].
      run: Name of the pipeline run.
      time: ISO 8601, UTC.
      listed: Name of the file that lists the counted images.
    """

    batch: str
    snapshot: str
    labels: tuple[str, ...]
    images: tuple[int, ...]
    correct: tuple[int, ...]
    run: str
    time: str
    listed: str


class EvaluationLog:
    """The evaluations of one champion."""

    def __init__(self, batches: BatchStore, champion: str) -> None:
        """Open the log; its folder need not exist.

        Args:
          batches: The collection that the evaluated batches are in.
          champion: Names the champion, see `version_id`.
        """
        self._folder = storage.join(batches.root, FOLDER, champion)
        self._journal = Journal(self._folder, Counted)

    def evaluations(self) -> list[Counted]:
        """Return what was counted, in order."""
        return [record.value for record in self._journal.records()]

    def blocks(self) -> list[Block]:
        """Return what was counted, as the evidence takes it."""
        return [Block(one.batch, sum(one.images), sum(one.correct)) for one in self.evaluations()]

    def counted_before(self, snapshot: Snapshot) -> frozenset[storage.File]:
        """Return the images of the snapshot's batch that other evaluations have counted; for a repeat, not its own."""
        others = [one for one in self.evaluations() if one.batch == snapshot.batch and one.snapshot != snapshot.digest]
        lists = storage.in_parallel(self._read_list, sorted({one.listed for one in others}))
        return frozenset().union(*lists)

    def add(self, snapshot: Snapshot, evaluation: Evaluation, counted: Collection[storage.File], run: str) -> None:
        """Add an evaluation's block; do nothing where this snapshot's is in the log, or where nothing was counted.

        Args:
          snapshot: The images that were evaluated.
          evaluation: The result, made with `counted`.
          counted: What `counted_before` returned.
          run: Name of the pipeline run.

        Failure: cut off at any point, the block is in the log or not; adding it again completes it.

        Raises:
          FileExistsError: Another evaluation was added meanwhile; count anew.
        """
        logged = self.evaluations()
        if not sum(map(sum, evaluation.fresh)) or any(one.snapshot == snapshot.digest for one in logged):
            return
        skipped = {skip.name for skip in evaluation.skipped}
        images = [image for image in snapshot.images if image not in counted and image.name not in skipped]
        self._journal.append(_counted(snapshot, evaluation, run, self._write_list(images)), after=len(logged))

    def _write_list(self, images: Sequence[storage.File]) -> str:
        data = codec.encode(images, indent=0)
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.json"
        storage.write(storage.join(self._folder, _IMAGES, name), data)
        return name

    def _read_list(self, name: str) -> frozenset[storage.File]:
        return codec.read(storage.join(self._folder, _IMAGES, name), frozenset[storage.File])


def evaluate_new(
    log: EvaluationLog, snapshot: Snapshot, predictions_folder: str, labels: Labels, max_skipped: float, run: str
) -> Evaluation:
    """Evaluate a snapshot and add its newly counted images to the log; arguments and errors as for `evaluate`.

    Failure: as for `EvaluationLog.add`. Of two evaluations at the same time, the later one counts what the other left.
    """
    while True:
        counted = log.counted_before(snapshot)
        evaluation = evaluate(snapshot, predictions_folder, labels, max_skipped, counted)
        with contextlib.suppress(FileExistsError):  # another evaluation was added meanwhile: count anew
            log.add(snapshot, evaluation, counted, run)
            return evaluation


def version_id(number: int, key: str) -> str:
    """Return the name of a version's log: its number, and a digest of what it was made from.

    The number alone would name another model after a registry was made anew.
    """
    return f"{number}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _counted(snapshot: Snapshot, evaluation: Evaluation, run: str, images: str) -> Counted:
    return Counted(
        batch=snapshot.batch,
        snapshot=snapshot.digest,
        labels=evaluation.label_names,
        images=tuple(map(sum, evaluation.fresh)),
        correct=tuple(row[label] for label, row in enumerate(evaluation.fresh)),
        run=run,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        listed=images,
    )
