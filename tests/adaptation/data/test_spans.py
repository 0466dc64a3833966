"""Spans: numeric order, numbers given once, atomic publishing, verification that names the fault."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest

from adaptation import codec
from adaptation.codec import UnreadableState
from adaptation.data import tfrecords
from adaptation.data.batches import Snapshot
from adaptation.data.spans import (
    CorruptSpan,
    InvalidSpan,
    Manifest,
    Shard,
    Span,
    SpanNotPublished,
    SpanStore,
    adoption_key,
    content_digest,
    enumerate_spans,
)
from adaptation.data.tfrecords import LabelledImage
from adaptation.io import storage
from adaptation.io.storage import join
from tests.worlds.images import contents
from tests.worlds.processes import at_once, killed
from tests.worlds.spans import images_of, published, unpublished


@pytest.fixture
def store(root: str) -> SpanStore:
    return SpanStore(root)


def rewrite(store: SpanStore, manifest: Manifest) -> None:
    """Replace a published span's manifest, which no real code does."""
    storage.write(join(store.folder(Span(manifest.span)), "manifest.json"), manifest.to_json())


def put_shard(store: SpanStore, manifest: Manifest, images: list[LabelledImage], split: str = "train") -> Manifest:
    """Replace the split's shards by one of these images. Return the manifest that lists it."""
    content = b"".join(one.to_record() for one in images)
    shard = Shard.of(split, "00007-of-00008", content, len(images))
    for old in manifest.shards:
        if old.split == split:
            storage.remove(store.shard_uri(Span(manifest.span), old))
    storage.write(store.shard_uri(Span(manifest.span), shard), content)
    return replace(manifest, shards=(*(one for one in manifest.shards if one.split != split), shard))


# Numbers


def test_span_10_comes_after_span_9() -> None:
    assert Span.parse("span-9") < Span.parse("span-10")
    assert sorted(map(Span.parse, ["span-10", "span-9", "span-1"])) == [Span(1), Span(9), Span(10)]


def test_span_parses_what_it_prints() -> None:
    assert str(Span.parse("span-12")) == "span-12"
    assert Span.parse("12") == Span(12)


@pytest.mark.parametrize(
    "text", ["span-0", "span-01", "0", "-1", "span-", "span-x", "span-1/..", "Span-1", "", "span-1٣"]
)
def test_invalid_span_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpan, match="is no span. Name one like span-3."):
        Span.parse(text)


def test_last_span_is_the_one_with_the_highest_number(store: SpanStore) -> None:
    for _ in range(11):
        published(store)
    assert store.spans() == [Span(number) for number in range(1, 12)]
    assert store.spans()[-1] == Span(11)


def test_span_numbers_are_enumerated_as_ranges() -> None:
    assert enumerate_spans(map(Span, [11, 1, 10, 9, 3])) == "1,3,9-11"
    assert enumerate_spans([]) == "none"


# Claims


def test_claim_gives_each_key_one_number(store: SpanStore) -> None:
    assert [store.claim(key).number for key in ("a", "b", "a", "c", "b")] == [1, 2, 1, 3, 2]


def test_number_of_an_existing_folder_is_not_claimed(store: SpanStore) -> None:
    storage.write(join(store.root, "span-9", "train", "a.tfrecord"), b"")
    storage.write(join(store.root, "span-11x", "train", "a.tfrecord"), b"")
    assert store.claim("a") == Span(10)
    assert store.claim("b") == Span(11)


