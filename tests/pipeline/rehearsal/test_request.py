"""The rehearsal of a local workspace: its pipelines, compiled with its own folders and platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adaptation.data.spans import SpanStore
from pipeline.rehearsal.request import session
from tests.worlds.spans import published
from tests.worlds.workspace import LABELS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World.make(tmp_path / "shop")
    published(SpanStore(str(world.folder / "data")), names=LABELS)
    return world


def test_evaluation_uses_the_folders_and_platform_of_the_workspace(world: World) -> None:
    made = session(world.workspace, "evaluation", None, {})
    given = {name: source.get("runtimeValue", {}) for name, source in parameters_of(made.spec.tasks["SpanPreparator"])}
    platform = dict(parameters_of(made.spec.tasks["PipelineTrigger"]))["platform"]["runtimeValue"]["constant"]
    assert given["data_root"]["constant"] == str(world.folder / "data")
    assert json.loads(platform)["platform"] == "local"
    outputs = world.folder / "rehearsal" / "outputs" / "evaluation"
    assert made.spec.job["runtimeConfig"]["gcsOutputDirectory"] == str(outputs)
    assert (made.folder, made.parameters) == (world.folder / "rehearsal", {})


@pytest.mark.parametrize(
    ("ingestion", "names"), [("spans", {"window", "digest"}), ("import", {"input-config", "output-config"})]
)
def test_training_gets_the_window_in_the_parameters_that_it_takes(
    world: World, monkeypatch: pytest.MonkeyPatch, ingestion: str, names: set[str]
) -> None:
    monkeypatch.setenv("ADAPT_TRAINING__INGESTION", ingestion)
    made = session(world.workspace, "training", None, {})
    assert set(made.spec.parameters) == set(made.parameters) == names


def test_repeated_task_keeps_the_parameters_of_its_run(world: World) -> None:
    assert session(world.workspace, "training", None, {}, task="Trainer").parameters == {}
    given = {"window": "1"}
    assert session(world.workspace, "training", None, given, task="Trainer").parameters == given


def parameters_of(task: Any) -> list[tuple[str, Any]]:
    return list(task["inputs"]["parameters"].items())
