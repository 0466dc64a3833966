"""From the start of a retraining to its first step: ingestion, and the Trainer's work before the step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
from tfx.types.standard_artifacts import Examples

from benchmarks.images import CLASSES, source
from benchmarks.runner import Baseline, Bench, Run, Subject, at_most, timed
from benchmarks.spans import imported, linked, patterns, publish_spans
from models import data
from models.recipe import training_spec
from models.trainer import fit, initial_model

SPEC = training_spec("cifar", CLASSES, epochs=1)


@contextmanager
def bench(folder: Path, spans: int = 10, images: int = 1_500) -> Iterator[Bench]:
    """Measure so many spans of so many images each."""
    root = publish_spans(folder, spans, images)
    places = (folder / "examples" / f"{number}" for number in itertools.count())

    def run(ingest: Callable[[str, Path], Examples]) -> Run:
        return timed(lambda: first_step(ingest(root, next(places))))

    first_step(imported(root, next(places)))  # the imports of both are done before measuring
    subject = Subject(
        "retraining, start to first step",
        run(linked),
        (Baseline("standard: from ImportExampleGen", run(imported), at_most(1)),),
        rounds=2,
        warm_up=False,
    )
    yield Bench((subject,), f"{spans} spans, {spans * images:,} examples of {source(spans * images)}")


def first_step(examples: Examples) -> int:
    """Train as the Trainer does, and stop after one step; return the number of examples it would train on."""
    records = data.find_records(patterns(examples, "train"), SPEC)
    watched = data.find_records(patterns(examples, "eval"), SPEC)
    one_step = data.training_batches(records, SPEC).take(1)
    fit(initial_model(SPEC), one_step, data.evaluation_batches(watched, SPEC).take(1), SPEC)
    keras.backend.clear_session()
    return records.count