def test_claim_that_ends_while_folders_are_listed_is_respected(
    store: SpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = SpanStore._folders

    def finish_meanwhile(self: SpanStore) -> list[Span]:
        monkeypatch.setattr(SpanStore, "_folders", listed)
        storage.write(join(store.folder(SpanStore(store.root).claim("a")), "train", "a.tfrecord"), b"")
        return listed(self)

    monkeypatch.setattr(SpanStore, "_folders", finish_meanwhile)
    assert [store.claim(key) for key in ("a", "b")] == [Span(1), Span(2)]


def test_concurrent_claims_get_one_number_per_key(disk: str) -> None:
    for number in range(5):
        store = SpanStore(join(disk, str(number)))
        keys = ["a", "b", "a", "c", "b", "a"]
        spans = at_once(*[lambda store=store, key=key: store.claim(key) for key in keys])
        assert {span.number for span in spans} == {1, 2, 3}
        assert len(set(zip(keys, spans, strict=True))) == 3


def test_killed_claim_leaves_its_key_one_number(disk: str) -> None:
    after = 1
    while killed(lambda after=after: SpanStore(join(disk, str(after))).claim("a"), after):
        store = SpanStore(join(disk, str(after)))
        assert (store.claim("a"), store.claim("b")) == (Span(1), Span(2))
        after += 1
    assert after > 3


def test_reserved_number_belongs_to_its_key_alone(store: SpanStore) -> None:
    store.reserve(Span(3), "adopted")
    store.reserve(Span(3), "adopted")
    assert store.claim("a") == Span(4)
    assert store.claim("adopted") == Span(3)
    with pytest.raises(InvalidSpan, match="span-4 is claimed for a batch whose preparation has not ended"):
        store.reserve(Span(4), "adopted")


# Publishing


def test_folder_without_a_manifest_is_no_published_span(store: SpanStore) -> None:
    storage.write(join(store.folder(Span(1)), "train", "a.tfrecord"), b"")
    assert store.spans() == []
    assert not store.is_published(Span(1))
    with pytest.raises(
        SpanNotPublished, match=r'span-1 is not published .* \(published: none\). Run "adapt spans list"'
    ):
        store.manifest(Span(1))


def test_staged_span_is_not_listed(store: SpanStore) -> None:
    span = store.claim("2021-10:abc")
    unpublished(store, span, "2021-10:abc")
    assert store.spans() == store.unsigned() == []
    assert not storage.exists(store.folder(span))


def test_published_span_is_whole_and_leaves_no_staging(store: SpanStore) -> None:
    manifest = published(store, images=5)
    assert store.spans() == [Span(1)]
    assert store.manifest(Span(1)) == manifest == store.verify(Span(1))
    assert sorted(contents(store.folder(Span(1)))) == sorted(
        ["manifest.json", "snapshot.json", *(shard.path for shard in manifest.shards)]
    )
    assert storage.folders(join(store.root, "_staging")) == []
    assert (manifest.images, manifest.images_in("train"), manifest.images_in("test")) == (10, 5, 5)
    assert len(images_of(store, manifest)) == 10


def test_snapshot_is_kept_with_the_span(store: SpanStore) -> None:
    published(store, key="2021-10")
    snapshot = store.snapshot(Span(1))
    assert snapshot is not None
    assert snapshot.batch == "2021-10"
    assert store.snapshot(Span(2)) is None


def test_publishing_again_returns_the_published_span(store: SpanStore) -> None:
    first = published(store, key="2021-10")
    again = replace(unpublished(store, Span(1), first.key), run="another run")
    assert store.publish(again) == first
    assert store.verify(Span(1)) == first
    assert storage.folders(join(store.root, "_staging")) == []


def test_first_of_two_attempts_to_publish_stays_whole(store: SpanStore) -> None:
    span, snapshot = store.claim("x"), Snapshot("2021-10", "/elsewhere", ())
    second = unpublished(store, span, snapshot.key, images=9)
    first = store.publish(unpublished(store, span, snapshot.key, images=4), snapshot)
    second = unpublished(store, span, snapshot.key, images=9)
    assert store.publish(second, snapshot) == first == store.verify(span)


def test_sweep_never_removes_files_added_by_a_person(store: SpanStore) -> None:
    manifest = published(store)
    storage.write(join(store.folder(Span(1)), "train", "notes.txt"), b"mine")
    store.sweep(manifest)
    assert storage.read(join(store.folder(Span(1)), "train", "notes.txt")) == b"mine"


def test_concurrent_attempts_at_one_span_all_succeed(disk: str) -> None:
    for number in range(8):
        store = SpanStore(join(disk, str(number)))

        def attempt(store: SpanStore = store) -> Manifest:
            snapshot = Snapshot("2021-10", "/elsewhere", ())
            return store.publish(unpublished(store, store.claim(snapshot.key), snapshot.key), snapshot)

        results = at_once(*[attempt] * 4)
        assert results == [store.verify(Span(1))] * 4
        assert storage.folders(join(store.root, "_staging")) == []


# Manifests


def test_manifest_digest_covers_the_content_and_not_the_run(store: SpanStore) -> None:
    manifest = published(store)
    assert replace(manifest, run="another", created="2031-01-01").digest == manifest.digest
    changes: list[dict[str, Any]] = [{"seed": 1}, {"ratio": 0.3}, {"labels": ("dog", "ship")}, {"shards": ()}]
    for change in changes:
        assert replace(manifest, **change).digest != manifest.digest


def test_manifest_is_unchanged_by_json(store: SpanStore) -> None:
    manifest = published(store)
    assert Manifest.from_json(manifest.to_json(), "manifest.json") == manifest


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"{}", b'{"digest": 1, "span": 1}', b"\xff\xfe"])
def test_file_that_is_no_manifest_is_refused_by_name(store: SpanStore, data: bytes) -> None:
    published(store)
    storage.write(join(store.folder(Span(1)), "manifest.json"), data)
    with pytest.raises(UnreadableState, match=r"span-1/manifest.json cannot be read: .*\. Restore it, or the span"):
        store.manifest(Span(1))


