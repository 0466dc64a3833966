"""Labelling: a draw counts, a hand-picked part never does, and labels that come with the images all count."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from adaptation.data.batches import Batch, BatchStore
from adaptation.data.labelling import Labelling, labelling
from adaptation.data.labels import Labels, TooManySkipped
from adaptation.data.reviews import Reviews
from adaptation.data.span_preparation import begin, chunks, finish, write_chunk
from adaptation.data.spans import SpanStore
from adaptation.data.splits import Split
from adaptation.evaluation.accuracy import evaluate
from adaptation.evaluation.prediction_results import InvalidPredictions
from adaptation.evaluation.sampling import Sample, exact_interval
from adaptation.io import storage
from tests.worlds.images import collect
from tests.worlds.spans import LABELS, NAMES, images_of

OCTOBER = Batch(2021, 10)
BY_REVIEW = Labels(NAMES, "review")


def review_all(collection: BatchStore, names: Iterable[str]) -> None:
    images = {image.name: image for image in collection.images(OCTOBER)}
    Reviews(collection).add(OCTOBER, {images[name]: "cat" for name in names})


@pytest.fixture
def named(root: str) -> BatchStore:
    """Four images in October, one of no known label."""
    store = BatchStore(storage.join(root, "collection"))
    collect(store.folder(OCTOBER), ["cat_1.png", "cat_2.png", "sub/ship_3.png", "unknown.png"])
    return store


@pytest.fixture
def scans(root: str) -> BatchStore:
    """A hundred images in October, of no known label."""
    store = BatchStore(storage.join(root, "scans"))
    collect(store.folder(OCTOBER), [f"scan-{number:03}.png" for number in range(100)])
    return store


def found(collection: BatchStore, labels: Labels = BY_REVIEW, max_skipped: float = 0.05) -> Labelling:
    return labelling(labels, collection.snapshot(OCTOBER), max_skipped)


def drawn(collection: BatchStore, budget: int) -> list[str]:
    names = collection.snapshot(OCTOBER).names
    return Reviews(collection).draw(OCTOBER, names, budget).of(names)


def reviewed(collection: BatchStore, **labels: str) -> None:
    images = {image.name: image for image in collection.images(OCTOBER)}
    Reviews(collection).add(OCTOBER, {images[f"{name}.png"]: label for name, label in labels.items()})


def test_batch_without_labels_waits_for_a_review(scans: BatchStore) -> None:
    assert found(scans).waiting and found(scans).is_partial
    assert found(scans).counting(scans.snapshot(OCTOBER)) == 0


def test_labelled_draw_counts_and_nothing_else(scans: BatchStore) -> None:
    names = drawn(scans, 20)
    picked = next(name for name in scans.snapshot(OCTOBER).names if name not in names)
    review_all(scans, names)
    review_all(scans, [picked])
    labels = found(scans)
    assert labels.drawn == tuple(names) and not labels.waiting
    assert labels.labels.of(picked) == "cat" and labels.counting(scans.snapshot(OCTOBER)) == 20


@pytest.mark.parametrize("max_skipped", [0.05, 0.99])
def test_picked_images_are_no_sample_whatever_may_be_skipped(scans: BatchStore, max_skipped: float) -> None:
    review_all(scans, scans.snapshot(OCTOBER).names[:60])
    assert found(scans, max_skipped=max_skipped).waiting


def test_largest_labelled_draw_counts_until_a_larger_one_is_labelled(scans: BatchStore) -> None:
    smaller, larger = drawn(scans, 20), drawn(scans, 40)
    review_all(scans, smaller)
    assert found(scans).drawn == tuple(smaller)
    review_all(scans, larger)
    assert found(scans).drawn == tuple(larger)


def test_draw_counts_if_one_in_twenty_has_no_label(scans: BatchStore) -> None:
    names = drawn(scans, 40)
    review_all(scans, names[3:])
    assert found(scans).waiting
    review_all(scans, names[2:])
    assert found(scans).drawn == tuple(names)
    assert found(scans).counting(scans.snapshot(OCTOBER)) == 38
    assert found(scans, max_skipped=0.0).waiting


def test_draw_counts_for_a_part_of_the_batch_and_waits_for_a_larger_one(scans: BatchStore) -> None:
    names = drawn(scans, 40)
    review_all(scans, names)
    snapshot = scans.snapshot(OCTOBER)
    part = labelling(BY_REVIEW, snapshot.without(snapshot.images[::2]), 0.05)
    assert part.drawn == tuple(name for name in names if name in snapshot.names[1::2])
    collect(scans.folder(OCTOBER), [f"late-{number:03}.png" for number in range(100)])
    assert found(scans).waiting


def test_all_images_count_when_nearly_all_are_reviewed(scans: BatchStore) -> None:
    review_all(scans, scans.snapshot(OCTOBER).names[:95])
    assert found(scans).drawn is None and not found(scans).is_partial
    assert found(scans).counting(scans.snapshot(OCTOBER)) == 95


def test_images_with_labels_of_their_own_all_count(named: BatchStore) -> None:
    drawn(named, 2)
    reviewed(named, cat_1="ship")
    by_name = found(named, LABELS, max_skipped=0.25)
    assert by_name.drawn is None and by_name.labels.of("cat_1.png") == "ship"


def test_label_that_only_a_review_gave_does_not_count_among_labels_by_name(named: BatchStore) -> None:
    collect(named.folder(OCTOBER), ["odd_2.png", "odd_3.png"])
    reviewed(named, unknown="cat", cat_1="ship")
    labels = found(named, LABELS, max_skipped=0.9).labels
    assert not labels.knows("unknown.png") and labels.of("cat_1.png") == "ship"


def test_table_of_a_picked_part_is_refused_and_that_of_a_draw_counts(scans: BatchStore) -> None:
    file, names = f"{scans.root}/labels.csv", drawn(scans, 30)
    by_table = Labels(NAMES, "file", file)
    storage.write(file, "\n".join(["path,label", *(f"{name},cat" for name in names[::2])]).encode())
    with pytest.raises(TooManySkipped, match=r'15 of 100 images .* is no sample.*"adapt review export --batch 2021-10'):
        found(scans, by_table, max_skipped=0.9)
    storage.write(file, "\n".join(["path,label", *(f"{name},cat" for name in names)]).encode())
    assert found(scans, by_table).drawn == tuple(names)


def test_reviews_are_counted_by_import_and_by_draw(scans: BatchStore) -> None:
    assert found(scans).seen == 0
    drawn(scans, 5)
    review_all(scans, scans.snapshot(OCTOBER).names[:3])
    assert found(scans).seen == Reviews(scans).count(OCTOBER) == 2


def test_figures_of_a_draw_are_those_of_its_images_alone(scans: BatchStore, root: str) -> None:
    names, snapshot = drawn(scans, 20), scans.snapshot(OCTOBER)
    review_all(scans, snapshot.names[:50])
    review_all(scans, names)
    lines = [
        json.dumps({"instance": uri, "prediction": {"label": "cat" if name in names[:15] else "ship"}})
        for name, uri in zip(snapshot.names, snapshot.uris, strict=True)
    ]
    storage.write(f"{root}/results/prediction.results-0", "\n".join(lines).encode())
    labels = found(scans)
    evaluation = evaluate(snapshot, f"{root}/results", labels.labels, 0.05, drawn=labels.drawn)
    assert (evaluation.images, evaluation.correct, evaluation.skipped) == (20, 15, ())
    assert evaluation.sample == Sample(100, 20)
    assert evaluation.interval == exact_interval(15, 20, Sample(100, 20))
    assert sum(map(sum, evaluation.confusion)) == 20
    with pytest.raises(InvalidPredictions, match="no prediction for 1 of 100"):
        storage.write(f"{root}/results/prediction.results-0", "\n".join(lines[1:]).encode())
        evaluate(snapshot, f"{root}/results", labels.labels, 0.05, drawn=labels.drawn)


def test_picked_images_train_a_model_and_never_test_one(scans: BatchStore, root: str) -> None:
    names, snapshot, store = drawn(scans, 40), scans.snapshot(OCTOBER), SpanStore(f"{root}/data")
    picked = [name for name in snapshot.names if name not in names][:40]
    review_all(scans, names + picked)
    found_labels = found(scans)
    part = found_labels.part(snapshot)
    assert set(part.names) == {*names, *picked} and found_labels.picked(snapshot) == frozenset(picked)
    split = Split(ratio=0.5)
    preparation = begin(store, part, found_labels.labels, split, 0.0, "run", snapshot.key, frozenset(picked))
    chunk = chunks(preparation, 2**27)[0]
    manifest = finish(preparation, [write_chunk(preparation.work, chunk)[0]])
    tested = {one.id for one in images_of(store, manifest, "test")}
    assert tested and tested <= set(names)
    left_out = {one.name for one in manifest.skipped}
    assert left_out and left_out < set(picked)
    assert manifest.images == 80 - len(left_out)
