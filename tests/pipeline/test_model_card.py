"""Model card: a head that Hugging Face's hub reads, and what is recorded of a version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from adaptation import codec
from adaptation.data.batches import snapshot_folder
from adaptation.data.labels import Labels
from adaptation.data.span_preparation import prepare
from adaptation.evaluation.gate import Comparison
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.paired import Pairs
from adaptation.io import storage
from adaptation.platforms.base import ModelVersion, Upload
from adaptation.platforms.local.usage import Usage
from adaptation.platforms.rollout import put_in_service
from pipeline.cli.main import cli
from pipeline.model_card import model_card
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import collect

LABELS = ("cat", "dog")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a workspace with span-1 and two versions that were trained on it."""
    workspace = Workspace.open(write_settings(tmp_path / "adapt.toml", LABELS))
    collect(tmp_path / "images", [f"{LABELS[number % 2]}_{number}.png" for number in range(24)])
    prepare(workspace.spans, snapshot_folder(str(tmp_path / "images"), "first images"), Labels(LABELS))
    for key in ("one", "two"):
        version(workspace, key)
    return workspace


def version(workspace: Workspace, key: str) -> ModelVersion:
    comparison = str(Path(workspace.root, "pairs.json"))
    storage.write(comparison, codec.encode(Comparison.of(1, {(1, "cat"): Pairs(7, 1, 2, 0)})))
    storage.write(str(Path(workspace.root, "model", "saved_model.pb")), b"model")
    upload = Upload(
        model=str(Path(workspace.root, "model")),
        key=key,
        spans=(1,),
        metrics={"span-1": 0.9, "top-2": 0.99},
        source="pipeline output",
        run=f"training-{key}",
        code="0.2.0+abc",
        champion=1,
        recalls={"cat": Recall(10, 9), "dog | <b>": Recall(4, 4)},
        comparison=comparison,
    )
    platform = workspace.platform
    made = platform.registry.upload(upload)
    put_in_service(platform.registry, platform.endpoint, made, "better")
    return made


def test_head_is_what_the_hub_reads(workspace: Workspace) -> None:
    card = model_card(workspace, workspace.platform.registry.find("2"))
    empty, head, _ = card.split("---\n", 2)
    parsed = yaml.safe_load(head)
    (model,) = parsed["model-index"]
    (result,) = model["results"]
    assert (empty, model["name"]) == ("", "digits-2")
    assert parsed["pipeline_tag"] == result["task"]["type"] == "image-classification"
    assert result["metrics"] == [{"type": "accuracy", "value": 0.9}]


def test_body_has_lineage_data_figures_comparison_and_history(workspace: Workspace) -> None:
    card = model_card(workspace, workspace.platform.registry.find("2"))
    manifest = workspace.spans.manifest(workspace.spans.spans()[0])
    for row in (
        "| by run | training-two |",
        "| code | 0.2.0+abc |",
        f"| span-1 | first images | {manifest.images_in('train')} | {manifest.images_in('test')} |",
        "| top-2 | 0.9900 |",
        "| cat | 10 | 9 | 0.900 | 0.596 to 0.982 |",
        "| span-1 | 7 | 1 | 2 | 0 |",
        "| champion | better |",
        "Classes: cat, dog.",
    ):
        assert row in card
    assert "training-one" not in card


def test_card_says_what_the_training_used(workspace: Workspace, tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "training-two"
    job.mkdir(parents=True)
    (job / "request.json").write_text('{"id": "training-two", "pipeline": "training", "parameters": {}, "created": ""}')
    (job / "usage.json").write_bytes(codec.encode(Usage(3600.0, 2**30)))
    card = model_card(workspace, workspace.platform.registry.find("2"))
    assert "| CPU time | 3600 s, at most 1.00 GiB of memory |" in card
    assert "| energy | about 0.00400 kWh, estimated at 4 W a busy CPU thread |" in card


def test_names_cannot_break_the_tables(workspace: Workspace) -> None:
    assert "| dog \\| &lt;b> | 4 | 4 |" in model_card(workspace, workspace.platform.registry.find("2"))


def test_card_of_a_version_of_0_1_0_says_what_is_known(workspace: Workspace) -> None:
    bare = replace(workspace.platform.registry.find("1"), recalls={}, comparison="", champion=None, code="", spans=(7,))
    card = model_card(workspace, bare)
    assert "| code | unknown |" in card
    assert "Comparison" not in card


def test_command_prints_the_card_and_keeps_it_with_the_version(workspace: Workspace, tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["models", "card", "2", "-w", str(tmp_path)])
    saved = CliRunner().invoke(cli, ["models", "card", "2", "--save", "-w", str(tmp_path)])
    assert (printed.exit_code, saved.exit_code) == (0, 0), printed.output + saved.output
    kept = tmp_path / "registry" / "versions" / "2" / "README.md"
    assert saved.stdout.strip() == str(kept)
    assert kept.read_text() == printed.stdout.removesuffix("\n")
    assert workspace.platform.registry.find("2").number == 2


def test_card_of_a_missing_version_is_an_error(workspace: Workspace, tmp_path: Path) -> None:
    assert CliRunner().invoke(cli, ["models", "card", "9", "-w", str(tmp_path)]).exit_code == 1
