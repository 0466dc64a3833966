"""Evaluation: predictions in, figures out; and the decision that is taken on them.

The predictions of a snapshot are matched with its images, each exactly once, and compared with the true labels. How
result files are read is the matter of `predictions`, where labels come from that of `labels`; what follows a decision
is up to the pipeline.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from adaptation import storage
from adaptation.batches import Snapshot
from adaptation.errors import AdaptationError
from adaptation.labels import Labels, Skipped, refuse_if_too_many
from adaptation.predictions import InvalidPrediction, read_predictions

MISTAKES = 20
Z_95 = 1.959963984540054
_EXAMPLES = 3


class UnlistedPredictions(AdaptationError, ValueError):
    """Predictions for images that are not in the snapshot."""


class DuplicatePredictions(AdaptationError, ValueError):
    """Images with more than one prediction or error."""


class MissingPredictions(AdaptationError, LookupError):
    """Images with neither a prediction nor an error."""


class InvalidThreshold(AdaptationError, ValueError):
    """A threshold that no accuracy can be compared with."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a share, both ends in 0 to 1."""

    low: float
    high: float


@dataclass(frozen=True)
class ClassFigures:
    """How one class fared; a figure is None where it would divide by zero.

    Attributes:
      label: The class.
      images: Number of images that truly are of the class.
      correct: Number of them that were predicted as such.
      recall: Share of the class's images that were predicted as such.
      precision: Share of those predicted as the class that truly are.
      f1: Harmonic mean of both.
    """

    label: str
    images: int
    correct: int
    recall: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class Mistake:
    """An image that was predicted wrongly; `confidence` is None where the model gave none."""

    name: str
    truth: str
    predicted: str
    confidence: float | None


