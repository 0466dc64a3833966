"""Batch prediction results: the folder that Vertex AI writes, and that the local predictor imitates.

`prediction-<model>-<timestamp>/` holds `prediction.results-NNNNN-of-NNNNN`, one JSON object a line, and
`prediction.errors_stats-NNNNN-of-NNNNN`. This module writes such a folder and reads every form that Vertex AI uses. The
evaluation checks that the predictions are the requested ones, and right.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, TypeVar

import fsspec
import numpy as np
import numpy.typing as npt
import polars as pl

from adaptation.errors import AdaptationError
from adaptation.io import process_pool, storage

RESULTS = "prediction.results"
ERRORS = "prediction.errors_stats"
IMAGE_FIELDS = ("uri", "path", "key")
INVALID_ARGUMENT = 3
SHARD_LINES = 100_000
BLOCK = 8 * 2**20
BLOCKS_AT_ONCE = 4

_COLUMNS = {"image": pl.String, "label": pl.String, "confidence": pl.Float64, "error": pl.String}
_PREDICTION = pl.Struct({"label": pl.String, "confidence": pl.Float64})
_LINE = pl.Schema([("instance", pl.String()), ("prediction", _PREDICTION), ("error", pl.String())])
_CONTENT = pl.Struct({"content": pl.Int64})
_CONTENT_LINE = pl.Schema([("instance", pl.String()), ("prediction", _CONTENT)])
_PROBABILITIES = pl.Struct({"probabilities": pl.List(pl.Float64)})
_PROBABILITIES_LINE = pl.Schema([("prediction", _PROBABILITIES)])
_COMMON_FORM = {
    "image": pl.col("instance"),
    "label": pl.col("prediction").struct.field("label"),
    "confidence": pl.col("prediction").struct.field("confidence"),
    "error": pl.col("error"),
}
_IS_COMMON = pl.all_horizontal(
    pl.col("image", "label", "confidence").is_not_null(),
    *(~pl.col("image", "label").str.starts_with(bracket) for bracket in "[{"),
    pl.col("error").is_null(),
)
_T = TypeVar("_T")


class InvalidPredictions(AdaptationError, ValueError):
    """Prediction results that cannot be read, or are not one prediction for each listed image."""


def read_predictions(folder: str) -> Iterator[pl.DataFrame]:
    """Read the results of a batch prediction, block by block: memory holds a few blocks, whatever the files' sizes.

    A line is `{"instance": ..., "prediction": ...}` or `{"instance": ..., "error": ...}`, in either kind of file. The
    instance is the image's URI, or an object with it in the field `uri`, `path` or `key`, the first that is a text; if
    the service echoes its key (`"key": ...` beside the prediction), that is the image. The prediction is `{"label":
    ..., "confidence": ...}` or the label alone; a numeric label counts as its text. Entries of an errors file that name
    no image, such as Vertex AI's counts of failures, are kept unchanged.

    Args:
      folder: URI of the folder that holds the files, local or remote.

    Yields:
      Frames with the columns `image` (text; null if an error names no image), `label` (text; null for an error),
      `confidence` (float64; null if missing) and `error` (text; null if none). The first one is empty: there is one
      even without lines.

    Raises:
      InvalidPredictions: There are no results, or a line is broken or of another form; the message names it.
    """
    return conclude_predictions(folder, lambda frame: frame)


def conclude_predictions(folder: str, conclude: Callable[[pl.DataFrame], _T]) -> Iterator[_T]:
    """Yield the result of `conclude` for each of the frames of `read_predictions`, in their order.

    Threads parse and conclude a few blocks at once; of a block only its result stays in memory.

    Args:
      folder: URI of the folder that holds the files, local or remote.
      conclude: The function for a frame; several threads call it at a time.

    Raises:
      Exception: As for `read_predictions`, and the errors of `conclude`, in the place of their block.
    """
    names = [file.name for file in storage.files(folder) if file.name.startswith((RESULTS, ERRORS))]
    if not any(name.startswith(RESULTS) for name in names):
        raise InvalidPredictions(
            f"{folder} has no {RESULTS}-* files. Name the folder prediction-<model>-<timestamp> that the batch "
            "prediction reported, and look at that job if it has none."
        )
    yield conclude(pl.DataFrame(schema=_COLUMNS))
    blocks = chain.from_iterable(_blocks(storage.join(folder, name)) for name in names)
    yield from process_pool.ahead(lambda block: conclude(block.read()), blocks, BLOCKS_AT_ONCE)


def read_contents(folder: str) -> Iterator[pl.DataFrame]:
    """Yield, block by block, what the results say of the images' content; nothing of other models than ours.

    Args:
      folder: URI of the folder that holds the files, local or remote.

    Yields:
      Frames with the columns `image` (text) and `content` (int64), a number of 52 bits: the same for the same bytes.
    """
    names = [file.name for file in storage.files(folder) if file.name.startswith(RESULTS)]
    blocks = chain.from_iterable(_blocks(storage.join(folder, name)) for name in names)
    yield from process_pool.ahead(lambda block: _contents(block.lines), blocks, BLOCKS_AT_ONCE)


def _contents(lines: bytes) -> pl.DataFrame:
    try:
        frame = pl.read_ndjson(lines, schema=_CONTENT_LINE)
    except pl.exceptions.PolarsError:
        frame = pl.DataFrame(schema=_CONTENT_LINE)
    return frame.select(image="instance", content=pl.col("prediction").struct.field("content")).drop_nulls()


def read_probabilities(folder: str) -> Iterator[npt.NDArray[np.float64]]:
    """Yield, block by block, the probabilities of the images; nothing of models that give none.

    The results are read a second time for it: `read_predictions`, which more callers need, does not keep them.

    Args:
      folder: URI of the folder that holds the files, local or remote.

    Yields:
      float64 [images, classes], in the order of the model's outputs; what is not as long as the longest is left out.
      It ends at the first block without any, so that results of models that give none are not read twice to the end.
    """
    names = [file.name for file in storage.files(folder) if file.name.startswith(RESULTS)]
    blocks = chain.from_iterable(_blocks(storage.join(folder, name)) for name in names)
    parts = process_pool.ahead(lambda block: _probabilities(block.lines), blocks, BLOCKS_AT_ONCE)
    yield from takewhile(len, parts)


def _probabilities(lines: bytes) -> npt.NDArray[np.float64]:
    try:
        frame = pl.read_ndjson(lines, schema=_PROBABILITIES_LINE)
    except pl.exceptions.PolarsError:
        return np.empty((0, 0))
    given = frame["prediction"].struct.field("probabilities").drop_nulls()
    lengths = given.list.len().to_numpy()
    if not (classes := int(lengths.max(initial=0))):
        return np.empty((0, 0))
    values: npt.NDArray[np.float64] = (
        given.filter(pl.Series(lengths == classes)).explode().to_numpy().reshape(-1, classes)
    )
    return np.compress(np.isfinite(values).all(axis=1), values, axis=0)


def _blocks(uri: str) -> Iterator[_Block]:
    start = 0
    with fsspec.open(uri, "rb") as file:
        while lines := file.read(BLOCK) + file.readline():
            yield _Block(uri, start, lines)
            start += len(lines)


@dataclass(frozen=True)
class _Block:
    """Whole lines of a file, and the byte at which they start."""

    uri: str
    start: int
    lines: bytes

    def read(self) -> pl.DataFrame:
        """Return the lines as a frame."""
        common = _read_common_form(self.lines)
        return _read_any_form(self) if common is None else common


def _read_common_form(lines: bytes) -> pl.DataFrame | None:
    """Return the lines read by polars alone, which is fast, or None if each line must be checked.

    Polars reads an object or a list as its JSON text where it expects a text, and reads missing values as null.
    """
    try:
        frame = pl.read_ndjson(lines, schema=_LINE).select(**_COMMON_FORM)
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.select(_IS_COMMON.all()).item() else None


def _read_any_form(block: _Block) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(block.lines.split(b"\n"), 1):
        if line.strip():
            try:
                rows.append(_read_line(line))
            except ValueError as error:
                if not storage.basename(block.uri).startswith(ERRORS):
                    place = f"{block.uri}, line {_lines_before(block) + number}"
                    raise _invalid(line, place, error) from error
                rows.append(_Row(error=line.decode(errors="replace").strip()))
    return pl.DataFrame(rows, schema=_COLUMNS, orient="row")


def _invalid(line: bytes, place: str, error: ValueError) -> InvalidPredictions:
    return InvalidPredictions(f"{place}: {error}\nThe line begins: {line[:120].decode(errors='replace')}")


def _lines_before(block: _Block) -> int:
    """Return the number of lines before a block; counted only for an error message, because it takes long."""
    with fsspec.open(block.uri, "rb") as file:
        return sum(file.read(min(BLOCK, block.start - at)).count(b"\n") for at in range(0, block.start, BLOCK))


class _Row(NamedTuple):
    image: str | None = None
    label: str | None = None
    confidence: float | None = None
    error: str | None = None


def _read_line(line: bytes) -> _Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error}). If it was cut off, predict the batch again.") from error
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object. Each line must be an object with instance and prediction.")
    if value.get("error"):
        return _Row(_image(value), error=_error_text(value["error"]))
    return _Row(_image(value), *_label_and_confidence(value.get("prediction")))


def _image(value: dict[str, Any]) -> str:
    instance = value.get("instance", value.get("key"))
    fields = instance if isinstance(instance, dict) else {"uri": instance}
    for field in IMAGE_FIELDS:
        if isinstance(name := fields.get(field), str):
            return _text(name)
    raise ValueError(
        "it does not name its image. Predict from a file list, or give each instance its image's URI in a field "
        f"{', '.join(IMAGE_FIELDS)}."
    )


def _error_text(error: object) -> str:
    if not isinstance(error, dict):
        return _text(str(error))
    code = error.get("code", error.get("status"))
    return _text(f"{error.get('message') or 'no message'}" + ("" if code is None else f" (code {code})"))


def _label_and_confidence(prediction: object) -> tuple[str, float | None]:
    if not isinstance(prediction, dict):
        return _label(prediction), None
    return _label(prediction.get("label")), _confidence(prediction.get("confidence"))


def _label(value: object) -> str:
    if isinstance(value, str | int | float):
        return _text(value if isinstance(value, str) else json.dumps(value))
    raise ValueError(
        f"its prediction gives the label {_excerpt(value)}. Serve the model with a signature whose outputs are label "
        "(a text) and confidence."
    )


def _confidence(value: object) -> float | None:
    if value is None:
        return None
    with contextlib.suppress(OverflowError):  # a whole number of hundreds of digits
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    raise ValueError(f"its confidence is {_excerpt(value)}, not a number. Look at the model's serving signature.")


def _text(text: str) -> str:
    text.encode()  # JSON can spell what Unicode cannot: half of a surrogate pair
    return text


def _excerpt(value: object) -> str:
    return json.dumps(value)[:60]


class ResultsWriter:
    """Writes the results of one batch prediction; a context manager.

    Failure: the folder appears under its name at the end, complete and flushed to disk, or not at all. What a killed
    process leaves is a hidden folder that no reader opens.

    Attributes:
      folder: `<output>/prediction-<model>-<timestamp>`, which has the results after the context.
    """

    def __init__(self, output: str, model: str, started: datetime, shard_lines: int = SHARD_LINES) -> None:
        """Prepare the writer; nothing is written yet.

        Args:
          output: Folder on this machine under which the results' folder is made.
          model: Name or version number of the model.
          started: Start of the prediction, with its time zone.
          shard_lines: Most lines in one file.

        Raises:
          InvalidPredictions: `output` is not on this machine's disk.
          FileExistsError: The folder exists already.
        """
        if not storage.is_local(output):
            raise InvalidPredictions(
                f"{output} is not on this machine. Let the local predictor write to a local folder."
            )
        self.folder = storage.join(storage.absolute(output), f"prediction-{model}-{_timestamp(started)}")
        if os.path.exists(self.folder):
            raise FileExistsError(self.folder)
        self._staging = Path(self.folder).parent / f"{storage.TEMPORARY}{uuid.uuid4().hex}"
        self._results = _Shards(self._staging, RESULTS, shard_lines)
        self._errors = _Shards(self._staging, ERRORS, shard_lines)

    def prediction(self, uri: str, label: str, confidence: float, **more: object) -> None:
        """Add an image's prediction, with the model's further outputs by name.

        A confidence that is no number, which JSON cannot hold, makes it an error.
        """
        if math.isfinite(confidence):
            self._results.write({"instance": uri, "prediction": {"label": label, "confidence": confidence, **more}})
        else:
            self.error(uri, INVALID_ARGUMENT, f"the model's confidence is {confidence}")

    def error(self, uri: str, code: int, message: str) -> None:
        """Add the reason why an image has no prediction; `code` is a google.rpc.Code (3: invalid argument)."""
        self._errors.write({"instance": uri, "error": {"code": code, "message": message}})

    def __enter__(self) -> ResultsWriter:
        self._staging.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for shards in (self._results, self._errors):
                shards.finish()
            if error is None:
                os.rename(self._staging, self.folder)
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)


class _Shards:
    """Files of at most `lines` lines each; their names contain their number, so they are named at the end."""

    def __init__(self, folder: Path, kind: str, lines: int) -> None:
        self._folder, self._kind, self._lines = folder, kind, lines
        self._files: list[Path] = []
        self._open: BinaryIO | None = None
        self._free = 0

    def write(self, value: dict[str, Any]) -> None:
        if self._open is None or not self._free:
            self._open = self._next()
        self._open.write(json.dumps(value).encode() + b"\n")
        self._free -= 1

    def finish(self) -> None:
        """Close the last file, an empty one if nothing was written, and name all files."""
        if not self._files:
            self._next()
        self._close()
        for number, file in enumerate(self._files):
            file.rename(self._folder / f"{self._kind}-{number:05d}-of-{len(self._files):05d}")

    def _next(self) -> BinaryIO:
        self._close()
        self._files.append(self._folder / f"{self._kind}-{len(self._files):05d}")
        self._open, self._free = self._files[-1].open("xb"), self._lines
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.flush()
            os.fsync(self._open.fileno())
            self._open.close()


def _timestamp(moment: datetime) -> str:
    """Return the moment in the form of Vertex AI's folder names, e.g. 2021_10_15T05_00_00_123Z."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y_%m_%dT%H_%M_%S}_{utc.microsecond // 1000:03d}Z"
