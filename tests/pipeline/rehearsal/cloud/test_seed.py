"""The start of a rehearsal in the emulated cloud: a copy of a workspace, as a deployment has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adaptation.data.batches import Batch
from adaptation.data.spans import Span
from adaptation.io import storage
from pipeline.rehearsal.cloud.emulated import Cloud
from pipeline.rehearsal.cloud.seed import in_cloud, seed
from pipeline.workspace.settings_file import load
from pipeline.workspace.vertex_settings import vertex_config
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import contents
from tests.worlds.spans import published
from tests.worlds.workspace import LABELS, MONTH, World

GOLDEN = Path(__file__).parents[2] / "golden" / "adapt.toml"


@dataclass(frozen=True)
class Seeded:
    """A local workspace, and the deployment that was filled from it."""

    source: Workspace
    target: Workspace


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A span, two versions of a model, and a batch of images, some of them evaluated, some archived."""
    world = World.make(tmp_path / "source")
    published(world.workspace.spans, names=LABELS)
    world.register(2)
    world.collect(6)
    batches = world.workspace.batches
    batches.archive(batches.snapshot(Batch.parse(MONTH)))
    world.collect(3, first=6)
    batches.mark_evaluated(batches.snapshot(Batch.parse(MONTH)))
    world.collect(2, first=9)
    return world


@pytest.fixture
def seeded(world: World, tmp_path: Path) -> Iterator[Seeded]:
    target = Workspace(in_cloud(world.workspace.settings))
    vertex = target.settings.vertex
    with (
        Cloud(tmp_path / "cloud", vertex.project, vertex.location, ["rehearsal"]) as cloud,
        cloud.as_client(),
    ):
        seed(world.workspace, target)
        yield Seeded(world.workspace, target)


def test_local_workspace_becomes_a_complete_deployment(world: World) -> None:
    settings = in_cloud(world.workspace.settings)
    config = vertex_config(settings)
    assert (config.url, config.credentials) == ("https://us-central1-aiplatform.googleapis.com", "default")
    assert settings.collection.root == "gs://rehearsal/collection"
    assert settings.evaluation == world.workspace.settings.evaluation
    assert settings.file == world.workspace.settings.file


def test_deployment_changes_only_its_server_and_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = load(GOLDEN)
    monkeypatch.setenv("ADAPT_VERTEX__API_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("ADAPT_VERTEX__CREDENTIALS", "anonymous")
    assert in_cloud(load(GOLDEN)) == deployment


def test_seeded_spans_have_the_same_bytes(seeded: Seeded) -> None:
    assert seeded.target.spans.verify(Span(1)) == seeded.source.spans.manifest(Span(1))


def test_seeded_batch_has_its_evaluated_and_archived_images(seeded: Seeded) -> None:
    batch, source, target = Batch.parse(MONTH), seeded.source.batches, seeded.target.batches
    assert len(target.images(batch)) == 5
    assert target.images(batch) == source.images(batch)
    assert len(target.archived(batch)) == 6
    assert target.archived(batch) == source.archived(batch)
    assert target.evaluated(batch) == source.evaluated(batch)


def test_seeded_champion_serves_with_its_files_and_metrics(seeded: Seeded) -> None:
    platform, champion = seeded.target.platform, seeded.source.platform.registry.find()
    served = platform.registry.find()
    assert (served.number, platform.endpoint.serving()) == (1, [1])
    assert (served.key, served.spans, served.metrics) == (champion.key, champion.spans, champion.metrics)
    assert storage.read(f"{served.uri}/saved_model.pb") == storage.read(f"{champion.uri}/saved_model.pb") == b"2"


def test_workspace_without_a_champion_serves_nothing(tmp_path: Path) -> None:
    source = World.make(tmp_path / "source").workspace
    target = Workspace(in_cloud(source.settings))
    with Cloud(tmp_path / "cloud", "rehearsal", "us-central1", ["rehearsal"]) as cloud, cloud.as_client():
        seed(source, target)
        assert target.platform.registry.champion() is None


def test_table_of_labels_is_copied_and_named_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, table = World.make(tmp_path / "source"), tmp_path / "labels.csv"
    table.write_text("path,label\n")
    monkeypatch.setenv("ADAPT_LABELS__SOURCE", "file")
    monkeypatch.setenv("ADAPT_LABELS__FILE", str(table))
    source = world.workspace
    target = Workspace(in_cloud(source.settings))
    with Cloud(tmp_path / "cloud", "rehearsal", "us-central1", ["rehearsal"]) as cloud, cloud.as_client():
        seed(source, target)
        assert target.settings.labels.file == "gs://rehearsal/labels.csv"
        assert storage.read(target.settings.labels.file) == b"path,label\n"


def test_local_workspace_is_only_read(world: World, seeded: Seeded, tmp_path: Path) -> None:
    del seeded
    before = contents(tmp_path / "source")
    target = Workspace(in_cloud(world.workspace.settings))
    with Cloud(tmp_path / "other", "rehearsal", "us-central1", ["rehearsal"]) as cloud, cloud.as_client():
        seed(world.workspace, target)
    assert contents(tmp_path / "source") == before
