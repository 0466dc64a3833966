"""Ingesting a window of spans for a training job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.images import source
from benchmarks.runner import Baseline, Bench, Subject, at_least, at_most, timed
from benchmarks.spans import imported, linked, publish_spans

SMALLER = 10


@contextmanager
def bench(folder: Path, spans: int = 10, images: int = 1_000) -> Iterator[Bench]:
    """Ingest a window of so many spans of so many images each, and one of as many smaller spans."""
    large = publish_spans(folder / "large", spans, images)
    small = publish_spans(folder / "small", spans, images // SMALLER)
    places = (folder / "examples" / f"{number}" for number in itertools.count())
    whole = Subject(
        "ingestion",
        timed(lambda: linked(large, next(places))),
        (Baseline("standard: ImportExampleGen over all", timed(lambda: imported(large, next(places))), at_least(20)),),
        rounds=2,
        warm_up=False,
    )
    bytes_alone = Subject(
        f"ingestion of {SMALLER} times the bytes in as many files",
        timed(lambda: linked(large, next(places))),
        (Baseline("the smaller files", timed(lambda: linked(small, next(places))), at_most(1.5)),),
        rounds=9,
    )
    yield Bench((whole, bytes_alone), f"{spans} spans, {spans * images:,} examples of {source(spans * images)}")
