"""Benchmarks: both sides of each do the same work and give the same result."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from adaptation.data.batches import Batch, BatchStore, snapshot_folder
from adaptation.data.spans import Span, SpanStore
from adaptation.data.tfrecords import LabelledImage, parse_features, unframe
from adaptation.io import storage
from benchmarks import (
    archiving,
    evaluation,
    ingestion,
    inputs,
    listing,
    orchestration,
    prediction,
    retraining,
    span_preparation,
    span_preparation_remote,
    spans,
    starts,
    training,
)
from benchmarks.object_storage import NewBatches, object_storage
from benchmarks.runner import Subject


def all_runs(subjects: Iterable[Subject]) -> list[float]:
    """Return the cost of one run of each side of each subject."""
    return [run() for subject in subjects for run in (subject.run, *(one.run for one in subject.baselines))]


def images_in(content: bytes) -> list[bytes]:
    return sorted(parse_features(data)["image"][0] for data in unframe(content, "a"))  # type: ignore[type-var]


def prepared_images(store: SpanStore) -> list[bytes]:
    (span,) = store.spans()
    uris = [store.shard_uri(span, shard) for shard in store.verify(span).shards]
    return sorted(image for uri in uris for image in images_in(storage.read(uri)))


def test_preparation_on_disk_gives_the_images_of_its_baselines(tmp_path: Path) -> None:
    with span_preparation.bench(tmp_path, images=60) as bench:
        (subject,) = bench.subjects
        subject.run()
        ours = prepared_images(SpanStore(str(tmp_path / "data")))
        original, floor = subject.baselines
        original.run()
        assert images_in((tmp_path / "out").read_bytes()) == ours
        floor.run()
        files = snapshot_folder(str(tmp_path / "images"), "2021-10").uris
        assert (tmp_path / "out").read_bytes() == b"".join(map(storage.read, files))
        assert sorted(map(storage.read, files)) == ours


def test_preparation_on_object_storage_gives_the_baselines_images(tmp_path: Path) -> None:
    with span_preparation_remote.bench(tmp_path, images=60, latency=0) as bench:
        (subject,) = bench.subjects
        assert all(cost > 0 for cost in all_runs(bench.subjects))
        ours = prepared_images(SpanStore("gs://bench/data-0"))
        assert images_in((tmp_path / "out").read_bytes()) == ours
        assert len(ours) == 60


def test_archiving_moves_the_same_images_on_both_sides(tmp_path: Path) -> None:
    images = [(f"cat_{number}.jpg", b"%d" % number) for number in range(12)]
    with object_storage(latency=0) as bucket:
        batches = NewBatches(bucket, images)
        store = BatchStore(bucket)
        for archive in (archiving.archived, archiving.moved_one_at_a_time):
            month = Batch.parse(batches.new())
            archive(store, store.snapshot(month))
            assert store.images(month) == ()
            archived = {file.name: storage.read(f"{bucket}/{month}_old/{file.name}") for file in store.archived(month)}
            assert archived == dict(images)


def test_object_storage_request_waits_for_its_latency() -> None:
    with object_storage(latency=0.3) as bucket:
        started = time.perf_counter()
        storage.exists(f"{bucket}/nothing")
        assert time.perf_counter() - started >= 0.3


def test_listing_gives_the_uris_of_its_baseline(tmp_path: Path) -> None:
    with listing.bench(tmp_path, images=300, older=3) as bench:
        large = BatchStore(str(tmp_path / "large"))
        assert list(listing.listing(large).uris) == listing.original(large)
        assert len(listing.listing(large).images) == 300
        assert listing.looked(large).batch == listing.looked(BatchStore(str(tmp_path / "long"))).batch == listing.MONTH
        assert listing.looked(large).new >= listing.MIN_IMAGES
        assert len(BatchStore(str(tmp_path / "long")).batches()) == 61
        assert all(cost > 0 for cost in all_runs(bench.subjects))


def test_evaluation_gives_the_accuracy_of_its_baseline(tmp_path: Path) -> None:
    with evaluation.bench(tmp_path, lines=700):
        results = str(tmp_path / "results")
        ours = evaluation.evaluated(evaluation.listed(700), results)
        assert ours.accuracy == evaluation.original(results) == 600 / 700
        assert evaluation.read(results) == ours.images == 700
        assert evaluation.peak_memory(results, 700) > 10 * 2**20


def test_evaluated_lines_are_written_like_json(tmp_path: Path) -> None:
    evaluation.write_results(tmp_path / "results", 700)
    lines = [line for file in sorted((tmp_path / "results").iterdir()) for line in file.read_text().splitlines()]
    assert [json.dumps(json.loads(line)) for line in lines] == lines
    assert len(set(lines)) == 700


def test_prediction_gives_the_labels_of_the_bare_model(tmp_path: Path) -> None:
    """The predictor's labels and confidences are those of the model called over decoded arrays."""
    with prediction.bench(tmp_path, images=40) as bench:
        assert all(cost > 0 for cost in all_runs(bench.subjects))
        (results,) = (tmp_path / "predictions").glob("*/prediction.results-*")
        predicted = {line["instance"]: line["prediction"]["confidence"] for line in map(json.loads, results.open())}
        files = sorted(predicted)
        model = prediction.initial_model(prediction.SPEC)
        model.load_weights(tmp_path / "export" / "assets.extra" / "model.weights.h5")
        (probabilities,) = prediction.called(model, prediction.decoded(files))
        assert len(files) == 40
        assert np.allclose([predicted[file] for file in files], probabilities.max(axis=1), atol=1e-4)


