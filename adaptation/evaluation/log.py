"""The logs of evaluations: what was counted for each champion, and each candidate, and which images that were.

    <collection>/_evaluations/<champion>/0001.json              an evaluation's block of newly counted images
                                         images/<digest>.json   the names of these images
                                         images/<digest>.int64  the contents of the batch's images
                                         candidates/<candidate>/ the same of the comparisons with a candidate

What is decided is a fold over a log, so it survives restarts and is the same after a repeat. An image counts once for a
champion, and once for a candidate, however often its batch is evaluated.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import numpy as np

from adaptation import codec
from adaptation.data.batches import BatchStore, Snapshot
from adaptation.data.labels import Labels
from adaptation.evaluation.accuracy import Evaluation, evaluate
from adaptation.evaluation.duplicates import NONE, Contents, find_duplicates
from adaptation.evaluation.evidence import Block
from adaptation.evaluation.paired import Pairs
from adaptation.io import storage
from adaptation.io.journal import Journal

FOLDER = "_evaluations"
_IMAGES = "images"
_CONTENTS = "<i8"


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
      contents: Name of the file with the images' contents, see `duplicates`; empty in entries of earlier versions.
    """

    batch: str
    snapshot: str
    labels: tuple[str, ...]
    images: tuple[int, ...]
    correct: tuple[int, ...]
    run: str
    time: str
    listed: str
    contents: str = ""


@dataclass(frozen=True)
class Compared:
    """The images on which a candidate was compared with the champion for the first time.

    Attributes:
      batch: Name of the batch.
      snapshot: Digest of the list of images that were compared.
      pairs: The counts by name of class.
      run: Name of the pipeline run.
      time: ISO 8601, UTC.
      listed: Name of the file that lists the images.
    """

    batch: str
    snapshot: str
    pairs: Mapping[str, Pairs]
    run: str
    time: str
    listed: str


_Entry = TypeVar("_Entry", Counted, Compared)


class _Log(Generic[_Entry]):
    """Entries in their order, each about images that no earlier one was about."""

    def __init__(self, folder: str, kind: type[_Entry]) -> None:
        self._folder = folder
        self._journal: Journal[_Entry] = Journal(folder, kind)

    def entries(self) -> list[_Entry]:
        """Return the entries, in order."""
        return [record.value for record in self._journal.records()]

    def counted_before(self, snapshot: Snapshot) -> frozenset[storage.File]:
        """Return the images of the snapshot's batch that other entries are about; for a repeat, not its own."""
        others = [one for one in self.entries() if one.batch == snapshot.batch and one.snapshot != snapshot.digest]
        lists = storage.in_parallel(self._read_list, sorted({one.listed for one in others}))
        return frozenset().union(*lists)

    def _add(self, snapshot: Snapshot, images: Sequence[storage.File], entry: Callable[[str], _Entry]) -> None:
        """Add the entry about these images; do nothing if there are none, or if the log has one of this snapshot."""
        logged = self.entries()
        if images and all(one.snapshot != snapshot.digest for one in logged):
            self._journal.append(entry(self._write_list(images)), after=len(logged))

    def _write_list(self, images: Sequence[storage.File]) -> str:
        data = codec.encode(images, indent=0)
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.json"
        storage.write(self._uri(name), data)
        return name

    def _read_list(self, name: str) -> frozenset[storage.File]:
        return codec.read(self._uri(name), frozenset[storage.File])

    def _uri(self, name: str) -> str:
        return storage.join(self._folder, _IMAGES, name)


