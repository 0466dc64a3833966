from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from adaptation.errors import AdaptationError
from models import data
from models.spec import TrainingSpec

Spec = Callable[..., TrainingSpec]


def order(batches: tf.data.Dataset) -> list[int]:
    """Return the mean brightness of every image, which identifies the images of `two_classes`."""
    return [int(images[k].mean()) for images, _ in batches.as_numpy_iterator() for k in range(len(images))]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(12, 12), (12, 12, 3)], ids=["grey", "colour"])
def test_grey_and_colour_images_become_the_models_input(encoded, small_spec: Spec, kind, channels, shape):
    image = encoded(np.full(shape, 90, np.uint8), kind)
    pixels = data.decode(tf.constant(image), small_spec(channels=channels)).numpy()
    assert pixels.shape == (8, 8, channels)
    assert np.abs(pixels.astype(int) - 90).max() <= 1


def test_image_of_the_right_size_is_not_resized(encoded, small_spec: Spec):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(data.decode(tf.constant(encoded(pixels)), small_spec(channels=3)), pixels)


def test_large_image_is_averaged_not_sampled(encoded, small_spec: Spec):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80), np.uint8)
    assert np.std(data.decode(tf.constant(encoded(noise)), small_spec())) < np.std(noise) / 4


def test_batch_is_decoded_like_its_images(encoded, small_spec: Spec):
    rng = np.random.default_rng(0)
    images = [encoded(rng.integers(0, 256, (size, 10), np.uint8)) for size in (8, 9, 30)]
    batch = data.decode_batch(tf.constant(images), small_spec())
    assert batch.dtype == tf.float32
    assert np.array_equal(batch, [data.decode(tf.constant(image), small_spec()) for image in images])


@pytest.mark.parametrize("batches_of", [data.training_batches, data.evaluation_batches], ids=["training", "evaluation"])
def test_model_input_has_the_decoded_bytes(tmp_path, write_records, two_classes, small_spec: Spec, batches_of):
    records = data.find_records([write_records(tmp_path / "a.tfrecord", two_classes)], small_spec())
    batches = batches_of(records, small_spec(batch_size=5))
    assert batches.element_spec == (tf.TensorSpec([None, 8, 8, 1], tf.uint8), tf.TensorSpec([None], tf.int64))
    handed = [image.tobytes() for images, _ in batches.as_numpy_iterator() for image in images]
    decoded = [data.decode(tf.constant(image), small_spec()).numpy().tobytes() for image, _ in two_classes]
    assert sorted(handed) == sorted(decoded)


@pytest.mark.parametrize("batches_of", [data.training_batches, data.evaluation_batches], ids=["training", "evaluation"])
def test_tensorflows_autotuner_cannot_reduce_the_processors(
    tmp_path, write_records, two_classes, small_spec: Spec, batches_of
):
    records = data.find_records([write_records(tmp_path / "a.tfrecord", two_classes)], small_spec())
    assert batches_of(records, small_spec()).options().autotune.enabled is False


@pytest.mark.parametrize("megabytes", [1024, 0], ids=["cached", "streamed"])
@pytest.mark.parametrize("batches_of", [data.training_batches, data.evaluation_batches], ids=["training", "evaluation"])
def test_undecodable_image_is_an_error_and_not_skipped(
    tmp_path, write_records, two_classes, small_spec: Spec, batches_of, megabytes
):
    spec = small_spec(cache_megabytes=megabytes)
    records = data.find_records([write_records(tmp_path / "a.tfrecord", [*two_classes, (b"no image", 0)])], spec)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image"):
        order(batches_of(records, spec))


@pytest.mark.parametrize("megabytes", [1024, 0], ids=["cached", "streamed"])
def test_training_order_is_new_every_epoch_and_the_same_for_a_seed(
    tmp_path, write_records, two_classes, small_spec: Spec, megabytes
):
    records = data.find_records([write_records(tmp_path / "a.tfrecord", two_classes)], small_spec())

    def two_epochs(seed: int) -> list[list[int]]:
        tf.random.set_seed(0)
        batches = data.training_batches(records, small_spec(seed=seed, cache_megabytes=megabytes))
        return [order(batches), order(batches)]

    first, second = two_epochs(seed=1)
    assert first != second
    assert sorted(first) == sorted(second)
    assert [first, second] == two_epochs(seed=1)
    assert first != two_epochs(seed=2)[0]


@pytest.mark.parametrize("megabytes", [1024, 0], ids=["cached", "streamed"])
def test_record_that_is_read_last_may_be_trained_on_first(
    tmp_path, write_records, two_classes, small_spec: Spec, megabytes
):
    records = data.find_records([write_records(tmp_path / "a.tfrecord", two_classes)], small_spec())
    tf.random.set_seed(0)
    batches = data.training_batches(records, small_spec(cache_megabytes=megabytes))
    last = order(data.evaluation_batches(records, small_spec()))[-1]
    assert min(order(batches).index(last) for _epoch in range(40)) < 3


@pytest.mark.parametrize("megabytes", [1024, 0], ids=["cached", "streamed"])
def test_evaluation_sees_every_record_once_in_its_own_order(
    tmp_path, write_records, two_classes, small_spec: Spec, megabytes
):
    records = data.find_records([write_records(tmp_path / "a.tfrecord", two_classes)], small_spec())
    batches = data.evaluation_batches(records, small_spec(batch_size=5, cache_megabytes=megabytes))
    assert order(batches) == order(batches) == [4 * k + 120 * (k % 2) for k in range(32)]
    assert len(batches) == 7
    assert [label for _, labels in batches for label in labels.numpy()] == [label for _, label in two_classes]


def test_files_of_all_patterns_are_read_compressed_or_not(tmp_path, write_records, two_classes, small_spec: Spec):
    write_records(tmp_path / "span-1" / "a.tfrecord", two_classes[:9])
    write_records(tmp_path / "span-1" / "b.tfrecord", two_classes[9:12])
    write_records(tmp_path / "span-2" / "c.gz", two_classes[12:])
    records = data.find_records([str(tmp_path / "span-1" / "*"), str(tmp_path / "span-2" / "*")], small_spec())
    assert (len(records.files), records.count) == (3, 32)
    assert len(order(data.evaluation_batches(records, small_spec()))) == 32


def test_split_without_files_is_named(tmp_path, small_spec: Spec):
    with pytest.raises(AdaptationError, match=r"Split-eval/\* \(0 files\)"):
        data.find_records([str(tmp_path / "Split-eval" / "*")], small_spec())


def test_files_without_records_are_refused(tmp_path, write_records, small_spec: Spec):
    with pytest.raises(AdaptationError, match="1 files"):
        data.find_records([write_records(tmp_path / "a.tfrecord", [])], small_spec())


@pytest.mark.parametrize("label", [2, -1])
def test_label_without_a_name_is_refused(tmp_path, write_records, two_classes, small_spec: Spec, label):
    pattern = write_records(tmp_path / "a.tfrecord", [*two_classes, (two_classes[0][0], label)])
    with pytest.raises(AdaptationError, match=rf"label {label}\b.*0 to 1 \(zero, one\)"):
        data.find_records([pattern], small_spec())
