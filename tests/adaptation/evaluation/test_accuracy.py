"""Evaluation: every listed image counts once, and the figures add up."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptation import codec
from adaptation.data.labels import Labels, Skipped, TooManySkipped
from adaptation.evaluation import prediction_results
from adaptation.evaluation.accuracy import (
    ClassFigures,
    Evaluation,
    Interval,
    Mistake,
    evaluate,
    wilson_interval,
)
from adaptation.io import storage
from tests.worlds.results import LABELS, NAMES, ROOT, failed, folder_of, predicted, snapshot_of


def evaluation_of(correct: int, images: int) -> Evaluation:
    """Return an evaluation with this accuracy."""
    lines = "".join(predicted(f"car_{n}.jpg", "car" if n < correct else "cat") for n in range(images))
    return evaluate(snapshot_of([f"car_{n}.jpg" for n in range(images)]), folder_of(lines), LABELS, 0.0)


def test_accuracy_precision_and_recall_follow_from_the_confusion() -> None:
    names = ["car_1.jpg", "car_2.jpg", "car_3.jpg", "cat_1.jpg", "sub/cat_2.jpg"]
    lines = [predicted(name, label) for name, label in zip(names, ["car", "car", "cat", "cat", "car"], strict=True)]
    found = evaluate(snapshot_of(names), folder_of("".join(lines)), LABELS, 0.0)
    assert (found.batch, found.images, found.correct, found.accuracy) == ("2021-10", 5, 3, 0.6)
    assert found.label_names == NAMES
    assert found.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 0))
    assert found.classes == (
        ClassFigures("car", 3, 2, 2 / 3, 2 / 3, 2 / 3),
        ClassFigures("cat", 2, 1, 1 / 2, 1 / 2, 1 / 2),
        ClassFigures("ship", 0, 0, None, None, None),
    )
    assert found.interval == wilson_interval(3, 5)
    assert found.skipped == ()


def test_class_never_predicted_has_no_precision_and_empty_one_no_recall() -> None:
    found = evaluate(snapshot_of(["car_1.jpg"]), folder_of(predicted("car_1.jpg", "ship")), LABELS, 0.0)
    assert found.classes[0] == ClassFigures("car", 1, 0, 0.0, None, 0.0)
    assert found.classes[2] == ClassFigures("ship", 0, 0, None, 0.0, 0.0)


def test_image_of_a_class_that_the_model_lacks_counts_as_wrong() -> None:
    labels = Labels((*NAMES, "ox"))
    lines = predicted("car_1.jpg", "car") + predicted("ox_1.jpg", "cat", 0.7)
    found = evaluate(snapshot_of(["car_1.jpg", "ox_1.jpg"]), folder_of(lines), labels, 0.0)
    assert (found.images, found.correct, found.skipped) == (2, 1, ())
    assert found.confusion == ((1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0))
    assert found.classes[3] == ClassFigures("ox", 1, 0, 0.0, None, 0.0)
    assert found.mistakes == (Mistake("ox_1.jpg", "ox", "cat", 0.7),)


def test_labels_may_come_from_a_file() -> None:
    storage.write("memory://reviewed/labels.csv", b"path,label\na.jpg,ship\n")
    labels = Labels(NAMES, "file", "memory://reviewed/labels.csv")
    assert evaluate(snapshot_of(["a.jpg"]), folder_of(predicted("a.jpg", "ship")), labels, 0.0).correct == 1


def test_local_images_are_matched_by_their_paths() -> None:
    lines = predicted("car_1.jpg", "car", root="/data/2021-10")
    assert evaluate(snapshot_of(["car_1.jpg"], "/data/2021-10"), folder_of(lines), LABELS, 0.0).correct == 1


def test_images_with_an_error_or_without_a_label_are_skipped() -> None:
    names = ["boat_1.jpg", "boat_2.jpg", "car_1.jpg", "car_2.jpg"]
    lines = predicted("boat_1.jpg", "ship") + predicted("car_1.jpg", "car")
    found = evaluate(
        snapshot_of(names), folder_of(lines + failed("boat_2.jpg"), errors=failed("car_2.jpg")), LABELS, 0.75
    )
    assert (found.images, found.accuracy) == (1, 1.0)
    assert found.skipped == (
        Skipped("boat_1.jpg", "no label by its name's prefix (known: car, cat, ship)"),
        Skipped("boat_2.jpg", "not predicted: cannot be decoded (code 3)"),
        Skipped("car_2.jpg", "not predicted: cannot be decoded (code 3)"),
    )


def test_too_many_skipped_images_are_refused_with_examples() -> None:
    lines = predicted("boat_1.jpg", "ship") + predicted("car_1.jpg", "car")
    with pytest.raises(TooManySkipped, match="1 of 2 images(.|\n)*boat_1.jpg: no label"):
        evaluate(snapshot_of(["boat_1.jpg", "car_1.jpg"]), folder_of(lines), LABELS, 0.49)


@pytest.mark.parametrize(("names", "lines"), [(["car_1.jpg"], failed("car_1.jpg")), ([], "")])
def test_evaluation_of_no_image_does_not_divide_by_zero(names: list[str], lines: str) -> None:
    found = evaluate(snapshot_of(names), folder_of(lines), LABELS, 1.0)
    assert (found.images, found.correct, found.accuracy, found.interval) == (0, 0, None, Interval(0.0, 1.0))


def test_mistakes_are_sorted_by_confidence_and_those_without_come_last() -> None:
    names = ["car_1.jpg", "car_2.jpg", "car_3.jpg", "car_4.jpg", "car_5.jpg"]
    bare = json.dumps({"instance": f"{ROOT}/car_1.jpg", "prediction": "cat"}) + "\n"
    confident = {"car_2.jpg": 0.3, "car_3.jpg": 0.9, "car_4.jpg": 0.3}
    lines = [predicted(name, "ship", confidence) for name, confidence in confident.items()]
    found = evaluate(snapshot_of(names), folder_of(bare, *lines, predicted("car_5.jpg", "car", 1.0)), LABELS, 0.0)
    assert found.mistakes == (
        Mistake("car_3.jpg", "car", "ship", 0.9),
        Mistake("car_2.jpg", "car", "ship", 0.3),
        Mistake("car_4.jpg", "car", "ship", 0.3),
        Mistake("car_1.jpg", "car", "cat", None),
    )


def test_mistakes_are_limited_to_20_and_ties_sorted_by_name() -> None:
    shown = [mistake.name for mistake in evaluation_of(0, 60).mistakes]
    assert shown == sorted(f"car_{number}.jpg" for number in range(60))[:20]


def test_mistakes_without_a_confidence_are_the_first_to_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_results, "BLOCK", 300)
    bare = [json.dumps({"instance": f"{ROOT}/car_{n:02d}.jpg", "prediction": "cat"}) + "\n" for n in range(30)]
    lines = [predicted(f"car_{n:02d}.jpg", "cat", n / 100) for n in range(30, 55)]
    names = [f"car_{n:02d}.jpg" for n in range(55)]
    shown = evaluate(snapshot_of(names), folder_of("".join(bare + lines)), LABELS, 0.0).mistakes
    assert [mistake.name for mistake in shown] == names[:34:-1]


def test_evaluation_is_unchanged_by_writing_and_reading() -> None:
    lines = predicted("car_1.jpg", "cat") + predicted("car_2.jpg", "car") + failed("cat_1.jpg")
    found = evaluate(snapshot_of(["car_1.jpg", "car_2.jpg", "cat_1.jpg"]), folder_of(lines), LABELS, 0.5)
    assert found.mistakes and found.skipped
    assert codec.decode(codec.encode(found), Evaluation, "evaluation.json") == found


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (900, 1000, 0.8798, 0.9171)],
)
def test_wilson_intervals_equal_published_ones(correct: int, images: int, low: float, high: float) -> None:
    interval = wilson_interval(correct, images)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 10_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_wilson_interval_contains_the_share_and_lies_within_0_to_1(counts: tuple[int, int]) -> None:
    correct, images = counts
    interval = wilson_interval(correct, images)
    share = correct / images if images else 0.5
    assert 0 <= interval.low <= share + 1e-12 and share - 1e-12 <= interval.high <= 1
