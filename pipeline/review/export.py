"""What people get to review a batch: a table to fill in and a contact sheet to look at.

    review-2021-10/labels.csv          a row an image; `adaptation.data.reviews` reads it back
                   sheet-1.html ...    the images, numbered as the rows are

`contact_sheet` writes the sheets; `adaptation.data.reviews` keeps the labels.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptation.data.batches import Batch, BatchStore, NoBatch, Snapshot
from adaptation.data.labels import Labels, UnknownLabel
from adaptation.data.reviews import COLUMNS, Reviews, path_in_collection, with_reviews
from adaptation.errors import AlreadyExists
from adaptation.evaluation.prediction_results import RESULTS, read_predictions
from adaptation.io import storage
from pipeline.review.contact_sheet import Picture, write_sheets
from pipeline.workspace.workspace import Workspace

TABLE = "labels.csv"
PREDICTED = ("predicted", "confidence")
_MADE_AT = re.compile(r"/prediction-[^/]*-(\d{4}(?:_\d\d){2}T(?:\d\d_){3}\d{3}Z)$")


@dataclass(frozen=True)
class Export:
    """The result of an export.

    Attributes:
      table: The table.
      images: How many images it has.
      open: How many images of the batch have not been reviewed, those in the table included.
      sheets: The contact sheets.
      predictions: Folder of the predictions that are shown, if any; else empty.
    """

    table: Path
    images: int
    open: int
    sheets: tuple[Path, ...]
    predictions: str


@dataclass(frozen=True)
class _Prediction:
    label: str
    confidence: float | None


@dataclass(frozen=True)
class _Predictions:
    """The predictions of one evaluation, by the image's URI."""

    folder: str
    by_name: Mapping[str, _Prediction]


def export(workspace: Workspace, batch: Batch, folder: Path, limit: int | None = None, blind: bool = False) -> Export:
    """Write a batch's images for review.

    Images without a review come first, drawn by a hash of their names: any number of them is a random sample, whose
    accuracy estimates the batch's, and a larger sample contains the smaller one. The rows are ordered by the model's
    confidence, the least certain first.

    Args:
      workspace: The workspace of the batch.
      batch: The batch.
      folder: Where the table and the sheets go.
      limit: How many images; None: all.
      blind: Show neither the present labels nor predictions, which would bias people.

    Raises:
      NoBatch: There is no such batch, or it has no images.
      AlreadyExists: The folder has a table.

    Failure: the table comes last; without one, export again.
    """
    table = folder / TABLE
    if table.exists():
        raise AlreadyExists(f'{table} exists. Import it with "adapt review import", or name another folder.')
    snapshot = _snapshot(workspace.batches, batch)
    reviewed = Reviews(workspace.batches).of(batch)
    drawn = sorted(snapshot.images, key=lambda image: (image in reviewed, _draw(image)))[:limit]
    predictions = None if blind else _predictions(workspace, snapshot)
    shown = _by_confidence(snapshot, drawn, predictions) if predictions else drawn
    labels = None if blind else with_reviews(workspace.labels, snapshot)
    rows = [_row(batch, image, labels, _find(predictions, image)) for image in shown]
    columns = (*COLUMNS, *PREDICTED) if predictions else COLUMNS
    sheets = write_sheets(folder, f"Images of {batch}", _pictures(snapshot, shown, rows))
    storage.create(storage.absolute(str(table)), _csv(columns, rows))
    open_images = sum(image not in reviewed for image in snapshot.images)
    return Export(table, len(rows), open_images, sheets, predictions.folder if predictions else "")


def _snapshot(collection: BatchStore, batch: Batch) -> Snapshot:
    try:
        return collection.snapshot(batch)
    except NoBatch as error:
        if not collection.archived(batch):
            raise
        message = f'all images of {batch} are archived. "adapt batches requeue {batch}" brings them back.'
        raise NoBatch(message) from error


