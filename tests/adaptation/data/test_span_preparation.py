"""Preparation: which images are in a span, and that the same images always give the same bytes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from adaptation.data import decoding, span_preparation, splits
from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.image_check import image_problem
from adaptation.data.labels import Labels, Skipped, TooManySkipped
from adaptation.data.span_adoption import adopt
from adaptation.data.span_preparation import (
    Chunk,
    Preparation,
    begin,
    chunks,
    find_published,
    finish,
    prepare,
    read_chunk,
    read_work,
    repeated,
    stage,
    write_chunk,
)
from adaptation.data.spans import SPLITS, InvalidSpan, Manifest, Span, SpanStore
from adaptation.data.splits import Split, keep_sides
from adaptation.data.tfrecords import LabelledImage
from adaptation.io import storage
from adaptation.io.storage import join
from tests.worlds.images import collect, contents, image
from tests.worlds.spans import LABELS, collected, duplicates, images_of, numbered

HALF = Split(ratio=0.5)
DAMAGED = "cannot be decoded: it is damaged or cut off"


@pytest.fixture
def store(root: str) -> SpanStore:
    return SpanStore(join(root, "data"))


@pytest.fixture
def october(root: str) -> str:
    return join(root, "collection", "2021-10")


def prepared(store: SpanStore, snapshot: Snapshot, split: Split = HALF, **options: object) -> Manifest:
    """Prepare a span with any number of skipped images, and verify it."""
    manifest = prepare(store, snapshot, LABELS, split, **{"max_skipped": 1.0, **options})  # type: ignore[arg-type]
    return store.verify(Span(manifest.span))


def with_odd_ones(october: str, odd: dict[str, bytes]) -> Snapshot:
    """Put these files among good ones into a folder and return its snapshot."""
    collect(october, numbered(12))
    for name, data in odd.items():
        storage.write(join(october, name), data)
    return snapshot_folder(october, "2021-10")


def unclaimed(october: str, files: list[storage.File]) -> Preparation:
    """Return the preparation of these images, none of which exists."""
    return Preparation("data", Span(1), Snapshot("2021-10", october, tuple(files)), LABELS, HALF, 1.0, "")


def sides(store: SpanStore, manifest: Manifest) -> dict[bytes, str]:
    """Return the split of each image by its bytes."""
    return {one.image: split for split in SPLITS for one in images_of(store, manifest, split)}


# Content of a span


def test_images_are_in_the_span_once_unchanged_and_labelled(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    manifest = prepared(store, snapshot)
    images = images_of(store, manifest)
    assert {one.id: one.image for one in images} == contents(october)
    assert duplicates(one.id for one in images) == []
    assert all(LABELS.names[one.label] == one.id.split("_")[0] for one in images)
    assert {one.span for one in images} == {manifest.span} == {1}
    assert sum(manifest.counts[split]["cat"] for split in SPLITS) == 6
    assert manifest.skipped == ()


def test_manifest_has_the_origin_of_the_span(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    manifest = prepared(store, snapshot, Split(3, 0.5), run="run-7")
    assert (manifest.batch, manifest.key, manifest.run) == ("2021-10", snapshot.key, "run-7")
    assert (manifest.seed, manifest.ratio, manifest.labels) == (3, 0.5, LABELS.names)
    assert store.snapshot(Span(1)) == snapshot


def test_only_the_snapshots_images_are_taken(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    collect(october, ["cat_later.png"])
    for other in ("2021-11", "2021-10_old", "2021-1"):
        collect(october.replace("2021-10", other), ["cat_other.png"])
    assert {one.id for one in images_of(store, prepared(store, snapshot))} == set(snapshot.names)


def test_source_folder_is_not_changed(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    before = contents(october)
    prepared(store, snapshot)
    assert contents(october) == before


def test_jpeg_and_png_of_any_ending_and_letter_case_are_accepted(store: SpanStore, october: str) -> None:
    odd = {"cat_a.JPG": image("a", "JPEG"), "cat_b.jpeg": image("b", "JPEG"), "ship_c.Png": image("c", "PNG")}
    snapshot = with_odd_ones(october, odd)
    assert odd.items() <= {one.id: one.image for one in images_of(store, prepared(store, snapshot))}.items()


def test_label_may_be_the_name_of_the_folder(store: SpanStore, october: str) -> None:
    collect(october, [f"{label}/{number}.png" for label in LABELS.names for number in range(6)])
    manifest = prepare(store, snapshot_folder(october, "first"), replace(LABELS, source="folder"), HALF)
    assert all(LABELS.names[one.label] == one.id.split("/")[0] for one in images_of(store, manifest))


# The split


def test_split_has_about_its_ratio() -> None:
    drawn = [Split(ratio=0.2).side(f"{number}".encode()) for number in range(5000)]
    assert 900 < drawn.count("test") < 1100
    assert {Split(ratio=1.0).side(b"x"), Split(ratio=0.0).side(b"x")} == {"test", "train"}


def test_another_seed_gives_another_split(root: str, october: str) -> None:
    snapshot = collected(october, 30)
    stores = [SpanStore(join(root, f"data-{seed}")) for seed in (0, 1)]
    first, second = (prepared(store, snapshot, Split(seed, 0.5)) for seed, store in enumerate(stores))
    assert sides(stores[0], first) != sides(stores[1], second)
    assert first.digest != second.digest


def test_same_image_is_on_the_same_side_in_every_span(root: str, store: SpanStore, october: str) -> None:
    first = prepared(store, collected(october, 30))
    november = join(root, "collection", "2021-11")
    for number, data in enumerate(contents(october).values()):
        storage.write(join(november, f"ship_{number}.png"), data)
    collect(november, numbered(10, first=100))
    second = prepared(store, snapshot_folder(november, "2021-11"))
    assert (first.span, second.span) == (1, 2)
    assert sides(store, first).items() <= sides(store, second).items()


def test_shards_do_not_depend_on_the_order_of_the_list(root: str, october: str) -> None:
    snapshot = collected(october, 30)
    first = prepared(SpanStore(join(root, "a")), snapshot, shard_bytes=500)
    mixed = replace(snapshot, images=tuple(reversed(snapshot.images)))
    second = prepared(SpanStore(join(root, "b")), mixed, shard_bytes=500)
    assert second.shards == first.shards
    assert second.counts == first.counts


@pytest.mark.parametrize("split", [Split(0, 0.1), Split(0, 0.9), Split(7, 0.5)], ids=str)
def test_image_keeps_its_side_in_a_span_with_another_split(
    root: str, store: SpanStore, october: str, split: Split
) -> None:
    first = prepared(store, collected(october, 30))
    november = join(root, "collection", "2021-11")
    for number, data in enumerate(contents(october).values()):
        storage.write(join(november, f"ship_{number}.png"), data)
    collect(november, numbered(30, first=100))
    second = prepared(store, snapshot_folder(november, "2021-11"), split)
    before, after = sides(store, first), sides(store, second)
    assert before.items() <= after.items()
    assert any(split.side(hashlib.sha256(data).digest()) != side for data, side in before.items())
    new = {data: side for data, side in after.items() if data not in before}
    assert new == {data: split.side(hashlib.sha256(data).digest()) for data in new}
    assert (second.seed, second.ratio) == (split.seed, split.ratio)


def test_image_keeps_its_side_through_a_chain_of_ratios(root: str, store: SpanStore, october: str) -> None:
    snapshots = [collected(october, 20)]
    for name in ("2021-11", "2021-12"):
        folder = join(root, "collection", name)
        for number, data in enumerate(contents(october).values()):
            storage.write(join(folder, f"ship_{name}_{number}.png"), data)
        collect(folder, numbered(10, first=100))
        snapshots.append(snapshot_folder(folder, name))
    manifests = [
        prepared(store, *each) for each in zip(snapshots, [Split(0, ratio) for ratio in (0.2, 0.8, 0.5)], strict=True)
    ]
    first, second, third = (sides(store, manifest) for manifest in manifests)
    assert first.items() <= second.items() and second.items() <= third.items()


def test_image_of_any_training_split_is_never_in_a_test_split(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    both = LabelledImage(storage.read(join(october, snapshot.images[0].name)), 0, "both", 1)
    for split in SPLITS:
        others = [LabelledImage(image(f"{split}-{number}"), 1, f"{number}", 1) for number in range(2)]
        content = b"".join(one.to_record() for one in [both, *others])
        storage.write(join(store.root, "span-1", split, "came.tfrecord"), content)
    adopt(store, Span(1), LABELS.names)
    second = prepared(store, snapshot, Split(ratio=0.9))
    assert sides(store, second)[both.image] == "train"


def test_sides_in_a_span_with_another_split_are_read_once(store: SpanStore, october: str) -> None:
    prepared(store, collected(october, 12))
    kept = keep_sides(store, [Span(1)], Split(ratio=0.95))
    assert kept.moved
    for file in storage.files_below(join(store.root, "span-1")):
        if file.name.endswith(".tfrecord"):
            storage.remove(join(store.root, "span-1", file.name))
    assert keep_sides(store, [Span(1)], Split(ratio=0.95)) == kept


def test_span_does_not_keep_its_own_sides(store: SpanStore, october: str) -> None:
    manifest = prepared(store, collected(october, 12), Split(ratio=0.5))
    assert splits.other_spans(store, Span(manifest.span)) == ()


def test_no_image_changes_sides_between_spans_prepared_at_the_same_time(
    root: str, store: SpanStore, october: str
) -> None:
    small, folder = collected(october, 20), join(root, "collection", "2021-11")
    for number, data in enumerate(contents(october).values()):
        storage.write(join(folder, f"ship_{number}.png"), data)
    collect(folder, numbered(40, first=100))
    large = snapshot_folder(folder, "2021-11")
    begun = begin(store, large, LABELS, Split(ratio=0.2), 1.0, "")
    reports = [write_chunk(begun.work, chunk)[0] for chunk in chunks(begun, 2**20)]
    first = prepared(store, small, Split(ratio=0.5))
    with pytest.raises(InvalidSpan, match=r"span-1 has \d+ images on the other side .* than span-2, .* Run it again"):
        finish(begun, reports)
    second = prepared(store, large, Split(ratio=0.2))
    assert sides(store, first).items() <= sides(store, second).items()


def test_span_published_meanwhile_with_other_images_hinders_no_other(root: str, store: SpanStore, october: str) -> None:
    snapshot = collected(october, 20)
    begun = begin(store, snapshot, LABELS, Split(ratio=0.5), 1.0, "")
    prepared(store, collected(join(root, "collection", "2021-11"), 30, first=100), Split(ratio=0.2))
    finish(begun, [write_chunk(begun.work, chunk)[0] for chunk in chunks(begun, 2**20)])
    assert store.spans() == [Span(1), Span(2)]


@pytest.mark.parametrize(
    ("images", "least", "share"),
    [(0, 0.2, 0.2), (20, 0.2, 0.5), (199, 0.2, 0.5), (200, 0.2, 0.5), (201, 0.2, 100 / 201), (250, 0.2, 0.4)]
    + [(499, 0.2, 100 / 499), (500, 0.2, 0.2), (10_000, 0.2, 0.2), (10_000, 0.05, 0.05), (20, 0.7, 0.7)],
)
def test_share_of_the_test_split_reaches_100_images_up_to_a_half(images: int, least: float, share: float) -> None:
    assert splits.test_share(images, least) == pytest.approx(share)


def test_span_with_an_appended_class_leaves_the_earlier_span(store: SpanStore, october: str) -> None:
    first, november = prepared(store, collected(october, 12)), october.replace("2021-10", "2021-11")
    collect(november, [*numbered(12, first=50), *(f"ox_{number}.png" for number in range(8))])
    longer = Labels((*LABELS.names, "ox"))
    second = prepare(store, snapshot_folder(november, "2021-11"), longer, HALF)
    assert second.labels == ("cat", "ship", "ox")
    assert sum(second.counts[split]["ox"] for split in SPLITS) == 8
    assert {one.label for one in images_of(store, second) if one.id.startswith("ox_")} == {2}
    assert store.verify(Span(1)) == first


@pytest.mark.parametrize("names", [("ship", "cat"), ("ant", "cat", "ship"), ("cat",)])
def test_span_with_changed_labels_is_refused(store: SpanStore, october: str, names: tuple[str, ...]) -> None:
    prepared(store, collected(october, 12))
    other = collected(october.replace("2021-10", "2021-11"), 12, first=50)
    with pytest.raises(InvalidSpan, match="the labels as span-1 does: label . was .* and append new ones"):
        begin(store, other, Labels(names), HALF, max_skipped=1.0, run="")
    assert begin(store, other, LABELS, HALF, max_skipped=1.0, run="").span == Span(2)


# The same input, the same bytes


def test_same_images_give_the_same_bytes_from_any_folder(root: str, october: str) -> None:
    elsewhere = join(root, "another collection", "2021-10")
    stores = [SpanStore(join(root, name)) for name in ("a", "b")]
    first = prepared(stores[0], collected(october, 20), shard_bytes=400, run="one")
    second = prepared(stores[1], collected(elsewhere, 20), shard_bytes=400, run="two")
    assert second.digest == first.digest
    shards = [{name: data for name, data in contents(one.root).items() if "tfrecord" in name} for one in stores]
    assert shards[0] == shards[1]
    assert len(shards[0]) > 4


def test_same_images_give_the_same_bytes_in_any_order_of_chunks(root: str, october: str) -> None:
    snapshot = with_odd_ones(october, {"cat_twin.png": image("cat_0000.png"), "ship_broken.png": b"x"})
    stores = [SpanStore(join(root, name)) for name in ("a", "b")]
    first = prepared(stores[0], snapshot, shard_bytes=200)
    other = begin(stores[1], snapshot, LABELS, HALF, 1.0, "")
    cut = chunks(other, 200)
    written = [write_chunk(other.work, chunk) for chunk in reversed(cut) for _ in range(2)][::2]
    twins = repeated((report.number, own) for report, own in written)
    reports = [write_chunk(other.work, cut[one.number], twins.get(one.number))[0] for one, _ in written]
    assert finish(other, reports).digest == first.digest
    assert stores[1].verify(Span(1)).shards == first.shards


def test_preparing_again_returns_the_published_span(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    first = prepared(store, snapshot, run="first")
    before = contents(store.root)
    assert prepared(store, snapshot, run="second") == first
    assert contents(store.root) == before


def test_preparing_again_does_not_need_the_images(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    first = prepared(store, snapshot)
    storage.remove_folder(october)
    assert prepare(store, snapshot, LABELS, HALF) == first


def test_another_snapshot_gets_the_next_number(store: SpanStore, october: str) -> None:
    assert prepared(store, collected(october, 12)).span == 1
    assert prepared(store, collected(october, 12, first=12)).span == 2


def test_span_is_found_after_it_is_published(store: SpanStore, october: str) -> None:
    assert find_published(store, Span(1)) is None
    manifest = prepared(store, collected(october, 12))
    assert find_published(store, Span(1)) == manifest


# Chunks and shards


def test_chunks_have_every_image_once_and_about_the_given_size(october: str) -> None:
    files = [storage.File(f"cat_{n:03d}.png", 10) for n in range(100)]
    cut = chunks(unclaimed(october, files), 250)
    assert [len(chunk.images) for chunk in cut] == [25, 25, 25, 25]
    assert [(chunk.number, chunk.count) for chunk in cut] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert sorted(storage.File(one.name, one.size) for chunk in cut for one in chunk.images) == files


def test_chunk_is_a_mixture_of_all_names(october: str) -> None:
    files = [storage.File(f"{label}_{number:03d}.png", 10) for label in LABELS.names for number in range(100)]
    for chunk in chunks(unclaimed(october, files), 500):
        labels = [one.name.split("_")[0] for one in chunk.images]
        assert 10 < labels.count("cat") < 40


def test_no_images_make_one_empty_chunk(october: str) -> None:
    assert chunks(unclaimed(october, []), 100) == [Chunk(0, 1, ())]


def test_staged_work_is_read_as_it_was_and_swept_by_publishing(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    preparation = begin(store, snapshot, LABELS, Split(3, 0.5, frozenset({b"\x00\xff345678"})), 1.0, "")
    cut = chunks(preparation, 200)
    folder = stage(preparation, cut)
    assert read_work(folder) == preparation.work
    assert [read_chunk(folder, number) for number in range(len(cut))] == cut
    prepared(store, snapshot)
    assert not storage.exists(folder)


def test_attempts_of_other_settings_or_sides_do_not_share_staged_work(store: SpanStore, october: str) -> None:
    preparation = begin(store, collected(october, 12), LABELS, HALF, 1.0, "")
    others = [
        replace(preparation, split=Split(1, 0.5)),
        replace(preparation, split=Split(0, 0.5, frozenset({b"12345678"}))),
        replace(preparation, labels=Labels(("cat", "ship"), reviewed={"cat_0000.png": "ship"})),
    ]
    folders = [stage(one, chunks(one, 200)) for one in (preparation, *others, preparation)]
    assert len(set(folders)) == 4
    assert folders[0] == folders[-1]


def test_image_larger_than_a_shard_is_a_shard(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    manifest = prepared(store, snapshot, shard_bytes=1)
    assert [shard.images for shard in manifest.shards] == [1] * 12


def test_shard_path_has_its_split_and_checksum(store: SpanStore, october: str) -> None:
    manifest = prepared(store, collected(october, 12))
    assert [shard.split for shard in manifest.shards] == ["test", "train"]
    for shard in manifest.shards:
        assert shard.path == f"{shard.split}/shard-00000-of-00001-{shard.crc32c}.tfrecord"


# Unusable images


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        pytest.param("cat_x.jpg", b"", "is empty", id="empty"),
        pytest.param("cat_x.jpg", b"no image at all", "is no JPEG or PNG image", id="text"),
        pytest.param("cat_x.jpg", image(1, "GIF"), "is no JPEG or PNG image", id="gif"),
        pytest.param("cat_x.jpg", image(1, "WEBP"), "is no JPEG or PNG image", id="webp"),
        pytest.param("cat_x.png", image(1, "BMP"), "is no JPEG or PNG image", id="bmp"),
        pytest.param("cat_x.jpg", image(1, "JPEG", (64, 64))[:-400], DAMAGED, id="cut-jpeg"),
        pytest.param("cat_x.png", image(1, "PNG", (64, 64))[:-400], DAMAGED, id="cut-png"),
        pytest.param(
            "cat_x.png", image(1, "PNG", (64, 64)).replace(b"IDAT", b"IDAT\x00\x00\x00"), DAMAGED, id="damaged-png"
        ),
        pytest.param("cat_x.png", image(1, "PNG")[:30], DAMAGED, id="png-stump"),
        pytest.param("cat_x.jpg", image(1, "JPEG")[:30], DAMAGED, id="jpeg-stump"),
        pytest.param("dog_x.png", image(1), "no label by its name's prefix (known: cat, ship)", id="unknown-label"),
        pytest.param("cat.png", image(1), "no label by its name's prefix (known: cat, ship)", id="no-label"),
    ],
)
def test_unusable_image_is_skipped_with_a_reason(
    store: SpanStore, october: str, name: str, data: bytes, reason: str
) -> None:
    manifest = prepared(store, with_odd_ones(october, {name: data}))
    assert manifest.skipped == (Skipped(name, reason),)
    assert manifest.images == 12


def test_reasons_for_skipping_are_the_same_in_every_attempt(root: str, october: str) -> None:
    snapshot = with_odd_ones(october, {"cat_text.jpg": b"text", "cat_gif.jpg": image(1, "GIF")})
    first, second = (prepared(SpanStore(join(root, name)), snapshot) for name in ("a", "b"))
    assert first.digest == second.digest


def test_huge_file_is_skipped_without_reading_it(
    store: SpanStore, october: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = image("huge", size=(40, 40))
    snapshot = with_odd_ones(october, {"cat_x.png": huge})
    storage.remove(join(october, "cat_x.png"))
    monkeypatch.setattr(span_preparation, "LARGEST_FILE", len(huge) - 1)
    assert prepared(store, snapshot).skipped == (Skipped("cat_x.png", f"is too large ({len(huge)} bytes)"),)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_image_of_huge_dimensions_is_not_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LARGEST_IMAGE", 99)
    assert image_problem(image(1, kind, (10, 10))) == "is too large (10 x 10 pixels)"
    assert image_problem(image(1, kind, (9, 11))) is None


def test_images_without_faults_have_no_problem() -> None:
    for kind in ("JPEG", "PNG"):
        for size in ((1, 1), (3, 17), (64, 64)):
            assert image_problem(image(1, kind, size)) is None


def test_out_of_memory_is_not_reported_as_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("zlib.decompressobj", out_of_memory)
    with pytest.raises(MemoryError):
        image_problem(image(1))


def test_images_deleted_or_changed_after_the_snapshot_are_skipped(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 20)
    storage.remove(snapshot.uris[3])
    storage.write(snapshot.uris[7], image("another", size=(9, 9)))
    manifest = prepared(store, snapshot)
    assert manifest.skipped == (
        Skipped(snapshot.names[3], "was deleted after the snapshot was taken"),
        Skipped(snapshot.names[7], "has changed since the snapshot was taken"),
    )


# Duplicates


@pytest.mark.parametrize("shard_bytes", [1, 300, 2**20], ids=["across-chunks", "mixed", "within-a-chunk"])
def test_duplicate_images_are_in_the_span_once(store: SpanStore, october: str, shard_bytes: int) -> None:
    twin, triplet = image("cat_0000.png"), image("ship_0001.png")
    odd = {"cat_twin.png": twin, "ship_a.png": triplet, "ship_b.png": triplet}
    manifest = prepared(store, with_odd_ones(october, odd), shard_bytes=shard_bytes)
    images = images_of(store, manifest)
    assert len(images) == 12
    assert duplicates(one.image for one in images) == []
    left_out = {one.name for one in manifest.skipped}
    assert len(left_out & {"cat_0000.png", "cat_twin.png"}) == 1
    assert len(left_out & {"ship_0001.png", "ship_a.png", "ship_b.png"}) == 2
    assert all(one.reason.startswith("has the same content as ") for one in manifest.skipped)
    taken = {one.id for one in images}
    assert all(one.reason.removeprefix("has the same content as ") in taken for one in manifest.skipped)


@pytest.mark.parametrize("shard_bytes", [1, 2**20], ids=["across-chunks", "within-a-chunk"])
def test_duplicate_under_another_label_is_reported(store: SpanStore, october: str, shard_bytes: int) -> None:
    manifest = prepared(store, with_odd_ones(october, {"ship_x.png": image("cat_0000.png")}), shard_bytes=shard_bytes)
    assert manifest.skipped in (
        (Skipped("ship_x.png", "has the same content as cat_0000.png, which is labelled cat"),),
        (Skipped("cat_0000.png", "has the same content as ship_x.png, which is labelled ship"),),
    )


def test_duplicates_are_no_reason_to_refuse(store: SpanStore, october: str) -> None:
    odd = {f"cat_twin_{number}.png": image("cat_0000.png") for number in range(20)}
    manifest = prepared(store, with_odd_ones(october, odd), max_skipped=0.0, shard_bytes=200)
    assert (manifest.images, len(manifest.skipped)) == (12, 20)


# Refusals


def test_too_many_skipped_images_are_refused_with_examples(store: SpanStore, october: str) -> None:
    snapshot = with_odd_ones(october, {"cat_x.png": b"", "dog_y.png": image("y")})
    with pytest.raises(TooManySkipped, match=r"2 of 14 images were skipped, 14.3%") as caught:
        prepared(store, snapshot, max_skipped=0.1)
    assert "cat_x.png: is empty" in str(caught.value)
    assert store.spans() == []


def test_refused_snapshot_keeps_its_number_until_its_labels_are_fixed(store: SpanStore, october: str) -> None:
    snapshot = collected(october, 12)
    with pytest.raises(TooManySkipped):
        prepare(store, snapshot, Labels(("dog",)), HALF)
    assert prepared(store, collected(october.replace("2021-10", "2021-11"), 12, first=50)).span == 2
    assert prepared(store, snapshot).span == 1
    assert store.spans() == [Span(1), Span(2)]
    assert storage.folders(join(store.root, "_staging")) == []


@pytest.mark.parametrize(("ratio", "split"), [(1.0, "train"), (0.0, "test")])
def test_span_without_images_in_a_split_is_refused(store: SpanStore, october: str, ratio: float, split: str) -> None:
    snapshot = collected(october, 4)
    with pytest.raises(
        InvalidSpan, match=f"span-1 would have no {split} image: 4 of 4 images are usable. Collect more"
    ):
        prepared(store, snapshot, Split(ratio=ratio))
    assert store.spans() == []


def test_snapshot_without_images_is_refused(store: SpanStore, october: str) -> None:
    with pytest.raises(InvalidSpan, match="0 of 0 images are usable"):
        prepared(store, Snapshot("2021-10", october, ()))


# Real photographs


@pytest.mark.skipif(
    not (archive := Path(__file__).parents[4] / "shared" / "data" / "cifar10-test.tar.gz").exists(),
    reason="the CIFAR-10 images are not beside the project",
)
def test_real_photographs_become_a_span(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(archive) as tar:
        members = [tar.next() for _ in range(120)]
        tar.extractall(tmp_path, [one for one in members if one], filter="data")
    labels = tuple(sorted(os.listdir(tmp_path / "test")))
    snapshot = snapshot_folder(str(tmp_path / "test"), "cifar")
    store = SpanStore(str(tmp_path / "data"))
    manifest = prepare(store, snapshot, Labels(labels, "folder"))
    assert manifest.images == len(snapshot.images) > 100
    assert store.verify(Span(1)).skipped == ()
