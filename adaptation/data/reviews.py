"""Reviews: labels that people gave to collected images, and the draws that say which of them count.

    <collection root>/_reviewed/2021-10/0001.json ...       a journal: each record holds what one import changed
                                        draws/0001.json     a journal of the draws

Reviewed labels go before all others. A label belongs to an image by name and size: another image under the same name
has none. How a draw is made is in `draws`, which labels count in `labelling`; the display of the images is elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from adaptation.data.batches import Batch, BatchStore, InvalidBatch, Snapshot, collection_of
from adaptation.data.draws import Draw, draw
from adaptation.data.label_tables import InvalidLabels, LabelRow, read_rows
from adaptation.data.labels import Labels
from adaptation.io import storage
from adaptation.io.journal import Journal, Record

COLUMNS = ("path", "label")
_FOLDER = "_reviewed"
_DRAWS = "draws"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_FAULTS_SHOWN = 50


@dataclass(frozen=True)
class Review:
    """The content of a reviewed table.

    Attributes:
      labels: The labels of each batch's images.
      open: Number of rows without a label.
    """

    labels: Mapping[Batch, Mapping[storage.File, str]]
    open: int


@dataclass(frozen=True)
class _Import:
    """A journal's record: name, size and label of each image whose label changed, and when (ISO 8601, UTC)."""

    labels: tuple[tuple[str, int, str], ...]
    time: str


STATE_FILES: Mapping[str, Any] = {f"{_FOLDER}/*/*.json": _Import}


class Reviews:
    """The reviewed labels and the draws of a collection."""

    def __init__(self, collection: BatchStore) -> None:
        self._collection = collection

    def of(self, batch: Batch) -> dict[storage.File, str]:
        """Return the labels of a batch's reviewed images; the last one of an image reviewed more than once."""
        return _merged(self._journal(batch).records())

    def add(self, batch: Batch, labels: Mapping[storage.File, str]) -> int:
        """Set the labels of reviewed images; return how many changed. Other labels of the batch stay.

        Failure: all of them are set, or none; adding them again changes nothing.
        """
        journal = self._journal(batch)

        def change(_: object) -> _Import | None:
            known = _merged(journal.records())
            changed = {image: label for image, label in labels.items() if known.get(image) != label}
            return _import(changed) if changed else None

        added = journal.update(change)
        return len(added.value.labels) if added else 0

    def draws(self, batch: Batch) -> list[Draw]:
        """Return the batch's draws, in the order in which they were made."""
        return [record.value for record in self._draws(batch).records()]

    def draw(self, batch: Batch, names: Sequence[str], budget: int) -> Draw:
        """Draw images of a batch and record it; the same draw again is recorded once.

        Args:
          batch: The batch.
          names: Names of the images to draw from, relative to the batch.
          budget: How many images people can label; all are drawn if there are no more.

        Raises:
          AdaptationError: The budget is below 1, or there are no images.

        Failure: the draw is recorded, or it is not; nothing was labelled because of it yet.
        """
        made = draw(str(batch), names, budget, _now())

        def change(last: Record[Draw] | None) -> Draw | None:
            return None if last and replace(last.value, time=made.time) == made else made

        self._draws(batch).update(change)
        return made

    def count(self, batch: Batch) -> int:
        """Return the number of imports and draws of a batch; it grows with each of them."""
        return len(storage.files_below(self._folder(batch)))

    def _folder(self, batch: Batch) -> str:
        return storage.join(self._collection.root, _FOLDER, str(batch))

    def _journal(self, batch: Batch) -> Journal[_Import]:
        return Journal(self._folder(batch), _Import)

    def _draws(self, batch: Batch) -> Journal[Draw]:
        return Journal(storage.join(self._folder(batch), _DRAWS), Draw)


def with_reviews(labels: Labels, snapshot: Snapshot) -> Labels:
    """Return the labels for the snapshot's images, with those of the reviewed ones added."""
    labels = labels.in_batch(snapshot.root, snapshot.names)
    collection = collection_of(snapshot)
    if collection is None:
        return labels
    reviewed = Reviews(collection).of(Batch.parse(snapshot.batch))
    return replace(labels, reviewed={image.name: reviewed[image] for image in snapshot.images if image in reviewed})


