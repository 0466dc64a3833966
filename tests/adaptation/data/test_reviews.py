"""Reviewed labels: where they are kept, what they override, and which tables are refused."""

from __future__ import annotations

import pytest

from adaptation.data.batches import Batch, BatchStore, snapshot_folder
from adaptation.data.label_tables import InvalidLabels
from adaptation.data.labels import Labels, UnknownLabel
from adaptation.data.reviews import Review, Reviews, read_review, with_reviews
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import SpanStore
from adaptation.data.splits import Split
from adaptation.evaluation.accuracy import evaluate
from adaptation.io import storage
from tests.worlds.images import collect, contents, image
from tests.worlds.processes import at_once
from tests.worlds.spans import LABELS, NAMES, images_of

OCTOBER, NOVEMBER = Batch(2021, 10), Batch(2021, 11)


@pytest.fixture
def collection(root: str) -> BatchStore:
    """Four images in October, one in November."""
    store = BatchStore(storage.join(root, "collection"))
    collect(store.folder(OCTOBER), ["cat_1.png", "cat_2.png", "sub/ship_3.png", "unknown.png"])
    collect(store.folder(NOVEMBER), ["cat_1.png"])
    return store


def the(collection: BatchStore, name: str, batch: Batch = OCTOBER) -> storage.File:
    """Return the image of that name."""
    return next(image for image in collection.images(batch) if image.name == name)


def reviewed(collection: BatchStore, **labels: str) -> int:
    """Review images of October; a name is given without its ending. Return the number of new reviews."""
    return Reviews(collection).add(OCTOBER, {the(collection, f"{name}.png"): label for name, label in labels.items()})


def table(collection: BatchStore, text: str, name: str = "labels.csv") -> Review:
    uri = f"{collection.root}-{name}"
    storage.write(uri, text.encode())
    return read_review(uri, collection, NAMES)


def truth(collection: BatchStore, batch: Batch = OCTOBER, labels: Labels = LABELS) -> Labels:
    return with_reviews(labels, collection.snapshot(batch))


def test_review_overrides_prefix_folder_and_label_file(collection: BatchStore) -> None:
    reviewed(collection, cat_1="ship")
    file = storage.join(collection.root, "labels.csv")
    storage.write(file, b"path,label\ncat_1.png,cat\ncat_2.png,cat\n")
    assert truth(collection).of("cat_1.png") == "ship"
    assert truth(collection, labels=Labels(NAMES, "folder")).of("cat_1.png") == "ship"
    by_table = truth(collection, labels=Labels(NAMES, "file", file))
    assert [by_table.of(name) for name in ("cat_1.png", "cat_2.png")] == ["ship", "cat"]


def test_images_without_a_review_keep_their_labels(collection: BatchStore) -> None:
    reviewed(collection, cat_1="ship")
    assert [truth(collection).of(name) for name in ("cat_2.png", "sub/ship_3.png")] == ["cat", "ship"]


def test_image_without_a_label_gets_one_by_review(collection: BatchStore) -> None:
    with pytest.raises(UnknownLabel):
        truth(collection).of("unknown.png")
    reviewed(collection, unknown="cat")
    assert truth(collection).of("unknown.png") == "cat"


def test_review_applies_to_one_batch_only(collection: BatchStore) -> None:
    reviewed(collection, cat_1="ship")
    assert truth(collection, NOVEMBER).of("cat_1.png") == "cat"


def test_changed_image_under_a_reviewed_name_has_no_review(collection: BatchStore) -> None:
    reviewed(collection, cat_1="ship")
    storage.write(storage.join(collection.folder(OCTOBER), "cat_1.png"), image("another", size=(5, 5)))
    assert truth(collection).of("cat_1.png") == "cat"


def test_review_survives_archiving_and_requeueing(collection: BatchStore) -> None:
    reviewed(collection, cat_1="ship")
    collection.archive(collection.snapshot(OCTOBER))
    collection.requeue(OCTOBER)
    assert truth(collection).of("cat_1.png") == "ship"


def test_images_from_elsewhere_have_no_reviews(collection: BatchStore, root: str) -> None:
    collect(f"{root}/elsewhere", ["cat_1.png"])
    assert with_reviews(LABELS, snapshot_folder(f"{root}/elsewhere", "bootstrap")) is LABELS


def test_last_review_of_an_image_counts_and_others_stay(collection: BatchStore) -> None:
    assert reviewed(collection, cat_1="ship", cat_2="ship") == 2
    assert reviewed(collection, cat_1="cat") == 1
    images = Reviews(collection).of(OCTOBER)
    assert {image.name: label for image, label in images.items()} == {"cat_1.png": "cat", "cat_2.png": "ship"}


def test_same_review_again_changes_nothing(collection: BatchStore) -> None:
    reviewed(collection, cat_1="ship")
    before = contents(collection.root)
    assert reviewed(collection, cat_1="ship") == 0
    assert contents(collection.root) == before


def test_concurrent_reviews_are_all_kept(disk: str) -> None:
    collection = BatchStore(disk)
    collect(collection.folder(OCTOBER), [f"cat_{number}.png" for number in range(8)])
    images = collection.images(OCTOBER)
    added = at_once(*(lambda one=one: Reviews(collection).add(OCTOBER, {one: "ship"}) for one in images))
    assert added == [1] * 8
    assert Reviews(collection).of(OCTOBER) == dict.fromkeys(images, "ship")


def test_reviews_are_not_listed_as_batch_or_images(collection: BatchStore) -> None:
    before = collection.batches(), collection.images(OCTOBER)
    reviewed(collection, cat_1="ship")
    assert (collection.batches(), collection.images(OCTOBER)) == before


