"""Preparing a span on object storage: the number of requests in flight counts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptation.data.batches import snapshot_folder
from adaptation.io import storage
from benchmarks.images import collected, source
from benchmarks.object_storage import LATENCY, NewBatches, object_storage
from benchmarks.runner import Baseline, Bench, Subject, at_least, timed
from benchmarks.span_preparation import original, prepared


@contextmanager
def bench(folder: Path, images: int = 2_000, latency: float = LATENCY) -> Iterator[Bench]:
    """Prepare so many images, whose storage takes `latency` seconds for each request."""
    with object_storage(latency) as bucket:
        batches = NewBatches(storage.join(bucket, "collection"), collected(folder / "images", images))
        snapshot = snapshot_folder(storage.join(batches.root, batches.new()), "2021-01")
        roots = (storage.join(bucket, f"data-{number}") for number in itertools.count())
        subject = Subject(
            "span preparation, object storage",
            timed(lambda: prepared(snapshot, next(roots))),
            (
                Baseline(
                    "original, one at a time",
                    timed(lambda: original(snapshot.uris, folder / "out", _read)),
                    at_least(25),
                    once=True,
                ),
            ),
            rounds=2,
            warm_up=False,
        )
        yield Bench((subject,), f"{images:,} objects of {source(images)}, {latency * 1000:g} ms a request")


def _read(uri: str) -> object:
    import tensorflow as tf

    return tf.constant(storage.read(uri))