def _draw(image: storage.File) -> bytes:
    return hashlib.sha256(image.name.encode()).digest()


def _predictions(workspace: Workspace, snapshot: Snapshot) -> _Predictions | None:
    """Return the newest predictions of the batch's images by an evaluation, or None."""
    for folder in _newest_first(workspace.folder("pipelines", "evaluation")):
        if found := _of_batch(folder, snapshot):
            return _Predictions(folder, found)
    return None


def _newest_first(root: str) -> list[str]:
    """Return the folders with results, by the time in their names, newest first."""
    results = (file.name.rpartition("/") for file in storage.files_below(root))
    folders = {f"/{folder}" for folder, _, name in results if name.startswith(RESULTS)}
    made_at = {folder: match[1] for folder in folders if (match := _MADE_AT.search(folder))}
    return [storage.join(root, folder) for folder in sorted(made_at, key=made_at.__getitem__, reverse=True)]


def _of_batch(folder: str, snapshot: Snapshot) -> dict[str, _Prediction]:
    """Return the results' predictions of the batch's images; stop reading those of another batch."""
    found: dict[str, _Prediction] = {}
    for block in read_predictions(folder):
        rows = block.drop_nulls("label").select("image", "label", "confidence").iter_rows()
        there = {_name(image, snapshot): _Prediction(label, confidence) for image, label, confidence in rows}
        if there and not any(there):
            return {}
        found |= there
    return found


def _name(uri: str, snapshot: Snapshot) -> str:
    """Return an image's name in its month, also if the workspace has been moved since; empty for another month's."""
    folder = f"{snapshot.root}/"
    if uri.startswith(folder):
        return uri.removeprefix(folder)
    return uri.partition(f"/{snapshot.batch}/")[2]


def _by_confidence(snapshot: Snapshot, images: Sequence[storage.File], predictions: _Predictions) -> list[storage.File]:
    """Sort by confidence, least certain first; before them those without a prediction."""

    def confidence(image: storage.File) -> float:
        prediction = _find(predictions, image)
        return -1.0 if prediction is None or prediction.confidence is None else prediction.confidence

    return sorted(images, key=confidence)


def _find(predictions: _Predictions | None, image: storage.File) -> _Prediction | None:
    return predictions.by_name.get(image.name) if predictions else None


@dataclass(frozen=True)
class _Row:
    path: str
    label: str
    prediction: _Prediction | None

    @property
    def cells(self) -> tuple[str, ...]:
        if self.prediction is None:
            return (self.path, self.label, "", "")
        return (self.path, self.label, self.prediction.label, _rounded(self.prediction.confidence))


def _row(batch: Batch, image: storage.File, labels: Labels | None, prediction: _Prediction | None) -> _Row:
    return _Row(path_in_collection(batch, image), _label(labels, image.name) if labels else "", prediction)


def _label(labels: Labels, name: str) -> str:
    try:
        return labels.of(name)
    except UnknownLabel:
        return ""


def _rounded(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.3f}"


def _csv(columns: Sequence[str], rows: Sequence[_Row]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(row.cells[: len(columns)] for row in rows)
    return file.getvalue().encode()


def _pictures(snapshot: Snapshot, images: Sequence[storage.File], rows: Sequence[_Row]) -> Iterator[Picture]:
    """Yield the pictures by their rows' numbers in a spreadsheet: the heads are row 1."""
    for number, (image, row) in enumerate(zip(images, rows, strict=True), 2):
        yield Picture(number, storage.join(snapshot.root, image.name), image.size, row.path, _caption(row))


def _caption(row: _Row) -> str:
    label = f"labelled {row.label}" if row.label else ""
    if row.prediction is None:
        return label
    confidence = _rounded(row.prediction.confidence)
    predicted = f"predicted {row.prediction.label}" + (f" ({confidence})" if confidence else "")
    return ", ".join(filter(None, (label, predicted)))
