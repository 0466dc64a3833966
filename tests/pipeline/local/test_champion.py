"""The champion that the next training starts from and is compared with, whatever has happened to the workspace."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.utils.path_utils import serving_model_path

from adaptation.platforms.rollout import roll_back
from components.registry_champion import ChampionGen
from pipeline.local.runner import run_pipeline
from pipeline.local.runs import local_place
from pipeline.workspace.settings_file import SETTINGS_FILE
from pipeline.workspace.workspace import Workspace
from tests.worlds.workspace import World


def champion_in_training(workspace: Workspace) -> tuple[int, bytes]:
    """The number and the graph that ChampionGen gives a local training in this workspace."""
    place = local_place(workspace, "training", "job-1")
    generator = ChampionGen(platform=place.platform, run=place.run).with_id("Champion")
    name = f"{workspace.settings.name}-training"
    pipeline = tfx.dsl.Pipeline(name, place.root, components=[generator], metadata_connection_config=place.metadata)
    output = run_pipeline(pipeline, "job-1").outputs["Champion", "model"]
    return output.properties["version"], Path(serving_model_path(output.uri), "saved_model.pb").read_bytes()


def renamed(folder: Path) -> Path:
    settings = folder / SETTINGS_FILE
    lines = settings.read_text().splitlines()
    settings.write_text("\n".join(['name = "other"', *(line for line in lines if not line.startswith("name ="))]))
    assert Workspace.open(folder).settings.name == "other"
    return folder


def without_metadata(folder: Path) -> Path:
    shutil.rmtree(folder / "metadata")
    return folder


def moved(folder: Path) -> Path:
    return folder.rename(folder.with_name("moved"))


def copied(folder: Path) -> Path:
    shutil.copytree(folder, folder.with_name("copied"))
    shutil.rmtree(folder)
    return folder.with_name("copied")


@pytest.mark.parametrize("change", [renamed, without_metadata, moved, copied])
def test_champion_is_the_same_after_a_change(change: Callable[[Path], Path], tmp_path: Path) -> None:
    world = World.make(tmp_path / "shop")
    world.register(2)
    assert champion_in_training(world.workspace) == (2, b"2")
    assert champion_in_training(Workspace.open(change(world.folder))) == (2, b"2")


def test_champion_is_the_earlier_one_after_a_roll_back_without_metadata(tmp_path: Path) -> None:
    world = World.make(tmp_path / "shop")
    world.register(2)
    assert champion_in_training(world.workspace) == (2, b"2")
    without_metadata(world.folder)
    roll_back(world.workspace.platform.registry, world.workspace.platform.endpoint)
    assert champion_in_training(world.workspace) == (1, b"1")
