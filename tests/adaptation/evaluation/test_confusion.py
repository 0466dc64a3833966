"""Confusion: every listed image counts once, in any order of the results, and invalid results are refused."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptation.errors import AdaptationError
from adaptation.evaluation import confusion
from adaptation.evaluation.accuracy import evaluate
from adaptation.evaluation.confusion import Fingerprint
from adaptation.evaluation.prediction_results import InvalidPredictions, conclude_predictions
from adaptation.io import storage
from tests.worlds.results import LABELS, NAMES, ROOT, failed, folder_of, predicted, snapshot_of

image_numbers = st.lists(st.integers(0, 99), unique=True, min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(image_numbers, st.integers(1, 5), st.randoms(use_true_random=False))
def test_confusion_does_not_depend_on_order_and_number_of_files(
    numbers: list[int], files: int, chance: random.Random
) -> None:
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


def test_folder_without_results_is_refused() -> None:
    with pytest.raises(InvalidPredictions, match="has no prediction.results"):
        evaluate(snapshot_of(["car_1.jpg"]), folder_of(), LABELS, 0.0)


def test_empty_results_miss_every_image() -> None:
    with pytest.raises(InvalidPredictions, match="no prediction for 1 of 1 listed images: car_1.jpg"):
        evaluate(snapshot_of(["car_1.jpg"]), folder_of(""), LABELS, 1.0)


def test_missing_predictions_are_named_with_the_services_errors() -> None:
    names = [f"car_{n}.jpg" for n in range(9)]
    folder = folder_of(predicted("car_1.jpg", "car"), errors="('Post request fails.', 8)\n")
    with pytest.raises(InvalidPredictions) as caught:
        evaluate(snapshot_of(names), folder, LABELS, 1.0)
    message = str(caught.value)
    assert f"{folder} has no prediction for 8 of 9 listed images: car_0.jpg, car_2.jpg, car_3.jpg, ..." in message
    assert "errors file says: ('Post request fails.', 8)" in message
    assert isinstance(caught.value, AdaptationError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("again", [predicted("car_1.jpg", "car"), predicted("car_1.jpg", "cat"), failed("car_1.jpg")])
def test_image_with_two_predictions_or_errors_is_refused(again: str) -> None:
    folder = folder_of(predicted("car_1.jpg", "car"), predicted("car_2.jpg", "car") + again)
    with pytest.raises(InvalidPredictions, match=r"for 1 images: car_1\.jpg\. "):
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
def test_prediction_for_an_image_that_is_not_listed_is_refused(stray: str) -> None:
    folder = folder_of(predicted("car_1.jpg", "car") + stray)
    image = json.loads(stray)["instance"]
    with pytest.raises(InvalidPredictions, match=re.escape(f"not listed in {ROOT}: {image}. ")):
        evaluate(snapshot_of(["car_1.jpg"]), folder, LABELS, 1.0)


def test_prediction_that_replaces_a_listed_image_is_refused() -> None:
    folder = folder_of(predicted("car_1.jpg", "car") + predicted("car_9.jpg", "car"))
    with pytest.raises(InvalidPredictions, match=re.escape(f"{ROOT}/car_9.jpg")):
        evaluate(snapshot_of(["car_1.jpg", "car_2.jpg"]), folder, LABELS, 1.0)


def test_image_of_the_same_name_in_another_folder_is_another_image() -> None:
    folder = folder_of(predicted("car_1.jpg", "car", root="gs://bucket/2021-09"))
    with pytest.raises(InvalidPredictions, match="gs://bucket/2021-09/car_1.jpg"):
        evaluate(snapshot_of(["car_1.jpg"]), folder, LABELS, 1.0)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)), st.integers(0, 9))
def test_fingerprints_are_equal_only_for_the_same_texts(one: list[str], other: list[str], cut: int) -> None:
    def fingerprint(texts: list[str]) -> Fingerprint:
        return Fingerprint.of(pl.Series(texts, dtype=pl.String))

    assert (fingerprint(one) == fingerprint(other)) == (sorted(one) == sorted(other))
    assert fingerprint(one[cut:]) + fingerprint(one[:cut]) == fingerprint(one) == fingerprint(one[::-1])
    whole = fingerprint(one + other)
    assert all(0 <= total < 2**64 for total in whole.sums) and (whole.count == 0 or any(whole.sums))


def test_snapshot_without_images_accepts_no_prediction() -> None:
    with pytest.raises(InvalidPredictions, match="not listed"):
        evaluate(snapshot_of([]), folder_of(predicted("car_1.jpg", "car")), LABELS, 1.0)


@pytest.mark.parametrize("broken", [1, 2])
def test_images_with_one_equal_hash_differ_in_the_second(broken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = pl.Series.hash
    same = pl.Series([7], dtype=pl.UInt64)
    monkeypatch.setattr(
        pl.Series, "hash", lambda self, seed: same.new_from_index(0, len(self)) if seed == broken else sound(self, seed)
    )
    lines = [predicted(name, "car") for name in ("car_1.jpg", "car_2.jpg", "car_3.jpg")]
    assert evaluate(snapshot_of(["car_1.jpg", "car_2.jpg"]), folder_of(*lines[:2]), LABELS, 0.0).correct == 2
    with pytest.raises(InvalidPredictions, match="not listed"):
        evaluate(snapshot_of(["car_1.jpg", "car_2.jpg"]), folder_of(lines[0], lines[2]), LABELS, 0.0)


def test_results_that_change_while_they_are_read_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = folder_of(predicted("car_1.jpg", "car"))

    def completed_afterwards(*arguments: Any) -> Iterator[Any]:
        yield from conclude_predictions(*arguments)
        storage.write(f"{folder}/prediction.results-00001-of-00002", predicted("car_2.jpg", "car").encode())

    monkeypatch.setattr(confusion, "conclude_predictions", completed_afterwards)
    snapshot = snapshot_of(["car_1.jpg", "car_2.jpg"])
    with pytest.raises(InvalidPredictions, match=f"{folder} changed while it was read"):
        evaluate(snapshot, folder, LABELS, 0.0)
    monkeypatch.undo()
    assert evaluate(snapshot, folder, LABELS, 0.0).correct == 2


def test_model_that_predicts_other_labels_is_refused() -> None:
    folder = folder_of(predicted("car_1.jpg", "car") + predicted("car_2.jpg", "automobile"))
    with pytest.raises(
        InvalidPredictions,
        match="predicts 'automobile' for gs://.*/car_2.jpg.*labels are car, cat, ship. No labels are 1 .*: automobile",
    ):
        evaluate(snapshot_of(["car_1.jpg", "car_2.jpg"]), folder, LABELS, 1.0)
