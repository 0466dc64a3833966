"""Training steps: the share of a step that waits for input, and images a second on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.images import CLASSES, source
from benchmarks.inputs import train_shards
from benchmarks.runner import Baseline, Bench, Run, Subject, at_most, timed
from benchmarks.spans import publish_spans
from models import data
from models.recipe import training_spec
from models.trainer import computing, initial_model, trainable

SPEC = training_spec("cifar", CLASSES, epochs=1)


@contextmanager
def bench(folder: Path, images: int = 4_000) -> Iterator[Bench]:
    """Train an epoch on so many images with the CIFAR model and the settings' defaults."""
    records = data.find_records(train_shards(publish_spans(folder, 1, images)), SPEC)
    batches = data.training_batches(records, SPEC)
    with computing(SPEC.precision):
        model = trainable(initial_model(SPEC), SPEC, len(batches))
    here = next(iter(batches))
    again = data.untuned(tf.data.Dataset.from_tensors(here).repeat(len(batches)))
    with_input = Remembered(timed(lambda: epoch(model, batches)))
    without = Remembered(timed(lambda: epoch(model, again)))
    subject = Subject(
        "training, with its input",
        with_input,
        (Baseline("the same steps on a batch in memory", without, at_most(1.1)),),
        rounds=3,
    )

    def remark() -> str:
        seconds, busy = with_input.median(), without.median()
        speed, share = records.count / seconds, max(0.0, 1 - busy / seconds)
        return f"{device()}: {speed:,.0f} images a second, {share:.0%} of a step is input; {source(images)}"

    yield Bench((subject,), remark)


class Remembered:
    """A run that records its costs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._costs: list[float] = []

    def __call__(self) -> float:
        """Do it once."""
        self._costs.append(self._run())
        return self._costs[-1]

    def median(self) -> float:
        """Return the median cost, without the first time, which warms up, if there are others."""
        return statistics.median(self._costs[1:] or self._costs)


def epoch(model: keras.Model, batches: tf.data.Dataset) -> None:
    """Train on every batch once."""
    model.fit(batches, epochs=1, shuffle=False, verbose=0)


def device() -> str:
    """Return the name of the device that trains."""
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in _gpus()]
    return ", ".join(names) or "no GPU here, on the CPU"


def _gpus() -> list[object]:
    return list(tf.config.list_physical_devices("GPU"))
