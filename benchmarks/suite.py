"""The suite: which benchmarks there are, and how one is run: alone, in a process and a folder of its own."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runner import Figure, Subject, measure

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
}


@dataclass(frozen=True)
class Report:
    """What came of one benchmark: its figures, and the remark on what it worked on."""

    figures: tuple[Figure, ...]
    remark: str


def run_all(names: Sequence[str]) -> list[Report]:
    """Runs benchmarks one after the other, each in a process of its own: none finds what another has loaded."""
    context = multiprocessing.get_context("spawn")
    reports = []
    for name in names:
        with ProcessPoolExecutor(1, mp_context=context) as process:
            reports.append(process.submit(run_one, name).result())
    return reports


def run_one(name: str) -> Report:
    """Runs one benchmark in this process."""
    module = importlib.import_module(f"benchmarks.{MODULES[name]}")
    with tempfile.TemporaryDirectory() as folder, module.bench(Path(folder)) as bench:
        figures = [figure for subject in bench.subjects for figure in _told(subject)]
    return Report(tuple(figures), bench.remark)


def _told(subject: Subject) -> list[Figure]:
    print(f"measuring {subject.name}", file=sys.stderr, flush=True)
    return measure(subject)
