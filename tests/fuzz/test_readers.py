"""Every reader of bytes from outside, fed with damaged documents: a value or one of our errors, never anything else.

A document that is read is damaged in the ways that occur (cut off, bytes changed, a part replaced by another value,
nested too deeply), by hypothesis, which repeats and shrinks what fails. The examples are bounded to about a minute.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloudevents.http import CloudEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptation import codec
from adaptation.data.batches import BatchStore
from adaptation.data.image_check import image_problem
from adaptation.data.label_tables import labels_of_images
from adaptation.data.spans import Manifest
from adaptation.errors import AdaptationError
from adaptation.evaluation.prediction_results import read_predictions
from adaptation.retraining import TrainingRecord
from adaptation.trigger import TriggerRecord
from cloud_function import main as function
from pipeline.compiled.spec import Spec, check
from pipeline.workspace.settings_file import load, render
from tests.worlds.images import image

FUZZ = settings(
    max_examples=60,  # the same ones at each run; more, without derandomize, are a search for new faults
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
GOLDEN = Path(__file__).parents[1] / "pipeline" / "golden"
DEEP = 100_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def damaged(document: bytes) -> st.SearchStrategy[bytes]:
    """Return the document cut off, with other bytes in it, or nested deeply from some place on."""
    place = st.integers(0, len(document))
    return st.one_of(
        place.map(lambda at: document[:at]),
        st.builds(
            lambda at, new, size: document[:at] + new + document[at + size :], place, st.binary(max_size=8), place
        ),
        st.builds(
            lambda at, mark: document[:at] + mark * DEEP, place, st.sampled_from([b"[", b'{"a":', b'"', b"\xff"])
        ),
        st.binary(max_size=200),
    )


def replaced(value: Any) -> st.SearchStrategy[Any]:
    """Return the JSON value with one part of it, at any depth, replaced or left out."""
    places = list(_places(value))
    return st.builds(lambda place, new: _with(value, place, new), st.sampled_from(places), VALUES)


def damaged_json(value: Any) -> st.SearchStrategy[bytes]:
    return damaged(json.dumps(value).encode()) | replaced(value).map(lambda one: json.dumps(one).encode())


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in keys:
        yield from _places(part, (*place, key))


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[place[0]] = _with(value[place[0]], place[1:], new)
    return changed


def is_refused_or_read(read: Callable[[], object]) -> None:
    try:
        read()
    except AdaptationError as error:
        assert 0 < len(str(error)) < 20_000


# Images


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_image_has_a_reason_or_none(kind: str) -> None:
    @FUZZ
    @given(damaged(image(1, kind, (24, 24))))
    def fuzz(data: bytes) -> None:
        problem = image_problem(data)
        assert problem is None or (isinstance(problem, str) and problem)

    fuzz()


# Labels and predictions

ROWS = [{"path": "2021-10/ship_1.png", "label": "ship"}, {"path": "2021-10/truck_1.png", "label": "truck"}]
TASK = [
    {"data": {"image": "/data/upload/1-ship_1.png"}, "annotations": [{"result": [{"value": {"choices": ["ship"]}}]}]},
    {"image": "s3://bucket/truck_1.png", "choice": "truck"},
]
TABLES = {
    "csv": damaged(b"path,label\n2021-10/ship_1.png,ship\n2021-10/truck_1.png,truck\n"),
    "tsv": damaged('\ufeffpath;label\n"2021-10/ship_1.png";ship\n'.encode()),
    "jsonl": damaged(b"\n".join(json.dumps(row).encode() for row in ROWS)) | damaged_json(ROWS[0]),
    "json": damaged_json(TASK),
}


@pytest.mark.parametrize("ending", TABLES)
def test_damaged_table_of_labels_is_read_or_refused(ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"labels.{ending}")

        @FUZZ
        @given(TABLES[ending])
        def fuzz(data: bytes) -> None:
            file.write_bytes(data)
            is_refused_or_read(lambda: labels_of_images(str(file), folder, ["ship_1.png", "truck_1.png"]))

        fuzz()


LINES = [
    {"instance": "gs://b/ship_1.png", "prediction": {"label": "ship", "confidence": 0.9}},
    {"instance": {"uri": "gs://b/ship_2.png"}, "prediction": "ship"},
    {"instance": "gs://b/ship_3.png", "error": {"code": 3, "message": "no image"}},
]


@pytest.mark.parametrize("line", range(len(LINES)))
def test_damaged_predictions_are_read_or_refused(line: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "prediction.results-00000-of-00001")

        @FUZZ
        @given(damaged_json(LINES[line]))
        def fuzz(data: bytes) -> None:
            file.write_bytes(json.dumps(LINES[0]).encode() + b"\n" + data)
            is_refused_or_read(lambda: list(read_predictions(folder)))

        fuzz()


# The function's events

BATCHES = BatchStore("gs://bucket/collected")
OBJECT = {"bucket": "bucket", "name": "collected/2021-10/ship_1.jpg", "size": "5"}
MESSAGE = {
    "attributes": {"eventType": "OBJECT_FINALIZE", "bucketId": "bucket", "objectId": OBJECT["name"]},
    "data": "e30=",
}


@FUZZ
@given(damaged_json({"message": MESSAGE, "subscription": "projects/demo/subscriptions/s"}))
def test_damaged_envelope_is_understood_or_malformed(body: bytes) -> None:
    envelope = function._envelope(body)
    if envelope is not None:
        is_refused_or_read(lambda: function._is_relevant_message(envelope["message"], BATCHES))


@FUZZ
@given(st.sampled_from([function.FINALIZED, function.PUBLISHED, ""]), replaced(OBJECT) | replaced({"message": MESSAGE}))
def test_damaged_event_is_understood_or_malformed(kind: str, data: Any) -> None:
    event = CloudEvent({"type": kind or "another", "source": "//storage", "id": "1"}, data)
    is_refused_or_read(lambda: function._is_relevant_event(event, BATCHES))


# Specs, settings, state


@FUZZ
@given(damaged_json(json.loads((GOLDEN / "evaluation.json").read_bytes())))
def test_damaged_spec_is_read_or_refused(data: bytes) -> None:
    is_refused_or_read(lambda: check(Spec.from_json(data, "spec.json")))


@FUZZ
@given(damaged(render(["ship", "truck"]).encode()))
def test_damaged_settings_are_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "adapt.toml")
        file.write_bytes(data)
        is_refused_or_read(lambda: load(file))


MANIFEST = {
    "span": 1,
    "batch": "2021-10",
    "key": "2021-10:1",
    "counts": {"train": {"ship": 1}, "test": {"ship": 0}},
    "shards": [{"path": "train/shard-0-of-1-00000000.tfrecord", "size": 1, "crc32c": "00000000", "images": 1}],
    "skipped": [],
    "seed": 0,
    "ratio": 0.2,
    "labels": ["ship"],
    "run": "run",
    "created": "2021-10-31",
    "digest": "0",
}
TRIGGERED = {"job": "j", "attempt": 1, "images": 3, "digest": "d", "time": "t", "reason": "r"}
STATE: dict[str, tuple[Any, Callable[[bytes], object]]] = {
    "manifest": (MANIFEST, lambda data: Manifest.from_json(data, "manifest.json")),
    "trigger": (TRIGGERED, lambda data: codec.decode(data, TriggerRecord, "0001.json")),
    "training": (
        {"decision": None, "job": "j", "attempt": 1, "parameters": {}, "time": "t"},
        lambda data: codec.decode(data, TrainingRecord, "0001.json"),
    ),
}


@pytest.mark.parametrize("kind", STATE)
def test_damaged_state_is_read_or_refused(kind: str) -> None:
    value, read = STATE[kind]

    @FUZZ
    @given(damaged_json(value))
    def fuzz(data: bytes) -> None:
        is_refused_or_read(lambda: read(data))

    fuzz()
