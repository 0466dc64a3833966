"""Look: when a batch seems different, what the reason says, and how looks are recorded."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from adaptation import codec
from adaptation.data.batches import Batch, BatchStore
from adaptation.evaluation.look import Profile, Reference, look
from adaptation.evaluation.look_records import (
    FOLDER,
    Look,
    LookRecord,
    Outcome,
    Predicted,
    last_look,
    record_look,
    unknown,
)
from adaptation.evaluation.looks import read_seen
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.prediction_results import ResultsWriter, read_probabilities
from adaptation.io import storage
from tests.worlds.results import failed, folder_of, predicted, snapshot_of

SURE, UNSURE = np.linspace(0.8, 1, 300), np.linspace(0.5, 1, 300)
REFERENCE = Reference(Profile.of({"cat": 500, "dog": 500}, np.linspace(0.8, 1, 1000)), {"cat": Recall(1000, 900)})
CALM = Profile.of({"cat": 150, "dog": 150}, SURE)


def test_batch_like_the_reference_is_calm() -> None:
    calm = look(REFERENCE, CALM, "2021-10")
    assert calm.outcome is Outcome.CALM
    assert calm.reason == (
        "2021-10 seems like the test images: mean confidence 0.90, there 0.90 (p 0.5); shares of the predicted classes "
        "alike (p 1)"
    )
    assert (calm.images, calm.confidence_p, calm.classes_p) == (300, pytest.approx(0.5, abs=0.01), pytest.approx(1))


def test_less_confident_batch_is_to_be_looked_at() -> None:
    found = look(REFERENCE, Profile.of({"cat": 150, "dog": 150}, UNSURE), "2021-10")
    assert found.outcome is Outcome.LOOK
    assert found.reason == (
        "2021-10 seems different: the mean confidence has fallen from 0.90 to 0.75 (p below 0.000001); have 50 of its "
        'images reviewed: "adapt review export --batch 2021-10 --budget 50"'
    )


def test_batch_with_other_classes_is_to_be_looked_at() -> None:
    found = look(REFERENCE, Profile.of({"cat": 200, "dog": 100}, SURE), "2021-10")
    assert found.outcome is Outcome.LOOK
    assert "the classes are predicted in other shares (p below 0.000001)" in found.reason


def test_more_confident_batch_is_calm() -> None:
    assert look(REFERENCE, Profile.of({"cat": 150, "dog": 150}, np.ones(300)), "b").outcome is Outcome.CALM


def test_estimate_is_the_reference_accuracy_less_the_fall_of_confidence() -> None:
    found = look(REFERENCE, Profile.of({"cat": 150, "dog": 150}, UNSURE), "b")
    assert found.estimate == pytest.approx(0.9 - (0.9 - 0.75), abs=0.001)
    assert found.caveat == "if nothing new is in the images"


def test_divergences_are_0_for_the_same_and_1_for_disjoint_predictions() -> None:
    same, other = look(REFERENCE, CALM, "b"), look(REFERENCE, Profile.of({"ship": 300}, np.full(300, 0.1)), "b")
    assert (same.confidence_divergence, same.classes_divergence) == (pytest.approx(0, abs=0.001), pytest.approx(0))
    assert (other.confidence_divergence, other.classes_divergence) == (pytest.approx(1), pytest.approx(1))


def test_predictions_without_confidence_are_compared_by_their_classes() -> None:
    found = look(REFERENCE, Profile.of({"cat": 30, "dog": 270}, np.full(300, np.nan)), "b")
    assert (found.outcome, found.confidence_p, found.estimate) == (Outcome.LOOK, None, None)
    calm = look(REFERENCE, Profile.of({"cat": 150, "dog": 150}, []), "b")
    assert calm.outcome is Outcome.CALM and "no confidences to compare" in calm.reason


@pytest.mark.parametrize(("batch", "reference", "whose"), [(29, 1000, "b has 29"), (300, 29, "the reference has 29")])
def test_too_few_images_are_not_compared(batch: int, reference: int, whose: str) -> None:
    few = Reference(Profile.of({"cat": reference}, np.ones(reference)), {"cat": Recall(reference, reference)})
    found = look(few, Profile.of({"dog": batch}, np.zeros(batch)), "b")
    assert found == unknown(f"{whose} predicted images, too few to compare: it takes 30", batch)


def test_rare_classes_are_compared_together() -> None:
    rare = [f"rare-{number}" for number in range(100)]
    reference = Reference(Profile.of({"cat": 700, **dict.fromkeys(rare, 3)}, np.ones(1000)), {"cat": Recall(1000, 900)})
    alike, more = (Profile.of({"cat": cats, **dict.fromkeys(rare, 1)}, np.ones(cats + 100)) for cats in (233, 60))
    assert [look(reference, batch, "b").outcome for batch in (alike, more)] == [Outcome.CALM, Outcome.LOOK]


def test_probabilities_diverge_less_by_chance_than_predicted_classes() -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.full(10, 0.3), 4000)
    parts = [probabilities[:2000], *probabilities[2000:].reshape(20, 100, 10)]
    profiles = [Profile.of(Counter(map(str, part.argmax(axis=1))), part.max(axis=1), part) for part in parts]
    looks = [look(Reference(profiles[0], {"cat": Recall(2000, 1800)}), batch, "b") for batch in profiles[1:]]
    smooth, counted = ([getattr(one, f"{of}_divergence") for one in looks] for of in ("probabilities", "classes"))
    assert 0 < np.mean(smooth) < 0.75 * np.mean(counted)


@pytest.mark.parametrize(("given", "divergence"), [([[1, 0]], 0), ([[0, 1]], 1), ([[1, 0, 0]], None), ([], None)])
def test_probabilities_of_the_same_classes_are_compared(given: list[list[int]], divergence: float | None) -> None:
    reference = Reference(Profile.of({"cat": 300}, SURE, [[1, 0]]), {"cat": Recall(300, 270)})
    found = look(reference, Profile.of({"cat": 300}, SURE, given), "b")
    assert (found.outcome, found.probabilities_divergence) == (Outcome.CALM, divergence)


def test_reference_without_probabilities_stays_readable() -> None:
    old = b'{"profile":{"predicted":{"cat":30},"confidences":[30]},"recalls":{"cat":{"images":30,"correct":30}}}'
    assert codec.decode(old, Reference, "here").profile.probabilities == ()


def test_profile_is_the_sum_of_its_parts_in_any_order() -> None:
    one, other = Profile.of({"cat": 2, "dog": 1}, [0.1, 0.5, 1]), Profile.of({"dog": 1, "ant": 1}, [0.5, np.nan])
    assert Profile.sum([one, other]) == Profile.sum([other, one])
    assert Profile.sum([one, other]) == Profile.of({"ant": 1, "cat": 2, "dog": 2}, [0.5, 0.5, 0.1, 1])
    assert (one.images, one.rated, other.rated) == (3, 3, 1)


def test_reference_is_the_same_after_a_round_trip() -> None:
    assert codec.decode(codec.encode(REFERENCE, indent=0), Reference, "here") == REFERENCE


def test_results_with_probabilities_are_summed_up(tmp_path: Path) -> None:
    with ResultsWriter(str(tmp_path), "1", datetime.now(UTC), shard_lines=2) as results:
        for name in ("1.jpg", "2.jpg", "3.jpg"):
            results.prediction(f"gs://bucket/2021-10/{name}", "cat", 0.75, content=1, probabilities=[0.7501, 0.2499])
    profile = read_seen(snapshot_of(["1.jpg", "2.jpg", "3.jpg"]), results.folder).profile
    assert profile == Profile.of({"cat": 3}, [0.75] * 3, [[0.7501, 0.2499]] * 3)
    assert profile.probabilities == (22503, 7497)


def test_results_with_odd_probabilities_are_left_out_of_their_sum() -> None:
    odd: list[object] = [[0.5, 0.5], [1], None, [None, 1], []]
    lines = [{"instance": "i", "prediction": {"label": "cat", "probabilities": one}} for one in odd]
    (given,) = read_probabilities(folder_of("".join(json.dumps(line) + "\n" for line in lines)))
    assert given.tolist() == [[0.5, 0.5]]
    assert list(read_probabilities(folder_of('{"instance": "i", "prediction": "cat"}\n'))) == []


def test_results_are_summed_up_with_typical_and_strangest_images() -> None:
    names = [f"{number}.jpg" for number in range(40)]
    lines = [predicted(name, "car" if number % 2 else "cat", 1 - number / 100) for number, name in enumerate(names)]
    lines[0] = failed(names[0])
    seen = read_seen(snapshot_of(names), folder_of("".join(lines[20:]), "".join(lines[:20])))
    assert (dict(seen.profile.predicted), seen.profile.rated) == ({"car": 20, "cat": 19}, 39)
    assert seen.strangest[:2] == (Predicted("39.jpg", "car", 0.61), Predicted("38.jpg", "cat", 0.62))
    assert len(seen.strangest) == len(seen.typical) == 12
    assert len({one.name for one in seen.typical}) == 12 and seen.typical != seen.strangest


def test_results_without_confidence_have_no_strangest_images() -> None:
    seen = read_seen(
        snapshot_of(["1.jpg"]), folder_of('{"instance": "gs://bucket/2021-10/1.jpg", "prediction": "cat"}\n')
    )
    assert (dict(seen.profile.predicted), seen.profile.rated, seen.strangest) == ({"cat": 1}, 0, ())
    assert seen.typical == (Predicted("1.jpg", "cat", None),)


def a_record(**changes: object) -> LookRecord:
    record = LookRecord(
        "2021-10", "digest", 1, "1-abc", Look(Outcome.LOOK, "why"), (), (), "run", "2021-10-01T00:00:00"
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def test_last_look_at_a_batch_is_that_of_its_last_record(tmp_path: Path) -> None:
    batches = BatchStore(str(tmp_path))
    assert last_look(batches, Batch(2021, 10)) is None
    record_look(batches, a_record())
    record_look(batches, a_record(snapshot="more", look=Look(Outcome.CALM, "why", 300, 0.9)))
    record_look(batches, a_record(batch="2021-11"))
    assert last_look(batches, Batch(2021, 10)) == a_record(snapshot="more", look=Look(Outcome.CALM, "why", 300, 0.9))


def test_repeated_look_makes_no_second_record(tmp_path: Path) -> None:
    batches = BatchStore(str(tmp_path))
    record_look(batches, a_record())
    record_look(batches, a_record(run="repeated"))
    assert last_look(batches, "2021-10") == a_record()
    record_look(batches, a_record(champion="2-def"))
    assert len(storage.files(f"{tmp_path}/{FOLDER}/2021-10")) == 2
