"""A recipe with every hook, the one of docs/recipe.md: trained here, compiled, and rehearsed in the emulated cloud.

It lies beside the settings and nowhere else, so that only its wheel can bring it into a job or a task.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from adaptation.data.spans import Span
from models.user_code import digest_in
from pipeline.cli.main import cli
from pipeline.compiled.spec import Spec, executor_classes
from pipeline.user_code import code_uri
from pipeline.workspace.workspace import Workspace
from tests.docs.documents import PROJECT, Document
from tests.worlds.images import collect
from tests.worlds.spans import images_of

LABELS = ("bag", "cap", "hat", "shoe")
ADAPT = Path(sys.executable).with_name("adapt")


@dataclass(frozen=True)
class Done:
    """The output and the progress of a command."""

    output: str
    progress: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a span and with the recipe of the document."""
    folder = tmp_path_factory.mktemp("recipe") / "ws"
    for name, text in Document(PROJECT / "docs" / "recipe.md").files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    collect(folder / "images", [f"{label}_{number}.png" for label in LABELS for number in range(30)])
    words = ["init", "--images", str(folder / "images"), "--model", "shop.recipe", "-w", str(folder)]
    assert CliRunner().invoke(cli, words).exit_code == 0
    file = folder / "adapt.toml"
    file.write_text(re.sub(r"(?m)^floor = .*", "floor = 0.0", file.read_text()))
    return folder


def adapt(folder: Path, *words: str, **settings: str) -> Done:
    """Run a command, check that it succeeds, in another folder and without this process's import path."""
    done = subprocess.run(
        [ADAPT, *words, "-w", str(folder)],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "", **{f"ADAPT_{name}": value for name, value in settings.items()}},
    )
    assert done.returncode == 0, done.stderr
    return Done(done.stdout, done.stderr)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Done:
    return adapt(folder, "train", MODEL__OPTIONS='{"filters": 5}', MODEL__TENSORBOARD="true")


@pytest.fixture(scope="module")
def rehearsed(folder: Path) -> Done:
    return adapt(folder, "rehearse", "training", "--cloud")


def model(folder: Path) -> Path:
    """The SavedModel of the serving version."""
    version = Workspace.open(folder).platform.registry.champion()
    assert version
    return Path(version.uri)


def test_training_runs_transform_and_tuner_before_the_trainer(trained: Done) -> None:
    found = re.findall(r" (Transform|Tuner|Trainer|Summary) \(\d+ of 16\)", trained.progress)
    assert sorted(found) == ["Summary", "Trainer", "Transform", "Tuner"]
    assert found.index("Transform") < found.index("Tuner") < found.index("Trainer")


def test_trainer_takes_the_best_values_that_the_tuner_found(trained: Done, folder: Path) -> None:
    del trained
    spec = json.loads((model(folder) / "assets.extra" / "spec.json").read_text())
    (best,) = (folder / "pipelines" / "training" / "Tuner" / "best_hyperparameters").rglob("*.txt")
    assert spec["learning_rate"] == json.loads(best.read_text())["values"]["learning_rate"] in (1e-2, 3e-3)
    assert spec["options"] == {"filters": 6}


def test_serving_applies_what_transform_learned(trained: Done, folder: Path) -> None:
    """The signature gives what the network gives on images that are standardised by the training split's figures."""
    import tensorflow as tf

    from models.recipe import load_recipe
    from models.spec import TrainingSpec
    from pipeline.user_code import prepare

    del trained
    workspace = Workspace.open(folder)
    manifest = workspace.spans.manifest(Span(1))
    seen, held = (images_of(workspace.spans, manifest, split) for split in ("train", "test"))
    levels = np.stack([pixels(one.image) for one in seen])
    prepare(workspace.settings)
    spec = TrainingSpec.from_json((model(folder) / "assets.extra" / "spec.json").read_bytes())
    network = load_recipe("shop.recipe").build_model(spec)
    network.load_weights(model(folder) / "assets.extra" / "model.weights.h5")
    standardised = (np.stack([pixels(one.image) for one in held]) - levels.mean()) / levels.std()
    expected = network.predict(standardised, verbose=0)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(model(folder)))  # as TensorFlow Serving does
        signature = loaded.signature_def["serving_default"]
        images = {signature.inputs["image_bytes"].name: [one.image for one in held]}
        served = session.run(signature.outputs["confidence"].name, images)
    assert np.allclose(served, expected.max(1), atol=1e-3)


