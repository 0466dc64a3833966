"""A candidate on new images: counted once, image by image, against the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from adaptation.data.batches import BatchStore
from adaptation.data.labels import Labels
from adaptation.evaluation.candidate import compare
from adaptation.evaluation.log import ComparisonLog, version_id
from adaptation.evaluation.paired import Pairs
from adaptation.evaluation.prediction_results import InvalidPredictions
from tests.worlds.results import LABELS, failed, folder_of, predicted, snapshot_of

FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
SNAPSHOT = snapshot_of(["car_1.jpg", "car_2.jpg", "car_3.jpg", "cat_1.jpg", "ship_1.jpg", "unknown_1.jpg"])
CHAMPION = ("car", "car", "cat", "cat", "cat", "cat")
CANDIDATE = ("car", "cat", "car", "cat", "ship", "cat")


def answers(*labels: str) -> str:
    """A folder in which the images of the snapshot have these labels; the empty one is an error."""
    lines = [
        predicted(name, label) if label else failed(name) for name, label in zip(SNAPSHOT.names, labels, strict=True)
    ]
    return folder_of("".join(lines))


def test_compare_counts_who_was_right_by_class() -> None:
    found = compare(SNAPSHOT, answers(*CHAMPION), answers(*CANDIDATE), LABELS, frozenset())
    assert found.pairs == {"car": Pairs(1, 1, 1, 0), "cat": Pairs(1, 0, 0, 0), "ship": Pairs(0, 0, 1, 0)}
    assert [image.name for image in found.images] == list(SNAPSHOT.names[:5])


def test_compare_knows_a_label_in_every_form_of_unicode() -> None:
    snapshot = snapshot_of(["bär_1.jpg", "ox_1.jpg"])
    nfc, nfd = (
        predicted(snapshot.names[0], normalize(form, "bär")) + predicted(snapshot.names[1], "ox") for form in FORMS
    )
    for one, other in ((nfc, nfd), (nfd, nfc)):
        labels = Labels((normalize("NFC", "bär"), "ox"))
        found = compare(snapshot, folder_of(one), folder_of(other), labels, frozenset())
        assert found.pairs == {"bär": Pairs(1, 0, 0, 0), "ox": Pairs(1, 0, 0, 0)}


def test_compare_leaves_out_what_was_counted_or_has_no_answer() -> None:
    candidate = answers("", *CANDIDATE[1:])
    found = compare(SNAPSHOT, answers(*CHAMPION), candidate, LABELS, frozenset(SNAPSHOT.images[1:3]))
    assert found.pairs == {"cat": Pairs(1, 0, 0, 0), "ship": Pairs(0, 0, 1, 0)}


def test_compare_refuses_results_of_other_images() -> None:
    part = folder_of(predicted("car_1.jpg", "car"))
    with pytest.raises(InvalidPredictions, match="no prediction for 5 of 6"):
        compare(SNAPSHOT, answers(*CHAMPION), part, LABELS, frozenset())


def test_comparison_log_counts_an_image_once_and_keeps_the_looks_apart(tmp_path: Path) -> None:
    log = ComparisonLog(BatchStore(str(tmp_path)), version_id(1, "a"), version_id(2, "b"))
    first, second = snapshot_of(SNAPSHOT.names[:3]), SNAPSHOT
    for snapshot in (first, first, second, second):
        counted = log.counted_before(snapshot)
        new = [image for image in snapshot.images if image not in counted]
        log.add(snapshot, {"car": Pairs(challenger_only=len(new))}, new, "evaluation-1")
    assert log.looks() == [{"car": Pairs(challenger_only=3)}, {"car": Pairs(challenger_only=3)}]
    other = ComparisonLog(BatchStore(str(tmp_path)), version_id(1, "a"), version_id(3, "c"))
    assert other.looks() == []
