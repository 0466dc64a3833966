"""The input of a model: records in, batches of images out. Training and serving decode with the same function.

A record is a `tf.train.Example` with `image` (an encoded JPEG or PNG), `label` (int64), `id` and `span`. Augmentation
is part of the models, where it is inactive outside training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from adaptation.data.decoding import LARGEST_FILE, LARGEST_IMAGE
from adaptation.errors import AdaptationError
from models.decoding import decode_pixels
from models.spec import TrainingSpec

IMAGE = "image"
LABEL = "label"
SHUFFLED_RECORDS = 10_000
_FILES_AT_ONCE = 8
Transformation = Callable[[tf.Tensor], tf.Tensor]  # of encoded images into a model's input, see models.transform


@dataclass(frozen=True)
class Records:
    """The record files of a split, and their number of records."""

    files: tuple[str, ...]
    count: int


def find_records(patterns: Sequence[str], spec: TrainingSpec) -> Records:
    """Return the records in the files that match the patterns, after checking their labels.

    Raises:
      AdaptationError: There are no such files, none has a record, or a label is no index into the spec's labels.
    """
    files = tuple(sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern)))
    count = 0
    for labels in _serialized(files).batch(4096).map(_labels) if files else ():
        _check_labels(labels, spec)
        count += len(labels)
    if not count:
        raise AdaptationError(
            f"no record in {', '.join(patterns)} ({len(files)} files). Name a window whose spans have both splits."
        )
    return Records(files, count)


def training_batches(
    records: Records, spec: TrainingSpec, transformed: Transformation | None = None
) -> tf.data.Dataset:
    """Return batches in an order that is new in every epoch and the same for the same seed.

    Returns:
      Pairs of images and labels (int64 [batch]). Images are the output of `transformed` for the encoded ones; without
      it, decoded bytes (uint8 [batch, size, size, channels]): the training step turns them into the model's input,
      where it runs.
    """
    if transformed:
        buffered = min(records.count, SHUFFLED_RECORDS)
        return _transformed(_serialized(records.files).shuffle(buffered, seed=spec.seed), records, spec, transformed)
    if _fits_in_memory(records, spec):
        shuffled = _decoded(_serialized(records.files), spec).cache().shuffle(records.count, seed=spec.seed)
    else:
        shuffled = _decoded(_serialized(records.files).shuffle(SHUFFLED_RECORDS, seed=spec.seed), spec)
    return _batched(shuffled, records, spec)


def evaluation_batches(
    records: Records, spec: TrainingSpec, transformed: Transformation | None = None
) -> tf.data.Dataset:
    """Return batches like `training_batches`, in the records' own order."""
    if transformed:
        return _transformed(_serialized(records.files), records, spec, transformed)
    decoded = _decoded(_serialized(records.files), spec)
    return _batched(decoded.cache() if _fits_in_memory(records, spec) else decoded, records, spec)


def decode(image: tf.Tensor, spec: TrainingSpec) -> tf.Tensor:
    """Return an encoded image (string) as pixels (uint8 [size, size, channels]).

    Grey becomes colour or colour grey to fit the spec; another size is resized, whatever its proportions.
    """
    size, channels = spec.image_size, spec.channels
    pixels = decode_pixels(image, channels)
    fits = tf.reduce_all(tf.shape(pixels)[:2] == size)
    resized = tf.cond(fits, lambda: pixels, lambda: _resized(_of_allowed_size(pixels, image), size))
    return tf.ensure_shape(resized, (size, size, channels))


def decode_batch(images: tf.Tensor, spec: TrainingSpec) -> tf.Tensor:
    """Return encoded images (string [batch]) as a model's input (float32 [batch, size, size, channels], 0..255)."""
    shape = (spec.image_size, spec.image_size, spec.channels)
    with tf.device("/CPU:0"):
        pixels = tf.map_fn(
            lambda image: decode(image, spec),
            images,
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
            parallel_iterations=32,
        )
    return tf.cast(pixels, tf.float32)


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return the dataset, and all made from it, without TensorFlow's tuner of parallelism.

    On two processors the tuner cost more than it gained: an epoch of decoding took twice as long in one run of five,
    one of training steps 1.7 times as long in every other.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def images_of(examples: tf.Tensor) -> tf.Tensor:
    """Return the encoded images (string [batch]) of serialized examples (string [batch])."""
    return tf.io.parse_example(examples, {IMAGE: tf.io.FixedLenFeature([], tf.string)})[IMAGE]


def _serialized(files: Sequence[str]) -> tf.data.Dataset:
    compressions = ["GZIP" if file.endswith(".gz") else "" for file in files]
    sources = untuned(tf.data.Dataset.from_tensor_slices((list(files), compressions)))
    return sources.interleave(
        tf.data.TFRecordDataset, cycle_length=_FILES_AT_ONCE, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def _labels(examples: tf.Tensor) -> tf.Tensor:
    return tf.io.parse_example(examples, {LABEL: tf.io.FixedLenFeature([], tf.int64)})[LABEL]


def _check_labels(labels: tf.Tensor, spec: TrainingSpec) -> None:
    last = len(spec.labels) - 1
    for label in (int(tf.reduce_min(labels)), int(tf.reduce_max(labels))):
        if not 0 <= label <= last:
            raise AdaptationError(
                f"a record has label {label}, but the settings name the labels 0 to {last} ({', '.join(spec.labels)}). "
                "Give the settings the label names that the spans were made with."
            )


def _fits_in_memory(records: Records, spec: TrainingSpec) -> bool:
    return records.count * spec.image_size**2 * spec.channels <= spec.cache_megabytes * 2**20


def _decoded(serialized: tf.data.Dataset, spec: TrainingSpec) -> tf.data.Dataset:
    def image_and_label(example: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = {IMAGE: tf.io.FixedLenFeature([], tf.string), LABEL: tf.io.FixedLenFeature([], tf.int64)}
        record = tf.io.parse_single_example(example, features)
        return decode(record[IMAGE], spec), record[LABEL]

    return serialized.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _transformed(
    serialized: tf.data.Dataset, records: Records, spec: TrainingSpec, transformed: Transformation
) -> tf.data.Dataset:
    def images_and_labels(examples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return transformed(images_of(examples)), _labels(examples)

    return _batched(serialized, records, spec).map(images_and_labels).prefetch(spec.prefetch or tf.data.AUTOTUNE)


def _batched(elements: tf.data.Dataset, records: Records, spec: TrainingSpec) -> tf.data.Dataset:
    counted = elements.apply(tf.data.experimental.assert_cardinality(records.count))
    # A shuffle buffer is filled before the first batch: with everything decoded by then, one thread would copy alone.
    batches = counted.batch(spec.batch_size, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(spec.prefetch or tf.data.AUTOTUNE)


def _of_allowed_size(pixels: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Refuse here what no span takes; only an image of another size than the model's can be so large."""
    height, width = tf.unstack(tf.shape(pixels)[:2])
    allowed = (height * width <= LARGEST_IMAGE) & (tf.strings.length(image) <= LARGEST_FILE)
    with tf.control_dependencies([tf.debugging.Assert(allowed, ["is too large"])]):
        return tf.identity(pixels)


def _resized(pixels: tf.Tensor, size: int) -> tf.Tensor:
    return tf.saturate_cast(tf.round(tf.image.resize(pixels, (size, size), antialias=True)), tf.uint8)