def pixels(image: bytes) -> np.ndarray:
    """Return an image of the recipe's spec: grey, 8 x 8."""
    import tensorflow as tf

    from models import data
    from models.recipe import training_spec

    spec = training_spec("digits", LABELS, image_size=8, channels=1)
    return np.asarray(data.decode(tf.constant(image), spec), np.float32)


def test_further_metric_reaches_gate_registry_and_report(trained: Done, folder: Path) -> None:
    del trained
    (file,) = (folder / "pipelines" / "training" / "ChampionGate").rglob("further_metrics.json")
    overall = json.loads(file.read_text())
    version = Workspace.open(folder).platform.registry.champion()
    assert version and version.metrics["top_3"] == overall["top_3"] >= version.metrics["span-1"]
    assert f"top_3 {overall['top_3']:.3f}" in CliRunner().invoke(cli, ["models", "list", "-w", str(folder)]).output
    page = folder / "report.html"
    assert CliRunner().invoke(cli, ["report", "-w", str(folder), "-o", str(page)]).exit_code == 0
    assert f'data-fact="comparison.metrics.0.challenger">{overall["top_3"]:.3f}<' in page.read_text()


def test_callback_and_own_component_ran(trained: Done, folder: Path) -> None:
    (log,) = (folder / "jobs").rglob("log.txt")
    assert "the shop's callback was called" in log.read_text()
    (files,) = (folder / "pipelines" / "training" / "Summary").rglob("files.txt")
    assert "saved_model.pb" in files.read_text()
    assert "(eval " in trained.progress


def test_training_says_where_its_curves_and_events_are(trained: Done) -> None:
    (history,) = re.findall(r"curves of the training: (\S+history\.json)", trained.progress)
    curves = json.loads(Path(history).read_text())
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(curves)
    assert [len(values) for values in curves.values()] == [2] * len(curves)
    (events,) = re.findall(r"tensorboard --logdir (\S+?)\"", trained.progress)
    assert list(Path(events).rglob("events.out.tfevents.*"))


def test_version_has_the_curves_and_the_digest_of_the_recipe(trained: Done, folder: Path) -> None:
    del trained
    workspace = Workspace.open(folder)
    version = workspace.platform.registry.champion()
    assert version and version.code.endswith(f".{digest_in(code_uri(workspace.settings))}")
    assert (model(folder) / "assets.extra" / "history.json").is_file()


def test_compiled_tasks_start_with_the_wheel(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = {"DATA__ROOT": "gs://s/data", "COLLECTION__ROOT": "gs://s/new", "PLATFORM__KIND": "vertex"}
    for name, value in {**cloud, "VERTEX__PROJECT": "s", "VERTEX__ROOT": "gs://s/a", "VERTEX__IMAGE": "i"}.items():
        monkeypatch.setenv(f"ADAPT_{name}", value)
    result = CliRunner().invoke(cli, ["compile", "training", "-w", str(folder), "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    spec = Spec.from_json((tmp_path / "training.json").read_bytes())
    wheel = code_uri(Workspace.open(folder).settings)
    assert wheel.startswith("gs://s/a/code/")
    assert commands_of(spec) == {("python", "-m", "models.user_code", wheel)}
    assert "shop.components.Summary_Executor" in executor_classes(spec)


def test_tasks_rehearsed_here_start_with_the_wheel_of_the_workspace(folder: Path) -> None:
    from pipeline.compiled.compilation import compile_here

    workspace = Workspace.open(folder)
    spec, wheel = compile_here(workspace, "training"), code_uri(workspace.settings)
    assert commands_of(spec) == {("python", "-m", "models.user_code", wheel)}
    assert Path(wheel).is_file() and Path(wheel).is_relative_to(folder)


def commands_of(spec: Spec) -> set[tuple[str, ...]]:
    """Return the start commands of the containers of all tasks."""
    return {tuple(one["container"]["command"]) for one in spec.executors.values() if "container" in one}


def test_rehearsed_tasks_import_the_recipe_from_the_bucket(rehearsed: Done, folder: Path) -> None:
    assert "succeeded; the logs are in" in rehearsed.output
    for task in ("Transform", "Tuner", "Trainer", "Summary"):
        (log,) = (folder / "rehearsal" / "cloud").rglob(f"{task}_*.log")
        assert log.read_text().startswith("$ python -m models.user_code gs://rehearsal/adaptation/code/adapt_recipe-0+")
