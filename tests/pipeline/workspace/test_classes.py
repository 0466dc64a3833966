"""The classes that the names of images give, and the doubts that a person is asked about."""

from __future__ import annotations

import re

import pytest

from adaptation.data.batches import Snapshot
from adaptation.data.label_tables import InvalidLabels
from adaptation.data.labels import Labels
from adaptation.data.passed_over import PassedOver
from adaptation.io import storage
from pipeline.workspace.classes import Classes, describe_classes, find_classes


def snapshot(*names: str) -> Snapshot:
    return Snapshot("bootstrap", "/images", tuple(storage.File(name, 1) for name in names))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ship/1.png", "truck/1.png"], Classes(("ship", "truck"), "folder")),
        (["b\u00e4r/1.png", "ba\u0308r/2.png", "ox/1.png"], Classes(("b\u00e4r", "ox"), "folder")),
        (["ship/1.png", "truck/1.png", "truck/2.png", "overview_1.png"], Classes(("ship", "truck"), "folder")),
        (["ship_1.png", "truck_1.png"], Classes(("ship", "truck"), "prefix")),
        (["traffic_light_0001.png", "ship_0001_left_2.png"], Classes(("ship", "traffic_light"), "prefix")),
        (["ship_left.png", "ship_right.png", "truck_left.png"], Classes(("ship", "truck"), "prefix")),
        (["ship_1.png", "truck_1.png", "old/truck_2.png"], Classes(("ship", "truck"), "prefix")),
    ],
)
def test_classes_are_found_by_folder_or_by_prefix(names: list[str], expected: Classes) -> None:
    assert find_classes(snapshot(*names)) == expected


SEQUENCES = [f"{stage}_{number:03}.png" for stage in ("stage_1", "stage_2") for number in range(4)]
CAMERA = [f"{name}_00{number}_{'cat' if number % 2 else 'dog'}.png" for name in ("DSC", "IMG") for number in range(8)]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["cat/2021/1.png", "cat/front/2.png"], "is the class of cat/2021/1.png cat or 2021?"),
        (["cat/1.png", "dog/front/2.png"], "is the class of dog/front/2.png dog or front?"),
        (
            ["cat/2021/1.png", "dog/2021/2.png"],
            '"first" gives 2 classes: cat (1), dog (1); "last" gives 1 class: 2021 (2)',
        ),
        (CAMERA, "DSC_000_dog.png in /images is named by a camera: DSC, IMG is no class"),
        (CAMERA, 'the word after the last "_": 2 classes: cat (8), dog (8): --pattern \'_(?P<label>'),
        (SEQUENCES, "give one class, stage"),
        (SEQUENCES, 'all before the last "_": 2 classes: stage_1 (4), stage_2 (4)'),
    ],
)
def test_doubtful_names_are_asked_about(names: list[str], complaint: str) -> None:
    with pytest.raises(InvalidLabels, match=re.escape(complaint)):
        find_classes(snapshot(*names))


def test_class_folder_answers_the_question() -> None:
    images = snapshot("cat/2021/front/1.png", "dog/2021/back/2.png", "dog/3.png")
    assert find_classes(images, class_folder="first") == Classes(("cat", "dog"), "folder")
    assert find_classes(images, class_folder="last") == Classes(("back", "dog", "front"), "folder")


def test_pattern_goes_before_folders_and_prefixes() -> None:
    assert find_classes(snapshot(*CAMERA), r"_(?P<label>[a-z]+)\.") == Classes(("cat", "dog"), "pattern")
    assert find_classes(snapshot(*SEQUENCES), r"(?P<label>\w+)_") == Classes(("stage_1", "stage_2"), "pattern")
    with pytest.raises(InvalidLabels, match="a group named label"):
        find_classes(snapshot(*CAMERA), "[a-z]+")


def test_description_has_counts_examples_and_what_was_passed_over() -> None:
    images = Snapshot("b", "/i", snapshot("cat/1.png", "cat/2.png", "x.png").images, PassedOver({".webp": 3}))
    assert describe_classes(images, Labels(("cat", "dog"), "folder")) == [
        "  (no class): 1, as x.png",
        "  cat: 2, as cat/1.png",
        "passed over: 3 files that are no JPEG or PNG: 3 .webp",
    ]


def test_description_warns_of_names_with_several_readings() -> None:
    images = snapshot(*SEQUENCES, *(f"ship_{number}.png" for number in range(4)))
    *_, caution = describe_classes(images, Labels(("stage", "ship")))
    assert caution.startswith("Caution: the names can be read in another way. If it is meant")
    assert "3 classes: ship (4), stage_1 (4), stage_2 (4): --pattern" in caution
    plain = snapshot(*(f"{label}_{number}.png" for label in ("cat", "traffic_light") for number in range(9)))
    assert not any("Caution" in line for line in describe_classes(plain, Labels(("cat", "traffic_light"))))
