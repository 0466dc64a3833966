"""A candidate and the champion on new images: which of them was right, image by image.

What follows from the counts is decided in `gate`; which images were counted before is in `log`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from adaptation.data.batches import Snapshot
from adaptation.data.labels import Labels
from adaptation.evaluation.confusion import tally
from adaptation.evaluation.log import ComparisonLog
from adaptation.evaluation.paired import Pairs
from adaptation.evaluation.prediction_results import read_predictions
from adaptation.io import storage


@dataclass(frozen=True)
class NewPairs:
    """Two models on the same new images.

    Attributes:
      pairs: The counts by name of class.
      images: The images that were counted: with a known label, and an answer of both models.
    """

    pairs: Mapping[str, Pairs]
    images: tuple[storage.File, ...]


def compare_new(
    log: ComparisonLog,
    snapshot: Snapshot,
    champion: str,
    candidate: str,
    labels: Labels,
    run: str,
    drawn: Collection[str] | None = None,
) -> None:
    """Compare two models on the images of a snapshot that the log has not counted; arguments and errors as `compare`.

    Failure: as for `ComparisonLog.add`.
    """
    part = snapshot if drawn is None else snapshot.only(drawn)
    new = compare(snapshot, champion, candidate, labels, log.counted_before(part), drawn)
    log.add(part, new.pairs, new.images, run)


def compare(
    snapshot: Snapshot,
    champion: str,
    candidate: str,
    labels: Labels,
    counted: Collection[storage.File],
    drawn: Collection[str] | None = None,
) -> NewPairs:
    """Count the images of a snapshot by which of two models predicted them correctly.

    Args:
      snapshot: The images that both predicted.
      champion: URI of the folder with the champion's results, which were evaluated before.
      candidate: URI of the folder with the candidate's.
      labels: Where the true labels come from.
      counted: Images that an earlier comparison of the two has counted.
      drawn: Names of the images that count; None: all do.

    Raises:
      InvalidPredictions: The candidate's results are not exactly one for each image of the snapshot.
    """
    tally(snapshot, candidate, labels)
    answers = _answers(champion, labels).join(_answers(candidate, labels), on="image", suffix="_candidate")
    names = answers["image"].str.slice(len(storage.join(snapshot.root, ""))).alias("name")
    part = snapshot if drawn is None else snapshot.only(drawn)
    new = [image.name for image in part.images if image not in counted]
    rows = answers.with_columns(names, labels.of_all(names).cast(pl.String).alias("truth")).filter(
        pl.col("name").is_in(new) & pl.col("truth").is_not_null()
    )
    names_counted = set(rows["name"])
    return NewPairs(_pairs(rows), tuple(image for image in snapshot.images if image.name in names_counted))


def _answers(folder: str, labels: Labels) -> pl.DataFrame:
    """Return the images that were predicted without an error, and their labels as the settings write them."""
    found = pl.concat(read_predictions(folder)).select("image", "label").drop_nulls()
    return found.with_columns(labels.known(found["label"]).cast(pl.String).fill_null(found["label"]))


def _pairs(rows: pl.DataFrame) -> dict[str, Pairs]:
    champion, candidate = pl.col("label") == pl.col("truth"), pl.col("label_candidate") == pl.col("truth")
    counts = rows.group_by("truth").agg(
        (champion & candidate).sum(),
        (champion & ~candidate).sum().alias("champion_only"),
        (~champion & candidate).sum().alias("challenger_only"),
        (~champion & ~candidate).sum().alias("neither"),
    )
    return {label: Pairs(*numbers) for label, *numbers in counts.sort("truth").iter_rows()}