def test_ingestion_gives_the_records_of_its_baseline(tmp_path: Path) -> None:
    with ingestion.bench(tmp_path, spans=2, images=400) as bench:
        assert all(cost > 0 for cost in all_runs(bench.subjects))
    root = spans.publish_spans(tmp_path / "again", 2, 40)
    linked, imported = spans.linked(root, tmp_path / "linked"), spans.imported(root, tmp_path / "imported")
    for split in ("train", "eval"):
        ours, theirs = (records_of(spans.patterns(one, split)) for one in (linked, imported))
        assert ours == theirs != []


def test_retraining_reads_as_many_images_as_its_baseline(tmp_path: Path) -> None:
    root = spans.publish_spans(tmp_path, 2, 40)
    ours = retraining.first_step(spans.linked(root, tmp_path / "linked"))
    assert ours == retraining.first_step(spans.imported(root, tmp_path / "imported"))
    assert ours == sum(SpanStore(root).manifest(Span(number)).images_in("train") for number in (1, 2))


def test_inputs_deliver_the_pixels_of_the_baseline(tmp_path: Path) -> None:
    with inputs.bench(tmp_path, small=60, large=20) as bench:
        assert all(cost > 0 for cost in all_runs(bench.subjects))
    records = inputs.data.find_records([str(tmp_path / "photographs.tfrecord")], inputs.LARGE_SPEC)
    floor = inputs.decoded(inputs.encoded_images(records.files))
    pixels = sorted(image.tobytes() for image in floor.as_numpy_iterator())
    assert inputs.counted(floor) == inputs.counted(floor.cache()) == len(pixels) == 20
    for spec in (inputs.STREAMED_SPEC, inputs.LARGE_SPEC):
        batches = inputs.data.training_batches(records, spec)
        for _epoch in range(2):
            handed = [image.tobytes() for images, _ in batches.as_numpy_iterator() for image in images]
            assert sorted(handed) == pixels
        assert inputs.delivered(batches) == 20


def test_training_runs_on_both_sides_and_has_a_remark(tmp_path: Path) -> None:
    with training.bench(tmp_path, images=128) as bench:
        assert all(cost > 0 for cost in all_runs(bench.subjects))
        assert callable(bench.remark) and " images a second, " in bench.remark()


def test_median_of_a_training_leaves_out_the_warm_up() -> None:
    costs = iter([9.0, 1.0, 3.0])
    run = training.Remembered(lambda: next(costs))
    assert (run(), run.median()) == (9.0, 9.0)
    assert (run(), run(), run.median()) == (1.0, 3.0, 2.0)


def test_bare_imports_are_the_commands_without_our_own() -> None:
    bare = starts.imports_of((starts.ADAPT, "--help"))
    assert "'click'" in bare
    assert not any(f"'{ours}" in bare for ours in starts.OURS)
    starts.start((bare,))


def test_start_that_fails_raises() -> None:
    with pytest.raises(RuntimeError, match="no such module"):
        starts.start(("raise ImportError('no such module')",))


# Orchestration


def test_figures_of_a_loop_belong_to_one_run() -> None:
    runs = iter([orchestration.Seconds(10, 8), orchestration.Seconds(100, 50)])
    loop = orchestration.Loop(lambda: next(runs))
    assert (loop.whole(), loop.own_work()) == (10, 8)
    assert (loop.own_work(), loop.whole()) == (50, 100)


def test_import_time_of_tfx_is_measured() -> None:
    assert orchestration.import_of_tfx() > 1


def test_executors_own_work_is_taken_from_ml_metadata(tmp_path: Path) -> None:
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd
    from tfx.v1.orchestration.metadata import sqlite_metadata_connection_config

    (tmp_path / "metadata").mkdir()
    recorded = 0.0
    for pipeline in orchestration.PIPELINES:
        store = MetadataStore(sqlite_metadata_connection_config(str(tmp_path / "metadata" / f"{pipeline}.sqlite")))
        kind = store.put_execution_type(mlmd.ExecutionType(name="Trainer"))
        (number,) = store.put_executions([mlmd.Execution(type_id=kind, last_known_state=mlmd.Execution.RUNNING)])
        (execution,) = store.get_executions_by_id([number])
        execution.last_known_state = mlmd.Execution.COMPLETE
        time.sleep(0.05)
        store.put_executions([execution])
        (ended,) = store.get_executions_by_id([number])
        recorded += (ended.last_update_time_since_epoch - ended.create_time_since_epoch) / 1000
    assert orchestration.recorded_work(tmp_path) == pytest.approx(recorded)
    assert recorded >= 0.1


def records_of(patterns: list[str]) -> list[LabelledImage]:
    files = [file for pattern in patterns for file in tf.io.gfile.glob(pattern)]
    kinds = {False: "", True: "GZIP"}
    found = [
        LabelledImage.parse(record.numpy())
        for file in files
        for record in tf.data.TFRecordDataset(file, kinds[file.endswith(".gz")])
    ]
    return sorted(found, key=lambda image: (image.span, image.id))