def test_manifest_that_was_changed_is_refused(store: SpanStore) -> None:
    value = json.loads(published(store).to_json())
    value["counts"]["train"]["cat"] += 1
    storage.write(join(store.folder(Span(1)), "manifest.json"), json.dumps(value).encode())
    with pytest.raises(CorruptSpan, match="span-1/manifest.json: a manifest was changed after it was written"):
        store.verify(Span(1))


def test_copy_of_another_spans_folder_is_refused(store: SpanStore) -> None:
    published(store)
    for name, data in contents(store.folder(Span(1))).items():
        storage.write(join(store.folder(Span(2)), name), data)
    with pytest.raises(CorruptSpan, match="span-2/manifest.json is the manifest of span-1"):
        store.verify(Span(2))


def test_content_digest_of_spans_does_not_depend_on_their_order(store: SpanStore) -> None:
    first, second = published(store), published(store)
    assert content_digest([first, second]) == content_digest([second, first])
    assert content_digest([first]) != content_digest([first, second])
    assert content_digest([first, replace(second, seed=5)]) != content_digest([first, second])


# Verification


def test_missing_shard_is_named(store: SpanStore) -> None:
    shard = published(store).shards[0]
    storage.remove(store.shard_uri(Span(1), shard))
    with pytest.raises(CorruptSpan, match=f"span-1 does not match its manifest: {shard.path} is missing. Restore it"):
        store.verify(Span(1))


@pytest.mark.parametrize("change", ["truncate", "flip", "append", "empty"])
def test_changed_shard_is_named(store: SpanStore, change: str) -> None:
    shard = published(store).shards[1]
    content = storage.read(store.shard_uri(Span(1), shard))
    flipped = content[:40] + bytes([content[40] ^ 1]) + content[41:]
    changed = {"truncate": content[:-1], "flip": flipped, "append": content + b"x", "empty": b""}[change]
    storage.write(store.shard_uri(Span(1), shard), changed)
    with pytest.raises(CorruptSpan, match=f"{shard.path} was changed"):
        store.verify(Span(1))


