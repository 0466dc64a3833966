"""Which model is blessed, in a real ML Metadata store."""

from __future__ import annotations

from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.local.blessings import align_blessings


@pytest.fixture
def store(tmp_path: Path) -> MetadataStore:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "metadata.sqlite")
    return MetadataStore(config)


def judged(store: MetadataStore, uri: str, blessed: int) -> None:
    """A model, what the gate said of it, and the Evaluator's blessing, which says nothing."""
    model = mlmd.Artifact(type_id=store.put_artifact_type(mlmd.ArtifactType(name="Model")), uri=uri)
    (model_id,) = store.put_artifacts([model])
    blessing_type = store.put_artifact_type(mlmd.ArtifactType(name="ModelBlessing"))
    blessing = mlmd.Artifact(type_id=blessing_type, uri=f"{uri}/blessing")
    blessing.custom_properties["current_model_id"].int_value = model_id
    blessing.custom_properties["blessed"].int_value = blessed
    store.put_artifacts([blessing, mlmd.Artifact(type_id=blessing_type, uri=f"{uri}/evaluator")])


def blessed(store: MetadataStore) -> list[str]:
    found = store.get_artifacts_by_type("ModelBlessing")
    return [item.uri for item in found if item.custom_properties["blessed"].int_value]


def test_after_a_rollback_the_blessing_of_the_newer_model_is_withdrawn(store: MetadataStore) -> None:
    judged(store, "first", 1)
    judged(store, "second", 1)
    align_blessings(store, "first")
    assert blessed(store) == ["first/blessing"]


def test_a_champion_whose_blessing_was_withdrawn_has_it_again(store: MetadataStore) -> None:
    judged(store, "first", 1)
    judged(store, "second", 1)
    align_blessings(store, "first")
    align_blessings(store, "second")
    assert blessed(store) == ["second/blessing"]


def test_without_a_champion_no_model_is_blessed(store: MetadataStore) -> None:
    judged(store, "never deployed", 1)
    align_blessings(store, None)
    assert blessed(store) == []


def test_a_store_without_any_run_is_left_alone(store: MetadataStore) -> None:
    align_blessings(store, "first")
    assert store.get_artifacts() == []
