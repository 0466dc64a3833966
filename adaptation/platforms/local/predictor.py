"""Batch prediction on this machine: a version's SavedModel, loaded once, over a file list of any length.

Reads ahead in one thread while the model works, and holds no more images than two batches. An unreadable image affects
no other. `adaptation.evaluation.prediction_results` writes the results.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import CHAMPION, Registry
from adaptation.progress import report

if TYPE_CHECKING:
    from adaptation.evaluation.prediction_results import ResultsWriter

BATCH_IMAGES = 512
FURTHER_OUTPUTS = ("content", "probabilities")  # of models exported by this version; written if they are given
BATCH_BYTES = 64 * 2**20
NOT_FOUND = 5


@dataclass(frozen=True)
class _Image:
    uri: str
    data: bytes | OSError


class LocalPredictor:
    """Predicts with the versions of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def predict(self, file_list: str, output: str, model: str = CHAMPION) -> str:
        """Predict the images named in a file list.

        Args:
          file_list: URI of a text file, one image URI a line.
          output: Folder of this machine under which a `prediction-<model>-<timestamp>` folder is made.
          model: `champion` or a version number; resolved once, at the start.

        Returns:
          The folder with the results, in Vertex AI's layout.

        Raises:
          AdaptationError: The file names no image.
          LookupError: The version does not exist.

        Failure: an unfinished prediction is never visible; repeating it makes another folder.
        """
        from adaptation.evaluation.prediction_results import ResultsWriter  # late: polars takes a while to load

        uris = _uris(file_list)
        version = self._registry.find(model)
        loaded = _load(version.uri)
        with ResultsWriter(output, f"version-{version.number}", datetime.now(UTC)) as results:
            done = 0
            for batch in _one_ahead(_batches(uris)):
                _predict(batch, loaded, results)
                done += len(batch)
                report(f"predicted {done:,} of {len(uris):,}")
        return results.folder


def _uris(file_list: str) -> list[str]:
    uris = [line.strip() for line in storage.read(file_list).decode().split("\n") if line.strip()]
    if not uris:
        raise AdaptationError(f"{file_list} names no image. Put images into the batch before it is evaluated.")
    return uris


def _load(folder: str) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(folder)


def _batches(uris: Sequence[str]) -> Iterator[list[_Image]]:
    """Yield the images in batches of a bounded number, and of bounded bytes if they are large."""
    batch: list[_Image] = []
    size = 0
    for uri, data in zip(uris, storage.read_many(uris), strict=True):
        batch.append(_Image(uri, data))
        size += len(data) if isinstance(data, bytes) else 0
        if len(batch) == BATCH_IMAGES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _one_ahead(batches: Iterator[list[_Image]]) -> Iterator[list[_Image]]:
    """Yield the same batches, reading the next one while the caller works on one."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _predict(batch: Sequence[_Image], model: Any, results: ResultsWriter) -> None:
    readable = []
    for image in batch:
        if isinstance(image.data, OSError):
            results.error(image.uri, NOT_FOUND, f"could not be read: {image.data}")
        else:
            readable.append(image)
    _predict_by_halves(readable, model, results)


def _predict_by_halves(images: Sequence[_Image], model: Any, results: ResultsWriter) -> None:
    """Predict the images together; if the model refuses them, their halves, down to the refused image."""
    import tensorflow as tf

    if not images:
        return
    try:
        outputs = model.signatures["serving_default"](image_bytes=tf.constant([image.data for image in images]))
    except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
        if len(images) == 1:
            results.error(images[0].uri, error.error_code, f"could not be predicted: {_first_line(error.message)}")
            return
        middle = len(images) // 2
        _predict_by_halves(images[:middle], model, results)
        _predict_by_halves(images[middle:], model, results)
    else:
        _write(images, outputs, results)


def _write(images: Sequence[_Image], outputs: Any, results: ResultsWriter) -> None:
    labels, confidences = outputs["label"].numpy(), outputs["confidence"].numpy()
    further = {name: outputs[name].numpy().tolist() for name in FURTHER_OUTPUTS if name in outputs}
    rows = zip(*further.values(), strict=True) if further else itertools.repeat(())
    for image, label, confidence, row in zip(images, labels, confidences, rows, strict=False):
        results.prediction(image.uri, label.decode(), float(confidence), **dict(zip(further, row, strict=True)))


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:300]
