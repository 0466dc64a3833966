"""A workspace of 0.1.0 can be opened, read and continued by today's code, as docs/upgrading.md promises.

`files-of-0.1.0/workspace.tar.xz` was made with the code of 0.1.0: `adapt init` with 60 digits, `adapt train` with one
epoch, `adapt evaluate` on a batch of 40 digits from a changed camera, which became span-2 and version 2; after that 25
images came in 2021-11. Left out are copies of models, logs, and the images of span-1. The workspace's path is written
@WORKSPACE@, and TFX's metadata are SQL text, so that the path can be changed.
"""

from __future__ import annotations

import json
import re
import sqlite3
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from pipeline.workspace.settings_file import load
from tests.worlds.cloud import done

ARCHIVE = Path(__file__).parent / "files-of-0.1.0" / "workspace.tar.xz"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the workspace of 0.1.0 and return its folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path_factory.mktemp("old"), filter="data")
    folder = tmp_path_factory.getbasetemp() / "old0" / "workspace"
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        file.write_bytes(file.read_bytes().replace(b"@WORKSPACE@", str(folder).encode()))
    for file in folder.glob("metadata/*.sql"):
        with sqlite3.connect(file.with_suffix(".sqlite")) as database:
            database.executescript(file.read_text())
        file.unlink()
    settings = folder / "adapt.toml"
    settings.write_text(re.sub(r"^tolerance = .*$", "margin = 1.0", settings.read_text(), flags=re.MULTILINE))
    return folder


def adapt(workspace: Path, *words: str) -> str:
    return done(CliRunner().invoke(cli, [*words, "--workspace", str(workspace)]))


def test_settings_of_0_1_0_are_read(workspace: Path) -> None:
    settings = load(workspace / "adapt.toml")
    assert (settings.name, settings.model.name, settings.model.epochs) == ("digits", "digits", 1)
    assert (settings.gate.margin, settings.collection.min_images) == (1.0, 20)


def test_spans_of_0_1_0_are_as_published(workspace: Path) -> None:
    published = "span-1: 60 images are as published\nspan-2: 40 images are as published\n"
    assert adapt(workspace, "spans", "verify") == published


def test_versions_of_0_1_0_are_listed(workspace: Path) -> None:
    rows = [line.split() for line in adapt(workspace, "models", "list").splitlines() if line.strip()[:1].isdigit()]
    assert [row[:2] for row in rows] == [["1", "1"], ["2", "champion"]]


def test_trigger_plans_from_records_of_0_1_0(workspace: Path) -> None:
    plan = adapt(workspace, "plan")
    assert "evaluation-2021-11-0001" in plan and "start: 25 new images (20 are enough)" in plan


def test_report_shows_the_history_of_0_1_0(workspace: Path) -> None:
    content = json.loads(adapt(workspace, "report", "--json"))
    story = [(event["kind"], event["subject"], event["outcome"], event["version"]) for event in content["events"]]
    assert story == [
        ("training", "1", "deployed", 1),
        ("evaluation", "2021-10", "retrain", 1),
        ("training", "1-2", "deployed", 2),
    ]
    assert content["summary"]["accuracy"] == 0.1
    assert [(span["span"], span["images"]) for span in content["spans"]] == [(1, 60), (2, 40)]


def test_training_continues_with_the_models_of_0_1_0(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_EVALUATION__MIN_IMAGES", "20")
    monkeypatch.setenv("ADAPT_EVALUATION__THRESHOLD", "0.001")
    assert "of 25 images are right" in adapt(workspace, "evaluate", "--batch", "2021-11")
    assert "version 1" in adapt(workspace, "rollback")
    assert "nothing new" in adapt(workspace, "plan")