def test_file_that_the_manifest_lacks_is_named(store: SpanStore) -> None:
    published(store)
    storage.write(join(store.folder(Span(1)), "train", "more.tfrecord"), b"")
    with pytest.raises(CorruptSpan, match=r"train/more.tfrecord is not in the manifest"):
        store.verify(Span(1))


def test_all_faults_of_a_span_are_named_at_once(store: SpanStore) -> None:
    first, second = published(store).shards
    storage.remove(store.shard_uri(Span(1), first))
    storage.write(store.shard_uri(Span(1), second), b"x")
    with pytest.raises(CorruptSpan, match=f"{first.path} is missing; {second.path} was changed"):
        store.verify(Span(1))


def test_snapshot_of_another_span_is_named(store: SpanStore) -> None:
    published(store)
    uri = join(store.folder(Span(1)), "snapshot.json")
    for other in (codec.encode(Snapshot("2021-11", "/elsewhere", ())), None):
        storage.write(uri, other) if other else storage.remove(uri)
        with pytest.raises(CorruptSpan, match=r"snapshot.json is not the list of the images that it was made from"):
            store.verify(Span(1))
    storage.write(uri, b"{")
    with pytest.raises(UnreadableState, match=r"span-1/snapshot.json cannot be read"):
        store.verify(Span(1))


def test_records_that_differ_from_the_counts_are_named(store: SpanStore) -> None:
    manifest = published(store)
    rewrite(store, replace(manifest, counts={**manifest.counts, "train": {"cat": 4, "ship": 0}}))
    with pytest.raises(CorruptSpan, match="the images per label are not those counted"):
        store.verify(Span(1))


def test_shard_with_another_number_of_images_is_named(store: SpanStore) -> None:
    manifest = published(store)
    first, second = manifest.shards
    rewrite(store, replace(manifest, shards=(replace(first, images=3), second)))
    with pytest.raises(CorruptSpan, match=f"{first.path} has 4 images, not 3"):
        store.verify(Span(1))


def test_record_whose_label_has_no_name_is_named(store: SpanStore) -> None:
    manifest = put_shard(store, published(store), [LabelledImage(b"", 2, "a", 1)])
    rewrite(store, manifest)
    with pytest.raises(CorruptSpan, match=r"train/shard-00007-of-00008-.*tfrecord has a label without a name"):
        store.verify(Span(1))


def test_shard_of_other_records_is_named(store: SpanStore) -> None:
    manifest = published(store)
    content = tfrecords.frame(b"\xff")
    shard = Shard.of("train", "00007-of-00008", content, 1)
    storage.write(store.shard_uri(Span(1), shard), content)
    storage.remove(store.shard_uri(Span(1), manifest.shards[0]))
    rewrite(store, replace(manifest, shards=(manifest.shards[1], shard)))
    with pytest.raises(CorruptSpan, match=f"in {shard.path}, a record is no tf.train.Example"):
        store.verify(Span(1))


# Folders from elsewhere


def test_unclaimed_folders_can_be_adopted(store: SpanStore) -> None:
    published(store)
    storage.write(join(store.root, "span-7", "train", "a.tfrecord"), b"")
    storage.write(join(store.root, "other", "a.tfrecord"), b"")
    assert store.unsigned() == [Span(7)]
    span = store.claim("2021-10:abc")
    storage.write(join(store.folder(span), "train", "a.tfrecord"), b"")
    assert store.unsigned() == [Span(7)]


def test_folder_whose_adoption_was_cut_off_can_be_adopted(store: SpanStore) -> None:
    storage.write(join(store.root, "span-7", "train", "a.tfrecord"), b"")
    store.reserve(Span(7), adoption_key(Span(7)))
    assert store.unsigned() == [Span(7)]


def test_data_root_may_be_relative_to_the_working_directory(disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(disk)
    monkeypatch.chdir(disk)
    store = SpanStore("data")
    published(store)
    monkeypatch.chdir("/")
    assert store.spans() == SpanStore(join(disk, "data")).spans() == [Span(1)]
