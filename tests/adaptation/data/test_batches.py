"""Batches: which month is newest, what a snapshot holds, and that archiving neither loses nor doubles an image."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptation import codec
from adaptation.data.batches import (
    Batch,
    BatchStore,
    InvalidBatch,
    NoBatch,
    Snapshot,
    collection_of,
    is_image,
    snapshot_folder,
)
from adaptation.io import storage
from adaptation.io.storage import File, join
from tests.worlds.images import collect, contents, image
from tests.worlds.processes import at_once, killed
from tests.worlds.spans import collected, numbered

OCTOBER = Batch(2021, 10)


@pytest.fixture
def batches(root: str) -> BatchStore:
    return BatchStore(root)


def everything(batches: BatchStore, batch: Batch = OCTOBER) -> list[bytes]:
    """Return the bytes of all images of a batch, archived ones included, sorted."""
    folders = (batches.folder(batch), batches.folder(batch) + "_old")
    return sorted(data for folder in folders for data in contents(folder).values())


def names(images: tuple[File, ...]) -> list[str]:
    return [one.name for one in images]


# Batches


def test_batch_parses_what_it_prints() -> None:
    assert Batch.parse("2021-09") == Batch(2021, 9)
    assert str(Batch.parse("2021-09")) == "2021-09"


@pytest.mark.parametrize(
    "text",
    [
        "2021-00",
        "2021-13",
        "2021-19",
        "2021-1",
        "2021-10_old",
        "21-10",
        "2021/10",
        "2021-10 ",
        "-2021-10",
        "",
        "２０２１-10",
    ],
)
def test_invalid_batch_name_is_refused_and_shown(text: str) -> None:
    with pytest.raises(InvalidBatch, match="is no month. Name a batch like 2021-10") as caught:
        Batch.parse(text)
    assert repr(text) in str(caught.value)


@given(st.text(max_size=12))
def test_parse_accepts_only_what_a_batch_prints(text: str) -> None:
    try:
        batch = Batch.parse(text)
    except InvalidBatch:
        return
    assert str(batch) == text
    assert 1 <= batch.month <= 12


def test_batches_are_ordered_by_time() -> None:
    assert Batch.parse("2020-12") < Batch.parse("2021-01") < Batch.parse("2021-10")


def test_only_valid_months_are_batches(batches: BatchStore) -> None:
    for folder in (
        "2021-10",
        "2020-12",
        "2021-00",
        "2021-13",
        "2021-19",
        "2021-10_old",
        "_archived",
        "misc",
        "２０２１-11",
    ):
        collect(join(batches.root, folder), ["cat_1.jpg"])
    collect(batches.root, ["2021-11"])
    assert batches.batches() == [Batch(2020, 12), Batch(2021, 10)]


def test_newest_batch_is_the_latest_month(batches: BatchStore) -> None:
    for month in ("2021-02", "2021-12", "2020-11", "2021-10"):
        collect(join(batches.root, month), ["cat_1.jpg"])
    assert batches.newest() == Batch(2021, 12)


@pytest.mark.parametrize("months", [["0001-01", "1020-05", "1926-11", "2021-10", "2025-12"], ["2021-10", "9999-12"]])
def test_latest_batches_are_listed_newest_first_in_any_year(batches: BatchStore, months: list[str]) -> None:
    for month in months:
        collect(join(batches.root, month), ["cat_1.jpg"])
        collect(join(batches.root, f"{month}_old"), ["cat_1.jpg"])
    for count in range(len(months) + 2):
        assert [str(batch) for batch in batches.latest(count)] == sorted(months, reverse=True)[:count]


@pytest.mark.parametrize("year", [1, 99, 1999, 2001])
def test_latest_batches_are_all_found_whatever_year_it_is_now(
    batches: BatchStore, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls(year, 3, 1, tzinfo=tz)

    monkeypatch.setattr("adaptation.data.batches.datetime", Clock)
    months = [f"{number:04d}-{month:02d}" for number in (0, 1, year, year + 1) for month in (1, 3, 12)]
    for month in months:
        collect(join(batches.root, month), ["cat_1.jpg"])
    assert [str(batch) for batch in batches.latest(99)] == sorted(set(months), reverse=True)


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("2021-10/cat_1.jpg", OCTOBER),
        ("2021-10/cats/cat 1 ü.JPEG", OCTOBER),
        ("2021-10/..cat.jpg/cat.png", None),
        ("2021-10/../cat_1.jpg", None),
        ("2021-10//cat_1.jpg", None),
        ("2021-10/cats//cat_1.jpg", None),
        ("2021-10/.jpg", None),
        ("2021-10/cat\n1.jpg", None),
        ("2021-10/cat_1.txt", None),
        ("2021-10/", None),
        ("2021-10", None),
        ("2021-10.jpg", None),
        ("2021-10%2Fcat_1.jpg", None),
        ("2021-10_old/cat_1.jpg", None),
        ("2021-13/cat_1.jpg", None),
        ("_evaluated/2021-10/cat_1.jpg", None),
        ("/2021-10/cat_1.jpg", None),
    ],
)
def test_batch_of_an_image_is_found_from_its_uri(name: str, batch: Batch | None) -> None:
    assert BatchStore("gs://bucket/images").batch_of(f"gs://bucket/images/{name}") == batch


def test_image_outside_the_collection_belongs_to_no_batch() -> None:
    batches = BatchStore("gs://bucket/images")
    for place in ("gs://bucket", "gs://bucket/images2", "gs://other/images", "bucket/images", ""):
        assert batches.batch_of(f"{place}/2021-10/cat_1.jpg") is None
    assert batches.batch_of("2021-10/cat_1.jpg") is None


def test_batch_of_and_the_listing_agree_on_every_image(batches: BatchStore) -> None:
    collect(batches.folder(OCTOBER), ["cat_1.jpg", "cats/CAT.PNG", ".hidden.jpg", "notes.txt", "a/.b/c.jpg"])
    listed = storage.files_below(batches.folder(OCTOBER))
    belonging = [file for file in listed if batches.batch_of(join(batches.folder(OCTOBER), file.name)) == OCTOBER]
    assert tuple(belonging) == batches.images(OCTOBER) == tuple(sorted(batches.iter_images(OCTOBER)))
    assert len(belonging) == 2


def test_root_without_batches_has_no_newest_batch(batches: BatchStore) -> None:
    with pytest.raises(NoBatch, match="has no batch. Put images into a folder named after their month"):
        batches.newest()
    assert batches.batches() == []


def test_batch_folder_may_be_a_symlink_to_another_disk(disk: str) -> None:
    collect(join(disk, "elsewhere"), ["cat_1.jpg"])
    os.makedirs(join(disk, "collection"))
    os.symlink(join(disk, "elsewhere"), join(disk, "collection", "2021-10"))
    assert BatchStore(join(disk, "collection")).snapshot(OCTOBER).names == ("cat_1.jpg",)


# Snapshots


def test_snapshot_lists_the_images_of_its_batch_only(batches: BatchStore) -> None:
    collect(batches.folder(OCTOBER), ["ship_2.jpg", "cat_1.jpg", "cats/cat_3.jpg"])
    for other in ("2021-10_old", "2021-11", "2020-10"):
        collect(join(batches.root, other), ["cat_9.jpg"])
    snapshot = batches.snapshot(OCTOBER)
    assert snapshot.names == ("cat_1.jpg", "cats/cat_3.jpg", "ship_2.jpg")
    assert snapshot.uris == tuple(join(batches.root, "2021-10", name) for name in snapshot.names)
    assert [one.size for one in snapshot.images] == [len(image(name, "JPEG")) for name in snapshot.names]
    assert snapshot.batch == "2021-10"


def test_snapshot_lists_its_batch_folder_once_and_no_other(
    batches: BatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, listed = storage.iter_files_below, []
    collected(batches.folder(OCTOBER), 2)
    monkeypatch.setattr(storage, "iter_files_below", lambda uri, *rest: listed.append(uri) or listing(uri, *rest))
    batches.snapshot(OCTOBER)
    assert listed == [batches.folder(OCTOBER)]


def test_image_endings_are_recognised_in_any_letter_case(batches: BatchStore) -> None:
    images = ["a.JPG", "b.jpeg", "c.Png", "d.jpg", "e.png", "f.JPEG"]
    others = ["g.gif", "h.txt", "i.jpg.txt", "jpg", "k.tfrecord", ".l.jpg", ".hidden/m.jpg", "n.jpg.part"]
    collect(batches.folder(OCTOBER), images + others)
    assert list(batches.snapshot(OCTOBER).names) == images


@pytest.mark.parametrize("space", [" ", "\u00a0", "\u202f"])
def test_image_name_may_contain_any_space_character(space: str) -> None:
    assert is_image(f"Screenshot 9.41{space}AM.png")


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x85", "\u2028", "\u2029", "\x00", "\udc80"])
def test_image_name_with_a_line_break_or_control_is_ignored(character: str) -> None:
    assert not is_image(f"cat_{character}.jpg")


def test_snapshot_of_a_missing_batch_names_the_existing_ones(batches: BatchStore) -> None:
    collect(join(batches.root, "2021-09"), ["cat_1.jpg"])
    with pytest.raises(NoBatch, match=r"2021-10 is not in .* \(there: 2021-09\)"):
        batches.snapshot(OCTOBER)


def test_snapshot_of_a_batch_without_images_is_refused(batches: BatchStore) -> None:
    storage.write(join(batches.folder(OCTOBER), "readme.txt"), b"")
    with pytest.raises(NoBatch, match=r"has no images \(\.jpg, \.jpeg, \.png\)"):
        batches.snapshot(OCTOBER)
    assert batches.images(OCTOBER) == ()


def test_snapshot_is_unchanged_by_encoding_and_decoding(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 3)
    assert codec.decode(codec.encode(snapshot), Snapshot, "snapshot.json") == snapshot


def test_snapshot_digest_covers_names_and_sizes(root: str) -> None:
    snapshot = collected(join(root, "2021-10"), 3)
    elsewhere = collected(join(root, "other root", "2021-10"), 3)
    assert elsewhere.digest == snapshot.digest
    first, *rest = snapshot.images
    for changed in (first._replace(size=first.size + 1), first._replace(name="other.png")):
        assert replace(snapshot, images=(changed, *rest)).digest != snapshot.digest
    assert replace(snapshot, images=tuple(rest)).digest != snapshot.digest


def test_snapshot_key_differs_between_batches(root: str) -> None:
    october, november = collected(join(root, "2021-10"), 3), collected(join(root, "2021-11"), 3)
    assert october.digest == november.digest
    assert october.key != november.key


def test_snapshot_of_any_folder_of_images_is_possible(root: str) -> None:
    collect(join(root, "images"), ["cat/1.jpg"])
    assert snapshot_folder(join(root, "images"), "first").names == ("cat/1.jpg",)
    with pytest.raises(NoBatch, match="has no images"):
        snapshot_folder(join(root, "none"), "first")


def test_collection_of_a_folder_that_is_no_batch_is_none(batches: BatchStore) -> None:
    collection = collection_of(collected(batches.folder(OCTOBER), 1))
    assert collection is not None
    assert collection.root == batches.root
    assert collection_of(collected(join(batches.root, "images"), 1)) is None


# Marks


def test_images_count_as_evaluated_after_they_are_marked(batches: BatchStore) -> None:
    first = collected(batches.folder(OCTOBER), 2)
    assert batches.evaluated(OCTOBER) == frozenset()
    batches.mark_evaluated(first)
    batches.mark_evaluated(first)
    assert batches.evaluated(OCTOBER) == frozenset(first.images)
    second = collected(batches.folder(OCTOBER), 2, first=2)
    assert batches.evaluated(OCTOBER) == frozenset(first.images)
    batches.mark_evaluated(second)
    assert batches.evaluated(OCTOBER) == frozenset(second.images)
    assert batches.evaluated(Batch(2021, 11)) == frozenset()


def test_archived_images_still_count_as_evaluated(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 2)
    batches.mark_evaluated(snapshot)
    batches.archive(snapshot)
    assert batches.evaluated(OCTOBER) == frozenset(snapshot.images)


def test_changed_image_under_an_evaluated_name_counts_as_new(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 2)
    batches.mark_evaluated(snapshot)
    batches.archive(snapshot)
    storage.write(snapshot.uris[0], image("another", size=(9, 9)))
    assert not set(batches.images(OCTOBER)) & batches.evaluated(OCTOBER)


# Archiving


def test_archiving_moves_exactly_the_snapshot(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 4)
    collect(batches.folder(OCTOBER), ["cat_later.png"])
    storage.write(join(batches.folder(OCTOBER), "notes.txt"), b"")
    before = contents(batches.folder(OCTOBER))
    assert batches.archive(snapshot) == 4
    assert names(batches.images(OCTOBER)) == ["cat_later.png"]
    assert contents(batches.folder(OCTOBER)) == {name: before[name] for name in ("cat_later.png", "notes.txt")}
    assert contents(batches.folder(OCTOBER) + "_old") == {name: before[name] for name in snapshot.names}


def test_image_changed_since_the_snapshot_is_not_archived(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 3)
    storage.write(snapshot.uris[1], image("another", size=(9, 9)))
    assert batches.archive(snapshot) == 2
    assert names(batches.images(OCTOBER)) == [snapshot.names[1]]


def test_images_outside_the_snapshot_are_never_archived(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 3)
    later = collected(batches.folder(OCTOBER), 3, first=3)
    batches.archive(snapshot)
    assert set(names(batches.archived(OCTOBER))).isdisjoint(set(later.names) - set(snapshot.names))


def test_archiving_again_moves_nothing(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 3)
    assert [batches.archive(snapshot) for _ in range(3)] == [3, 0, 0]
    assert names(batches.archived(OCTOBER)) == list(snapshot.names)


def test_archived_image_whose_name_is_taken_gets_a_number(batches: BatchStore) -> None:
    folder = batches.folder(OCTOBER)
    arrivals = [image(number, size=(4, 4 + number)) for number in range(3)]
    for data in arrivals:
        storage.write(join(folder, "a.b", "cat_1.png"), data)
        batches.archive(batches.snapshot(OCTOBER))
    expected = {f"a.b/cat_1{suffix}.png": data for suffix, data in zip(["", "~2", "~3"], arrivals, strict=True)}
    assert contents(folder + "_old") == expected


def test_same_image_again_is_archived_once(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 2)
    batches.archive(snapshot)
    collect(batches.folder(OCTOBER), [snapshot.names[0], "cat_later.png"])
    batches.archive(batches.snapshot(OCTOBER))
    assert batches.images(OCTOBER) == ()
    assert names(batches.archived(OCTOBER)) == sorted([*snapshot.names, "cat_later.png"])


def test_archive_is_not_listed_as_a_batch(batches: BatchStore) -> None:
    batches.archive(collected(batches.folder(OCTOBER), 1))
    collect(batches.folder(OCTOBER), ["cat_later.png"])
    assert batches.batches() == [OCTOBER]


# Requeueing


def test_requeueing_merges_archived_images_with_later_arrivals(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 3)
    batches.archive(snapshot)
    collect(batches.folder(OCTOBER), ["cat_later.png"])
    assert batches.requeue(OCTOBER) == 3
    assert set(names(batches.images(OCTOBER))) == {*snapshot.names, "cat_later.png"}
    assert batches.archived(OCTOBER) == ()


def test_requeueing_never_overwrites_later_arrivals(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 1)
    batches.archive(snapshot)
    other = image("another", size=(9, 9))
    storage.write(snapshot.uris[0], other)
    batches.requeue(OCTOBER)
    found = contents(batches.folder(OCTOBER))
    assert found == {"cat_0000.png": other, "cat_0000~2.png": image("cat_0000.png")}


def test_requeued_images_stay_evaluated(batches: BatchStore) -> None:
    archived = collected(batches.folder(OCTOBER), 2)
    batches.mark_evaluated(archived)
    batches.archive(archived)
    batches.requeue(OCTOBER)
    assert batches.evaluated(OCTOBER) == frozenset(archived.images)


def test_requeued_images_are_not_archived_by_the_same_snapshot(batches: BatchStore) -> None:
    snapshot = collected(batches.folder(OCTOBER), 3)
    batches.archive(snapshot)
    batches.requeue(OCTOBER)
    assert batches.archive(snapshot) == 0
    assert names(batches.images(OCTOBER)) == list(snapshot.names)


def test_requeued_images_are_archived_by_a_later_snapshot(batches: BatchStore) -> None:
    batches.archive(collected(batches.folder(OCTOBER), 2))
    batches.requeue(OCTOBER)
    collect(batches.folder(OCTOBER), ["cat_later.png"])
    assert batches.archive(batches.snapshot(OCTOBER)) == 3


def test_requeueing_without_archived_images_is_refused(batches: BatchStore) -> None:
    collected(batches.folder(OCTOBER), 1)
    with pytest.raises(NoBatch, match='nothing of 2021-10 is archived in .* Run "adapt batches list"'):
        batches.requeue(OCTOBER)


# Killed and concurrent


def test_archiving_killed_anywhere_loses_nothing_and_can_be_finished(disk: str) -> None:
    after = 1
    while True:
        batches = BatchStore(join(disk, str(after)))
        snapshot = collected(batches.folder(OCTOBER), 4)
        collect(batches.folder(OCTOBER), ["cat_later.png"])
        before = everything(batches)
        died = killed(lambda batches=batches, snapshot=snapshot: batches.archive(snapshot), after)
        assert set(everything(batches)) == set(before)
        batches.archive(snapshot)
        assert everything(batches) == before
        assert names(batches.images(OCTOBER)) == ["cat_later.png"]
        if not died:
            break
        after += 1
    assert after > 8


def test_requeueing_killed_anywhere_loses_nothing_and_can_be_finished(disk: str) -> None:
    after = 1
    while True:
        batches = BatchStore(join(disk, str(after)))
        snapshot = collected(batches.folder(OCTOBER), 4)
        batches.mark_evaluated(snapshot)
        batches.archive(snapshot)
        collect(batches.folder(OCTOBER), ["cat_later.png"])
        before = everything(batches)
        died = killed(lambda batches=batches: batches.requeue(OCTOBER), after)
        assert set(everything(batches)) == set(before)
        if batches.archived(OCTOBER):
            batches.requeue(OCTOBER)
        assert everything(batches) == before
        assert batches.archived(OCTOBER) == ()
        assert batches.evaluated(OCTOBER) == frozenset(snapshot.images)
        if not died:
            break
        after += 1
    assert after > 4


def test_concurrent_archiving_moves_each_image_once(disk: str) -> None:
    for number in range(8):
        batches = BatchStore(join(disk, str(number)))
        snapshot = collected(batches.folder(OCTOBER), 30)
        before = everything(batches)
        moved = at_once(*[lambda batches=batches, snapshot=snapshot: batches.archive(snapshot)] * 3)
        assert sum(moved) == 30
        assert everything(batches) == before
        assert len(batches.archived(OCTOBER)) == 30


def test_concurrent_archiving_and_requeueing_lose_nothing(disk: str) -> None:
    for number in range(8):
        batches = BatchStore(join(disk, str(number)))
        first = collected(batches.folder(OCTOBER), 20)
        batches.archive(first)
        collect(batches.folder(OCTOBER), numbered(20))
        second = collected(batches.folder(OCTOBER), 20, first=20)
        before = set(everything(batches))
        tasks = [lambda batches=batches: batches.requeue(OCTOBER), lambda b=batches, s=second: b.archive(s)]
        at_once(*tasks)
        assert set(everything(batches)) == before


def test_images_that_arrive_during_archiving_stay(disk: str) -> None:
    for number in range(5):
        batches = BatchStore(join(disk, str(number)))
        snapshot = collected(batches.folder(OCTOBER), 30)
        later = [f"cat_later_{n}.png" for n in range(30)]
        folder = batches.folder(OCTOBER)
        at_once(lambda b=batches, s=snapshot: b.archive(s), lambda folder=folder, later=later: collect(folder, later))
        assert names(batches.images(OCTOBER)) == sorted(later)
        assert len(batches.archived(OCTOBER)) == 30
