"""Evaluation: every listed image once, figures that add up, and the decision."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptation import storage
from adaptation.batches import Snapshot
from adaptation.errors import AdaptationError
from adaptation.evaluation import (
    ClassFigures,
    Decision,
    DuplicatePredictions,
    Evaluation,
    Interval,
    InvalidThreshold,
    MissingPredictions,
    Mistake,
    Outcome,
    Rule,
    UnlistedPredictions,
    decide,
    evaluate,
    wilson_interval,
)
from adaptation.labels import Labels, Skipped, TooManySkipped
from adaptation.predictions import InvalidPrediction, NoPredictions

_NUMBERS = itertools.count(1)
ROOT = "gs://bucket/2021-10"
NAMES = ("car", "cat", "ship")
LABELS = Labels(NAMES)


def snapshot_of(names: Sequence[str], root: str = ROOT) -> Snapshot:
    return Snapshot("2021-10", root, tuple(storage.File(name, 1) for name in names))


def predicted(name: str, label: str, confidence: float = 0.5, root: str = ROOT) -> str:
    return json.dumps({"instance": f"{root}/{name}", "prediction": {"label": label, "confidence": confidence}}) + "\n"


def failed(name: str, message: str = "cannot be decoded") -> str:
    return json.dumps({"instance": f"{ROOT}/{name}", "error": {"code": 3, "message": message}}) + "\n"


def folder_of(*files: str, errors: str = "") -> str:
    """A folder of results, at a place of its own."""
    folder = f"memory://evaluated-{next(_NUMBERS)}"
    for number, content in enumerate(files):
        storage.write(f"{folder}/prediction.results-{number:05d}-of-{len(files):05d}", content.encode())
    storage.write(f"{folder}/prediction.errors_stats-00000-of-00001", errors.encode())
    return folder


def evaluation_of(correct: int, images: int) -> Evaluation:
    """An evaluation with this accuracy, and nothing else of interest."""
    lines = "".join(predicted(f"car_{n}.jpg", "car" if n < correct else "cat") for n in range(images))
    return evaluate(snapshot_of([f"car_{n}.jpg" for n in range(images)]), folder_of(lines), LABELS, 0.0)


def test_figures_follow_from_the_confusion() -> None:
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


def test_a_class_that_is_never_predicted_has_no_precision_and_one_without_images_no_recall() -> None:
    found = evaluate(snapshot_of(["car_1.jpg"]), folder_of(predicted("car_1.jpg", "ship")), LABELS, 0.0)
    assert found.classes[0] == ClassFigures("car", 1, 0, 0.0, None, 0.0)
    assert found.classes[2] == ClassFigures("ship", 0, 0, None, 0.0, 0.0)


def test_labels_may_come_from_elsewhere() -> None:
    storage.write("memory://reviewed/labels.csv", b"path,label\na.jpg,ship\n")
    labels = Labels(NAMES, "file", "memory://reviewed/labels.csv")
    assert evaluate(snapshot_of(["a.jpg"]), folder_of(predicted("a.jpg", "ship")), labels, 0.0).correct == 1


def test_local_images_are_matched_by_their_paths() -> None:
    lines = predicted("car_1.jpg", "car", root="/data/2021-10")
    assert evaluate(snapshot_of(["car_1.jpg"], "/data/2021-10"), folder_of(lines), LABELS, 0.0).correct == 1


image_numbers = st.lists(st.integers(0, 99), unique=True, min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(image_numbers, st.integers(1, 5), st.randoms(use_true_random=False))
def test_order_and_number_of_files_mean_nothing(numbers: list[int], files: int, chance: random.Random) -> None:
    names = sorted(f"{NAMES[number % 3]}_{number}.jpg" for number in numbers)
    lines = [predicted(name, chance.choice(NAMES), chance.choice([0.1, 0.9])) for name in names]
    lines[0] = failed(names[0])
    expected = evaluate(snapshot_of(names), folder_of("".join(lines)), LABELS, 1.0)
    chance.shuffle(lines)
    parts: list[list[str]] = [[] for _ in range(files)]
    for one in lines:
        chance.choice(parts).append(one)
    assert evaluate(snapshot_of(names), folder_of(*map("".join, parts)), LABELS, 1.0) == expected
    assert expected.images == sum(map(sum, expected.confusion)) == len(names) - 1


def test_a_folder_without_results_is_refused() -> None:
    with pytest.raises(NoPredictions):
        evaluate(snapshot_of(["car_1.jpg"]), folder_of(), LABELS, 0.0)


def test_empty_results_miss_every_image() -> None:
    with pytest.raises(MissingPredictions, match="no prediction for 1 of 1 listed images: car_1.jpg"):
        evaluate(snapshot_of(["car_1.jpg"]), folder_of(""), LABELS, 1.0)


def test_missing_predictions_are_named_with_what_the_service_says() -> None:
    names = [f"car_{n}.jpg" for n in range(9)]
    folder = folder_of(predicted("car_1.jpg", "car"), errors="('Post request fails.', 8)\n")
    with pytest.raises(MissingPredictions) as caught:
        evaluate(snapshot_of(names), folder, LABELS, 1.0)
    message = str(caught.value)
    assert f"{folder} has no prediction for 8 of 9 listed images: car_0.jpg, car_2.jpg, car_3.jpg, ..." in message
    assert "errors file says: ('Post request fails.', 8)" in message
    assert isinstance(caught.value, AdaptationError) and isinstance(caught.value, LookupError)


@pytest.mark.parametrize("again", [predicted("car_1.jpg", "car"), predicted("car_1.jpg", "cat"), failed("car_1.jpg")])
def test_an_image_with_two_predictions_or_errors_is_refused(again: str) -> None:
    folder = folder_of(predicted("car_1.jpg", "car"), predicted("car_2.jpg", "car") + again)
    with pytest.raises(DuplicatePredictions, match=r"for 1 images: car_1\.jpg\. "):
        evaluate(snapshot_of(["car_1.jpg", "car_2.jpg"]), folder, LABELS, 1.0)


@pytest.mark.parametrize(
    "stray",
    [
        predicted("car_9.jpg", "car"),
        failed("car_9.jpg"),
        predicted("car_1.jpg", "car", root="gs://bucket/2021-09"),
        '{"instance": "car_1.jpg", "prediction": "car"}\n',
    ],
)
def test_a_prediction_for_an_image_that_is_not_listed_is_refused(stray: str) -> None:
    folder = folder_of(predicted("car_1.jpg", "car") + stray)
    image = json.loads(stray)["instance"]
    with pytest.raises(UnlistedPredictions, match=re.escape(f"not listed in {ROOT}: {image}. ")):
        evaluate(snapshot_of(["car_1.jpg"]), folder, LABELS, 1.0)


def test_another_image_in_the_place_of_a_listed_one_is_refused() -> None:
    folder = folder_of(predicted("car_1.jpg", "car") + predicted("car_9.jpg", "car"))
    with pytest.raises(UnlistedPredictions, match=re.escape(f"{ROOT}/car_9.jpg")):
        evaluate(snapshot_of(["car_1.jpg", "car_2.jpg"]), folder, LABELS, 1.0)


def test_no_prediction_is_listed_where_there_are_no_images() -> None:
    with pytest.raises(UnlistedPredictions):
        evaluate(snapshot_of([]), folder_of(predicted("car_1.jpg", "car")), LABELS, 1.0)


def test_images_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(f"{NAMES[number % 3]}_{number}.jpg" for number in range(60))
    chance = random.Random(3)
    lines = [predicted(name, chance.choice(NAMES), number / 60) for number, name in enumerate(names)]
    lines[7] = failed(names[7])
    chance.shuffle(lines)
    folder = folder_of("".join(lines[:30]), "".join(lines[30:]), errors='{"error": "one image was not predicted"}\n')
    expected = evaluate(snapshot_of(names), folder, LABELS, 1.0)
    monkeypatch.setattr(pl.Series, "hash", lambda self: pl.Series([7] * len(self), dtype=pl.UInt64))
    monkeypatch.setattr(pl.Expr, "hash", lambda self: pl.lit(7, pl.UInt64))
    assert evaluate(snapshot_of(names), folder, LABELS, 1.0) == expected
    assert expected.mistakes


def test_a_model_that_predicts_other_labels_is_refused() -> None:
    folder = folder_of(predicted("car_1.jpg", "car") + predicted("car_2.jpg", "automobile"))
    with pytest.raises(
        InvalidPrediction, match="predicts 'automobile' for gs://.*/car_2.jpg.*labels are car, cat, ship"
    ):
        evaluate(snapshot_of(["car_1.jpg", "car_2.jpg"]), folder, LABELS, 1.0)


def test_images_with_an_error_or_without_a_label_are_skipped_with_the_reason() -> None:
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
def test_no_evaluated_image_divides_nothing_by_zero(names: list[str], lines: str) -> None:
    found = evaluate(snapshot_of(names), folder_of(lines), LABELS, 1.0)
    assert (found.images, found.correct, found.accuracy, found.interval) == (0, 0, None, Interval(0.0, 1.0))
    assert decide(found, 0.9, Rule.POINT, 0).outcome is Outcome.TOO_FEW


def test_the_most_confident_mistakes_are_shown_and_those_without_a_confidence_last() -> None:
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


def test_at_most_twenty_mistakes_are_shown_of_equal_ones_the_first() -> None:
    shown = [mistake.name for mistake in evaluation_of(0, 60).mistakes]
    assert shown == [f"car_{number}.jpg" for number in range(20)]


def test_an_evaluation_is_kept_as_a_file() -> None:
    lines = predicted("car_1.jpg", "cat") + predicted("car_2.jpg", "car") + failed("cat_1.jpg")
    found = evaluate(snapshot_of(["car_1.jpg", "car_2.jpg", "cat_1.jpg"]), folder_of(lines), LABELS, 0.5)
    assert found.mistakes and found.skipped
    assert Evaluation.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (900, 1000, 0.8798, 0.9171)],
)
def test_wilson_intervals_are_those_of_the_textbook(correct: int, images: int, low: float, high: float) -> None:
    interval = wilson_interval(correct, images)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 10_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_a_wilson_interval_lies_around_the_share_and_within_0_to_1(counts: tuple[int, int]) -> None:
    correct, images = counts
    interval = wilson_interval(correct, images)
    share = correct / images if images else 0.5
    assert 0 <= interval.low <= share + 1e-12 and share - 1e-12 <= interval.high <= 1


@pytest.mark.parametrize(
    ("correct", "images", "rule", "outcome"),
    [
        (89, 100, Rule.POINT, Outcome.RETRAIN),
        (90, 100, Rule.POINT, Outcome.KEEP),
        (91, 100, Rule.POINT, Outcome.KEEP),
        (89, 100, Rule.WILSON, Outcome.KEEP),
        (80, 100, Rule.WILSON, Outcome.RETRAIN),
        (0, 99, Rule.POINT, Outcome.TOO_FEW),
        (0, 99, Rule.WILSON, Outcome.TOO_FEW),
    ],
)
def test_the_decision_follows_the_rule(correct: int, images: int, rule: Rule, outcome: Outcome) -> None:
    decision = decide(evaluation_of(correct, images), 0.9, rule, min_images=100)
    assert (decision.outcome, decision.retrain) == (outcome, outcome is Outcome.RETRAIN)


def test_the_reason_has_the_figures() -> None:
    figures = "89 of 100 images are right: accuracy 0.8900 (95 % interval 0.8137 to 0.9375); "
    evaluation = evaluation_of(89, 100)
    below = f"{figures}the accuracy is below the threshold 0.9"
    assert decide(evaluation, 0.9, Rule.POINT, 100) == Decision(True, Outcome.RETRAIN, below)
    above = f"{figures}the interval's upper bound is not below the threshold 0.9"
    assert decide(evaluation, 0.9, Rule.WILSON, 100) == Decision(False, Outcome.KEEP, above)
    few = "100 images were evaluated, too few to say anything: it takes 101"
    assert decide(evaluation, 0.9, Rule.POINT, 101) == Decision(False, Outcome.TOO_FEW, few)


def test_the_threshold_one_accepts_only_a_perfect_model() -> None:
    perfect = evaluation_of(2, 2)
    assert not decide(perfect, 1.0, Rule.POINT, 1).retrain
    assert all(
        wilson_interval(images, images).high == 1 and wilson_interval(0, images).low == 0 for images in range(99)
    )
    assert decide(replace(perfect, accuracy=0.999), 1.0, Rule.POINT, 1).retrain


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, 90.0, float("nan")])
def test_a_threshold_that_is_no_accuracy_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidThreshold, match=f"the threshold {threshold} is no accuracy"):
        decide(evaluation_of(1, 1), threshold, Rule.POINT, 1)
