"""`adapt rehearse --cloud` with `labels.source = "review"`: drawn labels lead to a new model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from adaptation.data.batches import Batch
from adaptation.data.reviews import Reviews
from adaptation.platforms.base import Upload
from adaptation.platforms.rollout import put_in_service
from models.export import export
from models.recipe import training_spec
from models.trainer import initial_model
from pipeline.workspace.digit_images import write_digits
from pipeline.workspace.initialise import initialise
from pipeline.workspace.workspace import Workspace
from tests.story.test_rehearse import ADAPT, MONTH, OVERRIDES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion that has learnt nothing, and a batch of which a draw is labelled."""
    folder = tmp_path_factory.mktemp("workspace")
    write_digits(folder / "images", range(300))
    initialise(folder, folder / "images", overrides=OVERRIDES)
    settings = folder / "adapt.toml"
    settings.write_text(settings.read_text().replace('source = "prefix"', 'source = "review"'))
    workspace = Workspace.open(folder)
    write_digits(Path(workspace.batches.folder(MONTH)), range(300, 420))
    spec = training_spec("digits", workspace.settings.labels.names)
    export(initial_model(spec), spec, str(folder / "made"))
    platform, upload = workspace.platform, Upload(str(folder / "made"), "made", (1,), {"span-1": 0.1}, "made", "run")
    put_in_service(platform.registry, platform.endpoint, platform.registry.upload(upload), "made for a test")
    label_a_draw(workspace, MONTH, 60)
    return folder


def label_a_draw(workspace: Workspace, batch: Batch, budget: int) -> None:
    images = {image.name: image for image in workspace.batches.images(batch)}
    reviews = Reviews(workspace.batches)
    drawn = reviews.draw(batch, list(images), budget).of(images)
    reviews.add(batch, {images[name]: name.partition("_")[0] for name in drawn})


def test_labels_of_a_draw_lead_to_a_new_model(folder: Path, guarded: dict[str, str]) -> None:
    command = [ADAPT, "rehearse", "evaluation", "--cloud", "--workspace", str(folder)]
    environment = {**os.environ, **guarded}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    logs = {file.name.partition("_")[0]: file.read_text(errors="replace") for file in folder.rglob("*.log")}
    assert "60 of 120 images were drawn and labelled" in logs["PerformanceEvaluator"]
    assert {"SpanPreparator", "PipelineTrigger", "Trainer", "Deployer"} <= set(logs)
