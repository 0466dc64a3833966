"""Archiving a batch on object storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptation.data.batches import Batch, BatchStore, Snapshot
from adaptation.io import storage
from benchmarks.images import collected, source
from benchmarks.object_storage import LATENCY, NewBatches, object_storage
from benchmarks.runner import Baseline, Bench, Run, Subject, at_least, timed


@contextmanager
def bench(folder: Path, images: int = 2_000, latency: float = LATENCY) -> Iterator[Bench]:
    """Archive so many images, whose storage takes `latency` seconds for each request."""
    with object_storage(latency) as bucket:
        batches = NewBatches(storage.join(bucket, "collection"), collected(folder / "images", images))
        subject = Subject(
            "archiving a batch",
            _of_a_new_batch(batches, archived),
            (Baseline("one at a time", _of_a_new_batch(batches, moved_one_at_a_time), at_least(25), once=True),),
            rounds=2,
            warm_up=False,
        )
        yield Bench((subject,), f"{images:,} objects of {source(images)}, {latency * 1000:g} ms a request")


def archived(store: BatchStore, snapshot: Snapshot) -> None:
    """Run our way."""
    store.archive(snapshot)


def moved_one_at_a_time(store: BatchStore, snapshot: Snapshot) -> None:
    """Send a request for each image, the next one after the response to the last."""
    for name in snapshot.names:
        storage.move(storage.join(snapshot.root, name), storage.join(store.root, f"{snapshot.batch}_old", name))


def _of_a_new_batch(batches: NewBatches, archive: Callable[[BatchStore, Snapshot], None]) -> Run:
    store = BatchStore(batches.root)

    def run() -> float:
        snapshot = store.snapshot(Batch.parse(batches.new()))
        return timed(lambda: archive(store, snapshot))()

    return run
