"""Adoption: an exported data set becomes a span, whole or not at all, and none of it is lost."""

from __future__ import annotations

import gzip
import itertools
from typing import Any

import pytest

from adaptation.data.span_adoption import adopt
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import InvalidSpan, Span, SpanStore
from adaptation.data.splits import Split
from adaptation.data.tfrecords import CorruptRecords, _example_class, frame
from adaptation.io import storage
from adaptation.io.storage import join
from tests.worlds.images import contents, image
from tests.worlds.processes import at_once, killed
from tests.worlds.spans import LABELS, NAMES, collected, images_of

TRAIN = ["train/cifar10-train.tfrecord-00000-of-00002", "train/cifar10-train.tfrecord-00001-of-00002"]
TEST = ["test/cifar10-test.tfrecord-00000-of-00001"]


@pytest.fixture
def store(root: str) -> SpanStore:
    return SpanStore(join(root, "data"))


def record(**features: Any) -> bytes:
    """Return an Example as a TFRecord, its features of the types of their values."""
    example = _example_class()()
    for name, value in features.items():
        kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(value)]
        getattr(example.features.feature[name], kind).value.append(value)
    return frame(example.SerializeToString(deterministic=True))


def export(store: SpanStore, number: int = 1) -> dict[str, bytes]:
    """Write an export like TFDS: PNG images with label and id, a third split, a description. Return its files."""
    files = {
        name: b"".join(
            record(image=image(f"{name}{number}"), label=number % 2, id=f"{split}_{number}".encode())
            for number in range(3)
        )
        for split, names in (("train", TRAIN), ("test", TEST))
        for name in names
    }
    files |= {"dataset_info.json": b"{}", "validation/cifar10-validation.tfrecord-00000-of-00001": b"more"}
    for name, data in files.items():
        storage.write(join(store.folder(Span(number)), name), data)
    return files


def put(store: SpanStore, name: str, data: bytes) -> None:
    storage.write(join(store.folder(Span(1)), name), data)


def test_exported_data_set_becomes_a_span(store: SpanStore) -> None:
    export(store)
    manifest = adopt(store, Span(1), NAMES, run="by hand")
    assert store.verify(Span(1)) == manifest
    assert store.spans() == [Span(1)]
    assert manifest.counts == {"train": {"cat": 4, "ship": 2}, "test": {"cat": 2, "ship": 1}}
    assert (manifest.batch, manifest.ratio, manifest.labels, manifest.run) == ("adopted", 0.0, NAMES, "by hand")
    assert store.snapshot(Span(1)) is None


def test_adopted_images_are_unchanged_and_have_their_span(store: SpanStore) -> None:
    export(store)
    images = images_of(store, adopt(store, Span(1), NAMES), "train")
    assert [one.image for one in images] == [image(f"{name}{number}") for name in TRAIN for number in range(3)]
    assert [one.label for one in images] == [0, 1, 0, 0, 1, 0]
    assert {one.span for one in images} == {1}
    assert {one.id for one in images} == {"train_0", "train_1", "train_2"}


def test_image_without_an_id_is_named_by_file_and_position(store: SpanStore) -> None:
    export(store)
    put(store, TEST[0], record(image=image(1), label=1) + record(image=image(2), label=0, id=7))
    images = images_of(store, adopt(store, Span(1), NAMES), "test")
    assert [one.id for one in images] == [f"{TEST[0]}#0", f"{TEST[0]}#1"]


def test_adoption_keeps_all_original_files(store: SpanStore) -> None:
    files = export(store)
    adopt(store, Span(1), NAMES)
    assert contents(join(store.root, "_adopted")) == {f"span-1/{name}": data for name, data in files.items()}


def test_files_that_hold_no_records_are_named_as_skipped(store: SpanStore) -> None:
    export(store)
    put(store, "train/.1.tfrecord.crc", b"any")
    manifest = adopt(store, Span(1), NAMES)
    assert {"train/.1.tfrecord.crc", "validation/cifar10-validation.tfrecord-00000-of-00001"} < {
        one.name for one in manifest.skipped
    }
    assert "kept with the originals" in manifest.skipped[0].reason


def test_adopted_span_has_the_same_digest_in_every_run(root: str) -> None:
    digests = set()
    for name in ("a", "b"):
        store = SpanStore(join(root, name))
        export(store)
        digests.add(adopt(store, Span(1), NAMES, run=name).digest)
    assert len(digests) == 1


def test_adopting_again_returns_the_published_span(store: SpanStore) -> None:
    export(store)
    first = adopt(store, Span(1), NAMES)
    before = contents(store.root)
    assert adopt(store, Span(1), ("other", "labels")) == first
    assert contents(store.root) == before


def test_export_with_other_label_names_is_not_adopted(store: SpanStore) -> None:
    export(store)
    adopt(store, Span(1), NAMES)
    files = export(store, 2)
    with pytest.raises(InvalidSpan, match="the labels as span-1 does: label 0 was 'cat' and is 'ship'"):
        adopt(store, Span(2), NAMES[::-1])
    assert contents(store.folder(Span(2))) == files
    assert adopt(store, Span(2), (*NAMES, "ox")).labels == ("cat", "ship", "ox")


def test_marker_files_and_hidden_files_are_not_read_as_records(store: SpanStore) -> None:
    export(store)
    put(store, "train/_SUCCESS", b"")
    put(store, "train/.DS_Store", b"\x00\x01")
    assert adopt(store, Span(1), NAMES).images == 9
    assert len(store.verify(Span(1)).shards) == 3


def test_number_of_an_adopted_folder_is_never_given_to_a_batch(store: SpanStore) -> None:
    export(store, 3)
    assert store.claim("2021-10:a") == Span(4)
    adopt(store, Span(3), NAMES)
    assert store.claim("2021-11:b") == Span(5)
    assert store.unsigned() == []


