"""Preparation that is killed, concurrent or out of space: nothing partial is seen; the next attempt finishes it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest

from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.labels import Labels
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import Manifest, Span, SpanStore
from adaptation.data.splits import Split
from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.io.storage import join
from tests.worlds.images import image
from tests.worlds.processes import at_once, killed
from tests.worlds.spans import LABELS, collected, images_of

HALF = Split(ratio=0.5)


@pytest.fixture
def snapshot(disk: str) -> Snapshot:
    """Return a snapshot with two images of the same content and an unusable one, enough for several shards."""
    folder = join(disk, "collection", "2021-10")
    storage.write(join(folder, "cat_twin.png"), image("cat_0000.png"))
    storage.write(join(folder, "ship_broken.png"), b"")
    collected(folder, 9)
    return snapshot_folder(folder, "2021-10")


@pytest.fixture
def digest(disk: str, snapshot: Snapshot) -> str:
    """Return the digest of an undisturbed preparation."""
    return prepared(SpanStore(join(disk, "undisturbed")), snapshot).digest


def prepared(store: SpanStore, snapshot: Snapshot) -> Manifest:
    return prepare(store, snapshot, LABELS, HALF, shard_bytes=400, max_skipped=0.5)


def shows_only_whole_spans(store: SpanStore) -> bool:
    return all(store.verify(span).span == span.number for span in store.spans())


def is_the_span(store: SpanStore, manifest: Manifest, digest: str, snapshot: Snapshot) -> bool:
    """Check that there is one whole span of one number, with each image once, and no remains of failed attempts."""
    assert manifest.digest == digest
    assert store.verify(Span(1)) == manifest
    assert store.spans() == [Span(1)]
    assert [one.value for one in Journal(join(store.root, "_claims"), dict[str, str]).records()] == [
        {"key": snapshot.key}
    ]
    found = [one.id for one in images_of(store, manifest)] + [one.name for one in manifest.skipped]
    assert sorted(found) == sorted(snapshot.names)
    assert storage.folders(join(store.root, "_staging")) == []
    return True


# Killed


def test_preparation_killed_anywhere_is_finished_by_the_next(disk: str, snapshot: Snapshot, digest: str) -> None:
    for after in itertools.count(1):
        store = SpanStore(join(disk, f"data-{after}"))
        died = killed(lambda store=store: prepared(store, snapshot), after)
        assert shows_only_whole_spans(store)
        assert is_the_span(store, prepared(store, snapshot), digest, snapshot)
        if not died:
            break
    assert after > 30


def test_preparation_killed_repeatedly_is_finished_in_the_end(disk: str, snapshot: Snapshot, digest: str) -> None:
    store, after = SpanStore(join(disk, "data")), 1
    while killed(lambda: prepared(store, snapshot), after):
        assert shows_only_whole_spans(store)
        after += 3
    assert after > 10
    assert is_the_span(store, prepared(store, snapshot), digest, snapshot)


def test_preparation_repeated_with_other_labels_leaves_no_remains(disk: str, snapshot: Snapshot) -> None:
    others = Labels((*LABELS.names, "whale"))
    for after in range(1, 60, 4):
        store = SpanStore(join(disk, f"data-{after}"))
        killed(lambda store=store: prepared(store, snapshot), after)
        manifest = prepare(store, snapshot, others, HALF, shard_bytes=900, max_skipped=0.5)
        assert manifest.labels in (LABELS.names, others.names)
        assert store.verify(Span(1)) == manifest


def test_killed_preparation_does_not_block_another_batch(disk: str, snapshot: Snapshot) -> None:
    other = collected(join(disk, "collection", "2021-11"), 8, first=100)
    for after in range(1, 60, 5):
        store = SpanStore(join(disk, f"data-{after}"))
        killed(lambda store=store: prepared(store, snapshot), after)
        numbers = [prepared(store, one).span for one in (other, snapshot)]
        assert sorted(numbers) == [1, 2]
        assert shows_only_whole_spans(store)


# Concurrent


def test_concurrent_preparations_of_one_batch_make_one_span(disk: str, snapshot: Snapshot, digest: str) -> None:
    for number in range(10):
        store = SpanStore(join(disk, f"data-{number}"))
        results = at_once(*[lambda store=store: prepared(store, snapshot)] * 3)
        assert all(is_the_span(store, manifest, digest, snapshot) for manifest in results)


def test_concurrent_preparations_of_two_batches_make_two_spans(disk: str, snapshot: Snapshot) -> None:
    other = collected(join(disk, "collection", "2021-11"), 8, first=100)
    for number in range(8):
        store = SpanStore(join(disk, f"data-{number}"))
        results = at_once(*[lambda store=store, one=one: prepared(store, one) for one in (snapshot, other, snapshot)])
        assert store.spans() == [Span(1), Span(2)]
        assert [manifest.key for manifest in results] == [snapshot.key, other.key, snapshot.key]
        assert results[0] == results[2]
        assert [store.verify(Span(manifest.span)) for manifest in results] == results


def test_overtaken_preparation_returns_the_span_of_the_other(
    disk: str, snapshot: Snapshot, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its writes in turn, another attempt runs from beginning to end: without a lock, as in a bucket."""
    monkeypatch.setattr(storage, "locked", lambda uri: contextlib.nullcontext())
    write, turn = storage.write, 0
    while True:
        store, writes = SpanStore(join(disk, f"data-{turn}")), itertools.count()

        def overtaken(uri: str, data: bytes, store: SpanStore = store, writes: Any = writes, turn: int = turn) -> None:
            if next(writes) == turn:
                monkeypatch.setattr(storage, "write", write)
                prepared(store, snapshot)
            write(uri, data)

        monkeypatch.setattr(storage, "write", overtaken)
        manifest = prepared(store, snapshot)
        overtook = storage.write is write
        monkeypatch.setattr(storage, "write", write)
        assert is_the_span(store, manifest, digest, snapshot)
        if not overtook:
            break
        turn += 1
    assert turn > 4


# Out of space, unreadable


def full_at(call: int, write: Callable[..., Any]) -> Callable[..., Any]:
    calls = itertools.count(1)

    def writing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*args, **kwargs)

    return writing


@pytest.mark.parametrize("name", ["fsync", "link", "replace"])
def test_full_disk_is_reported_and_the_next_attempt_succeeds(
    disk: str, snapshot: Snapshot, digest: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    original = getattr(os, name)
    for call in itertools.count(1):
        store = SpanStore(join(disk, f"data-{call}"))
        monkeypatch.setattr(os, name, full_at(call, original))
        try:
            prepared(store, snapshot)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert store.spans() == []
        else:
            break
        finally:
            monkeypatch.setattr(os, name, original)
        assert shows_only_whole_spans(store)
        assert is_the_span(store, prepared(store, snapshot), digest, snapshot)
    assert call > 3


@pytest.mark.parametrize("position", range(11))
def test_unreadable_image_stops_the_preparation_and_is_not_skipped(
    disk: str, snapshot: Snapshot, digest: str, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    store, unreadable, opened = SpanStore(join(disk, "data")), snapshot.uris[position], os.open

    def failing(path: str, *args: Any, **kwargs: Any) -> int:
        if path == unreadable:
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output error"):
        patched.setattr(os, "open", failing)
        prepared(store, snapshot)
    assert store.spans() == []
    assert is_the_span(store, prepared(store, snapshot), digest, snapshot)