@dataclass(frozen=True)
class Evaluation:
    """How a model did on a batch.

    Attributes:
      batch: Name of the batch.
      images: Number of images that were evaluated; those that were skipped are not among them.
      correct: Number of images that were predicted rightly.
      accuracy: Share of them; None where no image was evaluated.
      interval: The accuracy's 95 % Wilson interval.
      classes: The figures of each class, in the order of the labels.
      label_names: The labels.
      confusion: Numbers of images: a row for each true label, in it a column for each predicted one.
      skipped: Images without a known label or with a prediction error, sorted by name.
      mistakes: Up to 20 of the wrong ones, the most confident first.
    """

    batch: str
    images: int
    correct: int
    accuracy: float | None
    interval: Interval
    classes: tuple[ClassFigures, ...]
    label_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    skipped: tuple[Skipped, ...]
    mistakes: tuple[Mistake, ...]

    def to_json(self) -> bytes:
        """The evaluation as a file's content; `from_json` reads it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Evaluation:
        """The evaluation that `to_json` wrote."""
        value: dict[str, Any] = json.loads(data)
        value["interval"] = Interval(**value["interval"])
        value["label_names"] = tuple(value["label_names"])
        value["confusion"] = tuple(map(tuple, value["confusion"]))
        for field, kind in (("classes", ClassFigures), ("skipped", Skipped), ("mistakes", Mistake)):
            value[field] = tuple(kind(**item) for item in value[field])
        return cls(**value)


def evaluate(snapshot: Snapshot, predictions_folder: str, labels: Labels, max_skipped: float) -> Evaluation:
    """Compares the predictions of a snapshot's images with their true labels.

    Args:
      snapshot: The images that were to be predicted.
      predictions_folder: URI of the folder with the results, files and lines in any order.
      labels: Where the true labels come from; the model must speak of the same ones.
      max_skipped: Share of the images, 0 to 1, that may lack a known label or have a prediction error.

    Raises:
      NoPredictions: The folder has no results.
      InvalidPrediction: A line is broken, or the model predicts what is no label.
      UnlistedPredictions: There is a prediction for an image that is not in the snapshot.
      DuplicatePredictions: An image has more than one prediction or error.
      MissingPredictions: An image has none.
      TooManySkipped: More images than allowed had to be left out.
    """
    outcomes = _outcomes(snapshot, predictions_folder, labels)
    usable = pl.col("error").is_null() & pl.col("truth").is_not_null()
    skipped = _skipped(snapshot, outcomes.filter(~usable), labels)
    refuse_if_too_many(skipped, len(snapshot.images), max_skipped)
    return _evaluation(snapshot, outcomes.filter(usable), labels.names, skipped)


def wilson_interval(correct: int, images: int, z: float = Z_95) -> Interval:
    """The Wilson score interval of the share `correct / images`; all of 0 to 1 where there are no images.

    Args:
      correct: Number of successes.
      images: Number of trials.
      z: Quantile of the normal distribution; the default gives 95 %.
    """
    if not images:
        return Interval(0.0, 1.0)
    share, spread = correct / images, z * z / images
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / images + spread / (4 * images))
    low = (middle - half) / (1 + spread) if correct else 0.0
    high = (middle + half) / (1 + spread) if correct < images else 1.0
    return Interval(low, high)


class Rule(StrEnum):
    """When an accuracy counts as too low. POINT: it is below the threshold. WILSON: its interval is, as a whole."""

    POINT = "point"
    WILSON = "wilson"


class Outcome(StrEnum):
    """What is to be done."""

    RETRAIN = "retrain"
    KEEP = "keep"
    TOO_FEW = "too few"


@dataclass(frozen=True)
class Decision:
    """Whether to retrain, what that rests on, and the same as a sentence with the figures."""

    retrain: bool
    outcome: Outcome
    reason: str


def decide(evaluation: Evaluation, threshold: float, rule: Rule, min_images: int) -> Decision:
    """Decides whether the model must be retrained.

    Args:
      evaluation: How the model did.
      threshold: The accuracy that it must reach, above 0 and up to 1.
      rule: What must be below the threshold.
      min_images: With fewer evaluated images, and always with none, nothing is concluded.

    Raises:
      InvalidThreshold: The threshold is not above 0 and up to 1.
    """
    if not 0 < threshold <= 1:
        raise InvalidThreshold(f"the threshold {threshold} is no accuracy. Set one above 0 and up to 1, such as 0.9.")
    if evaluation.accuracy is None or evaluation.images < min_images:
        reason = f"{evaluation.images} images were evaluated, too few to say anything: it takes {max(1, min_images)}"
        return Decision(False, Outcome.TOO_FEW, reason)
    accuracy, high = evaluation.accuracy, evaluation.interval.high
    measured, name = (accuracy, "the accuracy") if rule is Rule.POINT else (high, "the interval's upper bound")
    retrain = measured < threshold
    reason = f"{_figures(evaluation)}; {name} is {'below' if retrain else 'not below'} the threshold {threshold:g}"
    return Decision(retrain, Outcome.RETRAIN if retrain else Outcome.KEEP, reason)


def _figures(evaluation: Evaluation) -> str:
    interval = evaluation.interval
    return (
        f"{evaluation.correct} of {evaluation.images} images are right: accuracy {evaluation.accuracy:.4f} "
        f"(95 % interval {interval.low:.4f} to {interval.high:.4f})"
    )


def _outcomes(snapshot: Snapshot, folder: str, labels: Labels) -> pl.DataFrame:
    """What became of each image: its row in the snapshot, its true label, and what the results say of it.

    Images are known by hashes of their URIs (64 bits), which take a fraction of a text's time. Sorted, those of the
    images that are listed must be those that the results speak of. Where they are not, texts find out why.
    """
    image, label = pl.col("image"), pl.col("label").cast(pl.Enum(labels.names), strict=False)
    wanted = (image.hash().alias("hash"), image.is_null().alias("stray"), label, pl.col("confidence", "error"))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: pl.concat(read_predictions(folder, *wanted)))
        listed = _listed(snapshot)
        truths = labels.of_all(listed["name"])
        hashes = _Hashes.of(listed["image"].hash())
        told = reading.result().filter(~pl.col("stray"))
    is_foreign = told["label"].is_null() & told["error"].is_null()
    rows = None if is_foreign.any() else hashes.rows_of(_Hashes.of(told["hash"]))
    if rows is None:
        rows = _rows_by_text(snapshot, folder, labels)
    return told.select("label", "confidence", "error").with_columns(row=rows, truth=truths.gather(rows))


def _listed(snapshot: Snapshot) -> pl.DataFrame:
    """The row of each image, its name and, as `image`, its URI."""
    names = pl.Series("name", [image.name for image in snapshot.images], dtype=pl.String)
    return pl.DataFrame([names, (storage.join(snapshot.root, "") + names).alias("image")]).with_row_index("row")


@dataclass(frozen=True)
class _Hashes:
    """Hashes in order, and the rows that they came from."""

    ordered: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def of(cls, series: pl.Series) -> _Hashes:
        hashes = series.to_numpy()
        rows = np.argsort(hashes)
        return cls(hashes[rows], rows)

    def rows_of(self, told: _Hashes) -> pl.Series | None:
        """The rows here of what is told, in its order; None where they are not the same, or have one hash twice."""
        twice = np.any(self.ordered[1:] == self.ordered[:-1])
        if twice or not np.array_equal(self.ordered, told.ordered):
            return None
        rows = np.empty(len(self.rows), np.uint32)
        rows[told.rows] = self.rows
        return pl.Series(rows)


def _rows_by_text(snapshot: Snapshot, folder: str, labels: Labels) -> pl.Series:
    """The rows of the images that the results speak of, in the results' order; the errors are those of `evaluate`."""
    told = pl.concat(read_predictions(folder)).join(_listed(snapshot), on="image", how="left", maintain_order="left")
    _refuse_foreign_labels(told, labels)
    _refuse_unless_one_each(snapshot, folder, told)
    return told["row"].drop_nulls()


