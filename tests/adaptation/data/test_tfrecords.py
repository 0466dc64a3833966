"""TFRecords: records are read as they were written, and a truncated or changed file is never accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptation.data.tfrecords import CorruptRecords, LabelledImage, crc32c, frame, parse_features, unframe

IMAGE = LabelledImage(b"\xff\xd8image", 7, "ünï/cat_1.jpg", 3)
INT64 = st.integers(-(2**63), 2**63 - 1)


def example(image: LabelledImage = IMAGE) -> bytes:
    (data,) = unframe(image.to_record(), "a.tfrecord")
    return data


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_records_are_read_as_they_were_written(records: list[bytes]) -> None:
    assert list(unframe(b"".join(map(frame, records)), "a.tfrecord")) == records


@given(st.binary(max_size=50), INT64, st.text(st.characters(codec="utf-8"), max_size=20), INT64)
def test_labelled_image_is_read_as_it_was_written(image: bytes, label: int, name: str, span: int) -> None:
    one = LabelledImage(image, label, name, span)
    assert LabelledImage.parse(example(one)) == one


def test_same_image_gives_the_same_bytes() -> None:
    records = {LabelledImage(IMAGE.image, IMAGE.label, IMAGE.id, IMAGE.span).to_record() for _ in range(20)}
    assert len(records) == 1


def test_record_contains_the_image_bytes_unchanged() -> None:
    assert IMAGE.image in IMAGE.to_record()


def test_file_cut_off_anywhere_is_refused_by_name() -> None:
    content = frame(b"first") + frame(b"second")
    for end in range(1, len(content)):
        if end == len(frame(b"first")):
            continue
        with pytest.raises(CorruptRecords, match=r"^span-1/train/a.tfrecord ends within the record at byte (0|21)\."):
            list(unframe(content[:end], "span-1/train/a.tfrecord"))


def test_bit_flipped_anywhere_is_detected() -> None:
    content = frame(b"first") + frame(b"second")
    for position in range(8 * len(content)):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(CorruptRecords, match=r"a.tfrecord"):
            list(unframe(bytes(changed), "a.tfrecord"))


@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_tfrecord_file_are_refused(content: bytes) -> None:
    with pytest.raises(CorruptRecords):
        list(unframe(content, "a.tfrecord"))


@given(st.binary(max_size=100))
def test_bytes_that_are_no_example_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptRecords):
        LabelledImage.parse(data)


def test_example_that_lacks_a_feature_is_refused() -> None:
    whole = example()
    for missing in (b"image", b"label", b"id", b"span"):
        with pytest.raises(CorruptRecords, match="is no Example with one image, label, id and span"):
            LabelledImage.parse(whole.replace(missing, b"x" * len(missing), 1))


def test_features_are_read_with_their_values() -> None:
    assert parse_features(example()) == {"image": [IMAGE.image], "label": [7], "id": [IMAGE.id.encode()], "span": [3]}
    assert parse_features(b"") == {}


def test_checksum_is_crc_32c() -> None:
    assert crc32c(b"123456789") == "e3069283"
    assert crc32c(b"") == "00000000"
