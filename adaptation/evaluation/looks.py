"""Looking at a batch: reads what was predicted for it, and compares that with the reference in a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from adaptation import codec
from adaptation.data.batches import Snapshot
from adaptation.evaluation.look import Profile, Reference, look
from adaptation.evaluation.look_records import Look, LookRecord, Predicted, unknown
from adaptation.evaluation.prediction_results import conclude_predictions, read_probabilities
from adaptation.io import storage

SHOWN = 12
_SEED = 1


@dataclass(frozen=True)
class Seen:
    """What a look needs of a batch's predictions.

    Attributes:
      profile: The predictions, summed up.
      typical: As in `LookRecord`.
      strangest: As in `LookRecord`.
    """

    profile: Profile
    typical: tuple[Predicted, ...]
    strangest: tuple[Predicted, ...]

    def record(self, snapshot: Snapshot, look: Look, version: int, champion: str, run: str) -> LookRecord:
        """Return the record of a look at these predictions, made now."""
        return LookRecord(
            batch=snapshot.batch,
            snapshot=snapshot.digest,
            version=version,
            champion=champion,
            look=look,
            typical=self.typical,
            strangest=self.strangest,
            run=run,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def read_seen(snapshot: Snapshot, predictions_folder: str) -> Seen:
    """Read a batch prediction's results, whatever the order of files and lines; images with an error are left out.

    Raises:
      InvalidPredictions: There are none, or a line is broken.
    """
    folder = storage.join(snapshot.root, "")
    parts = list(conclude_predictions(predictions_folder, lambda results: _part(results, folder)))
    typical = _first(pl.concat(part[1] for part in parts), "chance")
    strangest = _first(pl.concat(part[2] for part in parts), "confidence")
    probabilities = (Profile.of({}, (), given) for given in read_probabilities(predictions_folder))
    profile = Profile.sum([*(part[0] for part in parts), *probabilities])
    return Seen(profile, _rows(typical), _rows(strangest))


def look_with(reference: str, version: int, profile: Profile, name: str) -> Look:
    """Compare a batch with the reference in a file; without a readable one the outcome is UNKNOWN.

    Args:
      reference: URI of the file; empty if none is kept.
      version: Number of the version that predicted the batch; 0 for predictions from elsewhere.
      profile: What it predicted.
      name: Name of the batch.
    """
    if not reference:
        kept = f"no reference is kept with version {version}; the next training writes one"
        return unknown(
            kept if version else "the predictions are of no version, so there is no reference", profile.images
        )
    try:
        return look(codec.read(reference, Reference), profile, name)
    except (FileNotFoundError, codec.UnreadableState) as error:
        why = f"the reference of version {version} cannot be read ({error}); the next training writes another"
        return unknown(why, profile.images)


def _part(results: pl.DataFrame, folder: str) -> tuple[Profile, pl.DataFrame, pl.DataFrame]:
    """Return the profile of some results, and the candidates for the typical and for the strangest images."""
    predicted = results.drop_nulls(["image", "label"]).select(
        pl.col("image").str.slice(len(folder)).alias("name"), "label", "confidence"
    )
    predicted = predicted.with_columns(pl.col("name").hash(_SEED).alias("chance"))
    profile = Profile.of(dict(predicted["label"].value_counts().iter_rows()), predicted["confidence"].to_numpy())
    return profile, _first(predicted, "chance"), _first(predicted.drop_nulls("confidence"), "confidence")


def _first(images: pl.DataFrame, column: str) -> pl.DataFrame:
    return images.sort(column, "name").head(SHOWN)


def _rows(images: pl.DataFrame) -> tuple[Predicted, ...]:
    return tuple(Predicted(*row) for row in images.select("name", "label", "confidence").iter_rows())
