"""Labels: prefix, folder and file as their source, and the limit on skipped images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adaptation.data.label_tables import InvalidLabels
from adaptation.data.labels import ClassFolder, Labels, Skipped, TooManySkipped, UnknownLabel, refuse_if_too_many
from adaptation.io import storage

NAMES = ("ship", "ship_wreck", "car", "c++", "traffic light")


def reviewed(folder: Path, content: str | bytes, name: str = "labels.csv") -> Labels:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Labels(NAMES, "file", str(file))


def skipped(count: int) -> list[Skipped]:
    return [Skipped(f"{number}.jpg", f"reason {number}") for number in range(count)]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("ship_1.jpg", "ship"),
        ("ship_1~2.jpg", "ship"),
        ("ship_wreck_1.jpg", "ship_wreck"),
        ("ship_wreckage.jpg", "ship"),
        ("c++_1.jpg", "c++"),
        ("traffic light_1.jpg", "traffic light"),
        ("car_1/ship_1.jpg", "ship"),
        ("ship_.png", "ship"),
    ],
)
def test_prefix_label_is_the_longest_before_an_underscore(name: str, label: str) -> None:
    assert Labels(NAMES).of(name) == label


@pytest.mark.parametrize(
    "name", ["ship.jpg", "shipyard_1.jpg", "Ship_1.jpg", "_ship_1.jpg", "ship_1/1.jpg", "cxx_1.jpg"]
)
def test_prefix_that_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(UnknownLabel, match="no label by its name's prefix"):
        Labels(NAMES).of(name)


def test_folder_label_is_the_name_of_the_folder() -> None:
    assert Labels(NAMES, "folder").of("ship/car_1.jpg") == "ship"


@pytest.mark.parametrize(("class_folder", "label"), [("first", "car"), ("last", "ship")])
def test_class_folder_says_which_of_several_folders_counts(class_folder: ClassFolder, label: str) -> None:
    labels = Labels(NAMES, "folder", class_folder=class_folder)
    assert [labels.of("car/2021/ship/1.jpg"), labels.of("car/1.jpg")] == [label, "car"]


def test_class_folder_is_asked_for_and_not_guessed() -> None:
    reason = r'lies in folders in folders, car/2021: set labels.class_folder to "first" \(car\) or "last" \(2021\)'
    with pytest.raises(UnknownLabel, match=reason):
        Labels(NAMES, "folder").of("car/2021/1.jpg")


def test_pattern_finds_the_label_anywhere_in_the_name() -> None:
    labels = Labels(NAMES, "pattern", pattern=r"_(?P<label>[a-z]+)\.")
    assert labels.of("day 1/IMG_0001_ship.jpg") == "ship"
    with pytest.raises(UnknownLabel, match="no label where labels.pattern"):
        labels.of("IMG_0001.jpg")
    with pytest.raises(UnknownLabel, match="the label 'boat' where labels.pattern"):
        labels.of("IMG_0001_boat.jpg")


@pytest.mark.parametrize("name", ["ship_1.jpg", "Ship/1.jpg"])
def test_folder_that_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(UnknownLabel, match="by its folder"):
        Labels(NAMES, "folder").of(name)


CSV = "path,label\nany.jpg,ship\nsub/any.jpg,car\n"


def test_label_in_a_file_that_is_none_of_the_names_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownLabel, match=r"'shpi' in .*labels.csv is not known \(known: ship, ship_wreck"):
        reviewed(tmp_path, "path,label\n1.jpg,shpi\n").of("1.jpg")


def test_image_of_a_month_has_no_label_of_another_month(tmp_path: Path) -> None:
    table = reviewed(tmp_path, "path,label\ngs://b/2021-09/1.jpg,ship\n")
    labels = table.in_batch("gs://b/2021-10", ["1.jpg"])
    with pytest.raises(UnknownLabel, match=r"line 2 names 'gs://b/2021-09/1.jpg', another image"):
        labels.of("1.jpg")
    assert table.in_batch("gs://b/2021-09", ["1.jpg"]).of("1.jpg") == "ship"


def test_images_of_one_name_in_two_months_have_their_own_labels(tmp_path: Path) -> None:
    table = reviewed(tmp_path, "path,label\ngs://b/2021-09/1.jpg,ship\ngs://b/2021-10/1.jpg,car\n")
    found = [table.in_batch(f"gs://b/{month}", ["1.jpg"]).of("1.jpg") for month in ("2021-09", "2021-10")]
    assert found == ["ship", "car"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("source", ["prefix", "folder", "file"])
def test_label_names_are_compared_in_nfc(tmp_path: Path, source: str, form: Literal["NFC", "NFD"]) -> None:
    (tmp_path / "labels.csv").write_text(f"path,label\nbär/bär_1.jpg,{normalize(form, 'bär')}\n")
    file = str(tmp_path / "labels.csv") if source == "file" else ""
    names = [normalize(other, "bär/bär_1.jpg") for other in ("NFC", "NFD")]
    for name in names:
        labels = Labels((normalize(form, "bär"), "ox"), source, file).in_batch("/2021-10", [name])  # type: ignore[arg-type]
        assert labels.of(name) == labels.names[0]
        assert labels.of_all(pl.Series([name])).to_list() == [labels.names[0]]


def test_label_file_is_read_once(tmp_path: Path) -> None:
    labels = reviewed(tmp_path, CSV)
    labels.of("any.jpg")
    (tmp_path / "labels.csv").unlink()
    assert labels.of("sub/any.jpg") == "car"


def test_label_file_may_be_remote() -> None:
    storage.write("memory://review/labels.csv", CSV.encode())
    assert Labels(NAMES, "file", "memory://review/labels.csv").of("any.jpg") == "ship"


def test_label_index_is_its_position_among_the_names() -> None:
    assert [Labels(NAMES).index(name) for name in NAMES] == [0, 1, 2, 3, 4]
    with pytest.raises(UnknownLabel, match="'boat' is no label"):
        Labels(NAMES).index("boat")


@pytest.mark.parametrize(
    "labels",
    [
        Labels(NAMES),
        Labels(NAMES, "folder", class_folder="first"),
        Labels(NAMES, "file", "gs://b/l.csv"),
        Labels(NAMES, "pattern", pattern="(?P<label>.)"),
    ],
)
def test_labels_are_unchanged_by_json(labels: Labels) -> None:
    assert Labels.from_json(labels.to_json()) == labels


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (((),), "at least one"),
        ((("ship", ""),), "at least one"),
        ((("ship", "a\nb"),), "at least one"),
        ((("ship", "car", "ship"),), "one twice"),
        ((("bär", normalize("NFD", "bär")),), "one twice"),
        ((NAMES, "guess"), "'guess' is no source"),
        ((NAMES, "file"), "Give a file"),
        ((NAMES, "prefix", "labels.csv"), "Give a file"),
        ((NAMES, "pattern"), "Give one for 'pattern' alone"),
        ((NAMES, "pattern", "", "", "["), "regular expression"),
        ((NAMES, "pattern", "", "", "x"), "a group named label"),
        ((NAMES, "folder", "", "middle"), "first or last"),
    ],
)
def test_labels_with_invalid_values_are_refused_at_once(values: tuple[object, ...], complaint: str) -> None:
    with pytest.raises(InvalidLabels, match=complaint):
        Labels(*values)  # type: ignore[arg-type]


image_names = st.text("shipwreckcar+_/ 1~.A", max_size=20) | st.builds(
    lambda folder, label, rest: folder + label + rest,
    st.sampled_from(["", "ship/", "a/car/", "/", "ship//"]),
    st.sampled_from([*NAMES, "Ship", ""]),
    st.text("_1/~.", max_size=6),
)


@given(
    st.lists(image_names),
    st.sampled_from(["prefix", "folder", "folder/first", "folder/last", "file", "pattern"]),
    st.dictionaries(image_names, st.sampled_from([*NAMES, "boat"])),
)
@example(["ship/1.jpg", "ship_1.jpg", "a/ship_1.jpg", "ship//1.jpg", "/ship/1.jpg"], "folder", {"/ship/1.jpg": "car"})
@example(["ship_1.jpg", "car_1.jpg", "x.jpg"], "prefix", {"ship_1.jpg": "car", "car_1.jpg": "boat", "x.jpg": "c++"})
def test_labels_of_many_images_equal_the_labels_of_each(
    names: list[str], source: str, reviewed: dict[str, str]
) -> None:
    storage.write("memory://many/labels.csv", b"path,label\nship/,car\ngs://b/ship_1,ship\ncar_,boat\n")
    file = "memory://many/labels.csv" if source == "file" else ""
    source, _, place = source.partition("/")
    pattern = "(?P<label>[a-z+]+)[_/]" if source == "pattern" else ""
    labels = Labels(NAMES, source, file, place, pattern, reviewed)  # type: ignore[arg-type]

    def label(name: str) -> str | None:
        try:
            return labels.of(name)
        except UnknownLabel:
            return None

    assert labels.of_all(pl.Series(names, dtype=pl.String)).to_list() == [label(name) for name in names]


def test_skipping_up_to_the_allowed_share_is_accepted() -> None:
    refuse_if_too_many(skipped(5), 100, 0.05)
    refuse_if_too_many([], 0, 0.0)
    refuse_if_too_many(skipped(4), 4, 1.0)


def test_skipping_more_is_refused_with_counts_and_examples() -> None:
    with pytest.raises(TooManySkipped) as caught:
        refuse_if_too_many(skipped(6), 100, 0.05)
    message = str(caught.value)
    assert "6 of 100 images were skipped, 6.0%; 5.0% may be" in message
    assert "0.jpg: reason 0" in message and "2.jpg: reason 2" in message and "3.jpg" not in message


def test_labels_are_imported_without_polars() -> None:
    code = "import sys, adaptation.data.labels; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
