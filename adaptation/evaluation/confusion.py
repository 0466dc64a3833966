"""Tally: counts the results of a batch prediction against the images that were to be predicted.

Each image of the snapshot must have one prediction or error, and no other image any. Blocks of results are read,
compared with the true labels, counted and dropped: only the counts, the worst mistakes and the skipped images stay.
`accuracy` computes figures from the counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import polars as pl

from adaptation.data.batches import Snapshot
from adaptation.data.labels import Labels, Skipped
from adaptation.evaluation.prediction_results import InvalidPredictions, conclude_predictions, read_predictions
from adaptation.io import storage

MISTAKES = 20
_EXAMPLES = 3
_NAMES_AT_ONCE = 100_000
_SEEDS = (1, 2)


@dataclass(frozen=True)
class Fingerprint:
    """Digest of a list of texts in any order: their number, and sums of two hashes of 64 bits.

    It takes a fraction of the time that comparing texts would. Two lists collide by a chance of 1 in 2**128, if the
    hashes are as good as random ones; it is no defence against names made up to collide.
    """

    count: int = 0
    sums: tuple[int, ...] = (0,) * len(_SEEDS)

    @classmethod
    def of_names(cls, snapshot: Snapshot) -> Fingerprint:
        """Return the fingerprint of the images' names."""
        images = snapshot.images
        slices = (images[start : start + _NAMES_AT_ONCE] for start in range(0, len(images), _NAMES_AT_ONCE))
        names = (pl.Series([image.name for image in part], dtype=pl.String) for part in slices)
        return sum(map(cls.of, names), cls())

    @classmethod
    def of(cls, texts: pl.Series) -> Fingerprint:
        """Return the fingerprint of all texts of a series."""
        return cls(len(texts), tuple(int(texts.hash(seed).to_numpy().sum(dtype=np.uint64)) for seed in _SEEDS))

    def __add__(self, other: Fingerprint) -> Fingerprint:
        sums = zip(self.sums, other.sums, strict=True)
        return Fingerprint(self.count + other.count, tuple((one + two) % 2**64 for one, two in sums))


@dataclass(frozen=True)
class Tally:
    """The counts of all results or a part of them.

    Attributes:
      images: Fingerprint of the images' names.
      is_foreign: True if an image is from outside the snapshot's folder, or a predicted label is unknown.
      confusion: Numbers of images by true label (row) and predicted one (column), without those that are skipped; int64
        [labels, labels].
      fresh: The same for the images that no evaluation has counted before.
      skipped: The images without a known label or prediction, in no order.
      mistakes: The worst mistakes, at most `MISTAKES`, in order: name, true label, predicted label and confidence.
    """

    images: Fingerprint
    is_foreign: bool
    confusion: npt.NDArray[np.int64]
    fresh: npt.NDArray[np.int64]
    skipped: tuple[Skipped, ...]
    mistakes: pl.DataFrame

    @classmethod
    def sum(cls, parts: Iterable[Tally]) -> Tally:
        """Return the sum of at least one part; their order does not matter."""
        every = list(parts)
        return cls(
            images=sum((part.images for part in every), Fingerprint()),
            is_foreign=any(part.is_foreign for part in every),
            confusion=np.sum([part.confusion for part in every], axis=0),
            fresh=np.sum([part.fresh for part in every], axis=0),
            skipped=tuple(chain.from_iterable(part.skipped for part in every)),
            mistakes=_worst(pl.concat(part.mistakes for part in every)),
        )


def tally(
    snapshot: Snapshot,
    predictions_folder: str,
    labels: Labels,
    counted: Collection[str] = (),
    drawn: Collection[str] | None = None,
) -> Tally:
    """Count the predictions of a snapshot's images, whatever the order of files and lines.

    Args:
      snapshot: The images to predict.
      predictions_folder: URI of the folder with the results.
      labels: The source of the true labels.
      counted: Names of the images that an earlier evaluation has counted.
      drawn: Names of the images to count; None: all. The predictions of the others are checked, and not counted.

    Raises:
      AdaptationError: As for `evaluation.evaluate`.
    """
    folder, known = storage.join(snapshot.root, ""), pl.Series(counted, dtype=pl.String)
    only = None if drawn is None else pl.Series(drawn, dtype=pl.String)
    with ThreadPoolExecutor(1) as pool:
        listed = pool.submit(Fingerprint.of_names, snapshot)
        counts = Tally.sum(
            conclude_predictions(predictions_folder, lambda part: _counted(part, folder, labels, known, only))
        )
    if counts.is_foreign or counts.images != listed.result():
        _refuse(snapshot, predictions_folder, labels)
    return counts