class EvaluationLog(_Log[Counted]):
    """The evaluations of one champion."""

    def __init__(self, batches: BatchStore, champion: str) -> None:
        """Open the log; its folder need not exist.

        Args:
          batches: The collection that the evaluated batches are in.
          champion: Names the champion, see `version_id`.
        """
        super().__init__(storage.join(batches.root, FOLDER, champion), Counted)

    def blocks(self) -> list[Block]:
        """Return what was counted, as the evidence takes it."""
        return [Block(one.batch, sum(one.images), sum(one.correct)) for one in self.entries()]

    def contents_before(self, snapshot: Snapshot) -> Contents:
        """Return the contents of the images that other entries are about; int64, sorted."""
        names = {one.contents for one in self.entries() if one.contents and one.snapshot != snapshot.digest}
        lists = storage.in_parallel(lambda name: storage.read(self._uri(name)), sorted(names))
        return np.unique(np.concatenate([NONE, *(np.frombuffer(data, _CONTENTS) for data in lists)]))

    def add(
        self,
        snapshot: Snapshot,
        evaluation: Evaluation,
        counted: Collection[storage.File],
        run: str,
        contents: Contents = NONE,
    ) -> None:
        """Add an evaluation's block; do nothing if this snapshot's is in the log, or if nothing was counted.

        Args:
          snapshot: The images that were evaluated.
          evaluation: The result, made with `counted`.
          counted: The images that do not count: those of `counted_before`, and duplicates.
          run: Name of the pipeline run.
          contents: The contents of the snapshot's images, see `duplicates`; int64.

        Failure: cut off at any point, the block is in the log or not; adding it again completes it.

        Raises:
          FileExistsError: Another evaluation was added meanwhile; count anew.
        """
        skipped = {skip.name for skip in evaluation.skipped}
        images = [image for image in snapshot.images if image not in counted and image.name not in skipped]
        self._add(
            snapshot, images, lambda listed: _counted(snapshot, evaluation, run, listed, self._write_contents(contents))
        )

    def _write_contents(self, contents: Contents) -> str:
        data = contents.astype(_CONTENTS).tobytes()
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.int64"
        storage.write(self._uri(name), data)
        return name


class ComparisonLog(_Log[Compared]):
    """The comparisons of one candidate with one champion, on images that neither was trained on."""

    def __init__(self, batches: BatchStore, champion: str, candidate: str) -> None:
        """Open the log; its folder need not exist. Both versions are named by `version_id`."""
        super().__init__(storage.join(batches.root, FOLDER, champion, "candidates", candidate), Compared)

    def looks(self) -> list[Mapping[str, Pairs]]:
        """Return the counts of each comparison, as the gate takes them."""
        return [one.pairs for one in self.entries()]

    def add(self, snapshot: Snapshot, pairs: Mapping[str, Pairs], images: Sequence[storage.File], run: str) -> None:
        """Add the counts on these images of the snapshot; errors and failure as for `EvaluationLog.add`."""
        self._add(
            snapshot, images, lambda listed: Compared(snapshot.batch, snapshot.digest, pairs, run, _now(), listed)
        )


def evaluate_new(
    log: EvaluationLog,
    snapshot: Snapshot,
    predictions_folder: str,
    labels: Labels,
    max_skipped: float,
    run: str,
    drawn: Collection[str] | None = None,
) -> Evaluation:
    """Evaluate a snapshot and add its newly counted images to the log; arguments and errors as for `evaluate`.

    Of a draw the log gets the drawn images, so that a larger draw of the same snapshot adds what is new in it.

    Failure: as for `EvaluationLog.add`. Of two evaluations at the same time, the later one counts what the other left.
    """
    part = snapshot if drawn is None else snapshot.only(drawn)
    while True:
        copies = find_duplicates(part, predictions_folder, labels, log.contents_before(part), drawn)
        counted = log.counted_before(part) | copies.images
        evaluation = evaluate(snapshot, predictions_folder, labels, max_skipped, counted, drawn)
        with contextlib.suppress(FileExistsError):  # another evaluation was added meanwhile: count anew
            log.add(part, evaluation, counted, run, copies.contents)
            return evaluation


def version_id(number: int, key: str) -> str:
    """Return the name of a version's log: its number, and a digest of what it was made from.

    The number alone would name another model after a registry was made anew.
    """
    return f"{number}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _counted(snapshot: Snapshot, evaluation: Evaluation, run: str, images: str, contents: str) -> Counted:
    return Counted(
        batch=snapshot.batch,
        snapshot=snapshot.digest,
        labels=evaluation.label_names,
        images=tuple(map(sum, evaluation.fresh)),
        correct=tuple(row[label] for label, row in enumerate(evaluation.fresh)),
        run=run,
        time=_now(),
        listed=images,
        contents=contents,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
