"""The input pipeline: images a second that a model is handed, with nothing else to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from adaptation.records import LabelledImage, unframe
from adaptation.spans import SpanStore
from benchmarks.images import CLASSES, SIZE, photograph, source
from benchmarks.runner import Baseline, Bench, Subject, at_least, timed
from benchmarks.spans import publish_spans
from models import data
from models.spec import TrainingSpec

LARGE = 224
DIFFERENT = 50
LARGE_SPEC = TrainingSpec.for_model("resnet50", CLASSES, weights="none")


@contextmanager
def bench(folder: Path, small: int = 30_000, large: int = 2_000) -> Iterator[Bench]:
    """So many small images, and so many of 224 x 224 pixels."""
    cifar = train_shards(publish_spans(folder, 1, small))
    photographs = folder / "photographs.tfrecord"
    encoded = [photograph(number, LARGE) for number in range(DIFFERENT)]
    photographs.write_bytes(
        b"".join(LabelledImage(encoded[number % DIFFERENT], 0, f"{number}", 1).to_record() for number in range(large))
    )
    yield Bench(
        (
            _subject(f"input pipeline, {SIZE} x {SIZE}", cifar, TrainingSpec.for_model("cifar", CLASSES)),
            _subject(
                f"input pipeline, {LARGE} x {LARGE}",
                [str(photographs)],
                LARGE_SPEC,
            ),
        ),
        f"{small:,} images of {source(small)}; {large:,} generated ones",
    )


def delivered(records: data.Records, spec: TrainingSpec) -> int:
    """Ours: the first epoch's images, read, decoded, shuffled and batched."""
    return sum(len(labels) for _, labels in data.training_batches(records, spec))


def decoded(images: tf.Tensor, spec: TrainingSpec) -> int:
    """The floor: images that are in memory, decoded on all processors."""
    pixels = tf.data.Dataset.from_tensor_slices(images).map(
        lambda image: tf.io.decode_jpeg(image, channels=spec.channels),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=False,
    )
    return int(pixels.reduce(0, lambda count, _: count + 1))


def _subject(name: str, files: Sequence[str], spec: TrainingSpec) -> Subject:
    records = data.find_records(files, spec)
    images = encoded_images(records.files)
    return Subject(
        name,
        timed(lambda: delivered(records, spec)),
        (Baseline("floor: decoding alone", timed(lambda: decoded(images, spec)), at_least(0.8)),),
    )


def encoded_images(files: Sequence[str]) -> tf.Tensor:
    """The images of record files, as they came."""
    found = [LabelledImage.parse(one).image for file in files for one in unframe(Path(file).read_bytes(), file)]
    return tf.constant(found)


def train_shards(data_root: str) -> list[str]:
    """Files of the train split of the only span that there is."""
    store = SpanStore(data_root)
    (span,) = store.spans()
    return [store.shard_uri(span, shard) for shard in store.manifest(span).shards if shard.split == "train"]
