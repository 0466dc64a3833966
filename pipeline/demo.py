"""The demo: the whole loop on scikit-learn's digits, in one go, on this machine.

A first model is trained on the scans of one camera. Then a month of images comes from another. The trigger notices, the
evaluation finds the model wanting, the images become span-2, the training on both spans makes a challenger, the gate
lets it pass, and the images held out of the training are predicted again, as a batch of their own. A report shows all.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from adaptation.data.batches import Batch
from adaptation.data.spans import Span, SpanStore, enumerate_spans
from adaptation.data.tfrecords import LabelledImage, unframe
from adaptation.errors import AlreadyExists
from adaptation.io import storage
from adaptation.platforms.base import Job, JobState
from adaptation.platforms.connect import LocalConfig, connect
from adaptation.platforms.local import forkserver
from pipeline.console import follow, say, show, show_counts, step, working
from pipeline.jobs import start_training, trigger
from pipeline.report.collect import collect
from pipeline.report.page import write_page
from pipeline.workspace.digit_images import COUNT, changed_camera, write_digits
from pipeline.workspace.initialise import initialise
from pipeline.workspace.settings_file import SETTINGS_FILE, InvalidSettings
from pipeline.workspace.workspace import Workspace

MARK = ".adapt-demo"
REPORT = "report.html"
DRIFTED, AGAIN = Batch(2021, 10), Batch(2021, 11)
FIRST_SPAN = 1000
OVERRIDES = {"gate.floor": 0.9}
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class DemoResult:
    """The figures of one demo. Accuracies are between 0 and 1.

    Attributes:
      accuracy_span1_before: The first champion on span-1's test split.
      accuracy_drifted_before: The first champion on the drifted month.
      retrained: Whether that led to a new champion.
      spans: The published spans.
      accuracy_span1_after: The champion at the end on span-1's test split.
      accuracy_drifted_after: The champion at the end on the drifted month's held-out images.
      champion_version: Its number.
      by_span: On how many test images which of the two models was right, by number of span, see `Pairs`.
      by_label: The same by class.
      seconds: How long it all took.
    """

    accuracy_span1_before: float
    accuracy_drifted_before: float
    retrained: bool
    spans: str
    accuracy_span1_after: float
    accuracy_drifted_after: float
    champion_version: int
    by_span: Mapping[str, Mapping[str, int]]
    by_label: Mapping[str, Mapping[str, int]]
    seconds: float


def run_demo(folder: Path) -> DemoResult:
    """Runs the demo in a folder of its own; one that an earlier demo left is replaced.

    Raises:
      AlreadyExists: The folder is something else.
      InvalidSettings: The environment overrides settings: the demo might write where other data is.
      JobFailed: A pipeline failed.
    """
    started = time.monotonic()
    _refuse_overrides()
    with forkserver.serving("pipeline.local.job", preload="pipeline.local.runs"):  # its four jobs import TFX once
        order = [int(index) for index in np.random.default_rng(0).permutation(COUNT)]
        workspace = _first_champion(folder, order[:FIRST_SPAN])
        first = workspace.platform.registry.find()
        drifted = _drifted_month(workspace, order[FIRST_SPAN:])
        training = _retrain(workspace, drifted)
        again = _held_out_again(workspace)
        champion = workspace.platform.registry.find()
        _write_report(workspace, folder / REPORT)
    return DemoResult(
        accuracy_span1_before=first.metrics["span-1"],
        accuracy_drifted_before=drifted.result["accuracy"],
        retrained=bool(training.get("deployed")),
        spans=enumerate_spans(workspace.spans.spans()),
        accuracy_span1_after=champion.metrics["span-1"],
        accuracy_drifted_after=again.result["accuracy"],
        champion_version=champion.number,
        by_span=training.get("by_span", {}),
        by_label=training.get("by_label", {}),
        seconds=round(time.monotonic() - started, 1),
    )


def show_result(result: DemoResult) -> None:
    """The figures as a table."""
    rows = [
        ("version 1, before", result.accuracy_span1_before, result.accuracy_drifted_before),
        (f"version {result.champion_version}, after", result.accuracy_span1_after, result.accuracy_drifted_after),
    ]
    show("Accuracy of the champion", ["", "span-1, first camera", "the month, changed camera"], rows)
    show_counts({"by_span": result.by_span, "by_label": result.by_label})
    click.echo(f"spans {result.spans}, {result.seconds:.0f} seconds")


def _refuse_overrides() -> None:
    if variables := [name for name in sorted(os.environ) if name.upper().startswith("ADAPT_")]:
        raise InvalidSettings(
            f"the demo has settings of its own, but {', '.join(variables)} would override them. Unset them."
        )


def _first_champion(folder: Path, indices: list[int]) -> Workspace:
    step("1  A first model, from the scans of one camera")
    _make_room(folder)
    write_digits(folder / "images", indices)
    workspace, manifest = initialise(folder, folder / "images", overrides=OVERRIDES)
    say(f"span-1: {manifest.images} images of {len(manifest.labels)} digits")
    with working("starting TFX"):
        training = start_training(workspace)
    follow(workspace.jobs, training.id)
    return workspace


def _make_room(folder: Path) -> None:
    """The mark that says whose folder it is comes first and is never away, so that a cut-off demo is still known."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise AlreadyExists(f"{folder} is not an earlier demo's. Name an empty or a new folder with --workspace.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    (folder / SETTINGS_FILE).unlink(missing_ok=True)  # a job that is just starting comes to nothing without it
    _await_jobs(folder)
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != MARK:
            entry.unlink()


def _await_jobs(folder: Path) -> None:
    """A job goes on when its demo is interrupted, and would write into the folder of the next."""
    jobs = connect(LocalConfig(str(folder), ())).jobs
    while running := [job.id for job in jobs.list() if job.state is JobState.RUNNING]:
        with working(f"waiting for {running[0]}, which an interrupted demo has left"):
            while (job := jobs.get(running[0])) and job.state is JobState.RUNNING:
                time.sleep(POLL_SECONDS)


def _drifted_month(workspace: Workspace, indices: list[int]) -> Job:
    step(f"2  {DRIFTED}: {len(indices)} other digits arrive, from a changed camera")
    write_digits(Path(workspace.batches.folder(DRIFTED)), indices, changed_camera)
    return _evaluate(workspace)


def _evaluate(workspace: Workspace) -> Job:
    delivery = trigger(workspace)
    say(f"{delivery.plan.outcome}: {delivery.plan.reason}")
    return follow(workspace.jobs, delivery.plan.job_id)


def _retrain(workspace: Workspace, evaluation: Job) -> Mapping[str, Any]:
    """What the training concluded; nothing if there was none."""
    step("3  The training that the evaluation triggered")
    if not evaluation.result["training"]:
        say("none was triggered")
        return {}
    return follow(workspace.jobs, evaluation.result["training"]).result


def _held_out_again(workspace: Workspace) -> Job:
    step(f"4  {AGAIN}: the images of {DRIFTED} that were held out of the training arrive again")
    for image in _test_images(workspace.spans, workspace.spans.spans()[-1]):
        storage.write(storage.join(workspace.batches.folder(AGAIN), image.id), image.image)
    return _evaluate(workspace)


def _write_report(workspace: Workspace, file: Path) -> None:
    write_page(collect(workspace), storage.absolute(str(file)))
    say(f"the report: {file}")


def _test_images(spans: SpanStore, span: Span) -> Iterator[LabelledImage]:
    for shard in spans.manifest(span).shards:
        if shard.split == "test":
            uri = spans.shard_uri(span, shard)
            yield from map(LabelledImage.parse, unframe(storage.read(uri), uri))
