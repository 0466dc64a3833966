"""VertexUploader and VertexDeployer in a pipeline, against the emulated Vertex AI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ModelBlessing, PushedModel

from adaptation import codec
from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import SpanStore
from adaptation.data.windows import select
from adaptation.evaluation.gate import Comparison, Deployment, Part, Score, Verdict
from adaptation.io import storage
from adaptation.platforms.rollout import put_in_service
from components import artifacts
from components.batch_prediction_gen import BatchPredictionGen_Executor
from components.pipeline_trigger import PipelineTrigger_Executor
from components.vertex_deployer import VertexDeployer
from components.vertex_uploader import VertexUploader
from emulators.vertex import VertexEmulator
from tests.worlds.components import LABELS, toned
from tests.worlds.vertex import Vertex, a_config, a_spec, an_upload, object_storage, publish

GOOD = Verdict(True, ("it is better",), {1: Score(0.98, 50), 2: Score(0.97, 20)}, {})
BAD = Verdict(False, ("it is worse",), {1: Score(0.5, 50)}, {1: Score(0.9, 50)})


@pytest.fixture
def vertex(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vertex]:
    with object_storage(monkeypatch), VertexEmulator() as server:
        yield Vertex(server, a_config(server))


def importer(artifact: type, uri: str, **properties: Any) -> Any:
    return tfx.dsl.Importer(
        source_uri=uri, artifact_type=artifact, custom_properties=properties, reimport=True
    ).with_id(artifact.__name__)


def delivering(vertex: Vertex, folder: Path, verdict: Verdict, key: str = "run-1") -> list[Any]:
    """Return importers of Pusher's and ChampionGate's outputs, uploader and deployer."""
    (folder / key).mkdir(exist_ok=True)
    (folder / key / "verdict.json").write_bytes(codec.encode(verdict))
    (folder / key / "comparison.json").write_bytes(Comparison({Part(): Score(0.975, 70)}, {}).to_json())
    pushed = importer(PushedModel, an_upload(key).model, pushed=int(verdict.blessed))
    blessing = importer(ModelBlessing, str(folder / key), current_model=f"{key}/model")
    platform = vertex.config.to_json()
    uploader = VertexUploader(
        pushed_model=pushed.outputs["result"], blessing=blessing.outputs["result"], platform=platform, run=key
    )
    deployer = VertexDeployer(
        version=uploader.outputs["version"], blessing=blessing.outputs["result"], platform=platform
    )
    return [pushed, blessing, uploader, deployer]


def test_blessed_model_becomes_the_champion_and_is_served(vertex: Vertex, tmp_path: Path, run: Any) -> None:
    for number, key in enumerate(("run-1", "run-2"), 1):
        done = run(delivering(vertex, tmp_path, GOOD, key))
        assert done.outputs["VertexUploader", "version"].properties["version"] == number
        assert done.outputs["VertexDeployer", "deployment"].properties["version"] == number
        assert vertex.split() == {number: 100}
    champion = vertex.registry.find()
    assert (champion.number, champion.source, champion.run) == (2, "run-2/model", "run-2")
    assert (champion.spans, champion.metrics) == ((1, 2), {"span-1": 0.98, "span-2": 0.97})
    kept = json.loads(Path(done.outputs["VertexUploader", "version"].uri, "version.json").read_bytes())
    assert (kept["number"], kept["uri"]) == (2, champion.uri)


def test_repeated_run_makes_no_second_version(vertex: Vertex, tmp_path: Path, run: Any) -> None:
    for _ in range(2):
        done = run(delivering(vertex, tmp_path, GOOD))
        assert done.outputs["VertexDeployer", "deployment"].properties["version"] == 1
    assert len(vertex.registry.versions()) == 1
    assert vertex.server.count(":deployModel") == 1


def test_refused_model_leaves_the_champion(vertex: Vertex, tmp_path: Path, run: Any) -> None:
    run(delivering(vertex, tmp_path, GOOD))
    done = run(delivering(vertex, tmp_path, BAD, "run-2"))
    deployment = done.outputs["VertexDeployer", "deployment"]
    assert (deployment.properties["deployed"], deployment.properties["version"]) == (0, 0)
    assert "it is worse" in codec.read(storage.join(deployment.uri, "deployment.json"), Deployment).reason
    assert [version.number for version in vertex.registry.versions()] == [1]
    assert vertex.split() == {1: 100}


def test_batch_prediction_gen_uses_the_champion_and_the_reported_folder(
    vertex: Vertex,
) -> None:
    put_in_service(vertex.registry, vertex.endpoint, vertex.with_versions(2).version(1), "first")
    listed, predictions = an_artifact("listed"), an_artifact("predictions")
    storage.write(artifacts.file_list_uri(listed), b"gs://bucket/2021-10/ship_1.jpg\n")
    BatchPredictionGen_Executor._FUNCTION(
        file_list=listed, predictions=predictions, platform=vertex.config.to_json(), model="champion"
    )
    (job,) = vertex.client.list(f"{vertex.config.parent}/batchPredictionJobs", "batchPredictionJobs")
    assert job["model"].endswith("@1")
    assert job["inputConfig"]["gcsSource"]["uris"] == [artifacts.file_list_uri(listed)]
    assert predictions.get_string_custom_property("results") == job["outputInfo"]["gcsOutputDirectory"]


def test_pipeline_trigger_starts_one_training_on_the_resolved_window(vertex: Vertex) -> None:
    publish("training", a_spec("training", {"window": "all", "digest": ""}))
    store = SpanStore("gs://bucket/data")
    prepare(store, collected("gs://bucket/collection/2021-10"), LABELS)
    span, job = an_artifact("span"), an_artifact("job")
    span.set_int_custom_property("span", 1)
    for _ in range(2):
        PipelineTrigger_Executor._FUNCTION(
            span=span,
            job=job,
            platform=vertex.config.to_json(),
            data_root=store.root,
            window="last:2",
            ingestion="spans",
        )
    (started,) = vertex.jobs.list()
    assert started.parameters == {"window": "1", "digest": select(store.root, "1").digest}
    assert job.get_string_custom_property("job") == started.id


def an_artifact(name: str) -> File:
    artifact = File()
    artifact.uri = f"gs://bucket/pipelines/{name}"
    return artifact


def collected(folder: str) -> Snapshot:
    for number in range(40):
        label = LABELS.names[number % 2]
        storage.write(f"{folder}/{label}_{number:04d}.png", toned(label, number))
    return snapshot_folder(folder, "2021-10")
