"""Object storage, interrupted and concurrent work: nothing partial is seen or lost; the next attempt finishes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web

from adaptation.data.batches import Batch, BatchStore, Snapshot
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import Manifest, Span, SpanStore
from adaptation.data.splits import Split
from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.io.storage import join
from emulators.http_server import Request
from emulators.storage.emulator import StorageEmulator
from tests.worlds.images import collect, contents
from tests.worlds.processes import at_once
from tests.worlds.spans import LABELS, collected, images_of

OCTOBER = Batch(2021, 10)
SPLIT = Split(ratio=0.5)


class InterruptedEmulator(StorageEmulator):
    """An emulator that refuses all changes after so many, which to its clients is as if they had been cut off."""

    changes_left = 10**9

    def answer(self, request: Request) -> web.Response:
        if request.method != "GET":
            if not self.changes_left:
                return self.error(403, "cut off")
            self.changes_left -= 1
        return super().answer(request)

    def cuts_off(self, task: Callable[[], object], after: int) -> bool:
        """Run the task with so many changes. Return whether it needed more."""
        self.changes_left = after
        try:
            task()
        except OSError as error:
            assert "cut off" in str(error)
            return True
        finally:
            self.changes_left = 10**9
        return False


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[InterruptedEmulator]:
    with InterruptedEmulator() as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        emulator.create_bucket("b")
        yield emulator


def prepared(store: SpanStore, snapshot: Snapshot) -> Manifest:
    return prepare(store, snapshot, LABELS, SPLIT, shard_bytes=400)


def test_preparation_cut_off_anywhere_is_finished_by_the_next(emulator: InterruptedEmulator) -> None:
    snapshot = collected("gs://b/collection/2021-10", 10)
    digest = prepared(SpanStore("gs://b/undisturbed"), snapshot).digest
    for after in itertools.count():
        store = SpanStore(f"gs://b/data-{after}")
        cut = emulator.cuts_off(lambda store=store: prepared(store, snapshot), after)
        assert all(store.verify(span) for span in store.spans())
        manifest = prepared(store, snapshot)
        assert (manifest.digest, store.spans(), store.verify(Span(1))) == (digest, [Span(1)], manifest)
        assert sorted(one.id for one in images_of(store, manifest)) == list(snapshot.names)
        assert len(Journal(join(store.root, "_claims"), dict[str, str]).records()) == 1
        assert storage.files_below(join(store.root, "_staging")) == []
        if not cut:
            break
    assert after > 10


def test_archiving_cut_off_anywhere_loses_nothing_and_can_be_finished(emulator: InterruptedEmulator) -> None:
    for after in itertools.count():
        batches, snapshot = evaluated(f"gs://b/{after}")
        before = everything(batches)
        cut = emulator.cuts_off(lambda batches=batches, snapshot=snapshot: batches.archive(snapshot), after)
        assert everything(batches) == before
        batches.archive(snapshot)
        assert everything(batches) == before
        assert len(batches.archived(OCTOBER)) == len(batches.evaluated(OCTOBER)) == 4
        if not cut:
            break
    assert after >= 5


def test_requeueing_cut_off_anywhere_loses_nothing_and_can_be_finished(emulator: InterruptedEmulator) -> None:
    for after in itertools.count():
        batches, snapshot = evaluated(f"gs://b/{after}")
        batches.archive(snapshot)
        before = everything(batches)
        cut = emulator.cuts_off(lambda batches=batches: batches.requeue(OCTOBER), after)
        assert everything(batches) == before
        if batches.archived(OCTOBER):
            batches.requeue(OCTOBER)
        assert everything(batches) == before
        assert (len(batches.archived(OCTOBER)), len(batches.evaluated(OCTOBER))) == (0, 4)
        if not cut:
            break
    assert after >= 4


def test_concurrent_preparations_make_one_span_of_each_batch(emulator: InterruptedEmulator) -> None:
    october, november = (collected(f"gs://b/collection/2021-{month}", 10, first=month) for month in (10, 11))
    for number in range(5):
        store = SpanStore(f"gs://b/data-{number}")
        tasks = [lambda store=store, one=one: prepared(store, one) for one in (october, november, october)]
        results = at_once(*tasks)
        assert results[0] == results[2]
        assert store.spans() == [Span(1), Span(2)]
        assert [store.verify(Span(manifest.span)) for manifest in results] == results
        assert storage.files_below(join(store.root, "_staging")) == []


def test_concurrent_archiving_moves_each_image_and_loses_none(emulator: InterruptedEmulator) -> None:
    for number in range(5):
        batches, snapshot = evaluated(f"gs://b/{number}")
        before = everything(batches)
        at_once(*[lambda batches=batches, snapshot=snapshot: batches.archive(snapshot)] * 3)
        assert everything(batches) == before
        assert len(batches.archived(OCTOBER)) == 4


def evaluated(root: str) -> tuple[BatchStore, Snapshot]:
    """Return a batch, and its snapshot of four evaluated images; a fifth has arrived since."""
    batches = BatchStore(root)
    snapshot = collected(batches.folder(OCTOBER), 4)
    batches.mark_evaluated(snapshot)
    collect(batches.folder(OCTOBER), ["cat_later.png"])
    return batches, snapshot


def everything(batches: BatchStore) -> list[bytes]:
    """Return the bytes of all images of the batch, archived ones included."""
    folders = (batches.folder(OCTOBER), batches.folder(OCTOBER) + "_old")
    return sorted(data for folder in folders for data in contents(folder).values())