def _counted(results: pl.DataFrame, folder: str, labels: Labels, known: pl.Series, only: pl.Series | None) -> Tally:
    """Return the counts of results, frames of `read_predictions`, compared with the true labels."""
    results = results.drop_nulls("image")
    names = results["image"].str.slice(len(folder)).alias("name")
    outcomes = results.select(
        names,
        labels.of_all(names).alias("truth"),
        labels.known(results["label"]).alias("label"),
        pl.col("confidence", "error"),
    )
    is_foreign = not results["image"].str.starts_with(folder).all() or _has_foreign_label(outcomes)
    outcomes = outcomes if only is None else outcomes.filter(pl.col("name").is_in(only))
    evaluated = outcomes.drop_nulls(["truth", "label"])
    fresh = evaluated.filter(~pl.col("name").is_in(known)) if len(known) else evaluated
    return Tally(
        images=Fingerprint.of(names),
        is_foreign=is_foreign,
        confusion=_confusion(evaluated, len(labels.names)),
        fresh=_confusion(fresh, len(labels.names)),
        skipped=_skipped(outcomes, labels),
        mistakes=_worst(evaluated.filter(pl.col("truth") != pl.col("label"))),
    )


def _has_foreign_label(outcomes: pl.DataFrame) -> bool:
    return bool((outcomes["label"].is_null() & outcomes["error"].is_null()).any())


def _skipped(outcomes: pl.DataFrame, labels: Labels) -> tuple[Skipped, ...]:
    left_out = outcomes.filter(pl.col("error").is_not_null() | pl.col("truth").is_null())
    return tuple(_skip(name, error, labels) for name, error in left_out.select("name", "error").iter_rows())


def _skip(name: str, error: str | None, labels: Labels) -> Skipped:
    return Skipped(name, labels.why_unknown(name) if error is None else f"not predicted: {error}")


def _confusion(evaluated: pl.DataFrame, classes: int) -> npt.NDArray[np.int64]:
    truth, label = (evaluated[column].to_physical().cast(pl.Int64).to_numpy() for column in ("truth", "label"))
    return np.bincount(truth * classes + label, minlength=classes * classes).reshape(classes, classes)


def _worst(wrong: pl.DataFrame) -> pl.DataFrame:
    """Return the most confident mistakes, equal ones by name; those without a confidence come last."""
    columns = wrong.select("name", "truth", "label", "confidence")
    worst = columns.top_k(MISTAKES, by=["confidence", "name"], reverse=[False, True])
    return worst.sort(["confidence", "name"], descending=[True, False], nulls_last=True)


def _refuse(snapshot: Snapshot, folder: str, labels: Labels) -> NoReturn:
    """Raise the error that explains why results are not those of the snapshot's images, from all their texts."""
    results = pl.concat(read_predictions(folder)).join(_listed(snapshot), on="image", how="left", maintain_order="left")
    _refuse_foreign_labels(results, labels)
    _refuse_unless_one_each(snapshot, folder, results)
    raise InvalidPredictions(f"{folder} changed while it was read. Evaluate it again when its prediction has ended.")


def _listed(snapshot: Snapshot) -> pl.DataFrame:
    """Return the row of each image and, as `image`, its URI."""
    return pl.DataFrame({"image": snapshot.uris}, schema={"image": pl.String}).with_row_index("row")


def _refuse_foreign_labels(results: pl.DataFrame, labels: Labels) -> None:
    """Refuse a predicted label that is not one of the labels: the model was trained with others."""
    foreign = results.filter(pl.col("label").is_not_null() & labels.known(results["label"]).is_null())
    if len(foreign):
        image, label = foreign.select("image", "label").row(0)
        others = foreign["label"].unique().to_list()
        raise InvalidPredictions(
            f"the model predicts {label!r} for {image}, and the labels are {_examples(labels.names)}. No labels are "
            f"{len(others)} of those that it predicts: {_examples(others)}. Evaluate a model "
            "that was trained with these labels, or set the labels that it was trained with."
        )


def _refuse_unless_one_each(snapshot: Snapshot, folder: str, results: pl.DataFrame) -> None:
    strays = results.filter(pl.col("row").is_null())
    unlisted = strays["image"].drop_nulls()
    if len(unlisted):
        raise InvalidPredictions(
            f"{folder} has {len(unlisted)} predictions for images that are not listed in {snapshot.root}: "
            f"{_examples(unlisted)}. Evaluate the results of this very file list."
        )
    counts = np.bincount(results["row"].drop_nulls().to_numpy(), minlength=len(snapshot.images))
    if duplicated := np.flatnonzero(counts > 1).tolist():
        raise InvalidPredictions(
            f"{folder} has more than one prediction or error for {len(duplicated)} images: "
            f"{_examples(snapshot.images[row].name for row in duplicated)}. Predict the batch again."
        )
    if missing := np.flatnonzero(counts == 0).tolist():
        raise InvalidPredictions(
            f"{folder} has no prediction for {len(missing)} of {len(snapshot.images)} listed images: "
            f"{_examples(snapshot.images[row].name for row in missing)}. Complete it, or predict the batch again."
            + "".join(f"\nIts errors file says: {error}" for error in strays["error"][:_EXAMPLES])
        )


def _examples(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_EXAMPLES]) + (", ..." if len(ordered) > _EXAMPLES else "")
