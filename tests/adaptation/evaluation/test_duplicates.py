"""Duplicates: images with the same bytes count once for a champion, whatever their names and batches."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from adaptation.data.batches import Batch, BatchStore, Snapshot
from adaptation.data.labels import Labels
from adaptation.evaluation.accuracy import Evaluation
from adaptation.evaluation.evidence import Block
from adaptation.evaluation.log import EvaluationLog, evaluate_new
from adaptation.evaluation.prediction_results import ResultsWriter, read_contents, read_predictions
from adaptation.io import storage

LABELS = Labels(("cat", "dog"))
LARGEST = 2**52 - 1


@pytest.fixture
def log(tmp_path: Path) -> EvaluationLog:
    return EvaluationLog(BatchStore(str(tmp_path / "collection")), "1-key")


def predicted(tmp_path: Path, contents: dict[str, int | None], month: str = "2021-10") -> tuple[Snapshot, str]:
    """Put images into a batch and predict them all as cats. Return the snapshot and the results' folder."""
    store = BatchStore(str(tmp_path / "collection"))
    folder = store.folder(Batch.parse(month))
    with ResultsWriter(str(tmp_path / "results"), "1", datetime.now(UTC)) as results:
        for name in contents:
            storage.write(f"{folder}/{name}", b"image")
        for image in storage.files_below(folder):
            content = contents.get(image.name)
            more = {} if content is None else {"content": content}
            results.prediction(f"{folder}/{image.name}", "cat", 0.5, **more)
    return store.snapshot(Batch.parse(month)), results.folder


def evaluated(log: EvaluationLog, predictions: tuple[Snapshot, str]) -> Evaluation:
    return evaluate_new(log, *predictions, LABELS, 1.0, "run")


def test_copy_of_an_image_counts_once(log: EvaluationLog, tmp_path: Path) -> None:
    found = evaluated(log, predicted(tmp_path, {"cat_1.png": 7, "cat_2.png": 7, "cat_3.png": LARGEST, "dog_1.png": 5}))
    assert (found.images, found.correct) == (4, 3)
    assert log.blocks() == [Block("2021-10", 3, 2)]


def test_copy_in_a_later_batch_does_not_count_again(log: EvaluationLog, tmp_path: Path) -> None:
    evaluated(log, predicted(tmp_path, {"cat_1.png": 7, "cat_2.png": 8}))
    evaluated(log, predicted(tmp_path, {"cat_9.png": 8, "cat_8.png": 9}, "2021-11"))
    assert log.blocks() == [Block("2021-10", 2, 2), Block("2021-11", 1, 1)]


def test_copy_that_arrives_in_the_same_batch_does_not_count_again(log: EvaluationLog, tmp_path: Path) -> None:
    first = {"cat_1.png": 7, "cat_2.png": 8}
    evaluated(log, predicted(tmp_path, first))
    evaluated(log, predicted(tmp_path, {**first, "cat_0.png": 7, "dog_3.png": 3}))
    assert log.blocks() == [Block("2021-10", 2, 2), Block("2021-10", 1, 0)]


def test_repeated_evaluation_of_a_snapshot_counts_the_same(log: EvaluationLog, tmp_path: Path) -> None:
    predictions = predicted(tmp_path, {"cat_1.png": 7, "cat_2.png": 7, "dog_1.png": 5})
    first = evaluated(log, predictions)
    assert evaluated(log, predictions) == first
    assert log.blocks() == [Block("2021-10", 2, 1)]


def test_image_without_a_label_leaves_the_count_to_its_labelled_copy(log: EvaluationLog, tmp_path: Path) -> None:
    evaluated(log, predicted(tmp_path, {"a.png": 7, "cat_1.png": 8}))
    evaluated(log, predicted(tmp_path, {"a.png": 7, "cat_1.png": 8, "cat_2.png": 7}))
    assert log.blocks() == [Block("2021-10", 1, 1)] * 2


def test_images_of_unknown_content_all_count(log: EvaluationLog, tmp_path: Path) -> None:
    evaluated(log, predicted(tmp_path, {"cat_1.png": None, "cat_2.png": None}))
    assert log.blocks() == [Block("2021-10", 2, 2)]


def test_content_is_read_beside_the_prediction(tmp_path: Path) -> None:
    _, folder = predicted(tmp_path, {"cat_1.png": LARGEST, "cat_2.png": None})
    assert [row for frame in read_predictions(folder) for row in frame["label"]] == ["cat", "cat"]
    assert [row for frame in read_contents(folder) for row in frame["content"]] == [LARGEST]
