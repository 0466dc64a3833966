"""The rehearsal and the local run of the same pipelines have the same results: figures, decision, span and model.

Two copies of one workspace go through the first training and the evaluation of a drifted month, one of them each way.
What the evaluation triggers would take minutes and is not compared: it ends at once, because its settings are gone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adaptation import codec
from adaptation.data.spans import Manifest
from adaptation.data.windows import training_parameters
from adaptation.evaluation.accuracy import Evaluation
from adaptation.evaluation.gate import Comparison
from adaptation.platforms.base import ModelVersion
from components import artifacts
from pipeline.compiled.compilation import compile_here
from pipeline.compiled.spec import Spec
from pipeline.rehearsal import Artifact, Place, Rehearsal, rehearse
from pipeline.workspace.digit_images import changed_camera, write_digits
from pipeline.workspace.initialise import initialise
from pipeline.workspace.workspace import Workspace
from tests.pipeline.local.test_champion import champion_in_training

MONTH = "2021-10"
LOCAL = """
import dataclasses, json, sys
from pathlib import Path
from pipeline.local.runs import run_evaluation, run_training
from pipeline.workspace.workspace import Workspace

workspace = Workspace.open(sys.argv[1])
run_training(workspace, "training")
Path(workspace.settings.file).rename(workspace.settings.file.with_name("away.toml"))
result = run_evaluation(workspace, "evaluation", sys.argv[2])
Path(workspace.root, "result.json").write_text(json.dumps(dataclasses.asdict(result)))
"""


@dataclass(frozen=True)
class Loop:
    """The results of one way: the decision, the second span, the version, and the gate's verdict on it."""

    accuracy: float | None
    retrain: bool
    reason: str
    span: Manifest
    version: ModelVersion


@dataclass(frozen=True)
class LocalRun:
    """The local run, while its process runs."""

    workspace: Workspace
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True)
class Rehearsed:
    """The rehearsed runs."""

    workspace: Workspace
    place: Place
    spec: Spec
    training: Rehearsal
    evaluation: Rehearsal

    @property
    def loop(self) -> Loop:
        """The results of the rehearsal."""
        folder = Path(self.evaluation.output("PerformanceEvaluator", "metrics").uri)
        evaluation = codec.read(str(folder / artifacts.EVALUATION), Evaluation)
        decision = json.loads((folder / artifacts.DECISION).read_bytes())
        return loop(self.workspace, evaluation.accuracy, decision["retrain"], decision["reason"])

    def repeat(self, task: str, output: str) -> Artifact:
        """Repeat a task of the training alone and return its artifact."""
        done = rehearse(self.spec, self.place, only=task)
        done.check()
        return done.output(task, output)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A span of digits, and a batch of others by a changed camera."""
    folder = tmp_path_factory.mktemp("same") / "start"
    overrides = {"model.epochs": 3, "gate.floor": 0.05, "evaluation.threshold": 0.99}
    initialise(folder, limit=300, overrides=overrides)
    write_digits(folder / "collection" / MONTH, range(1000, 1120), changed_camera)
    return folder


@pytest.fixture(scope="module")
def local_run(start: Path) -> Iterator[LocalRun]:
    """`adapt train` and `adapt evaluate`, but for their processes; it runs beside the rehearsal."""
    workspace = copied(start, "local")
    log = Path(workspace.root, "log.txt")
    command = [sys.executable, "-c", LOCAL, str(workspace.settings.file), MONTH]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        yield LocalRun(workspace, process, log)
        process.kill()


@pytest.fixture(scope="module")
def local(local_run: LocalRun, rehearsed: Rehearsed) -> Loop:
    """The results of the local run."""
    del rehearsed
    assert local_run.process.wait(1800) == 0, local_run.log.read_text()[-3000:]
    workspace = local_run.workspace
    result: Mapping[str, Any] = json.loads((Path(workspace.root) / "result.json").read_bytes())
    return loop(workspace, result["accuracy"], result["retrain"], result["reason"])


@pytest.fixture(scope="module")
def rehearsed(start: Path, local_run: LocalRun) -> Rehearsed:
    """`adapt rehearse training` and `adapt rehearse evaluation`, but for the command line."""
    del local_run
    workspace = copied(start, "rehearsed")
    place = Place(Path(workspace.root) / "rehearsal")
    specs = {name: compile_here(workspace, name) for name in ("training", "evaluation")}
    parameters = training_parameters(workspace.settings.data.root, workspace.select(), "spans")
    training = rehearse(specs["training"], place, parameters, run="training")
    training.check()
    workspace.settings.file.rename(workspace.settings.file.with_name("away.toml"))
    evaluation = rehearse(specs["evaluation"], place, {"data_gcs_prefix": MONTH}, run="evaluation")
    evaluation.check()
    return Rehearsed(workspace, place, specs["training"], training, evaluation)


def copied(start: Path, name: str) -> Workspace:
    shutil.copytree(start, start.with_name(name))
    return Workspace.open(start.with_name(name))


def loop(workspace: Workspace, accuracy: float | None, retrain: bool, reason: str) -> Loop:
    span = workspace.spans.verify(workspace.spans.spans()[-1])
    return Loop(accuracy, retrain, reason, span, workspace.platform.registry.find())


def test_rehearsal_trains_the_same_model(local: Loop, rehearsed: Rehearsed) -> None:
    assert rehearsed.loop.version.metrics == local.version.metrics
    assert (rehearsed.loop.version.number, rehearsed.loop.version.spans) == (local.version.number, local.version.spans)


def test_rehearsal_makes_the_same_decision_from_the_same_accuracy(local: Loop, rehearsed: Rehearsed) -> None:
    ours = rehearsed.loop
    assert (ours.accuracy, ours.retrain, ours.reason) == (local.accuracy, local.retrain, local.reason)
    assert local.retrain


def test_rehearsal_publishes_the_same_span(local: Loop, rehearsed: Rehearsed) -> None:
    assert rehearsed.loop.span.span == local.span.span == 2
    assert rehearsed.loop.span.digest == local.span.digest
    assert (rehearsed.loop.span.run, local.span.run) == ("evaluation", "evaluation")


def test_rehearsal_triggers_the_training_on_both_spans(rehearsed: Rehearsed) -> None:
    triggered = rehearsed.evaluation.output("PipelineTrigger", "job").metadata
    job = rehearsed.workspace.jobs.get(triggered["job"])
    assert job is not None and job.parameters["window"] == "1-2"


def test_local_training_meets_the_champion_that_a_rehearsal_deployed(rehearsed: Rehearsed) -> None:
    deployed = rehearsed.workspace.platform.registry.find()
    model = Path(deployed.uri, "saved_model.pb").read_bytes()
    assert champion_in_training(rehearsed.workspace) == (deployed.number, model) == (1, model)


def test_next_training_compares_with_the_registrys_champion(rehearsed: Rehearsed) -> None:
    assert rehearsed.training.output("Champion", "model").metadata["version"] == 0
    assert rehearsed.repeat("Champion", "model").metadata["version"] == 1
    rehearsed.repeat("ModelComparator", "comparison")
    judged = rehearsed.repeat("ChampionGate", "blessing")
    compared = codec.read(f"{judged.uri}/{artifacts.PAIRS}", Comparison)
    assert (compared.champion, set(compared.by_span)) == (1, {1})
    assert all(pairs.champion == pairs.challenger == pairs.both for pairs in compared.by_span.values())
    assert judged.metadata["outcome"] == "undecided"
