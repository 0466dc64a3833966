"""What orchestration adds: the demo's whole loop, held against the work of the components in it.

ML Metadata records when each execution began and ended; their sum is what the same executors cost by themselves. The
rest is starting processes and importing TFX, resolving inputs, recording, waiting for the trigger.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ml_metadata import MetadataStore
from tfx import v1 as tfx

from benchmarks.runner import Baseline, Bench, Subject, at_most

PIPELINES = ("training", "evaluation")


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """The demo in a folder of its own."""
    loop = Loop(lambda: run_demo(folder / "demo"))
    own_work = Baseline("the executors' own work", loop.own_work, at_most(1.3))
    yield Bench((Subject("orchestration of the loop", loop.whole, (own_work,), rounds=2, warm_up=False),))


@dataclass(frozen=True)
class Seconds:
    """What one loop took: the whole, and the executions in it."""

    whole: float
    own_work: float


class Loop:
    """A loop whose two figures belong to one run, whichever of them is asked for first."""

    def __init__(self, run: Callable[[], Seconds]) -> None:
        self._run = run
        self._told: dict[str, float] = {}

    def whole(self) -> float:
        """Seconds from the start to the end of the loop."""
        return self._figure("whole")

    def own_work(self) -> float:
        """Seconds that the executions in it took."""
        return self._figure("own_work")

    def _figure(self, name: str) -> float:
        if name not in self._told:
            self._told = asdict(self._run())
        return self._told.pop(name)


def run_demo(folder: Path) -> Seconds:
    """Runs the demo; one that was there is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-P", "-c", "from pipeline.cli import main; main()", "demo", "--json", "-w", str(folder)]
    started = time.perf_counter()
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    seconds = time.perf_counter() - started
    assert json.loads(run.stdout.splitlines()[-1])["retrained"], "the demo's loop did not retrain"
    return Seconds(seconds, recorded_work(folder))


def recorded_work(workspace: Path) -> float:
    """Seconds that all executions of a workspace's pipelines took, as ML Metadata has them."""
    return sum(_seconds(workspace / "metadata" / f"{name}.sqlite") for name in PIPELINES)


def _seconds(database: Path) -> float:
    store = MetadataStore(tfx.orchestration.metadata.sqlite_metadata_connection_config(str(database)))
    milliseconds: float = sum(
        execution.last_update_time_since_epoch - execution.create_time_since_epoch
        for execution in store.get_executions()
    )
    return milliseconds / 1000
