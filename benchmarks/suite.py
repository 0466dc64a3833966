"""The suite: the list of benchmarks, and the way to run one: alone, in a process and a folder of its own."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images import shared_images
from benchmarks.runner import Figure, Subject, measured

MODULES = {
    "preparation": "span_preparation",
    "preparation-remote": "span_preparation_remote",
    "archiving": "archiving",
    "listing": "listing",
    "evaluation": "evaluation",
    "prediction": "prediction",
    "ingestion": "ingestion",
    "retraining": "retraining",
    "inputs": "inputs",
    "starts": "starts",
    "orchestration": "orchestration",
    "training": "training",
    "judgement": "judgement",
    "look": "look",
}
BY_NAME_ONLY = ("judgement", "look")  # minutes of simulation, and no figure depends on the machine
WAITING = ("preparation-remote", "archiving")


@dataclass(frozen=True)
class Report:
    """The result of one benchmark: its figures, and the remark on its data."""

    figures: tuple[Figure, ...]
    remark: str


def run_all(names: Sequence[str]) -> list[Report]:
    """Run benchmarks, each in a process of its own: none finds what another has loaded.

    They run one after the other, except those that nearly always wait for storage. Several benchmarks share their
    images. A benchmark that fails is reported, and the others are run.
    """
    with shared_images() if len(names) > 1 else nullcontext():
        return _run_all(names)


def _run_all(names: Sequence[str]) -> list[Report]:
    waiting = [name for name in names if name in WAITING]
    reports: dict[str, Report] = {}
    for group in [*([waiting] if waiting else []), *([name] for name in names if name not in WAITING)]:
        with ThreadPoolExecutor(len(group)) as threads:
            reports |= zip(group, threads.map(_report, group), strict=True)
    return [reports[name] for name in names]


def run_one(name: str) -> Report:
    """Run one benchmark in this process."""
    module = importlib.import_module(f"benchmarks.{MODULES[name]}")
    with tempfile.TemporaryDirectory() as folder, module.bench(Path(folder)) as bench:
        figures = [*(figure for subject in bench.subjects for figure in _measured(subject)), *bench.figures()]
        remark = bench.remark if isinstance(bench.remark, str) else bench.remark()
    return Report(tuple(figures), remark)


def _report(name: str) -> Report:
    try:
        return _run_apart(name)
    except Exception as error:  # its set-up failed, or its process was killed
        return Report((Figure.of_failure(name, error),), "")


def _run_apart(name: str) -> Report:
    started = time.monotonic()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        report = process.submit(run_one, name).result()
    print(f"{name} took {time.monotonic() - started:.0f} seconds", file=sys.stderr, flush=True)
    return report


def _measured(subject: Subject) -> list[Figure]:
    print(f"measuring {subject.name}", file=sys.stderr, flush=True)
    return measured(subject)
