"""Results of batch prediction: each format that is read, what is refused, and the writer."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptation.errors import AdaptationError
from adaptation.evaluation import prediction_results
from adaptation.evaluation.prediction_results import InvalidPredictions, ResultsWriter, read_predictions
from adaptation.io import storage

_NUMBERS = itertools.count(1)
MOMENT = datetime(2021, 10, 15, 5, 0, 7, 123_456, tzinfo=UTC)
NAME = "prediction-3-2021_10_15T05_00_07_123Z"
SHIP = {"label": "ship", "confidence": 0.5}
COMMON = '{"instance": "gs://b/1.jpg", "prediction": {"label": "ship", "confidence": 0.5}}\n'
Row = tuple[str | None, str | None, float | None, str | None]


def folder_of(files: Mapping[str, str | bytes]) -> str:
    """Write a folder of results and return its URI."""
    folder = f"memory://results-{next(_NUMBERS)}"
    for name, content in files.items():
        storage.write(f"{folder}/{name}", content if isinstance(content, bytes) else content.encode())
    return folder


def results(content: str | bytes) -> str:
    return folder_of({"prediction.results-00000-of-00001": content})


def line(image: object, prediction: object) -> str:
    return json.dumps({"instance": image, "prediction": prediction}) + "\n"


def rows(folder: str) -> list[Row]:
    return [row for frame in read_predictions(folder) for row in frame.rows()]


def value_of(**fields: Any) -> str:
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (COMMON, ("gs://b/1.jpg", "ship", 0.5, None)),
        ('{"prediction":{"confidence":0.63,"label":"ship"},"instance":"a.jpg"}', ("a.jpg", "ship", 0.63, None)),
        (value_of(instance="é😀.jpg", prediction=SHIP), ("é😀.jpg", "ship", 0.5, None)),
        ('{"instance": "é.jpg", "prediction": {"label": "ship", "confidence": 1}}', ("é.jpg", "ship", 1.0, None)),
        (value_of(instance="a", prediction=SHIP, z=[1]), ("a", "ship", 0.5, None)),
        (value_of(instance="a", prediction={**SHIP, "scores": [0.5, 0.5]}), ("a", "ship", 0.5, None)),
        (value_of(instance="a", prediction={"label": 7, "confidence": 0.5}), ("a", "7", 0.5, None)),
        (value_of(instance="a", prediction={"label": "ship"}), ("a", "ship", None, None)),
        (value_of(instance="a", prediction="ship"), ("a", "ship", None, None)),
        (value_of(instance="a", prediction=7), ("a", "7", None, None)),
        (value_of(instance="[a]", prediction={"label": "{s}", "confidence": 0.5}), ("[a]", "{s}", 0.5, None)),
        (value_of(instance={"uri": "a"}, prediction=SHIP), ("a", "ship", 0.5, None)),
        (value_of(instance={"image_bytes": {"b64": "/9j/"}, "path": "a"}, prediction=SHIP), ("a", "ship", 0.5, None)),
        (value_of(instance={"image_bytes": "x", "key": "a"}, prediction="ship"), ("a", "ship", None, None)),
        (value_of(instance={"key": "c", "path": "b", "uri": "a"}, prediction="ship"), ("a", "ship", None, None)),
        (value_of(instance={"uri": 3, "path": "b"}, prediction="ship"), ("b", "ship", None, None)),
        (value_of(key="a", prediction=SHIP), ("a", "ship", 0.5, None)),
        (value_of(instance="a", prediction=SHIP, error=None), ("a", "ship", 0.5, None)),
        (value_of(instance={"uri": "a"}, prediction=SHIP, error=None), ("a", "ship", 0.5, None)),
        (value_of(instance="a", error={"code": 3, "message": "bad"}), ("a", None, None, "bad (code 3)")),
        (value_of(instance="a", error={"status": "NOT_FOUND"}), ("a", None, None, "no message (code NOT_FOUND)")),
        (value_of(instance={"uri": "a"}, error="bad"), ("a", None, None, "bad")),
        (value_of(instance="a", prediction=SHIP, error="bad"), ("a", None, None, "bad")),
    ],
)
def test_each_line_format_is_read(content: str, row: Row) -> None:
    assert rows(results(content)) == [row]


def test_formats_may_be_mixed_and_blank_lines_are_skipped() -> None:
    content = COMMON + "\n  \r\n" + value_of(instance="a", prediction="car") + "\r\n" + COMMON
    assert [row[1] for row in rows(results(content))] == ["ship", "car", "ship"]


def test_columns_have_the_same_types_in_every_format() -> None:
    forms = [COMMON, value_of(instance="a", prediction="car"), value_of(instance="a", error="bad")]
    schemas = {tuple(frame.schema.items()) for form in forms for frame in read_predictions(results(form))}
    text = pl.String()
    assert schemas == {(("image", text), ("label", text), ("confidence", pl.Float64()), ("error", text))}


@pytest.mark.parametrize(
    "names",
    [
        ["prediction.results-00000-of-00002", "prediction.results-00001-of-00002"],
        ["prediction.results-00007", "prediction.results-3"],
        ["prediction.results", "prediction.results.jsonl"],
    ],
)
def test_files_of_any_number_and_ending_are_read(names: list[str]) -> None:
    files = {name: line(name, SHIP) for name in names}
    folder = folder_of({**files, "notes.txt": "x", ".tmp-1-prediction.results-0": "x", "other.results-0": "x"})
    assert {row[0] for row in rows(folder)} == set(names)


def test_errors_are_read_from_the_errors_files_too() -> None:
    error = value_of(instance="a", error={"code": 3, "message": "bad"})
    files = {"prediction.results-00000-of-00001": COMMON, "prediction.errors_stats-00000-of-00001": error}
    assert rows(folder_of(files))[0] == ("a", None, None, "bad (code 3)")


def test_error_without_an_image_is_kept_as_text() -> None:
    counted = "('Post request fails. Cannot get predictions. Error: ...', 2)"
    files = {"prediction.results-0": COMMON, "prediction.errors_stats-0": f"{counted}\n" + value_of(error="x")}
    assert [row[3] for row in rows(folder_of(files)) if row[0] is None] == [counted, '{"error": "x"}']


def test_empty_files_have_no_predictions() -> None:
    assert rows(folder_of({"prediction.results-0": "", "prediction.errors_stats-0": "\n"})) == []


def test_local_folders_are_read_like_remote_ones(tmp_path: Path) -> None:
    (tmp_path / "prediction.results-0").write_text(COMMON)
    assert rows(str(tmp_path)) == rows(results(COMMON))


@pytest.mark.parametrize("files", [{}, {"prediction.errors_stats-00000-of-00001": ""}, {"results-0": COMMON}])
def test_folder_without_results_is_refused(files: Mapping[str, str | bytes]) -> None:
    folder = folder_of(files)
    with pytest.raises(InvalidPredictions, match=f"{folder} has no prediction.results") as caught:
        list(read_predictions(folder))
    assert isinstance(caught.value, AdaptationError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("nonsense", "it is not JSON"),
        (COMMON[:40], "it is not JSON"),
        (COMMON.strip() + COMMON, "it is not JSON"),
        (b'{"instance": "\xff", "prediction": "ship"}', "it is not JSON"),
        ("[1, 2]", "it is no JSON object"),
        ("null", "it is no JSON object"),
        (value_of(prediction=SHIP), "it does not name its image"),
        (value_of(instance={"image_bytes": {"b64": "/9j/"}}, prediction=SHIP), "a field uri, path, key"),
        (value_of(instance=["a"], prediction=SHIP), "it does not name its image"),
        (value_of(instance=None, prediction=SHIP), "it does not name its image"),
        (value_of(instance="a"), "its prediction gives the label null"),
        (value_of(instance="a", prediction=None), "its prediction gives the label null"),
        (value_of(instance="a", prediction=[0.1, 0.9]), "its prediction gives the label [0.1, 0.9]. Serve the model"),
        (value_of(instance="a", prediction={"score": 1}), "its prediction gives the label null"),
        (value_of(instance="a", prediction={"label": ["ship"], "confidence": 1}), 'the label ["ship"]'),
        (value_of(instance="a", prediction={"label": {"b64": ""}, "confidence": 1}), 'the label {"b64": ""}'),
        (value_of(instance="a", prediction={"label": "ship", "confidence": "high"}), 'its confidence is "high"'),
        (value_of(instance="a", prediction={"label": "ship", "confidence": True}), "its confidence is true"),
        (value_of(instance="a", prediction={"label": "ship", "confidence": float("nan")}), "its confidence is NaN"),
        ('{"instance": "a", "prediction": {"label": "ship", "confidence": 1e999}}', "its confidence is Infinity"),
        (r'{"instance": {"uri": "\ud83d"}, "prediction": "ship"}', "surrogates not allowed"),
    ],
)
def test_bad_line_is_refused_with_its_place_and_beginning(bad: str | bytes, complaint: str) -> None:
    bad = bad if isinstance(bad, bytes) else bad.encode()
    folder = folder_of({"prediction.results-0": COMMON, "prediction.results-1": COMMON.encode() * 2 + b"\n" + bad})
    with pytest.raises(InvalidPredictions, match=re.escape(complaint)) as caught:
        list(read_predictions(folder))
    message = str(caught.value)
    assert f"{folder}/prediction.results-1, line 4: " in message
    assert bad[:20].decode(errors="replace") in message
    assert isinstance(caught.value, AdaptationError) and isinstance(caught.value, ValueError)


def test_long_line_is_shown_by_its_beginning() -> None:
    with pytest.raises(InvalidPredictions) as caught:
        list(read_predictions(results(value_of(instance={"image_bytes": "A" * 10_000}, prediction=SHIP))))
    assert len(str(caught.value)) < 500


def test_bad_line_is_found_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_results, "BLOCK", 100)
    with pytest.raises(InvalidPredictions, match="line 58: "):
        list(read_predictions(results(COMMON * 57 + "nonsense\n" + COMMON * 9)))


def test_large_file_is_read_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_results, "BLOCK", 10 * len(COMMON))
    assert max(len(frame) for frame in read_predictions(results(COMMON * 1000))) == 11


label_values = st.one_of(st.text(st.characters(codec="utf-8"), max_size=5), st.integers(0, 9))
confidences = st.one_of(st.floats(0, 1), st.integers(0, 1))
common_lines = st.tuples(st.text(st.characters(codec="utf-8"), max_size=12), label_values, confidences)


@settings(max_examples=60, deadline=None)
@given(st.lists(common_lines), st.booleans(), st.integers(1, 400), st.booleans())
def test_common_format_reads_the_same_with_the_fast_and_slow_reader(
    lines: list[tuple[str, str | int, float]], spaces: bool, block: int, ascii_only: bool
) -> None:
    separators = (", ", ": ") if spaces else (",", ":")
    values = [{"instance": i, "prediction": {"label": label, "confidence": c}} for i, label, c in lines]
    content = "".join(json.dumps(v, separators=separators, ensure_ascii=ascii_only) + "\n" for v in values)
    expected = [(i, str(label), float(c), None) for i, label, c in lines]
    odd_first = value_of(instance={"uri": "first"}, prediction=SHIP) + "\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_results, "BLOCK", block)
        assert rows(results(content)) == expected
    assert rows(results(odd_first + content))[1:] == expected


def test_common_format_is_read_by_polars_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_results, "_read_any_form", None)
    assert len(rows(results(COMMON * 10))) == 10


def test_writer_writes_the_layout_of_vertex_ai(tmp_path: Path) -> None:
    with ResultsWriter(str(tmp_path), "3", MOMENT, shard_lines=2) as writer:
        for number in range(3):
            writer.prediction(f"gs://b/{number}.jpg", "ship", 0.5)
        writer.error("gs://b/é.jpg", 3, "cannot be decoded")
    assert writer.folder == str(tmp_path / NAME)
    files = {file.name: file.read_text() for file in Path(writer.folder).iterdir()}
    assert files == {
        "prediction.results-00000-of-00002": "".join(line(f"gs://b/{number}.jpg", SHIP) for number in (0, 1)),
        "prediction.results-00001-of-00002": line("gs://b/2.jpg", SHIP),
        "prediction.errors_stats-00000-of-00001": '{"instance": "gs://b/\\u00e9.jpg", '
        '"error": {"code": 3, "message": "cannot be decoded"}}\n',
    }
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    with ResultsWriter(str(tmp_path), "3", MOMENT) as writer:
        writer.prediction("a", "ship", 0.1)
        writer.error("b", 5, "not there")
        writer.prediction("c", "car", float("nan"))
    nan = ("c", None, None, "the model's confidence is nan (code 3)")
    assert sorted(rows(writer.folder)) == [("a", "ship", 0.1, None), ("b", None, None, "not there (code 5)"), nan]


def test_results_of_no_image_are_empty_files(tmp_path: Path) -> None:
    with ResultsWriter(str(tmp_path), "3", MOMENT) as writer:
        pass
    names = ["prediction.errors_stats-00000-of-00001", "prediction.results-00000-of-00001"]
    assert [file.name for file in storage.files(writer.folder)] == names
    assert rows(writer.folder) == []


def test_full_last_shard_is_not_followed_by_an_empty_one(tmp_path: Path) -> None:
    with ResultsWriter(str(tmp_path), "3", MOMENT, shard_lines=2) as writer:
        for number in range(4):
            writer.prediction(str(number), "ship", 0.5)
    assert len(list(Path(writer.folder).glob("prediction.results-*"))) == 2


def test_time_in_the_folder_name_is_utc(tmp_path: Path) -> None:
    east = MOMENT.astimezone(timezone(timedelta(hours=9)))
    assert ResultsWriter(str(tmp_path), "3", east).folder == str(tmp_path / NAME)


def test_results_are_not_visible_before_they_are_complete(tmp_path: Path) -> None:
    with ResultsWriter(str(tmp_path / "out"), "3", MOMENT, shard_lines=1) as writer:
        writer.prediction("a", "ship", 0.5)
        writer.prediction("b", "ship", 0.5)
        assert not Path(writer.folder).exists()
        assert all(name.startswith(".") for name in storage.folders(str(tmp_path / "out")))


def test_failure_leaves_no_results(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"), ResultsWriter(str(tmp_path), "3", MOMENT) as writer:
        writer.prediction("a", "ship", 0.5)
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []


def test_killed_writer_leaves_no_results_folder(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from datetime import UTC, datetime\n"
        "from adaptation.evaluation.prediction_results import ResultsWriter\n"
        "with ResultsWriter(sys.argv[1], '3', datetime.now(UTC), shard_lines=1) as writer:\n"
        "    writer.prediction('a', 'ship', 0.5); writer.prediction('b', 'ship', 0.5)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    left = [file.name for file in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(".tmp-")


def test_existing_results_are_not_overwritten(tmp_path: Path) -> None:
    with ResultsWriter(str(tmp_path), "3", MOMENT) as writer:
        writer.prediction("a", "ship", 0.5)
    with pytest.raises(FileExistsError, match=NAME):
        ResultsWriter(str(tmp_path), "3", MOMENT)
    assert len(rows(writer.folder)) == 1


def test_writer_refuses_a_remote_folder() -> None:
    with pytest.raises(InvalidPredictions, match="memory://out is not on this machine"):
        ResultsWriter("memory://out", "3", MOMENT)
