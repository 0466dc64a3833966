"""A class is appended to a running deployment: only the settings change, and the loop learns it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

from adaptation.data.spans import Span
from pipeline.report.collect import collect
from pipeline.workspace.digit_images import write_digits
from pipeline.workspace.workspace import Workspace

ADAPT = Path(sys.executable).with_name("adapt")


def adapt(*words: str, **settings: str) -> str:
    """Run a command, check that it succeeds, and return its output."""
    environment = {**os.environ, **{f"ADAPT_{name}": value for name, value in settings.items()}}
    done = subprocess.run([ADAPT, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(folder: Path, counts: dict[int, int], first: int = 0) -> None:
    """Write scans of digits: that many of each, from the `first` available one on."""
    targets = load_digits().target
    for digit, count in counts.items():
        write_digits(folder, (targets == digit).nonzero()[0][first : first + count].tolist())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose champion of two classes has met a batch of images that are mostly of a third one."""
    folder = tmp_path_factory.mktemp("appended") / "ws"
    write(folder / "images", {0: 50, 1: 50})
    adapt("init", "--images", str(folder / "images"), "-w", str(folder), "--model", "digits")
    adapt("train", "-w", str(folder), GATE__FLOOR="0")
    settings = folder / "adapt.toml"
    before = settings.read_text()
    settings.write_text(before.replace('names = ["0", "1"]', 'names = ["0", "1", "2"]'))
    assert settings.read_text() != before
    write(folder / "collection" / "2021-10", {0: 20, 1: 20, 2: 120}, first=50)
    adapt("evaluate", "-w", str(folder), GATE__FLOOR="0", MODEL__WARM_START="true")
    return folder


def test_images_of_the_appended_class_count_as_wrong_for_the_old_champion(folder: Path) -> None:
    (file,) = (folder / "pipelines" / "evaluation" / "PerformanceEvaluator").rglob("evaluation.json")
    found = json.loads(file.read_text())
    assert (found["images"], found["skipped"]) == (160, [])
    assert [sum(row) for row in found["confusion"]] == [20, 20, 120]
    assert sum(row[2] for row in found["confusion"]) == 0


def test_appended_class_is_in_the_new_span_alone(folder: Path) -> None:
    first, second = Workspace.open(folder).spans.manifests([Span(1), Span(2)])
    assert (first.labels, second.labels) == (("0", "1"), ("0", "1", "2"))
    assert second.counts["train"]["2"] + second.counts["test"]["2"] == 120


def test_challenger_trained_on_the_appended_class_becomes_the_champion(folder: Path) -> None:
    version = Workspace.open(folder).platform.registry.find()
    assert version is not None
    assert (version.number, version.spans) == (2, (1, 2))
    spec = json.loads((Path(version.uri) / "assets.extra" / "spec.json").read_text())
    assert spec["labels"] == ["0", "1", "2"]
    assert spec["warm_start"]


def test_report_compares_the_models_on_the_appended_class(folder: Path) -> None:
    content = collect(Workspace.open(folder))
    assert content.missing == ()
    assert content.comparison is not None and content.evaluation is not None
    (appended,) = (one.all for one in content.comparison.labels if one.label == "2")
    assert (appended.champion, appended.images) == (0, content.spans[1].labels[2].test)
    assert appended.challenger > 0.9
    assert content.evaluation.label_names == ("0", "1", "2")
    assert len(content.evaluation.matrix) == 3
