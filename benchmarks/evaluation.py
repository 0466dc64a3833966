"""Evaluating a batch prediction: result lines in, accuracy and figures of each class out."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from adaptation.data.batches import Snapshot
from adaptation.data.labels import Labels
from adaptation.evaluation.accuracy import Evaluation, evaluate
from adaptation.io import storage
from benchmarks.images import CLASSES
from benchmarks.runner import Baseline, Bench, Subject, at_least, at_most, timed

FILES = 20
GIBIBYTE = 2**30
LABELS = Labels(CLASSES)
ROOT = "gs://shop-images/collection/2021-10"
WRONG_EVERY = 7
PREDICTION = pl.Struct({"label": pl.String, "confidence": pl.Float64})
SCHEMA = pl.Schema([("instance", pl.String()), ("prediction", PREDICTION)])


@contextmanager
def bench(folder: Path, lines: int = 2_000_000) -> Iterator[Bench]:
    """Evaluate so many lines."""
    results = str(folder / "results")
    write_results(Path(results), lines)
    snapshot = listed(lines)
    _warm_up(folder / "a-few")
    speed = Subject(
        "evaluation of predictions",
        timed(lambda: evaluated(snapshot, results)),
        (
            Baseline("original", timed(lambda: original(results)), at_least(8)),
            Baseline("floor: polars reading the columns", timed(lambda: read(results)), at_least(0.5)),
        ),
        rounds=2,
        warm_up=False,
    )
    memory = Subject(
        "evaluation of predictions, memory",
        lambda: peak_memory(results, lines),
        (Baseline("1 GiB", lambda: GIBIBYTE, at_most(1)),),
        rounds=2,
        warm_up=False,
    )
    yield Bench((speed, memory), f"{lines:,} lines in {FILES} files")


def evaluated(snapshot: Snapshot, results: str) -> Evaluation:
    """Run our way."""
    return evaluate(snapshot, results, LABELS, max_skipped=0.0)


def original(results: str) -> float:
    """Read one line after the other, through TensorFlow's files; the label is the prefix of the file's name.

    Returns:
      The accuracy.
    """
    import tensorflow as tf

    right = total = 0
    for file in sorted(tf.io.gfile.glob(f"{results}/prediction.results-*")):
        with tf.io.gfile.GFile(file) as lines:
            for line in lines:
                prediction = json.loads(line)
                truth = prediction["instance"].split("/")[-1].split("_")[0]
                right += prediction["prediction"]["label"] == truth
                total += 1
    return right / total


def read(results: str) -> int:
    """Run the floor: polars parses the lines, and nothing is concluded from them."""
    files = sorted(Path(results).glob("prediction.results-*"))
    return sum(len(pl.read_ndjson(file, schema=SCHEMA)) for file in files)


def peak_memory(results: str, lines: int) -> float:
    """Return the most bytes that a process of its own holds while it only evaluates."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_peak_memory, results, lines).result()


def listed(lines: int) -> Snapshot:
    """Return the images of the predictions."""
    return Snapshot("2021-10", ROOT, tuple(storage.File(_name(number), 1_000) for number in range(lines)))


def write_results(folder: Path, lines: int) -> None:
    """Write the predictions of so many images in a random order, one in seven of them wrong."""
    folder.mkdir(parents=True)
    numbers = list(range(lines))
    random.Random(7).shuffle(numbers)
    for file in range(FILES):
        text = "".join(map(_line, numbers[file::FILES]))
        (folder / f"prediction.results-{file:05d}-of-{FILES:05d}").write_text(text)


def _warm_up(results: Path) -> None:
    """Run all three on little, so that their imports and starts are not measured."""
    write_results(results, FILES)
    evaluated(listed(FILES), str(results))
    original(str(results))
    read(str(results))


def _peak_memory(results: str, lines: int) -> float:
    evaluated(listed(lines), results)
    # Not getrusage: its peak outlives exec, and would be that of the process that started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return float(peak.split()[1]) * 1024


def _name(number: int) -> str:
    return f"{CLASSES[number % len(CLASSES)]}_{number:07d}.jpg"


def _line(number: int) -> str:
    """Return the line that json.dumps would write, which takes several times as long."""
    label = CLASSES[(number + (number % WRONG_EVERY == 0)) % len(CLASSES)]
    prediction = f'{{"label": "{label}", "confidence": {0.5 + (number % 997) / 1994}}}'
    return f'{{"instance": "{ROOT}/{_name(number)}", "prediction": {prediction}}}\n'
