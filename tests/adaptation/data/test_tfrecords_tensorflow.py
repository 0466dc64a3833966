"""TFRecords: TensorFlow reads the records that are written without it, and would have written the same bytes."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from adaptation.data.tfrecords import LabelledImage, parse_features, unframe

IMAGES = [LabelledImage(bytes([number]) * 300 * number, number - 2, f"ünï/cat_{number}.jpg", 3) for number in range(5)]


def tensorflow_example(image: LabelledImage) -> tf.train.Example:
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[image.label])),
        "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.id.encode()])),
        "span": tf.train.Feature(int64_list=tf.train.Int64List(value=[image.span])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def write(path: Path, examples: list[tf.train.Example]) -> bytes:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example.SerializeToString(deterministic=True))
    return path.read_bytes()


def test_records_are_the_bytes_that_tensorflow_writes(tmp_path: Path) -> None:
    expected = write(tmp_path / "a.tfrecord", [tensorflow_example(image) for image in IMAGES])
    assert b"".join(image.to_record() for image in IMAGES) == expected


@given(
    st.integers(0, 300) | st.integers(16_200, 16_500),  # around the sizes from which a length takes another byte
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(codec="utf-8"), max_size=200),
    st.integers(0, 2**63 - 1),
)
def test_records_equal_tensorflows_for_all_sizes_and_numbers(size: int, label: int, name: str, span: int) -> None:
    image = LabelledImage(bytes(size), label, name, span)
    (data,) = unframe(image.to_record(), "a.tfrecord")
    assert data == tensorflow_example(image).SerializeToString(deterministic=True)


def test_tensorflow_reads_the_records(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(image.to_record() for image in IMAGES))
    kinds = {"image": tf.string, "label": tf.int64, "id": tf.string, "span": tf.int64}
    features = {name: tf.io.FixedLenFeature([], kind) for name, kind in kinds.items()}
    parsed = [tf.io.parse_single_example(one, features) for one in tf.data.TFRecordDataset(str(path))]
    found = [{name: value.numpy() for name, value in one.items()} for one in parsed]
    assert found == [vars(image) | {"id": image.id.encode()} for image in IMAGES]


def test_records_of_tensorflow_are_read(tmp_path: Path) -> None:
    content = write(tmp_path / "a.tfrecord", [tensorflow_example(image) for image in IMAGES])
    assert [LabelledImage.parse(data) for data in unframe(content, "a.tfrecord")] == IMAGES


def test_features_of_any_kind_are_read(tmp_path: Path) -> None:
    example = tf.train.Example()
    example.features.feature["floats"].float_list.value.extend([0.5, 2.0])
    example.features.feature["empty"].SetInParent()
    example.features.feature["many"].int64_list.value.extend([1, -1])
    (data,) = unframe(write(tmp_path / "a.tfrecord", [example]), "a.tfrecord")
    assert parse_features(data) == {"floats": [0.5, 2.0], "empty": [], "many": [1, -1]}