def test_number_claimed_for_a_batch_cannot_be_adopted(store: SpanStore) -> None:
    assert store.claim("2021-10:a") == Span(1)
    files = export(store)
    with pytest.raises(InvalidSpan, match="span-1 is claimed for a batch"):
        adopt(store, Span(1), NAMES)
    assert contents(store.folder(Span(1))) == files
    assert store.spans() == []


def test_batch_can_be_prepared_after_an_adopted_span_with_any_split(store: SpanStore, root: str) -> None:
    export(store)
    adopt(store, Span(1), NAMES)
    manifest = prepare(store, collected(join(root, "2021-10"), 12), LABELS, Split(5, 0.5))
    assert manifest.span == 2


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"label": 1}, "has no single image (bytes) and label (int64)"),
        ({"image": image(1)}, "has no single image (bytes) and label (int64)"),
        ({"image": image(1), "label": 1.0}, "has no single image (bytes) and label (int64)"),
        ({"image": 5, "label": 1}, "has no single image (bytes) and label (int64)"),
        ({"image": image(1), "label": 2}, "has label 2, but there are 2 label names. Set labels.names."),
        ({"image": image(1), "label": -1}, "has label -1, but there are 2 label names. Set labels.names."),
    ],
)
def test_invalid_record_is_refused_by_file_and_position(
    store: SpanStore, features: dict[str, Any], message: str
) -> None:
    export(store)
    put(store, TRAIN[1], record(image=image(0), label=0) + record(**features))
    with pytest.raises(InvalidSpan) as caught:
        adopt(store, Span(1), NAMES)
    assert str(caught.value).startswith(f"{TRAIN[1]}#1 {message}")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (record(image=b"raw", label=0), InvalidSpan, f"the image of {TEST[0]}#0 is no JPEG or PNG image"),
        (record(image=image(0), label=0)[:-1], CorruptRecords, f"{TEST[0]} ends within the record at byte 0"),
        (b"no records, but a text", CorruptRecords, f"{TEST[0]} ends within the record at byte 0"),
        (frame(b"\xff"), InvalidSpan, f"{TEST[0]}#0 is no tf.train.Example"),
        (gzip.compress(record(image=image(0), label=0)), InvalidSpan, f"{TEST[0]} is compressed. Decompress it"),
        (b"", InvalidSpan, "span-1 has no images in test/. A span has train/ and test/"),
    ],
    ids=["raw-image", "cut-off", "text", "no-example", "gzip", "empty"],
)
def test_invalid_file_is_refused_by_its_name(
    store: SpanStore, content: bytes, error: type[Exception], message: str
) -> None:
    export(store)
    put(store, TEST[0], content)
    with pytest.raises(error) as caught:
        adopt(store, Span(1), NAMES)
    assert message in str(caught.value)


def test_folder_without_both_splits_is_refused(store: SpanStore) -> None:
    put(store, TRAIN[0], record(image=image(0), label=0))
    with pytest.raises(
        InvalidSpan, match="span-1 has no images in test/. A span has train/ and test/ with TFRecord files"
    ):
        adopt(store, Span(1), NAMES)
    with pytest.raises(InvalidSpan, match="span-2 has no images in train/"):
        adopt(store, Span(2), NAMES)


def test_refused_folder_is_unchanged_and_adopted_once_fixed(store: SpanStore) -> None:
    files = export(store)
    put(store, TEST[0], record(image=b"raw", label=0))
    before = contents(store.folder(Span(1)))
    with pytest.raises(InvalidSpan, match="is no JPEG or PNG image"):
        adopt(store, Span(1), NAMES)
    assert contents(store.folder(Span(1))) == before
    assert store.unsigned() == [Span(1)]
    put(store, TEST[0], files[TEST[0]])
    assert adopt(store, Span(1), NAMES) == store.verify(Span(1))


def test_files_of_an_earlier_adoption_are_never_overwritten(store: SpanStore) -> None:
    export(store)
    storage.write(join(store.root, "_adopted", "span-1", TRAIN[0]), b"older")
    with pytest.raises(InvalidSpan, match=f"span-1/{TRAIN[0]} is kept from an earlier adoption. Move it elsewhere"):
        adopt(store, Span(1), NAMES)
    assert storage.read(join(store.root, "_adopted", "span-1", TRAIN[0])) == b"older"


def test_adoption_killed_anywhere_can_be_finished(disk: str) -> None:
    undisturbed = SpanStore(join(disk, "undisturbed"))
    files = export(undisturbed)
    expected = adopt(undisturbed, Span(1), NAMES).digest
    for after in itertools.count(1):
        store = SpanStore(join(disk, f"data-{after}"))
        export(store)
        died = killed(lambda store=store: adopt(store, Span(1), NAMES), after)
        assert all(store.verify(span) for span in store.spans())
        assert store.spans() == [Span(1)] or store.unsigned() == [Span(1)]
        assert store.claim("2021-10:a") == Span(2)
        assert adopt(store, Span(1), NAMES).digest == expected
        assert store.verify(Span(1)).images == 9
        assert contents(join(store.root, "_adopted", "span-1")) == files
        if not died:
            break
    assert after > 25


def test_concurrent_adoption_and_preparation_use_two_numbers(disk: str) -> None:
    snapshot = collected(join(disk, "2021-10"), 12)
    for number in range(5):
        store = SpanStore(join(disk, f"data-{number}"))
        export(store)
        tasks = [
            lambda store=store: adopt(store, Span(1), NAMES),
            lambda store=store: prepare(store, snapshot, LABELS, Split(0, 0.5)),
        ]
        assert [manifest.span for manifest in at_once(*tasks)] == [1, 2]
        assert all(store.verify(span) for span in store.spans())
