"""Small worlds for the command line: images, a workspace, versions of a model, and fake jobs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptation.platforms.base import Upload
from adaptation.platforms.connect import LocalConfig
from adaptation.platforms.rollout import put_in_service
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import collect
from tests.worlds.processes import wait_until

LABELS = ("ship", "truck")
MONTH = "2021-10"

# Replaces `pipeline.local.job`: reports a few steps, waits while it is held, and ends with the test's result.
_RUNNER = """
import json, sys, time
from pathlib import Path
from adaptation.data.batches import Batch
from adaptation.platforms.local.jobs import run_recorded
from adaptation.progress import report
from pipeline.workspace.workspace import Workspace

control, folder = Path(sys.argv[1]), sys.argv[2]

def work(request):
    report("Trainer (1 of 2)")
    report("epoch 1/1, accuracy 0.50 (eval 0.50)")
    while (control / "hold").exists():
        time.sleep(0.02)
    if not (control / f"{request.pipeline}.json").exists():
        raise OSError("the disk is full")
    report("Evaluator (2 of 2)")
    if request.pipeline == "evaluation":
        batches = Workspace.open(control.parent).batches
        batches.mark_evaluated(batches.snapshot(Batch.parse(request.parameters["batch"])))
    return json.loads((control / f"{request.pipeline}.json").read_text())

run_recorded(folder, work)
"""
_ADAPT = """
import sys
from pathlib import Path
from tests.worlds.workspace import use_fake_jobs
use_fake_jobs()
from pipeline.cli.main import main
main()
"""
_CONFIG = Workspace.config


@dataclass(frozen=True)
class World:
    """A workspace of two classes in `folder`; its jobs wait while held and end with what was last `conclude`d."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, labels: tuple[str, ...] = LABELS, **settings: object) -> World:
        """Make a world without images and models; settings are named like `labels__source`."""
        given = {key.replace("__", "."): value for key, value in settings.items()}
        write_settings(folder / "adapt.toml", labels, {"collection.min_images": 10, **given})
        world = cls(folder)
        world.control.mkdir()
        (world.control / "runner.py").write_text(_RUNNER)
        world.conclude("evaluation", reason="accuracy 0.95 is not below 0.9", training=None)
        world.conclude("training", reason="version 1 is the champion", deployed=True)
        return world

    @property
    def workspace(self) -> Workspace:
        """The workspace, opened again."""
        return Workspace.open(self.folder)

    @property
    def control(self) -> Path:
        """The folder of the files that control the jobs."""
        return self.folder / "control"

    @property
    def job_ids(self) -> list[str]:
        """The ids of all jobs, oldest first."""
        return [job.id for job in self.workspace.jobs.list()]

    def collect(self, count: int, month: str = MONTH, first: int = 0) -> None:
        """Collect so many further images."""
        collect(self.folder / "collection" / month, [f"ship_{number}.png" for number in range(first, first + count)])

    def register(self, count: int = 1) -> None:
        """Register so many versions; the last becomes the champion."""
        platform = self.workspace.platform
        for number in range(1, count + 1):
            model = self.folder / "made" / str(number)
            model.mkdir(parents=True)
            (model / "saved_model.pb").write_text(str(number))
            spans = tuple(range(1, number + 1))
            metrics = {f"span-{span}": 0.9 + span / 1000 for span in spans}
            upload = Upload(str(model), f"key-{number}", spans, metrics, str(model), "run")
            put_in_service(platform.registry, platform.endpoint, platform.registry.upload(upload), "made for a test")

    def conclude(self, pipeline: str, **result: Any) -> None:
        """Let the jobs of a pipeline end with this result from now on."""
        (self.control / f"{pipeline}.json").write_text(json.dumps(result))

    def fail(self, pipeline: str) -> None:
        """Let the jobs of a pipeline fail from now on."""
        (self.control / f"{pipeline}.json").unlink()

    def hold(self) -> None:
        """Let jobs wait from now on."""
        (self.control / "hold").touch()

    def release(self) -> None:
        """Let jobs end."""
        (self.control / "hold").unlink(missing_ok=True)
        wait_until(lambda: all(job.state.ended for job in self.workspace.jobs.list()))


def use_fake_jobs() -> None:
    """Let all workspaces of this process run their jobs with the runner of their world."""
    Workspace.config = property(_fake_config)  # type: ignore[assignment, misc]


def use_real_jobs() -> None:
    """Undo `use_fake_jobs`."""
    Workspace.config = _CONFIG  # type: ignore[method-assign]


def start(*arguments: str, terminal: int | None = None) -> subprocess.Popen[str]:
    """Start `adapt` with fake jobs in a process; a terminal, if given, is its error stream."""
    return subprocess.Popen(
        [sys.executable, "-c", _ADAPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if terminal is None else terminal,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm", "COLUMNS": "80"},
        text=True,
    )


def plain(text: str) -> str:
    """Return what was printed without a terminal's control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def _fake_config(workspace: Workspace) -> LocalConfig:
    control = Path(workspace.root) / "control"
    return LocalConfig(workspace.root, (sys.executable, str(control / "runner.py"), str(control)))


@contextmanager
def a_held_world(folder: Path) -> Iterator[World]:
    """Make a world of two classes with a champion and no image, whose jobs do not end before they are released."""
    use_fake_jobs()
    world = World.make(folder)
    world.register()
    world.hold()
    yield world
    world.release()
    use_real_jobs()