def test_span_has_the_reviewed_labels(collection: BatchStore, root: str) -> None:
    collect(collection.folder(OCTOBER), [f"cat_{number}.png" for number in range(10, 30)])
    reviewed(collection, unknown="ship", cat_10="ship")
    store = SpanStore(storage.join(root, "data"))
    manifest = prepare(store, collection.snapshot(OCTOBER), truth(collection), Split(ratio=0.5))
    labels = {one.id: NAMES[one.label] for one in images_of(store, manifest)}
    assert (labels["unknown.png"], labels["cat_10.png"], labels["cat_11.png"]) == ("ship", "ship", "cat")
    assert manifest.skipped == ()


def test_evaluation_measures_with_the_reviewed_labels(collection: BatchStore, root: str) -> None:
    snapshot = collection.snapshot(OCTOBER)
    answer = '{"instance": "%s", "prediction": {"label": "ship", "confidence": 0.5}}\n'
    storage.write(f"{root}/results/prediction.results-0", "".join(answer % uri for uri in snapshot.uris).encode())
    before = evaluate(snapshot, f"{root}/results", truth(collection), max_skipped=1)
    reviewed(collection, cat_1="ship", unknown="ship")
    after = evaluate(snapshot, f"{root}/results", truth(collection), max_skipped=1)
    assert (before.images, before.correct) == (3, 1)
    assert (after.images, after.correct) == (4, 3)


def test_reviewed_labels_are_not_part_of_the_json() -> None:
    labels = Labels(NAMES, reviewed={"cat_1.png": "ship"})
    assert labels.of("cat_1.png") == "ship"
    assert Labels.from_json(labels.to_json()) == LABELS


def test_reviewed_label_that_was_removed_from_the_names_is_unknown() -> None:
    with pytest.raises(UnknownLabel, match="the label 'dog' of its review is not known"):
        Labels(NAMES, reviewed={"cat_1.png": "dog"}).of("cat_1.png")


TABLE = "path,label,predicted\n2021-10/cat_1.png,ship,cat\n2021-10/sub/ship_3.png,,ship\n2021-11/cat_1.png,cat,cat\n"
AS_A_SPREADSHEET_SAVES_IT = "\ufeff" + TABLE.replace("\n", "\r\n")
AS_JSON_LINES = (
    '{"path": "2021-10/cat_1.png", "label": "ship"}\n{"path": "2021-10/sub/ship_3.png", "label": ""}\n'
    '{"path": "2021-11/cat_1.png", "label": "cat"}\n'
)


@pytest.mark.parametrize(
    ("text", "name"), [(TABLE, "a.csv"), (AS_A_SPREADSHEET_SAVES_IT, "a.CSV"), (AS_JSON_LINES, "a.jsonl")]
)
def test_table_may_name_several_batches_and_leave_rows_open(collection: BatchStore, text: str, name: str) -> None:
    review = table(collection, text, name)
    assert review.labels == {
        OCTOBER: {the(collection, "cat_1.png"): "ship"},
        NOVEMBER: {the(collection, "cat_1.png", NOVEMBER): "cat"},
    }
    assert review.open == 1


def test_images_archived_since_the_export_can_be_reviewed(collection: BatchStore) -> None:
    images = collection.images(OCTOBER)
    collection.archive(collection.snapshot(OCTOBER))
    review = table(collection, "path,label\n2021-10/cat_1.png,ship\n")
    assert review.labels == {OCTOBER: {images[0]: "ship"}}


def test_table_with_faults_is_refused_with_the_line_of_each(collection: BatchStore) -> None:
    rows = [
        "path,label",
        "2021-10/cat_1.png,shpi",
        "2021-10/dog_1.png,cat",
        "cat_2.png,cat",
        "2021-10/cat_2.png,cat",
        "2021-10/cat_2.png,ship",
        "2021-13/cat_2.png,cat",
        "2021-10/unknown.png",
        ",cat",
        "2021-10/sub/ship_3.png,boat",
    ]
    with pytest.raises(InvalidLabels) as refused:
        table(collection, "\n".join(rows))
    assert str(refused.value).splitlines()[1:] == [
        "  line 2: 'shpi' is no label. Did you mean 'ship'?",
        f"  line 3: '2021-10/dog_1.png' is not in {collection.root}",
        "  line 4: 'cat_2.png' does not begin with a month, as 2021-10/ship_1.jpg does",
        "  line 6: '2021-10/cat_2.png' is on line 5 already",
        "  line 7: '2021-13/cat_2.png' does not begin with a month, as 2021-10/ship_1.jpg does",
        "  line 8: None is no label. Known: cat, ship.",
        "  line 9: '' does not begin with a month, as 2021-10/ship_1.jpg does",
        "  line 10: 'boat' is no label. Known: cat, ship.",
    ]


def test_table_with_very_many_faults_is_refused_with_the_first_50(collection: BatchStore) -> None:
    with pytest.raises(InvalidLabels, match=r"and 150 more$") as refused:
        table(collection, "path,label\n" + "2021-10/no.png,cat\n" * 200)
    assert str(refused.value).count("\n  line") == 50


def test_table_without_any_label_is_refused(collection: BatchStore) -> None:
    with pytest.raises(InvalidLabels, match="no row has a label yet"):
        table(collection, "path,label\n2021-10/cat_1.png,\n")


def test_table_with_other_columns_is_refused(collection: BatchStore) -> None:
    with pytest.raises(InvalidLabels, match=r"line 1: the columns are \['file', 'label'\]"):
        table(collection, "file;label\n2021-10/cat_1.png;ship\n")