def _refuse_foreign_labels(told: pl.DataFrame, labels: Labels) -> None:
    """Refuses a predicted label that is none of the labels, because the model then speaks of something else."""
    foreign = told.filter(~pl.col("label").is_in(labels.names))
    if len(foreign):
        image, label = foreign.select("image", "label").row(0)
        raise InvalidPrediction(
            f"the model predicts {label!r} for {image}, and the labels are {_examples(labels.names)}. Evaluate a model "
            "that was trained with these labels, or set the labels that it was trained with."
        )


def _refuse_unless_one_each(snapshot: Snapshot, folder: str, told: pl.DataFrame) -> None:
    strays = told.filter(pl.col("row").is_null())
    unlisted = strays["image"].drop_nulls()
    if len(unlisted):
        raise UnlistedPredictions(
            f"{folder} has {len(unlisted)} predictions for images that are not listed in {snapshot.root}: "
            f"{_examples(unlisted)}. Evaluate the results of this very file list."
        )
    counts = np.bincount(told["row"].drop_nulls().to_numpy(), minlength=len(snapshot.images))
    if duplicated := np.flatnonzero(counts > 1).tolist():
        raise DuplicatePredictions(
            f"{folder} has more than one prediction or error for {len(duplicated)} images: "
            f"{_examples(snapshot.images[row].name for row in duplicated)}. Predict the batch again."
        )
    if missing := np.flatnonzero(counts == 0).tolist():
        raise MissingPredictions(
            f"{folder} has no prediction for {len(missing)} of {len(snapshot.images)} listed images: "
            f"{_examples(snapshot.images[row].name for row in missing)}. Complete it, or predict the batch again."
            + "".join(f"\nIts errors file says: {error}" for error in strays["error"][:_EXAMPLES])
        )


def _examples(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_EXAMPLES]) + (", ..." if len(ordered) > _EXAMPLES else "")


def _skipped(snapshot: Snapshot, outcomes: pl.DataFrame, labels: Labels) -> tuple[Skipped, ...]:
    rows = outcomes.select("row", "error").iter_rows()
    return tuple(sorted(_skip(snapshot.images[row].name, error, labels) for row, error in rows))


def _skip(name: str, error: str | None, labels: Labels) -> Skipped:
    if error is not None:
        return Skipped(name, f"not predicted: {error}")
    return Skipped(name, labels.why_unknown(name))


def _evaluation(
    snapshot: Snapshot, outcomes: pl.DataFrame, names: tuple[str, ...], skipped: tuple[Skipped, ...]
) -> Evaluation:
    confusion = _confusion(outcomes, len(names))
    images, correct = int(confusion.sum()), int(confusion.trace())
    return Evaluation(
        batch=snapshot.batch,
        images=images,
        correct=correct,
        accuracy=_share(correct, images),
        interval=wilson_interval(correct, images),
        classes=_classes(confusion, names),
        label_names=names,
        confusion=tuple(map(tuple, confusion.tolist())),
        skipped=skipped,
        mistakes=_mistakes(snapshot, outcomes),
    )


def _confusion(outcomes: pl.DataFrame, classes: int) -> npt.NDArray[np.int64]:
    truth, label = (outcomes[column].to_physical().cast(pl.Int64).to_numpy() for column in ("truth", "label"))
    return np.bincount(truth * classes + label, minlength=classes * classes).reshape(classes, classes)


def _classes(confusion: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[ClassFigures, ...]:
    counts = confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist(), confusion.diagonal().tolist()
    return tuple(map(_class_figures, names, *counts))


def _class_figures(label: str, images: int, predicted: int, correct: int) -> ClassFigures:
    return ClassFigures(
        label=label,
        images=images,
        correct=correct,
        recall=_share(correct, images),
        precision=_share(correct, predicted),
        f1=_share(2 * correct, images + predicted),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mistakes(snapshot: Snapshot, outcomes: pl.DataFrame) -> tuple[Mistake, ...]:
    wrong = outcomes.filter(pl.col("truth") != pl.col("label"))
    worst = wrong.top_k(MISTAKES, by=["confidence", "row"], reverse=[False, True])
    worst = worst.sort(["confidence", "row"], descending=[True, False], nulls_last=True)
    rows = worst.select("row", "truth", "label", "confidence").iter_rows()
    return tuple(Mistake(snapshot.images[row].name, truth, label, confidence) for row, truth, label, confidence in rows)
