"""What people get to review a batch: a table to fill in with a contact sheet to look at, or tasks for Label Studio.

    review-2021-10/labels.csv          a row an image; `adaptation.data.reviews` reads it back
                   sheet-1.html ...    the images, numbered as the rows are

`contact_sheet` writes the sheets, `label_studio` the tasks; `adaptation.data.reviews` keeps draws and labels.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from adaptation.data.batches import Batch, BatchStore, NoBatch, Snapshot
from adaptation.data.draws import in_order
from adaptation.data.labels import Labels, UnknownLabel
from adaptation.data.reviews import COLUMNS, Reviews, path_in_collection, safe_cell, with_reviews
from adaptation.errors import AlreadyExists
from adaptation.evaluation.prediction_results import RESULTS, read_predictions
from adaptation.io import storage
from pipeline.review.contact_sheet import Picture, write_sheets
from pipeline.review.label_studio import CONFIG, TASKS, Task, config, tasks
from pipeline.workspace.workspace import Workspace

Format = Literal["csv", "label-studio"]

TABLE = "labels.csv"
PREDICTED = ("predicted", "confidence")
_MADE_AT = re.compile(r"/prediction-[^/]*-(\d{4}(?:_\d\d){2}T(?:\d\d_){3}\d{3}Z)$")


@dataclass(frozen=True)
class Export:
    """The result of an export.

    Attributes:
      table: The table, or the tasks.
      images: How many images it has.
      open: How many images of the batch have not been reviewed, those in the table included.
      drawn: How many images of the batch were drawn, those that are reviewed already included; 0 without a budget.
      sheets: The contact sheets, or the configuration of the labelling tool.
      predictions: Folder of the predictions that are shown, if any; else empty.
    """

    table: Path
    images: int
    open: int
    drawn: int
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


def export(
    workspace: Workspace,
    batch: Batch,
    folder: Path,
    budget: int | None = None,
    blind: bool = False,
    form: Format = "csv",
) -> Export:
    """Write a batch's images for review.

    With a budget the images are drawn by chance, the draw is recorded, and the rows are those of its images that have
    no review yet, in the order of the draw: a fair sample whatever the row at which a person stops. Without one, all
    images are exported, ordered by the model's confidence, the least certain first.

    Args:
      workspace: The workspace of the batch.
      batch: The batch.
      folder: Where the table and the sheets go.
      budget: How many images people can label; a larger draw contains each smaller one. None: all, and no draw.
      blind: Show neither the present labels nor predictions, which would bias people.
      form: `csv`, or `label-studio` for tasks that this tool imports.

    Raises:
      NoBatch: There is no such batch, or it has no images.
      AlreadyExists: The folder has a table, or each image of the draw has a review.

    Failure: the draw is recorded first, the table is written last; without a table, export again.
    """
    table = folder / (TABLE if form == "csv" else TASKS)
    if table.exists():
        raise AlreadyExists(f'{table} exists. Import it with "adapt review import", or name another folder.')
    snapshot = _snapshot(workspace.batches, batch)
    reviewed = Reviews(workspace.batches).of(batch)
    drawn = _drawn(workspace, batch, snapshot, budget) if budget else None
    predictions = None if blind else _predictions(workspace, snapshot)
    shown = _to_review(drawn, reviewed, batch) if drawn else _all(snapshot, reviewed, predictions)
    labels = None if blind else with_reviews(workspace.labels, snapshot)
    rows = [_row(batch, image, labels, _find(predictions, image)) for image in shown]
    write = partial(_write_tasks, workspace.settings.labels.names) if form == "label-studio" else _write_table
    sheets = write(snapshot, shown, rows, table, bool(predictions))
    open_images = sum(image not in reviewed for image in snapshot.images)
    return Export(table, len(rows), open_images, len(drawn or ()), sheets, predictions.folder if predictions else "")


def _drawn(workspace: Workspace, batch: Batch, snapshot: Snapshot, budget: int) -> list[storage.File]:
    """Record the draw from the images that are in no span; return its images in their order."""
    images = {image.name: image for image in snapshot.without(workspace.spans.images_of(str(batch))).images}
    made = Reviews(workspace.batches).draw(batch, list(images), budget)
    return [images[name] for name in made.of(images)]


def _to_review(
    drawn: Sequence[storage.File], reviewed: Collection[storage.File], batch: Batch
) -> Sequence[storage.File]:
    if not (left := [image for image in drawn if image not in reviewed]):
        raise AlreadyExists(f"all {len(drawn)} drawn images of {batch} have a review. Draw more with a larger budget.")
    return left


def _all(
    snapshot: Snapshot, reviewed: Collection[storage.File], predictions: _Predictions | None
) -> Sequence[storage.File]:
    """Return all images: by confidence or, without predictions, those without a review first."""
    if predictions:
        return _by_confidence(snapshot, snapshot.images, predictions)
    images = {image.name: image for image in snapshot.images}
    return sorted((images[name] for name in in_order(images)), key=lambda image: image in reviewed)


def _write_table(
    snapshot: Snapshot,
    images: Sequence[storage.File],
    rows: Sequence[_Row],
    table: Path,
    predicted: bool,
) -> tuple[Path, ...]:
    sheets = write_sheets(table.parent, f"Images of {snapshot.batch}", _pictures(snapshot, images, rows))
    storage.create(storage.absolute(str(table)), _csv((*COLUMNS, *PREDICTED) if predicted else COLUMNS, rows))
    return sheets


def _write_tasks(
    names: Sequence[str],
    snapshot: Snapshot,
    images: Sequence[storage.File],
    rows: Sequence[_Row],
    table: Path,
    predicted: bool,
) -> tuple[Path, ...]:
    made = [
        Task(row.path, storage.join(snapshot.root, image.name), image.size, *(row.guess if predicted else ("", None)))
        for image, row in zip(images, rows, strict=True)
    ]
    file = table.with_name(CONFIG)
    storage.write(storage.absolute(str(file)), config(names))
    storage.create(storage.absolute(str(table)), tasks(made))
    return (file,)


def _snapshot(collection: BatchStore, batch: Batch) -> Snapshot:
    try:
        return collection.snapshot(batch)
    except NoBatch as error:
        if not collection.archived(batch):
            raise
        message = f'all images of {batch} are archived. "adapt batches requeue {batch}" brings them back.'
        raise NoBatch(message) from error


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

    @property
    def guess(self) -> tuple[str, float | None]:
        """The predicted label and its confidence; empty without a prediction."""
        return (self.prediction.label, self.prediction.confidence) if self.prediction else ("", None)


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
    writer.writerows(map(safe_cell, row.cells[: len(columns)]) for row in rows)
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
