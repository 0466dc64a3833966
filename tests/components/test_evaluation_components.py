"""Components of the batch evaluation pipeline, each in a pipeline with the components that it needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import Dataset, File

from adaptation import codec
from adaptation.data.batches import Batch, NoBatch, Snapshot
from adaptation.data.reviews import Reviews
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import Manifest, Span
from adaptation.data.splits import Split
from adaptation.data.windows import select
from adaptation.evaluation.accuracy import Evaluation
from adaptation.evaluation.decision import Decision
from adaptation.evaluation.gate import Comparison
from adaptation.evaluation.log import ComparisonLog, EvaluationLog, version_id
from adaptation.evaluation.look import Profile, Reference
from adaptation.evaluation.look_records import LookRecord, last_look
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.paired import Pairs
from adaptation.evaluation.prediction_results import InvalidPredictions, ResultsWriter
from adaptation.io import storage
from adaptation.platforms.base import JobState, Standing, Upload
from components.artifacts import read_snapshot
from components.batch_prediction_gen import BatchPredictionGen
from components.candidate_evaluator import CandidateEvaluator
from components.drift_detector import DriftDetector
from components.file_list_gen import FileListGen
from components.performance_evaluator import PerformanceEvaluator
from components.pipeline_trigger import PipelineTrigger
from components.span_preparator import SpanPreparator
from tests.worlds.components import LABELS, OCTOBER, ComponentWorld, toned


def importer(artifact: type, uri: str, **properties: Any) -> Any:
    return tfx.dsl.Importer(source_uri=uri, artifact_type=artifact, custom_properties=properties, reimport=True)


def listed(world: ComponentWorld, batch: str = "") -> Any:
    return FileListGen(collection_root=world.batches.root, batch=batch)


def predicted_as(world: ComponentWorld, answer: dict[str, str]) -> Any:
    """Return an importer of results in which each image has the label given, or else its own."""
    from datetime import UTC, datetime

    snapshot = world.batches.snapshot(OCTOBER)
    with ResultsWriter(str(world.root / "results"), "version-1", datetime.now(UTC)) as results:
        for name, uri in zip(snapshot.names, snapshot.uris, strict=True):
            results.prediction(uri, answer.get(name, LABELS.of(name)), 0.9)
    return importer(File, str(world.root / "results"), results=results.folder).with_id("Predictions")


def measured(file_list: Any, predictions: Any, **settings: Any) -> Any:
    return PerformanceEvaluator(
        file_list=file_list.outputs["file_list"],
        predictions=predictions.outputs["result"],
        labels=LABELS.to_json(),
        **settings,
    )


def evaluation_in(run: Any) -> Evaluation:
    uri = storage.join(run.outputs["PerformanceEvaluator", "metrics"].uri, "evaluation.json")
    return codec.read(uri, Evaluation)


def test_file_list_gen_lists_the_newest_batch_one_uri_a_line(world: ComponentWorld, run: Any) -> None:
    names = world.collect(4)
    world.collect(2, batch=Batch(2021, 9))
    Path(world.batches.folder(OCTOBER), "notes.txt").write_text("no image")
    output = run([listed(world)]).outputs["FileListGen", "file_list"]
    lines = Path(output.uri, "file_list.txt").read_text().splitlines()
    assert lines == [storage.join(world.batches.folder(OCTOBER), name) for name in sorted(names)]
    assert (output.properties["batch"], output.properties["images"]) == ("2021-10", 4)
    assert read_snapshot(output).passed_over.counts == {".txt": 1}


def test_file_list_gen_lists_the_batch_that_is_named(world: ComponentWorld, run: Any) -> None:
    world.collect(4)
    world.collect(2, batch=Batch(2021, 9))
    assert run([listed(world, "2021-09")]).outputs["FileListGen", "file_list"].properties["images"] == 2


@pytest.mark.parametrize("batch", ["2021-11", "2021-12"])
def test_file_list_gen_refuses_a_batch_without_images(world: ComponentWorld, run: Any, batch: str) -> None:
    world.collect(4)
    Path(world.root, "collection", "2021-12").mkdir()
    with pytest.raises(NoBatch, match="2021-1"):
        run([listed(world, batch)])


def test_batch_prediction_gen_predicts_every_image_with_the_champion(
    world: ComponentWorld, run: Any, untrained: str
) -> None:
    world.collect(6)
    world.register(untrained)
    files = listed(world)
    predictions = BatchPredictionGen(file_list=files.outputs["file_list"], platform=world.config.to_json())
    output = run([files, predictions]).outputs["BatchPredictionGen", "predictions"]
    results = Path(output.properties["results"])
    assert results.parent == Path(output.uri)
    lines = [json.loads(line) for file in results.glob("prediction.results-*") for line in file.open()]
    assert sorted(line["instance"] for line in lines) == list(world.batches.snapshot(OCTOBER).uris)
    assert {line["prediction"]["label"] for line in lines} <= set(LABELS.names)


def test_batch_prediction_gen_without_a_champion_fails(world: ComponentWorld, run: Any) -> None:
    world.collect(6)
    files = listed(world)
    predictions = BatchPredictionGen(file_list=files.outputs["file_list"], platform=world.config.to_json())
    with pytest.raises(LookupError, match="adapt train"):
        run([files, predictions])


def looked(file_list: Any, predictions: Any, **settings: Any) -> Any:
    return DriftDetector(
        file_list=file_list.outputs["file_list"], predictions=predictions.outputs["result"], **settings
    )


def a_reference(world: ComponentWorld, light: int) -> str:
    """Write a reference of 200 images, of which so many are predicted as light, with the confidence 0.9."""
    uri = str(world.root / f"reference-{light}.json")
    profile = Profile.of({"dark": 200 - light, "light": light}, np.full(200, 0.9))
    storage.write(uri, codec.encode(Reference(profile, {"dark": Recall(200, 180)})))
    return uri


@pytest.mark.parametrize(("light", "outcome"), [(100, "calm"), (20, "look")])
def test_drift_detector_compares_a_batch_with_a_reference(
    world: ComponentWorld, run: Any, light: int, outcome: str
) -> None:
    world.collect(40)
    files, predictions = listed(world), predicted_as(world, {})
    done = run([files, predictions, looked(files, predictions, reference=a_reference(world, light))])
    output = done.outputs["DriftDetector", "look"]
    assert (output.properties["outcome"], output.properties["look"]) == (outcome, int(outcome == "look"))
    record = codec.read(storage.join(output.uri, "look.json"), LookRecord)
    assert (record.batch, record.look.outcome, record.look.images, record.version) == ("2021-10", outcome, 40, 0)
    assert last_look(world.batches, OCTOBER) is None


def test_drift_detector_uses_the_reference_of_the_predicting_version(
    world: ComponentWorld, run: Any, untrained: str
) -> None:
    world.collect(40)
    upload = Upload(untrained, "first", (1,), {}, "first", "first", reference=a_reference(world, 20))
    version = world.platform.registry.upload(upload)
    for name in ("run-1", "run-2"):
        files, predictions = listed(world), predicted_as(world, {})
        storage.write(str(world.root / "results" / "version.json"), codec.encode(version))
        look = looked(files, predictions, run=name)
        done = run([files, predictions, look, measured(files, predictions, look=look.outputs["look"])])
    record = last_look(world.batches, OCTOBER)
    assert record and (record.look.outcome, record.version, record.run) == ("look", 1, "run-1")
    assert record.champion == version_id(1, "first")
    decision = codec.read(storage.join(done.outputs["PerformanceEvaluator", "metrics"].uri, "decision.json"), Decision)
    assert (decision.look, decision.retrain) == (record.look.reason, False)


@pytest.mark.parametrize("kept", ["never", "deleted", "damaged"])
def test_drift_detector_says_that_no_reference_is_kept(
    world: ComponentWorld, run: Any, untrained: str, kept: str
) -> None:
    world.collect(40)
    version = replace(world.register(untrained), reference="" if kept == "never" else str(world.root / "kept.json"))
    if kept == "damaged":
        storage.write(version.reference, b"{")
    files, predictions = listed(world), predicted_as(world, {})
    storage.write(str(world.root / "results" / "version.json"), codec.encode(version))
    output = run([files, predictions, looked(files, predictions)]).outputs["DriftDetector", "look"]
    assert (output.properties["outcome"], output.properties["look"]) == ("unknown", 0)
    reason = codec.read(storage.join(output.uri, "look.json"), LookRecord).look.reason
    assert "reference" in reason and "version 1" in reason and "the next training writes" in reason


def test_performance_evaluator_decides_retrain_below_the_threshold(world: ComponentWorld, run: Any) -> None:
    names = world.collect(40)
    files, predictions = listed(world), predicted_as(world, dict.fromkeys(names[:30], "light"))
    done = run([files, predictions, measured(files, predictions)])
    properties = done.outputs["PerformanceEvaluator", "metrics"].properties
    assert (properties["retrain"], properties["images"], properties["accuracy"]) == (1, 40, 0.625)
    assert evaluation_in(done).confusion == ((5, 15), (0, 20))


def test_performance_evaluator_counts_an_image_once_for_a_champion(
    world: ComponentWorld, run: Any, untrained: str
) -> None:
    version = world.register(untrained)
    log = EvaluationLog(world.batches, version_id(version.number, version.key))
    for start in (0, 40):
        world.collect(40, start)
        for _ in range(2):
            files, predictions = listed(world), predicted_as(world, {})
            storage.write(str(world.root / "results" / "version.json"), codec.encode(version))
            run([files, predictions, measured(files, predictions, run=f"run-{start}")])
    assert [(one.images, one.correct, one.run) for one in log.entries()] == [
        ((20, 20), (20, 20), "run-0"),
        ((20, 20), (20, 20), "run-40"),
    ]


def test_file_list_gen_leaves_out_what_is_in_a_span(world: ComponentWorld, run: Any) -> None:
    world.collect(40)
    prepare(world.spans, world.batches.snapshot(OCTOBER), LABELS)
    new = world.collect(20, 40)
    files = FileListGen(collection_root=world.batches.root, batch=str(OCTOBER), data_root=world.spans.root)
    output = run([files]).outputs["FileListGen", "file_list"]
    assert codec.read(storage.join(output.uri, "snapshot.json"), Snapshot).names == tuple(sorted(new))
    prepare(world.spans, codec.read(storage.join(output.uri, "snapshot.json"), Snapshot), LABELS)
    with pytest.raises(LookupError, match="all 60 images of 2021-10 are in spans"):
        run([files])


def test_performance_evaluator_decides_keep_at_the_threshold(world: ComponentWorld, run: Any) -> None:
    names = world.collect(40)
    files, predictions = listed(world), predicted_as(world, dict.fromkeys(names[:4:2], "light"))
    done = run([files, predictions, measured(files, predictions, threshold=0.95)])
    assert done.outputs["PerformanceEvaluator", "metrics"].properties["retrain"] == 0


def test_performance_evaluator_by_wilson_waits_until_it_is_sure(world: ComponentWorld, run: Any) -> None:
    names = world.collect(40)
    files, predictions = listed(world), predicted_as(world, dict.fromkeys(names[:10], "light"))
    done = run([files, predictions, measured(files, predictions, rule="wilson")])
    assert done.outputs["PerformanceEvaluator", "metrics"].properties["retrain"] == 0


def test_performance_evaluator_sets_the_property_for_too_few_images(world: ComponentWorld, run: Any) -> None:
    names = world.collect(10)
    files, predictions = listed(world), predicted_as(world, dict.fromkeys(names, "light"))
    done = run([files, predictions, measured(files, predictions, min_images=30)])
    assert done.outputs["PerformanceEvaluator", "metrics"].properties["retrain"] == 0


def test_evaluated_images_no_longer_count_as_new(world: ComponentWorld, run: Any) -> None:
    names = world.collect(40)
    files, predictions = listed(world), predicted_as(world, {})
    run([files, predictions, measured(files, predictions)])
    assert {image.name for image in world.batches.evaluated(OCTOBER)} == set(names)


def test_performance_evaluator_reads_its_input_not_the_newest_results(world: ComponentWorld, run: Any) -> None:
    names = world.collect(40)
    files, predictions = listed(world), predicted_as(world, {})
    predicted_as(world, dict.fromkeys(names, "light"))
    done = run([files, predictions, measured(files, predictions)])
    assert done.outputs["PerformanceEvaluator", "metrics"].properties["accuracy"] == 1


def test_performance_evaluator_measures_with_reviewed_labels(world: ComponentWorld, run: Any) -> None:
    review_as_light(world, world.collect(40)[:10])
    files, predictions = listed(world), predicted_as(world, {})
    done = run([files, predictions, measured(files, predictions)])
    assert done.outputs["PerformanceEvaluator", "metrics"].properties["accuracy"] == 0.875
    assert evaluation_in(done).confusion == ((15, 0), (5, 20))


def test_evaluation_that_fails_marks_no_images(world: ComponentWorld, run: Any) -> None:
    world.collect(40)
    predictions = predicted_as(world, {})
    world.collect(1, start=40)
    files = listed(world)
    with pytest.raises(InvalidPredictions, match="1 of 41"):
        run([files, predictions, measured(files, predictions)])
    assert world.batches.evaluated(OCTOBER) == frozenset()


def test_span_preparator_publishes_the_snapshot_and_leaves_the_batch(world: ComponentWorld, run: Any) -> None:
    names = world.collect(40)
    files = listed(world)
    done = run([files, prepared(world, files)])
    manifest = world.spans.verify(Span(1))
    assert done.outputs["SpanPreparator", "span"].properties["digest"] == manifest.digest
    assert manifest.images == 40
    assert {file.name for file in world.batches.images(OCTOBER)} == set(names)


def test_span_preparator_again_returns_the_same_span(world: ComponentWorld, run: Any) -> None:
    world.collect(40)
    for _ in range(2):
        files = listed(world)
        done = run([files, prepared(world, files)])
        assert done.outputs["SpanPreparator", "span"].properties["span"] == 1
    assert world.spans.spans() == [Span(1)]


def test_span_preparator_on_beam_writes_what_one_process_writes(
    world: ComponentWorld, run: Any, tmp_path: Path
) -> None:
    world.collect(40)
    files = listed(world)
    done = run([files, prepared(world, files, shard_megabytes=0)])
    alone = ComponentWorld(tmp_path / "alone")
    snapshot = Snapshot("2021-10", world.batches.folder(OCTOBER), world.batches.snapshot(OCTOBER).images)
    assert len(world.spans.manifest(Span(1)).shards) > 30
    assert (
        prepare(alone.spans, snapshot, LABELS, Split(0, 0.5), shard_bytes=0).digest
        == done.outputs["SpanPreparator", "span"].properties["digest"]
    )


def test_span_preparator_leaves_out_a_duplicate_in_another_chunk(world: ComponentWorld, run: Any) -> None:
    names = world.collect(40)
    Path(world.batches.folder(OCTOBER), "dark_twin.png").write_bytes(toned("dark", 0))
    files = listed(world)
    run([files, prepared(world, files, shard_megabytes=0)])
    manifest = world.spans.verify(Span(1))
    assert manifest.images == 40
    assert {one.name for one in manifest.skipped} <= {"dark_twin.png", names[0]}


def test_span_preparator_uses_reviewed_labels(world: ComponentWorld, run: Any) -> None:
    review_as_light(world, world.collect(40)[:10])
    files = listed(world)
    run([files, prepared(world, files)])
    counts = world.spans.verify(Span(1)).counts
    assert {label: sum(counts[split][label] for split in counts) for label in LABELS.names} == {"dark": 15, "light": 25}


def test_pipeline_trigger_starts_one_training_on_the_resolved_window(world: ComponentWorld, run: Any) -> None:
    for _ in range(2):
        done = run(triggering(world, published(world), window="last:2"))
    jobs = world.platform.jobs.list()
    assert [job.parameters["window"] for job in jobs] == ["1"]
    assert done.outputs["PipelineTrigger", "job"].properties["job"] == jobs[0].id


def test_pipeline_trigger_gives_import_example_gen_its_input_config(world: ComponentWorld, run: Any) -> None:
    run(triggering(world, published(world), ingestion="import"))
    parameters = world.platform.jobs.list()[0].parameters
    patterns = {split["name"]: split["pattern"] for split in json.loads(parameters["input-config"])["splits"]}
    assert patterns == {"train": "span-*/train/*.tfrecord", "eval": "span-*/test/*.tfrecord"}
    assert set(parameters) == {"input-config", "output-config"}


def test_pipeline_trigger_retries_a_failed_training(world: ComponentWorld, run: Any) -> None:
    manifest = published(world)
    run(triggering(world, manifest))
    first = world.platform.jobs.list()[0]
    folder = Path(world.root, "jobs", first.id)
    failed = {"state": JobState.FAILED, "message": "the disk was full", "time": "2021-10-15T05:00:00+00:00"}
    (folder / "state.json").write_text(json.dumps(failed))
    run(triggering(world, manifest))
    assert len(world.platform.jobs.list()) == 2


def test_triggered_job_has_the_digest_of_its_spans(world: ComponentWorld, run: Any) -> None:
    run(triggering(world, published(world)))
    job = world.platform.jobs.list()[0]
    assert (job.pipeline, job.parameters) == (
        "training",
        {"window": "1", "digest": select(world.spans.root, "1").digest},
    )


def review_as_light(world: ComponentWorld, names: list[str]) -> None:
    """Review these images as light; half of them are named dark."""
    images = {image for image in world.batches.images(OCTOBER) if image.name in names}
    Reviews(world.batches).add(OCTOBER, dict.fromkeys(images, "light"))


def prepared(world: ComponentWorld, files: Any, **settings: Any) -> Any:
    return SpanPreparator(
        file_list=files.outputs["file_list"],
        data_root=world.spans.root,
        labels=LABELS.to_json(),
        **settings,
    )


def published(world: ComponentWorld) -> Manifest:
    world.collect(40)
    return prepare(world.spans, world.batches.snapshot(OCTOBER), LABELS)


def triggering(world: ComponentWorld, manifest: Manifest, **settings: Any) -> list[Any]:
    span = importer(Dataset, world.spans.folder(Span(manifest.span)), span=manifest.span).with_id("Span")
    trigger = PipelineTrigger(
        span=span.outputs["result"],
        platform=world.config.to_json(),
        data_root=world.spans.root,
        records_root=str(world.root / "triggers"),
        **settings,
    )
    return [span, trigger]


@pytest.fixture(scope="module")
def by_brightness(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], str]:
    """Makes the folder of a SavedModel that separates dark from light by the mean brightness, from a threshold on."""
    import keras
    import numpy as np

    from models.export import export
    from models.recipe import training_spec

    def model(threshold: float) -> str:
        spec = training_spec("digits", LABELS.names, image_size=8, epochs=1)
        images = keras.Input((8, 8, 1))
        dense = keras.layers.Dense(2, activation="softmax")
        network = keras.Model(images, dense(keras.layers.GlobalAveragePooling2D()(images)))
        dense.set_weights([np.array([[-1.0, 1.0]]), np.array([threshold, -threshold])])
        folder = str(tmp_path_factory.mktemp("brightness") / "model")
        export(network, spec, folder)
        return folder

    return model


@pytest.mark.parametrize(
    ("approval", "champion", "standing"), [("automatic", 2, None), ("person", 1, Standing.WAITING)]
)
def test_candidate_evaluator_decides_on_new_images(
    world: ComponentWorld, run: Any, by_brightness: Callable[[float], str], approval: str, champion: int, standing: Any
) -> None:
    world.collect(40)
    registry = world.platform.registry
    world.register(by_brightness(255.0))  # takes every image for dark
    comparison = Comparison.of(1, {(2, "dark"): Pairs(both=9, neither=1), (2, "light"): Pairs(challenger_only=2)})
    storage.write(str(world.root / "pairs.json"), codec.encode(comparison))
    upload = Upload(
        by_brightness(128.0),
        "second",
        (1, 2),
        {},
        "second",
        "second",
        champion=1,
        comparison=str(world.root / "pairs.json"),
    )
    registry.mark(registry.upload(upload), Standing.CANDIDATE, "undecided")
    files = listed(world)
    predictions = BatchPredictionGen(file_list=files.outputs["file_list"], platform=world.config.to_json())
    candidate = CandidateEvaluator(
        file_list=files.outputs["file_list"],
        predictions=predictions.outputs["predictions"],
        labels=LABELS.to_json(),
        platform=world.config.to_json(),
        approval=approval,
    )
    for _ in range(2):
        done = run([files, predictions, candidate]).outputs["CandidateEvaluator", "candidate"]
        assert registry.find().number == champion
        if champion == 2:
            break
    assert done.properties["version"] == (2 if champion == 2 else 0)
    assert ({one.version: one.standing for one in registry.standings()}.get(2)) in (standing, Standing.CANDIDATE)
    first = world.platform.registry.find("1")
    log = ComparisonLog(world.batches, version_id(1, first.key), version_id(2, "second"))
    assert log.looks() == [{"dark": Pairs(both=20), "light": Pairs(challenger_only=20)}]
