"""The records of looks: how each batch seemed, whether or not anybody has labelled it.

<collection>/_looks/2021-10/0001.json    a journal; the last record is how the batch seems now
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from adaptation import codec
from adaptation.data.batches import Batch, BatchStore, Snapshot
from adaptation.evaluation.look import Look, Profile, Reference, look, unknown
from adaptation.evaluation.prediction_results import conclude_predictions, read_probabilities
from adaptation.io import storage
from adaptation.io.journal import Journal, Record

FOLDER = "_looks"
SHOWN = 12
_SEED = 1


@dataclass(frozen=True)
class Predicted:
    """An image and what was predicted; `confidence` is None if the model gave none."""

    name: str
    label: str
    confidence: float | None


@dataclass(frozen=True)
class LookRecord:
    """A look at a batch.

    Attributes:
      batch: Name of the batch.
      snapshot: Digest of the list of images that were looked at.
      version: Number of the champion that predicted them; 0 for predictions from elsewhere.
      champion: That version's id, see `log.version_id`; empty likewise.
      look: What came out.
      typical: A few of the images, drawn by chance.
      strangest: The images with the lowest confidence, the lowest first.
      run: Name of the pipeline run.
      time: ISO 8601, UTC.
    """

    batch: str
    snapshot: str
    version: int
    champion: str
    look: Look
    typical: tuple[Predicted, ...]
    strangest: tuple[Predicted, ...]
    run: str
    time: str


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


def record_look(batches: BatchStore, record: LookRecord) -> None:
    """Add a record; do nothing if the batch's last one is about the same images and the same champion.

    Failure: the record exists, complete, or it does not; a repeat makes no second one.
    """

    def change(last: Record[LookRecord] | None) -> LookRecord | None:
        return None if last and _subject(last.value) == _subject(record) else record

    _journal(batches, record.batch).update(change)


def last_look(batches: BatchStore, batch: Batch | str) -> LookRecord | None:
    """Return the last look at a batch, or None if there was none."""
    last = _journal(batches, batch).last()
    return last.value if last else None


def _journal(batches: BatchStore, batch: Batch | str) -> Journal[LookRecord]:
    return Journal(storage.join(batches.root, FOLDER, str(batch)), LookRecord)


def _subject(record: LookRecord) -> tuple[str, str]:
    return record.snapshot, record.champion


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
