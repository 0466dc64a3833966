"""The cost of orchestration: the demo's whole loop, compared with the same executors' own work, called directly.

ML Metadata records the start and the end of each execution; the sum of these times is the executors' own work. Calling
them directly would need one import of TFX, as fast as a job's; this is measured separately, right after the loop. The
rest is starting processes, resolving inputs, recording, waiting for the trigger, and making the demo's images.
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

from benchmarks.runner import Baseline, Bench, Subject, at_most, timed
from benchmarks.starts import start

PIPELINES = ("training", "evaluation")
_IMPORT = """
from adaptation.io.storage import collector_at_rest
with collector_at_rest():
    from tfx import v1
"""


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Run the demo in a folder of its own."""
    loop = Loop(lambda: run_demo(folder / "demo"))
    own_work = Baseline("the executors' own work, TFX imported once", loop.own_work, at_most(1.3))
    yield Bench((Subject("orchestration of the loop", loop.whole, (own_work,), rounds=2, warm_up=False),))


@dataclass(frozen=True)
class Seconds:
    """The seconds of one loop: the whole, and those of calling its executors directly."""

    whole: float
    own_work: float


class Loop:
    """A loop whose figures come from one run, whichever of them is read first."""

    def __init__(self, run: Callable[[], Seconds]) -> None:
        self._run = run
        self._unread: dict[str, float] = {}

    def whole(self) -> float:
        """Return the seconds from the start to the end of the loop."""
        return self._figure("whole")

    def own_work(self) -> float:
        """Return the seconds of one import of TFX and the executions in it."""
        return self._figure("own_work")

    def _figure(self, name: str) -> float:
        if name not in self._unread:
            self._unread = asdict(self._run())
        return self._unread.pop(name)


def run_demo(folder: Path) -> Seconds:
    """Run the demo; replace an earlier one."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable,
        "-P",
        "-c",
        "from pipeline.cli.main import main; main()",
        "demo",
        "--json",
        "-w",
        str(folder),
    ]
    started = time.perf_counter()
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    seconds = time.perf_counter() - started
    assert json.loads(run.stdout.splitlines()[-1])["retrained"], "the demo's loop did not retrain"
    return Seconds(seconds, import_of_tfx() + recorded_work(folder))


def import_of_tfx() -> float:
    """Return the seconds that a fresh process takes to import TFX."""
    return timed(lambda: start((_IMPORT,)))()


def recorded_work(workspace: Path) -> float:
    """Return the seconds that all executions of a workspace's pipelines took, according to ML Metadata."""
    return sum(_seconds(workspace / "metadata" / f"{name}.sqlite") for name in PIPELINES)


def _seconds(database: Path) -> float:
    store = MetadataStore(tfx.orchestration.metadata.sqlite_metadata_connection_config(str(database)))
    milliseconds: float = sum(
        execution.last_update_time_since_epoch - execution.create_time_since_epoch
        for execution in store.get_executions()
    )
    return milliseconds / 1000
