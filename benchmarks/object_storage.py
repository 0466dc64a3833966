"""Object storage to measure against: the emulator in a process of its own, so that it does not use our processor.

Every request waits 20 ms before it takes effect, about the time of one to a bucket in the same region.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from adaptation.io import storage

LATENCY = 0.02
BUCKET = "bench"


@contextmanager
def object_storage(latency: float = LATENCY) -> Iterator[str]:
    """Start the storage and yield the URI of an empty bucket, for this process, while the context lasts."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, latency), daemon=True)
    process.start()
    theirs.close()  # so that its end is noticed at once
    before = dict(os.environ)
    try:
        os.environ.update(ours.recv())
        yield f"gs://{BUCKET}"
    finally:
        ours.close()
        process.join()
        os.environ.clear()
        os.environ.update(before)


class NewBatches:
    """Batches with the same images, made one after the other, each for one run."""

    def __init__(self, root: str, images: list[tuple[str, bytes]]) -> None:
        self.root = root
        self._images = images
        self._names = (f"{year:04d}-{month:02d}" for year in itertools.count(2021) for month in range(1, 13))

    def new(self) -> str:
        """Fill the next batch and return its name."""
        month = next(self._names)
        folder = storage.join(self.root, month)
        storage.in_parallel(lambda one: storage.write(storage.join(folder, one[0]), one[1]), self._images)
        return month


def _serve(pipe: Connection, latency: float) -> None:
    from emulators.storage.emulator import StorageEmulator

    with StorageEmulator(latency=latency) as emulator:
        emulator.create_bucket(BUCKET)
        pipe.send(emulator.environment())
        with suppress(EOFError):
            pipe.recv()