def path_in_collection(batch: Batch, image: storage.File) -> str:
    """Return an image's name in a table: relative to the collection, so that it holds the batch and survives a move."""
    return f"{batch}/{image.name}"


def safe_cell(text: str) -> str:
    """Return a cell of a CSV file that no spreadsheet takes for a formula: after a quote if it begins as one would.

    Source: OWASP, "CSV Injection". `plain_cell` takes the quote away.

    >>> safe_cell("=HYPERLINK(1)"), safe_cell("ship")
    ("'=HYPERLINK(1)", 'ship')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def plain_cell(text: str) -> str:
    """Return the text of a cell that `safe_cell` wrote, or that a person filled in."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def read_review(uri: str, collection: BatchStore, names: Sequence[str]) -> Review:
    """Read a table that people have filled in: CSV, or JSON lines, with `path` and `label`; other columns are ignored.

    Args:
      uri: The table. A row without a label is left open.
      collection: The images that it may name, archived ones included.
      names: The labels.

    Raises:
      InvalidLabels: It is no such table; a row names no image of the collection, an image of another row, or no known
        label; or no row has a label.
    """
    draft = _Draft(collection, names)
    for row in read_rows(uri):
        draft.take(row)
    if not draft.faults and not draft.labels:
        draft.faults.append("no row has a label yet")
    if draft.faults:
        more = [f"... and {len(draft.faults) - _FAULTS_SHOWN} more"] if len(draft.faults) > _FAULTS_SHOWN else []
        message = [f"nothing of {uri} was taken. Fix:", *draft.faults[:_FAULTS_SHOWN], *more]
        raise InvalidLabels("\n  ".join(message))
    return Review(draft.labels, draft.open)


class _Fault(Exception):
    """The fault of a row."""


class _Draft:
    """The content of the rows taken so far, and their faults."""

    def __init__(self, collection: BatchStore, names: Sequence[str]) -> None:
        self.labels: dict[Batch, dict[storage.File, str]] = defaultdict(dict)
        self.faults: list[str] = []
        self.open = 0
        self._collection = collection
        self._names = names
        self._lines: dict[str, int] = {}
        self._months: dict[Batch, dict[str, storage.File]] = {}

    def take(self, row: LabelRow) -> None:
        """Take a row, or note its fault."""
        try:
            batch, image = self._image(row)
            if row.label == "":
                self.open += 1
            else:
                self.labels[batch][image] = self._label(row.label)
        except _Fault as fault:
            self.faults.append(f"line {row.line}: {fault}")

    def _image(self, row: LabelRow) -> tuple[Batch, storage.File]:
        month, _, name = str(row.path).partition("/")
        try:
            batch = Batch.parse(month)
        except InvalidBatch as error:
            raise _Fault(f"{row.path!r} does not begin with a month, as 2021-10/ship_1.jpg does") from error
        image = self._images(batch).get(name)
        if image is None:
            raise _Fault(f"{row.path!r} is not in {self._collection.root}")
        first = self._lines.setdefault(str(row.path), row.line)
        if first != row.line:
            raise _Fault(f"{row.path!r} is on line {first} already")
        return batch, image

    def _images(self, batch: Batch) -> Mapping[str, storage.File]:
        if batch not in self._months:
            images = (*self._collection.archived(batch), *self._collection.images(batch))
            self._months[batch] = {image.name: image for image in images}
        return self._months[batch]

    def _label(self, label: object) -> str:
        if isinstance(label, str) and (plain := plain_cell(label)) in self._names:
            return plain
        near = get_close_matches(str(label), self._names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(self._names)}."
        raise _Fault(f"{label!r} is no label. {hint}")


def _merged(records: Sequence[Record[_Import]]) -> dict[storage.File, str]:
    rows = (row for record in records for row in record.value.labels)
    return {storage.File(name, size): label for name, size, label in rows}


def _import(labels: Mapping[storage.File, str]) -> _Import:
    rows = tuple((image.name, image.size, label) for image, label in sorted(labels.items()))
    return _Import(rows, _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
