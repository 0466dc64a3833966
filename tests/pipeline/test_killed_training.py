"""Real trainings killed at random moments: the next delivery repeats them, and the loop ends as if undisturbed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from adaptation import codec
from adaptation.data.batches import Batch
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import Span
from adaptation.data.splits import Split
from adaptation.evaluation.gate import Comparison
from adaptation.platforms.base import Job, JobState
from adaptation.platforms.local import forkserver
from adaptation.retraining import Decision, Step, decide, look
from pipeline.jobs import start_training, trigger
from pipeline.workspace.digit_images import changed_camera, write_digits
from pipeline.workspace.initialise import initialise
from pipeline.workspace.workspace import Workspace
from tests.worlds.processes import wait_until

MONTH = Batch(2021, 10)
IMAGES = range(1000, 1160)
SEED = 14
SETTINGS = {"model.epochs": 4, "gate.floor": 0.05}


@dataclass(frozen=True)
class End:
    """Where a loop has ended, without the names of its jobs and the numbers of its versions."""

    step: Step
    spans: tuple[str, ...]
    images: dict[str, int]
    metrics: dict[str, float]
    trained_on: tuple[int, ...]
    is_new: bool
    champion_serves: bool
    comparison: Comparison

    @classmethod
    def of(cls, workspace: Workspace) -> End:
        """Return the state of a workspace, whose images are each in one of its spans at most."""
        platform, spans, batches = workspace.platform, workspace.spans, workspace.batches
        champion = platform.registry.find()
        batch = [*batches.images(MONTH), *batches.archived(MONTH)]
        in_spans = [image for span in spans.spans() for image in spans.snapshot(span).images]  # type: ignore[union-attr]
        assert len(set(in_spans)) == len(in_spans)
        assert sorted(batch) == sorted(spans.images_of(str(MONTH)))
        return cls(
            step=look(workspace.triggers, platform.jobs, platform.registry).step,
            spans=tuple(spans.verify(span).digest for span in spans.spans()),
            images={str(month): len(batches.images(month)) for month in batches.batches()},
            metrics=dict(champion.metrics),
            trained_on=champion.spans,
            is_new=champion.number > 1,
            champion_serves=list(platform.endpoint.serving()) == [champion.number],
            comparison=codec.read(champion.comparison, Comparison),
        )


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with a first champion and a drifted batch, whose evaluation has just ended: a training is decided."""
    folder = tmp_path_factory.mktemp("killed") / "decided"
    with forkserver.serving("pipeline.local.job", preload="pipeline.local.runs"):
        workspace, _ = initialise(folder, limit=300, overrides=SETTINGS)
        ended(workspace, start_training(workspace))
        write_digits(folder / "collection" / str(MONTH), IMAGES, changed_camera)
        snapshot = workspace.batches.snapshot(MONTH)
        cause = Decision(2, "evaluation-2021-10-0001", 1, workspace.spans.root, "all", "spans")
        decide(workspace.triggers, cause)
        prepare(workspace.spans, snapshot, workspace.labels, Split(ratio=0.5))
        workspace.batches.mark_evaluated(snapshot)
        yield folder


def ended(workspace: Workspace, job: Job) -> list[str]:
    """Wait for the end of a job and return its messages."""
    return list(workspace.jobs.follow(job.id))


def delivered(workspace: Workspace) -> Job:
    """Make a delivery, as `adapt watch` does, and return the job of the training."""
    job = trigger(workspace).training.job
    assert job is not None
    return job


def killed(workspace: Workspace, after: int) -> None:
    """Make a delivery and kill its training after so many messages."""
    job = delivered(workspace)
    for number, _ in enumerate(workspace.jobs.follow(job.id), 1):
        if number == after:
            break
    for process in holders(Path(workspace.root, "jobs", job.id, "lock")):
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: workspace.jobs.get(job.id).state.ended)  # type: ignore[union-attr]
    assert workspace.jobs.get(job.id).state is JobState.FAILED  # type: ignore[union-attr]


def holders(file: Path) -> list[int]:
    """Return the processes that have the file open."""
    return sorted({int(fd.parts[2]) for fd in Path("/proc").glob("[0-9]*/fd/*") if leads_to(fd, file)})


def leads_to(link: Path, file: Path) -> bool:
    try:
        return os.readlink(link) == str(file)
    except OSError:
        return False


def test_training_killed_at_random_moments_ends_as_undisturbed(decided: Path) -> None:
    undisturbed = copied(decided, "undisturbed")
    messages = ended(undisturbed, delivered(undisturbed))
    end = End.of(undisturbed)
    assert (end.step, end.is_new, end.champion_serves) == (Step.DONE, True, True)
    one, two, three = np.random.default_rng(SEED).integers(1, len(messages) - 2, 3).tolist()
    after_deployment = len(messages) - 2
    for number, (first, second) in enumerate([(one, two), (three, after_deployment)]):
        workspace = copied(decided, f"killed-{number}")
        killed(workspace, first)
        assert workspace.spans.spans() == [Span(1), Span(2)]
        killed(workspace, second)
        ended(workspace, delivered(workspace))
        assert End.of(workspace) == end
        before = workspace.jobs.list()
        trigger(workspace)
        assert workspace.jobs.list() == before


def copied(folder: Path, name: str) -> Workspace:
    shutil.copytree(folder, folder.with_name(name))
    return Workspace.open(folder.with_name(name))
