"""`adapt rehearse --cloud`: a local workspace, rehearsed as a deployment on Google Cloud, and unchanged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from adaptation.data.batches import Batch
from adaptation.platforms.base import Upload
from adaptation.platforms.rollout import put_in_service
from models.export import export
from models.recipe import training_spec
from models.trainer import initial_model
from pipeline.cli.main import cli
from pipeline.workspace.digit_images import write_digits
from pipeline.workspace.initialise import initialise
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import contents

ADAPT = str(Path(sys.executable).with_name("adapt"))
GOLDEN = Path(__file__).parents[1] / "pipeline" / "golden" / "adapt.toml"
MONTH = Batch(2021, 10)
OVERRIDES = {
    "model.epochs": 10,
    "gate.floor": 0.0,
    "gate.margin": 1.0,
}  # a champion that knows nothing is beaten


@dataclass(frozen=True)
class Rehearsed:
    """The output of a rehearsal, and the files of the workspace before and after it."""

    code: int
    output: str
    progress: str
    before: dict[str, bytes]
    after: dict[str, bytes]

    @property
    def logs(self) -> dict[str, str]:
        """The logs of the tasks by name."""
        new = {name: text for name, text in self.after.items() if name not in self.before and name.endswith(".log")}
        return {Path(name).name.partition("_")[0]: text.decode(errors="replace") for name, text in new.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose champion has learnt nothing, and a batch of images."""
    folder = tmp_path_factory.mktemp("workspace")
    write_digits(folder / "images", range(300))
    workspace, _ = initialise(folder, folder / "images", overrides=OVERRIDES)
    write_digits(Path(workspace.batches.folder(MONTH)), range(300, 400))
    spec = training_spec("digits", workspace.settings.labels.names)
    export(initial_model(spec), spec, str(folder / "made"))
    platform, upload = workspace.platform, Upload(str(folder / "made"), "made", (1,), {"span-1": 0.1}, "made", "run")
    put_in_service(platform.registry, platform.endpoint, platform.registry.upload(upload), "made for a test")
    return folder


@pytest.fixture(scope="module")
def rehearsed(folder: Path, guarded: dict[str, str]) -> Rehearsed:
    before = contents(folder)
    command = [ADAPT, "rehearse", "evaluation", "--cloud", "--workspace", str(folder)]
    environment = {**os.environ, **guarded}
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment, check=False)
    return Rehearsed(result.returncode, result.stdout, result.stderr, dict(before), dict(contents(folder)))


def test_rehearsal_runs_the_evaluation_and_the_training_that_it_starts(rehearsed: Rehearsed) -> None:
    assert rehearsed.code == 0, rehearsed.progress
    assert "succeeded; the logs are in" in rehearsed.output
    assert {"FileListGen", "BatchPredictionGen", "PipelineTrigger", "Trainer", "Deployer"} <= set(rehearsed.logs)


def test_challenger_meets_the_champion_of_the_workspace_at_the_gate(rehearsed: Rehearsed) -> None:
    met = r"version 2 is (the champion|a candidate): .*of \d+ images \d+ are right only with the challenger"
    assert re.search(met, rehearsed.logs["Deployer"])


def test_workspace_is_unchanged_but_for_the_logs(rehearsed: Rehearsed, folder: Path) -> None:
    kept = {name: data for name, data in rehearsed.after.items() if not name.startswith("rehearsal/cloud/")}
    assert kept == rehearsed.before
    workspace = Workspace.open(folder)
    assert [version.number for version in workspace.platform.registry.versions()] == [1]
    assert len(workspace.batches.images(MONTH)) == 100


def test_rehearsal_contacts_nothing_outside_the_loopback_interface(rehearsed: Rehearsed, attempts: Path) -> None:
    assert "stays on this machine" not in rehearsed.progress
    assert attempts.read_text() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", str(GOLDEN)], "--data goes with --cloud."),
        (["--cloud", "--task", "FileListGen"], "--task and --cache need an earlier run"),
        (["--cloud", "--cache"], "--task and --cache need an earlier run"),
        (["--cloud", "--workspace", str(GOLDEN)], "is on Google Cloud. Name a local workspace to copy with --data."),
    ],
)
def test_incompatible_options_are_wrong_usage(options: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["rehearse", "evaluation", *options])
    assert (result.exit_code, message in result.stderr) == (2, True), result.output
