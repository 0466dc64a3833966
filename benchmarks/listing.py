"""Listing a batch, and the trigger's look at one after years of others. What a look reads at most is tested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptation.data.batches import Batch, BatchStore, Snapshot
from adaptation.platforms.connect import LocalConfig, connect
from adaptation.trigger import State, look
from benchmarks.runner import Baseline, Bench, Subject, at_least, at_most, timed

MONTH = Batch(2026, 1)
MONTHS = tuple(Batch(year, month) for year in range(2021, 2026) for month in range(1, 13))
MIN_IMAGES = 100


@contextmanager
def bench(folder: Path, images: int = 200_000, older: int = 200) -> Iterator[Bench]:
    """List a batch of so many images; look at a short one after 60 batches of `older` images each, or after none."""
    large, long, short = (BatchStore(str(folder / name)) for name in ("large", "long", "short"))
    _collect(large, MONTH, images)
    for store in (long, short):
        _collect(store, MONTH, 2 * MIN_IMAGES)
    for month in MONTHS:
        _collect(long, month, older)
    twice = timed(lambda: original(large))
    listed = Subject(
        "listing a batch", timed(lambda: listing(large)), (Baseline("original", twice, at_least(5)),), rounds=2
    )
    months = Subject(
        f"the trigger's look after {len(MONTHS)} months",
        timed(lambda: [looked(long) for _ in range(10)]),
        (Baseline("after none", timed(lambda: [looked(short) for _ in range(10)]), at_most(1.25)),),
        rounds=9,
    )
    yield Bench((listed, months), f"{images:,} files on disk")


def listing(store: BatchStore) -> Snapshot:
    """Run our listing."""
    return store.snapshot(store.newest())


def looked(store: BatchStore) -> State:
    """Run our trigger."""
    jobs = connect(LocalConfig(f"{store.root}-jobs", ())).jobs
    return look(store, f"{store.root}-triggers", jobs, MIN_IMAGES)


def original(store: BatchStore) -> list[str]:
    """List everything to find the batch, then everything again to find its images."""
    months = {path.removeprefix(f"{store.root}/").split("/")[0] for path in _everything(store.root)}
    folder = f"{store.root}/{max(months)}/"
    return sorted(path for path in _everything(store.root) if path.startswith(folder) and path.endswith(".jpg"))


def _everything(root: str) -> list[str]:
    import tensorflow as tf

    return [f"{folder}/{name}" for folder, _, names in tf.io.gfile.walk(root) for name in names]


def _collect(store: BatchStore, month: Batch, images: int) -> None:
    folder = Path(store.folder(month))
    folder.mkdir(parents=True)
    for number in range(images):
        (folder / f"ship_{number:06d}.jpg").touch()
