"""Tables of labels: what people and labelling tools write, and which image a row names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptation.data.label_tables import InvalidLabels, LabelRow, labels_of_images, read_rows
from adaptation.io import storage

CSV = "path,label\nany.jpg,ship\nsub/any.jpg,car\n"
SAVED_BY_A_SPREADSHEET = '\ufeffpath,by,label\r\nany.jpg,"Doe, J.",ship\r\nsub/any.jpg,,car\r\n'
SEMICOLONS = "\ufeffPfad;path;label\r\n1;any.jpg;ship\r\n;;\r\n2;sub/any.jpg;car\r\n\r\n;;;\r\n"
JSON_LINES = '{"path": "any.jpg", "label": "ship"}\n\n{"label": "car", "path": "sub/any.jpg", "by": 1}'
LABEL_STUDIO_CSV = (
    "annotation_id,annotator,choice,created_at,id,image,label,lead_time,updated_at\n"
    "7,1,ship,2021-10-01,1,/data/upload/3/0a1b2c3d-any.jpg,car,4.2,2021-10-01\n"
    "8,1,car,2021-10-01,2,/data/local-files/?d=sub%2Fany.jpg,ship,4.2,2021-10-01\n"
)
LABEL_STUDIO_JSON_MIN = [
    {"image": "/data/upload/3/0a1b2c3d-any.jpg", "id": 1, "choice": "ship", "annotation_id": 7},
    {"image": "/data/local-files/?d=sub/any.jpg", "id": 2, "choice": "car", "annotation_id": 8},
]


def task(image: str, *choices: str, **more: Any) -> dict[str, Any]:
    """Return a task as Label Studio exports it, with an annotation for each choice."""
    results = [
        {"type": "choices", "from_name": "choice", "to_name": "image", "value": {"choices": [one]}} for one in choices
    ]
    annotations = [{"id": 9, "was_cancelled": False, "result": [one]} for one in results]
    return {"id": 1, "data": {"image": image, **more}, "annotations": annotations, "predictions": []}


def table(folder: Path, content: str | bytes | list[Any], name: str = "labels.csv") -> str:
    data = content if isinstance(content, str | bytes) else json.dumps(content, indent=2)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(folder / name)


def pairs(rows: list[LabelRow]) -> list[tuple[object, object]]:
    return [(row.path, row.label) for row in rows]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (CSV, "a.csv"),
        (SAVED_BY_A_SPREADSHEET, "A.CSV"),
        (SAVED_BY_A_SPREADSHEET[1:].encode("utf-16"), "utf-16.csv"),
        (SEMICOLONS, "a.csv"),
        (CSV.replace(",", "\t"), "a.tsv"),
        (CSV.replace("/", "\\"), "windows.csv"),
        (JSON_LINES, "a.jsonl"),
        (f"\ufeff{JSON_LINES}", "a.ndjson"),
        (LABEL_STUDIO_CSV, "a.csv"),
        (LABEL_STUDIO_JSON_MIN, "a.json"),
        ([task("/data/upload/any.jpg", "ship"), task("sub/any.jpg", "car", "car")], "a.json"),
        ([task("gs://b/x.jpg", "ship", path="any.jpg"), task("gs://b/y.jpg", "car", path="sub/any.jpg")], "a.json"),
    ],
)
def test_every_form_of_a_table_gives_the_same_rows(tmp_path: Path, content: str | bytes, name: str) -> None:
    assert pairs(read_rows(table(tmp_path, content, name))) == [("any.jpg", "ship"), ("sub/any.jpg", "car")]


def test_rows_have_the_lines_that_an_editor_shows(tmp_path: Path) -> None:
    assert [row.line for row in read_rows(table(tmp_path, SEMICOLONS))] == [2, 4]
    tasks = (
        '[\n {"path": "1.jpg", "label": "ship"},\n\n {"path": "2.jpg",\n "label": "car"}, {"path": "3", "label": ""}]'
    )
    assert [row.line for row in read_rows(table(tmp_path, tasks, "a.json"))] == [2, 4, 5]


@pytest.mark.parametrize(
    "annotations", [True, [{"result": True}], [{"result": [{"type": "choices", "value": {"choices": 3}}]}]], ids=str
)
def test_task_of_another_shape_is_refused_with_the_line(tmp_path: Path, annotations: object) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps([{"data": {"image": "ship_1.png"}, "annotations": annotations}]))
    with pytest.raises(InvalidLabels, match=r"line 1: \w+ is '(True|3)', and should be a list. Export it again"):
        read_rows(str(file))


def test_task_without_a_valid_annotation_has_an_empty_label(tmp_path: Path) -> None:
    cancelled = task("2.jpg", "ship")
    cancelled["annotations"][0]["was_cancelled"] = True
    rows = read_rows(table(tmp_path, [task("1.jpg"), cancelled, {"image": "3.jpg", "annotation_id": 1}], "a.json"))
    assert pairs(rows) == [("1.jpg", ""), ("2.jpg", ""), ("3.jpg", "")]


BOX = task("1.jpg", "ship")
BOX["annotations"][0]["result"].append({"type": "rectanglelabels", "value": {"rectanglelabels": ["car"]}})


@pytest.mark.parametrize(
    ("content", "name", "complaint"),
    [
        ("path,label\n1.jpg,ship\n2.jpg,car\n1.jpg,car\n", "a.csv", "a.csv, line 4: 1.jpg is 'car', and 'ship' before"),
        ("file,label\n1.jpg,ship\n", "a.csv", "a.csv, line 1: the columns are ['file', 'label']"),
        ("path,label,label\n1.jpg,ship,car\n", "a.csv", "a.csv, line 1: the column 'label' is there twice"),
        ("", "a.csv", "a.csv, line 1: the columns are None"),
        ("path,label\n1.jpg,ship\n2.jpg\n", "a.csv", "a.csv, line 3: path '2.jpg', label None"),
        ("path,label\n,ship\n", "a.csv", "a.csv, line 2: path ''"),
        ("path,label\nships, many.jpg,ship\n", "a.csv", "a.csv, line 2: ['ships', ' many.jpg', 'ship'] has more cells"),
        ('path,label\n1.jpg,ship\n2.jpg,"car\n', "a.csv", "a.csv, after line 3: unexpected end of data"),
        ('path;label\n1.jpg;"{""choices"": [""a"", ""b""]}"\n', "a.csv", "line 2: the image has several labels, a and"),
        ('{"path": "1.jpg", "label": "ship"}\nship\n', "a.jsonl", "a.jsonl, line 2: ship is not of the form"),
        ('{"path": "1.jpg"}\n', "a.jsonl", "a.jsonl, line 1:"),
        ('["1.jpg", "ship"]\n', "a.jsonl", "a.jsonl, line 1:"),
        ('{"path": "1.jpg", "label": 3}\n', "a.jsonl", "a.jsonl, line 1: path '1.jpg', label 3"),
        (b"path,label\n\xff.jpg,ship\n", "a.csv", "a.csv is not UTF-8"),
        ("[" * 100_000, "a.json", "a.json, "),
        ('[\n{"path": "1.jpg", "label": "ship"}', "a.json", "a.json, line 2: it is cut off"),
        ("[\n{]", "a.json", "a.json, line 2: it is not JSON"),
        ([task("1.jpg", "ship", "car")], "a.json", "a.json, line 2: the image has several labels, car and ship"),
        ([BOX], "a.json", "a.json, line 2: the task has an annotation of the type rectanglelabels"),
        ([{"data": {"a": "1.jpg", "b": "2.jpg"}}], "a.json", "a.json, line 2: path None"),
    ],
)
def test_doubtful_table_is_refused_with_the_line(
    tmp_path: Path, content: str | bytes | list[Any], name: str, complaint: str
) -> None:
    with pytest.raises(InvalidLabels, match=re.escape(complaint)):
        labels_of_images(table(tmp_path, content, name), "/2021-10", ["1.jpg"])


@pytest.mark.parametrize(
    "path",
    [
        "gs://b/collection/2021-10/sub/1.jpg",
        "sub/1.jpg",
        "./sub/1.jpg",
        "2021-10/sub/1.jpg",
        "/mnt/photos/2021-10/sub/1.jpg",
        "C:\\photos\\2021-10\\sub\\1.jpg",
        "\\\\server\\photos\\2021-10\\sub\\1.jpg",
        "sub\\1.jpg",
        "https://labels.example/photos/2021-10/sub/1.jpg?token=1",
        "/data/local-files/?d=photos/2021-10/sub/1.jpg",
        "/data/upload/12/0a1b2c3d-1.jpg",
        "1.jpg",
    ],
)
def test_row_may_name_its_image_in_each_certain_way(tmp_path: Path, path: str) -> None:
    file = table(tmp_path, f"path,label\n{path},ship\n")
    assert labels_of_images(file, "gs://b/collection/2021-10", ["2.jpg", "sub/1.jpg"]) == {"sub/1.jpg": "ship"}


@pytest.mark.parametrize(
    "path",
    [
        "gs://b/collection/2021-09/1.jpg",
        "2021-09/1.jpg",
        "sub/1.jpg",
        "/mnt/photos/1.jpg",
        "C:\\photos\\2021-09\\1.jpg",
        "/mnt/2021-10_old/1.jpg",
        "gs://b/xcollection/x2021-10/1.jpg",
        "1.jpgs",
        "/1.jpg",
    ],
)
def test_path_into_another_folder_labels_no_image(tmp_path: Path, path: str) -> None:
    file = table(tmp_path, f"path,label\n{path},ship\n")
    assert labels_of_images(file, "gs://b/collection/2021-10", ["1.jpg"]) == {}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("gs://b/2021-10/1.jpg", "/old/2021-10/1.jpg"),
        ("gs://b/2021-10/1.jpg", "1.jpg"),
        ("1.jpg", "/old/2021-10/1.jpg"),
    ],
)
def test_more_exact_path_goes_first(tmp_path: Path, better: str, worse: str) -> None:
    file = table(tmp_path, f"path,label\n{worse},car\n{better},ship\n{worse},car\n")
    assert labels_of_images(file, "gs://b/2021-10", ["1.jpg"]) == {"1.jpg": "ship"}


@pytest.mark.parametrize(
    ("rows", "names", "complaint"),
    [
        ("1.jpg,ship", ["a/1.jpg", "b/1.jpg"], "line 2: 1.jpg may be a/1.jpg or b/1.jpg"),
        ("1.jpg,ship\n2021-09/1.jpg,car", ["a/1.jpg"], "line 2: 1.jpg may be a/1.jpg or that of another row"),
        (
            "/a/2021-10/1.jpg,ship\n/b/2021-10/1.jpg,car",
            ["1.jpg"],
            "1.jpg has several labels (line 2: /a/2021-10/1.jpg",
        ),
    ],
)
def test_rows_that_may_mean_several_images_are_listed(
    tmp_path: Path, rows: str, names: list[str], complaint: str
) -> None:
    with pytest.raises(InvalidLabels, match=re.escape(complaint)):
        labels_of_images(table(tmp_path, f"path,label\n{rows}\n"), "gs://b/2021-10", names)


def test_paths_are_compared_in_nfc(tmp_path: Path) -> None:
    file = table(tmp_path, f"path,label\n{normalize('NFC', 'bär.jpg')},ship\n")
    name = normalize("NFD", "bär.jpg")
    assert labels_of_images(file, "/2021-10", [name]) == {name: "ship"}


@given(st.binary(max_size=60) | st.text('[]{}",:;\\/\n pathlbechoiсdata0', max_size=60).map(str.encode), st.booleans())
def test_any_file_gives_rows_or_an_error_for_people(data: bytes, is_csv: bool) -> None:
    file = f"memory://tables/any.{'csv' if is_csv else 'json'}"
    storage.write(file, data)
    try:
        labels_of_images(file, "/2021-10", ["1.jpg"])
    except InvalidLabels as error:
        assert "any." in str(error)
