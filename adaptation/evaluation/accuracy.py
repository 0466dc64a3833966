"""Accuracy: the figures of an evaluation, from predictions and true labels.

`confusion` compares the predictions with the images and their true labels; `decision` decides on the figures.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adaptation.data.batches import Snapshot
from adaptation.data.labels import Labels, Skipped, refuse_if_too_many
from adaptation.evaluation.confusion import Tally, tally
from adaptation.evaluation.sampling import Interval, Sample, exact_interval
from adaptation.io import storage

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class; a figure is None if it would divide by zero.

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
    """An image with a wrong prediction; `confidence` is None if the model gave none."""

    name: str
    truth: str
    predicted: str
    confidence: float | None


@dataclass(frozen=True)
class Evaluation:
    """A model's figures on a batch.

    Attributes:
      batch: Name of the batch.
      images: Number of evaluated images, without the skipped ones.
      correct: Number of images with the right prediction.
      accuracy: Share of them; None if no image was evaluated.
      interval: The accuracy's 95 % interval: Wilson's or, of a drawn sample, the exact one of the whole batch.
      classes: The figures of each class, in the order of the labels.
      label_names: The labels.
      confusion: Numbers of images: a row for each true label, in it a column for each predicted one.
      skipped: Images without a known label or with a prediction error, sorted by name.
      mistakes: Up to 20 of the wrong ones, the most confident first.
      fresh: The confusion of the images that no earlier evaluation of the same champion has counted; empty in
        evaluations of version 0.1.0.
      sample: The draw that all these figures rest on; None if all images of the batch count.
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
    fresh: tuple[tuple[int, ...], ...] = ()
    sample: Sample | None = None


def evaluate(
    snapshot: Snapshot,
    predictions_folder: str,
    labels: Labels,
    max_skipped: float,
    counted: Collection[storage.File] = frozenset(),
    drawn: Collection[str] | None = None,
) -> Evaluation:
    """Compare the predictions of a snapshot's images with their true labels.

    Args:
      snapshot: The images to predict.
      predictions_folder: URI of the folder with the results, files and lines in any order.
      labels: The source of the true labels. The model predicts no others; it may lack the last ones: its prediction for
        an image of a class that was appended later counts as wrong.
      max_skipped: Share of the images that count, 0 to 1, that may lack a known label or have a prediction error.
      counted: Images that an earlier evaluation of the same champion has counted.
      drawn: Names of the images that count, as a fair sample of all; None: all do. No other image enters a figure.

    Raises:
      InvalidPredictions: There are none, a line is broken, a label is unknown, or an image of the snapshot has not
        exactly one.
      TooManySkipped: More images than allowed had to be left out.
    """
    known = [image.name for image in snapshot.images if image in counted]
    counts = tally(snapshot, predictions_folder, labels, known, drawn)
    skipped = tuple(sorted(counts.skipped))
    images = len(snapshot.images)
    refuse_if_too_many(skipped, images if drawn is None else len(drawn), max_skipped)
    sample = None if drawn is None else Sample(images, len(drawn))
    return _evaluation(snapshot.batch, counts, labels.names, skipped, sample)


def not_evaluated(batch: str, names: tuple[str, ...]) -> Evaluation:
    """Return the figures of a batch of which no image was evaluated.

    Args:
      batch: Name of the batch.
      names: The labels.
    """
    none = np.zeros((len(names), len(names)), np.int64)
    rows = tuple(map(tuple, none.tolist()))
    return Evaluation(batch, 0, 0, None, Interval(0.0, 1.0), _classes(none, names), names, rows, (), (), rows)


def wilson_interval(correct: int, images: int, z: float = Z_95) -> Interval:
    """Return the Wilson score interval of the share `correct / images`; all of 0 to 1 without images.

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


def _evaluation(
    batch: str, counts: Tally, names: tuple[str, ...], skipped: tuple[Skipped, ...], sample: Sample | None
) -> Evaluation:
    confusion = counts.confusion
    images, correct = int(confusion.sum()), int(confusion.trace())
    return Evaluation(
        batch=batch,
        images=images,
        correct=correct,
        accuracy=_share(correct, images),
        interval=exact_interval(correct, images, sample) if sample else wilson_interval(correct, images),
        classes=_classes(confusion, names),
        label_names=names,
        confusion=tuple(map(tuple, confusion.tolist())),
        skipped=skipped,
        mistakes=tuple(Mistake(*row) for row in counts.mistakes.iter_rows()),
        fresh=tuple(map(tuple, counts.fresh.tolist())),
        sample=sample,
    )


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
