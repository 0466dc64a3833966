"""The input pipeline: images a second that reach a model, with nothing else to do.

An epoch is streamed if the images do not fit into the cache; else it fills the cache or is served from it. The three
have different costs, so they are measured apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from adaptation.data.spans import SpanStore
from adaptation.data.tfrecords import LabelledImage, unframe
from benchmarks.images import CLASSES, SIZE, photograph, source
from benchmarks.runner import Baseline, Bench, Run, Subject, at_least, timed
from benchmarks.spans import publish_spans
from models import data
from models.recipe import training_spec
from models.spec import TrainingSpec

LARGE = 224
DIFFERENT = 50
SMALL_SPEC = training_spec("cifar", CLASSES)
LARGE_SPEC = training_spec("resnet50", CLASSES, weights="none")
STREAMED_SPEC = LARGE_SPEC.but(cache_megabytes=0)


@contextmanager
def bench(folder: Path, small: int = 8_000, large: int = 2_000) -> Iterator[Bench]:
    """Measure so many small images, and so many of 224 x 224 pixels."""
    cifar = data.find_records(train_shards(publish_spans(folder, 1, small)), SMALL_SPEC)
    photographs = data.find_records([write_photographs(folder, large)], LARGE_SPEC)
    few, many = encoded_images(cifar.files), encoded_images(photographs.files)
    name = f"input pipeline, {LARGE} x {LARGE}"
    yield Bench(
        (
            Subject(f"input pipeline, {SIZE} x {SIZE}", _first_epoch(cifar, SMALL_SPEC), (_decoding(few, 0.8),)),
            Subject(f"{name}, streamed", _first_epoch(photographs, STREAMED_SPEC), (_decoding(many, 0.8),)),
            Subject(
                f"{name}, filling the cache",
                _first_epoch(photographs, LARGE_SPEC),
                (_decoding(many, 0.8), _decoding_and_keeping(many, 0.8)),
            ),
            Subject(f"{name}, from the cache", _later_epoch(photographs, LARGE_SPEC), (_decoding(many, 2),)),
        ),
        f"{small:,} images of {source(small)}; {large:,} generated ones",
    )


def write_photographs(folder: Path, count: int) -> str:
    """Write so many records of large images, not all of them different; return their file."""
    encoded = [photograph(number, LARGE) for number in range(DIFFERENT)]
    file = folder / "photographs.tfrecord"
    file.write_bytes(
        b"".join(LabelledImage(encoded[number % DIFFERENT], 0, f"{number}", 1).to_record() for number in range(count))
    )
    return str(file)


def delivered(batches: tf.data.Dataset) -> int:
    """Run our way: an epoch's images, read, decoded, shuffled and batched."""
    return sum(len(labels) for _, labels in batches)


def decoded(images: tf.Tensor) -> tf.data.Dataset:
    """Run the floor: colour images in memory, decoded on all processors."""
    pixels = tf.data.Dataset.from_tensor_slices(images).map(
        lambda image: tf.io.decode_jpeg(image, channels=3),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=False,
    )
    return data.untuned(pixels)


def counted(pixels: tf.data.Dataset) -> int:
    """Iterate over all images; none is kept, unless the dataset keeps it."""
    return int(pixels.reduce(0, lambda count, _: count + 1))


def encoded_images(files: Sequence[str]) -> tf.Tensor:
    """Return the encoded images of record files."""
    found = [LabelledImage.parse(one).image for file in files for one in unframe(Path(file).read_bytes(), file)]
    return tf.constant(found)


def train_shards(data_root: str) -> list[str]:
    """Return the files of the train split of the only span."""
    store = SpanStore(data_root)
    (span,) = store.spans()
    return [store.shard_uri(span, shard) for shard in store.manifest(span).shards if shard.split == "train"]


def _first_epoch(records: data.Records, spec: TrainingSpec) -> Run:
    return timed(lambda: delivered(data.training_batches(records, spec)))


def _later_epoch(records: data.Records, spec: TrainingSpec) -> Run:
    batches = data.training_batches(records, spec)
    delivered(batches)
    return timed(lambda: delivered(batches))


def _decoding(images: tf.Tensor, times: float) -> Baseline:
    return Baseline("floor: decoding alone", timed(lambda: counted(decoded(images))), at_least(times))


def _decoding_and_keeping(images: tf.Tensor, times: float) -> Baseline:
    """Measure the cost of a cache alone: memory that the system provides page by page while it is written."""
    kept = timed(lambda: counted(decoded(images).cache()))
    return Baseline("floor: decoding, and keeping it", kept, at_least(times))
