"""VertexUploader and VertexDeployer in a pipeline, against the emulated Vertex AI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Model, ModelBlessing

from adaptation import codec
from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import SpanStore
from adaptation.data.windows import select
from adaptation.evaluation.gate import Comparison, Deployment, Outcome
from adaptation.evaluation.look import Reference
from adaptation.evaluation.mix import Recall
from adaptation.io import storage
from adaptation.platforms.base import Standing
from adaptation.platforms.rollout import put_in_service
from components import artifacts
from components.batch_prediction_gen import BatchPredictionGen_Executor
from components.pipeline_trigger import PipelineTrigger_Executor
from components.vertex_deployer import VertexDeployer
from components.vertex_uploader import VertexUploader
from emulators.vertex import VertexEmulator
from tests.worlds.components import COMPARED, LABELS, REFERENCE, judged, toned
from tests.worlds.vertex import ROOT, Vertex, a_config, a_spec, an_upload, object_storage, publish


@pytest.fixture
def vertex(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vertex]:
    with object_storage(monkeypatch), VertexEmulator() as server:
        yield Vertex(server, a_config(server))


def importer(artifact: type, uri: str, **properties: Any) -> Any:
    return tfx.dsl.Importer(
        source_uri=uri, artifact_type=artifact, custom_properties=properties, reimport=True
    ).with_id(artifact.__name__)


def delivering(vertex: Vertex, folder: Path, outcome: Outcome, key: str = "run-1", champion: int = 0) -> list[Any]:
    """The Trainer's and ChampionGate's outputs, uploader and deployer."""
    trained = importer(Model, an_upload(f"{key}/Format-Serving").model.removesuffix("/Format-Serving"))
    blessing = importer(ModelBlessing, str(judged(folder / key, outcome, replace(COMPARED, champion=champion))))
    comparison = importer(File, str(folder / key))
    platform = vertex.config.to_json()
    uploader = VertexUploader(
        model=trained.outputs["result"],
        blessing=blessing.outputs["result"],
        platform=platform,
        comparison=comparison.outputs["result"],
        run=key,
    )
    deployer = VertexDeployer(
        version=uploader.outputs["version"], blessing=blessing.outputs["result"], platform=platform
    )
    return [trained, blessing, comparison, uploader, deployer]


def test_blessed_model_becomes_the_champion_and_is_served(vertex: Vertex, tmp_path: Path, run: Any) -> None:
    for number, key in enumerate(("run-1", "run-2"), 1):
        done = run(delivering(vertex, tmp_path, Outcome.DEPLOY, key, number - 1))
        assert done.outputs["VertexUploader", "version"].properties["version"] == number
        assert done.outputs["VertexDeployer", "deployment"].properties["version"] == number
        assert vertex.split() == {number: 100}
    champion = vertex.registry.find()
    assert (champion.number, champion.source, champion.run) == (2, f"{ROOT}/models/run-2", "run-2")
    assert (champion.spans, champion.metrics) == ((1, 2), {"span-1": 0.97, "span-2": 0.95, "top_3": 0.99})
    kept = json.loads(Path(done.outputs["VertexUploader", "version"].uri, "version.json").read_bytes())
    assert (kept["number"], kept["uri"]) == (2, champion.uri)


def test_version_keeps_what_it_takes_to_judge_it_again(vertex: Vertex, tmp_path: Path, run: Any) -> None:
    run(delivering(vertex, tmp_path, Outcome.UNDECIDED))
    version = vertex.registry.candidate()
    assert version is not None
    assert (version.champion, version.recalls) == (0, {"dark": Recall(52, 49), "light": Recall(68, 67)})
    assert codec.read(version.comparison, Comparison) == COMPARED
    assert codec.read(version.reference, Reference) == REFERENCE


def test_a_repeated_run_makes_no_second_version(vertex: Vertex, tmp_path: Path, run: Any) -> None:
    for _ in range(2):
        done = run(delivering(vertex, tmp_path, Outcome.DEPLOY))
        assert done.outputs["VertexDeployer", "deployment"].properties["version"] == 1
    assert len(vertex.registry.versions()) == 1
    assert vertex.server.count(":deployModel") == 1


@pytest.mark.parametrize(
    ("outcome", "standing"), [(Outcome.REFUSE, Standing.REFUSED), (Outcome.UNDECIDED, Standing.CANDIDATE)]
)
def test_champion_stays_where_the_gate_does_not_deploy(
    vertex: Vertex, tmp_path: Path, run: Any, outcome: Outcome, standing: Standing
) -> None:
    run(delivering(vertex, tmp_path, Outcome.DEPLOY))
    done = run(delivering(vertex, tmp_path, outcome, "run-2"))
    deployment = done.outputs["VertexDeployer", "deployment"]
    assert (deployment.properties["deployed"], deployment.properties["version"]) == (0, 2)
    assert f"it is to {outcome}" in codec.read(storage.join(deployment.uri, "deployment.json"), Deployment).reason
    assert [(record.version, record.standing) for record in vertex.registry.standings()] == [(2, standing)]
    assert vertex.split() == {1: 100}


def test_batch_prediction_gen_uses_the_champion_and_the_reported_folder(
    vertex: Vertex,
) -> None:
    put_in_service(vertex.registry, vertex.endpoint, vertex.with_versions(2).version(1), "first")
    listed, predictions = an_artifact("listed"), an_artifact("predictions")
    storage.write(artifacts.file_list_uri(listed), b"gs://bucket/2021-10/ship_1.jpg\n")
    snapshot = Snapshot("2021-10", "gs://bucket/2021-10", (storage.File("ship_1.jpg", 1),))
    artifacts.write(listed, artifacts.SNAPSHOT, codec.encode(snapshot))
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
            records_root="gs://bucket/triggers",
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
