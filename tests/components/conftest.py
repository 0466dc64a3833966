"""Fixtures: a world for single components, and a runner for a few of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.worlds.components import LABELS, ComponentWorld

if TYPE_CHECKING:
    from pipeline.local.runner import Run


@pytest.fixture
def world(tmp_path: Path) -> ComponentWorld:
    return ComponentWorld(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Sequence[Any]], Run]:
    """Return a runner of components as a pipeline, with the real runner and the real ML Metadata."""
    from tfx import v1 as tfx

    from pipeline.local.runner import run_pipeline

    def run_components(components: Sequence[Any]) -> Run:
        database = str(tmp_path / "metadata.sqlite")
        pipeline = tfx.dsl.Pipeline(
            pipeline_name="anyones-pipeline",
            pipeline_root=str(tmp_path / "artifacts"),
            components=list(components),
            metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(database),
        )
        return run_pipeline(pipeline, "run")

    return run_components


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Export an untrained model for two classes, with the real signatures. Return its folder."""
    from models.export import export
    from models.recipe import training_spec
    from models.trainer import initial_model

    spec = training_spec("digits", LABELS.names, image_size=8, epochs=1)
    folder = str(tmp_path_factory.mktemp("untrained") / "model")
    export(initial_model(spec), spec, folder)
    return folder
