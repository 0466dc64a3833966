"""Function: what starts an evaluation, what is ignored, and which callers are to retry."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from cloudevents.http import from_json

from adaptation.io import storage
from emulators.pubsub import PubSubEmulator
from tests.worlds.function import BATCH, COLLECTION, ENOUGH, FINALIZED, PUBLISHED, FunctionWorld, notification
from tests.worlds.processes import wait_until
from tests.worlds.vertex import ROOT, publish

JOB = f"evaluation-{BATCH}-0001"
IMAGE = f"ships/collected/{BATCH}/ship_1.jpg"
TOPIC = "projects/demo/topics/events"
ENVIRONMENT = ("COLLECTION_ROOT", "RECORDS_ROOT", "PLATFORM")


@pytest.fixture(params=["schedule", "push", "event", "message"])
def call(request: pytest.FixtureRequest) -> Any:
    """Return each of the ways in which the function is called."""
    return {
        "schedule": lambda world: world.post(),
        "push": lambda world: world.push(notification(IMAGE)),
        "event": lambda world: world.upload(IMAGE),
        "message": lambda world: world.send(PUBLISHED, {"message": notification(IMAGE), "subscription": "s"}),
    }[request.param]


@pytest.fixture
def status_of_an_error(request: pytest.FixtureRequest) -> int:
    """Return the status for an error that only a person can fix: the schedule shows it, events are not retried."""
    return 500 if "schedule" in request.node.callspec.id else 200


# What starts an evaluation


def test_repeated_calls_start_one_evaluation_of_a_full_batch(world: FunctionWorld, call: Any) -> None:
    assert [call(world).status_code for _ in range(3)] == [200] * 3
    assert world.jobs == [JOB]
    assert [line["outcome"] for line in world.logged] == ["start", "running", "running"]


def test_log_has_batch_outcome_job_and_link(world: FunctionWorld) -> None:
    answer = world.post()
    (line,) = world.logged
    assert line["severity"] == "INFO"
    assert line["message"] == "start: 3 or more new images (3 are enough)"
    assert (line["batch"], line["outcome"], line["job"]) == (BATCH, "start", JOB)
    assert line["link"].endswith(f"/runs/ships-{JOB}?project=demo")
    assert answer.text.strip() == line["message"]


@pytest.mark.parametrize(
    "header",
    [
        {"X-Cloud-Trace-Context": "105445aa7843bc8bf206b12000100000/1;o=1"},
        {"traceparent": "00-105445aa7843bc8bf206b12000100000-00f067aa0ba902b7-01"},
    ],
)
def test_log_has_the_trace_of_its_request(world: FunctionWorld, header: dict[str, str]) -> None:
    world.post(headers=header)
    world.upload("elsewhere.jpg")
    traces = [line.get("logging.googleapis.com/trace") for line in world.logged]
    assert traces == ["projects/demo/traces/105445aa7843bc8bf206b12000100000", None]


@pytest.mark.parametrize("body", [b"", b"tick", b"{}", b"[1]", b"null", b'{"message": 1}', b"\xff\xfe", b"[" * 100_000])
def test_schedule_may_send_any_body(world: FunctionWorld, body: bytes) -> None:
    assert world.post(body).status_code == 200
    assert world.jobs == [JOB]


@pytest.mark.parametrize(
    "message",
    [
        {"data": base64.b64encode(b"tick").decode(), "messageId": "1"},
        {"attributes": {"from": "the schedule"}},
        {"attributes": None},
        {},
    ],
)
def test_message_about_no_object_counts_as_a_tick_of_the_schedule(world: FunctionWorld, message: Any) -> None:
    world.push(message)
    world.send(PUBLISHED, {"message": message})
    assert world.jobs == [JOB]
    assert [line["outcome"] for line in world.logged] == ["start", "running"]


def test_too_few_images_start_nothing_and_are_no_failure(empty_world: FunctionWorld, call: Any) -> None:
    publish()
    empty_world.vertex.with_versions(1).registry.promote(empty_world.vertex.version(1), "because")
    empty_world.collect(ENOUGH - 1)
    assert call(empty_world).status_code == 200
    assert empty_world.logged[0]["message"] == "not enough: 2 new images, 1 more are needed"
    assert empty_world.jobs == []


def test_evaluation_that_was_given_up_is_logged_as_a_warning(world: FunctionWorld) -> None:
    world.vertex.server.hang_jobs(0)
    for _ in range(3):
        world.post()
        world.vertex.client.change("POST", f"{_name(world, world.jobs[-1])}:cancel", {})
    assert world.post().status_code == 200
    assert [line["severity"] for line in world.logged] == ["INFO", "INFO", "INFO", "WARNING"]
    assert world.logged[-1]["outcome"] == "give up"


def _name(world: FunctionWorld, job: str) -> str:
    return f"{world.vertex.config.parent}/pipelineJobs/ships-{job}"


# What is ignored

NO_IMAGES = [
    f"ships/collected/{BATCH}/notes.txt",
    f"ships/collected/{BATCH}/",
    f"ships/collected/{BATCH}",
    f"ships/collected/{BATCH}_old/ship_1.jpg",
    "ships/collected/2021-13/ship_1.jpg",
    "ships/collected/2021-1/ship_1.jpg",
    "ships/collected/ship_1.jpg",
    f"ships/collected/_evaluated/{BATCH}/ship_1.jpg",
    f"ships/triggers/{BATCH}/0001.json",
    f"{BATCH}/ship_1.jpg",
    f"ships/collected/{BATCH}/../{BATCH}/ship_1.jpg",
    f"ships/collected/../collected/{BATCH}/ship_1.jpg",
    f"ships/collected//{BATCH}/ship_1.jpg",
    f"ships/collected/{BATCH}//ship_1.jpg",
    f"/ships/collected/{BATCH}/ship_1.jpg",
    f"ships%2Fcollected%2F{BATCH}%2Fship_1.jpg",
    f"ships/collected/{BATCH}%2Fship_1.jpg",
    f"ships/collected/{BATCH}/ship\n1.jpg",
    f"ships/collected/{BATCH}/ship\x001.jpg",
    f"ships/collected/{BATCH}/ship\ud8001.jpg",
    f"ships/collected/{BATCH}/{'x' * 300_000}.jpg",
    f"ships/collected/{BATCH}/.ship_1.jpg",
    "",
]


@pytest.mark.parametrize("name", NO_IMAGES, ids=range(len(NO_IMAGES)))
def test_object_outside_the_batches_is_ignored_without_a_request(world: FunctionWorld, name: str) -> None:
    answers = [
        world.upload(name),
        world.push(notification(name)),
        world.send(PUBLISHED, {"message": notification(name)}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [line["severity"] for line in world.logged] == ["DEBUG"] * 3
    assert world.requests == []


@pytest.mark.parametrize("bucket", ["other", "", "bucket/ships", "bucket/"])
def test_image_of_another_bucket_is_ignored(world: FunctionWorld, bucket: str) -> None:
    name = f"collected/{BATCH}/ship_1.jpg" if "/" in bucket else IMAGE
    assert world.upload(name, bucket).status_code == world.push(notification(name, bucket)).status_code == 200
    assert [line["severity"] for line in world.logged] == ["DEBUG"] * 2
    assert world.requests == []


@pytest.mark.parametrize("kind", ["OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE", None])
def test_notification_of_another_event_than_creation_is_ignored(world: FunctionWorld, kind: Any) -> None:
    assert world.push(notification(IMAGE, kind=kind)).status_code == 200
    assert world.requests == []


# Malformed calls


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("google.cloud.storage.object.v1.deleted", {"bucket": "bucket", "name": IMAGE}),
        ("", {"bucket": "bucket", "name": IMAGE}),
        (FINALIZED, {}),
        (FINALIZED, {"bucket": "bucket"}),
        (FINALIZED, {"bucket": "bucket", "name": 7}),
        (FINALIZED, {"bucket": ["bucket"], "name": IMAGE}),
        (FINALIZED, [IMAGE]),
        (FINALIZED, "text"),
        (FINALIZED, None),
        (FINALIZED, b"{"),
        (FINALIZED, b"\xff"),
        (PUBLISHED, {}),
        (PUBLISHED, {"message": "tick"}),
        (PUBLISHED, {"message": {"attributes": ["objectId"]}}),
        (PUBLISHED, {"message": {"attributes": {"objectId": 7, "eventType": "OBJECT_FINALIZE"}}}),
        (PUBLISHED, ["x" * 1_000_000]),
    ],
)
def test_malformed_event_is_logged_and_not_redelivered(world: FunctionWorld, kind: str, data: object) -> None:
    assert world.send(kind, data).status_code == 200
    (line,) = world.logged
    assert line["severity"] == "WARNING"
    assert len(line["message"]) < 500
    assert world.requests == []


@pytest.mark.parametrize("message", [None, 7, "tick", [], {"attributes": "x"}, {"attributes": {"objectId": None}}])
def test_malformed_message_is_logged_and_not_redelivered(world: FunctionWorld, message: object) -> None:
    message = (
        {"attributes": {**message["attributes"], "eventType": "OBJECT_FINALIZE"}} if _has_object(message) else message
    )
    assert world.push(message).status_code == 200
    assert [line["severity"] for line in world.logged] == ["WARNING"]
    assert world.requests == []


def _has_object(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message["attributes"], dict)


@pytest.mark.parametrize("broken", [{"ce-specversion": "7"}, {"ce-source": None}, {"ce-type": None}])
def test_invalid_cloud_event_is_refused_before_the_function_runs(world: FunctionWorld, broken: Any) -> None:
    assert world.send(FINALIZED, {"bucket": "bucket", "name": IMAGE}, broken).status_code == 400
    assert world.requests == world.logged == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_other_methods_than_post_are_refused(world: FunctionWorld, method: str) -> None:
    assert world.post(method=method).status_code == 405
    assert world.requests == []


# Transient and permanent errors


@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_failure_returns_503_and_the_retry_succeeds(
    world: FunctionWorld, call: Any, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.vertex.server.fail_next("", times=50, status=status)
    assert call(world).status_code == 503
    assert world.logged[-1]["severity"] == "WARNING"
    world.vertex.server.recover()
    assert call(world).status_code == 200
    assert world.jobs == [JOB]


def test_storage_failure_returns_503_and_the_retry_succeeds(
    world: FunctionWorld, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcsfs.retry.asyncio.sleep", _no_time)
    world.storage.fail_next("", times=50, status=503)
    assert call(world).status_code == 503
    world.storage.recover()
    assert call(world).status_code == 200
    assert world.jobs == [JOB]


async def _no_time(seconds: float) -> None:
    pass


def test_missing_champion_is_logged_as_an_error(empty_world: FunctionWorld, call: Any, status_of_an_error: int) -> None:
    publish()
    empty_world.collect()
    assert call(empty_world).status_code == status_of_an_error
    assert empty_world.logged[-1]["severity"] == "ERROR"
    assert empty_world.jobs == []
    assert storage.files_below(f"{ROOT}/triggers") == []


@pytest.mark.parametrize("spec", [None, b"no JSON", b"[]", b"{}"])
def test_missing_spec_is_an_error_and_the_job_resumes_once_published(
    world: FunctionWorld, call: Any, status_of_an_error: int, spec: bytes | None
) -> None:
    uri = f"{ROOT}/specs/evaluation.json"
    storage.remove(uri) if spec is None else storage.write(uri, spec)
    assert call(world).status_code == status_of_an_error
    assert world.logged[-1]["severity"] == "ERROR"
    assert "evaluation.json" in world.logged[-1]["message"]
    assert world.jobs == []
    publish()
    assert call(world).status_code == 200
    assert world.logged[-1]["outcome"] == "resume"
    assert world.jobs == [JOB]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("service", ["storage", "vertex"])
def test_missing_permission_is_an_error_and_the_job_runs_once_granted(
    world: FunctionWorld, call: Any, status_of_an_error: int, service: str, status: int
) -> None:
    server = world.storage if service == "storage" else world.vertex.server
    server.fail_next("", times=50, status=status)
    assert call(world).status_code == status_of_an_error
    assert world.logged[-1]["severity"] == "ERROR"
    assert re.search("roles? of the account|credentials", world.logged[-1]["message"])
    server.recover()
    assert call(world).status_code == 200
    assert world.jobs == [JOB]


def test_missing_bucket_is_logged_as_an_error(world: FunctionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTION_ROOT", "gs://missing/collected")
    assert world.post().status_code == 500
    assert "there is no bucket 'missing'" in world.logged[-1]["message"]
    assert world.upload(f"collected/{BATCH}/ship_1.jpg", "missing").status_code == 200
    assert world.logged[-1]["severity"] == "ERROR"


# The environment


def test_invalid_environment_is_reported_with_all_variables_at_once(
    world: FunctionWorld, call: Any, status_of_an_error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MIN_IMAGES", "many")
    assert call(world).status_code == status_of_an_error
    (line,) = world.logged
    assert line["severity"] == "ERROR"
    assert all(name in line["message"] for name in (*ENVIRONMENT, "MIN_IMAGES"))
    assert world.requests == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COLLECTION_ROOT", ""),
        ("COLLECTION_ROOT", "/collected"),
        ("COLLECTION_ROOT", "gs://"),
        ("COLLECTION_ROOT", "gs:///collected"),
        ("RECORDS_ROOT", "s3://bucket/triggers"),
        ("MIN_IMAGES", ""),
        ("MIN_IMAGES", "0"),
        ("MIN_IMAGES", "-1"),
        ("MIN_IMAGES", "1.5"),
        ("MIN_IMAGES", "٣"),
        pytest.param("MIN_IMAGES", "9" * 5_000, id="MIN_IMAGES-endless"),
        ("PLATFORM", ""),
        ("PLATFORM", "{}"),
        ("PLATFORM", "[]"),
        ("PLATFORM", '{"platform": "vertex"}'),
        ("PLATFORM", '{"platform": "moon"}'),
        ("PLATFORM", json.dumps({"platform": "local", "root": "/data", "command": ["run"]})),
    ],
)
def test_invalid_variable_is_named_alone(
    world: FunctionWorld, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert world.post().status_code == 500
    assert name in world.logged[-1]["message"]
    assert len(world.logged[-1]["message"]) <= 4096
    assert not any(other in world.logged[-1]["message"] for other in {*ENVIRONMENT, "MIN_IMAGES"} - {name})
    assert world.requests == []


def test_default_for_min_images_is_100(world: FunctionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIN_IMAGES")
    world.post()
    assert world.logged[-1]["message"] == "not enough: 3 new images, 97 more are needed"


def test_collection_may_be_a_whole_bucket(world: FunctionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTION_ROOT", "gs://bucket/")
    storage.in_parallel(lambda number: storage.write(f"gs://bucket/{BATCH}/{number}.jpg", b"image"), range(ENOUGH))
    assert world.upload(f"{BATCH}/1.jpg").status_code == 200
    assert world.jobs == [JOB]
    assert storage.exists(f"{COLLECTION}/{BATCH}/ship_0.jpg")


@pytest.mark.parametrize("size", [2**20 + 1, 2**24])
def test_body_over_a_mebibyte_is_refused_unread(world: FunctionWorld, size: int) -> None:
    assert world.post(b"x" * size).status_code == 413
    assert world.send(PUBLISHED, b"x" * size).status_code == 413
    assert world.jobs == []
    assert [line["severity"] for line in world.logged] == ["WARNING"] * 2
    assert world.post(b"x" * 2**20).status_code == 200


# Events


def test_delivery_publishes_what_has_happened(world: FunctionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with PubSubEmulator(TOPIC) as emulator:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.environment()["PUBSUB_EMULATOR_HOST"])
        monkeypatch.setenv("NOTIFY", json.dumps({"source": "ships", "pubsub": TOPIC}))
        assert [world.post().status_code for _ in range(2)] == [200, 200]
    events = [from_json(message.data) for message in emulator.messages[TOPIC]]
    assert [event["type"] for event in events] == ["continuous-adaptation.challenger.deployed"]


def test_failed_job_is_published_by_the_next_delivery(world: FunctionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with PubSubEmulator(TOPIC) as emulator:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.environment()["PUBSUB_EMULATOR_HOST"])
        monkeypatch.setenv("NOTIFY", json.dumps({"source": "ships", "pubsub": TOPIC}))
        world.post()
        world.vertex.server.recover()
        world.vertex.client.change("POST", f"{world.vertex.config.parent}/pipelineJobs/ships-{JOB}:cancel")
        wait_until(lambda: world.vertex.jobs.get(JOB).state.ended)
        world.post()
    kinds = [from_json(message.data)["type"] for message in emulator.messages[TOPIC]]
    assert kinds[-1] == "continuous-adaptation.evaluation.failed"


def test_delivery_counts_although_nobody_takes_its_events(
    world: FunctionWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PubSubEmulator() as emulator:  # without the topic
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.environment()["PUBSUB_EMULATOR_HOST"])
        monkeypatch.setenv("NOTIFY", json.dumps({"source": "ships", "pubsub": TOPIC}))
        assert world.post().status_code == 200
    warning, result = world.logged
    assert (warning["severity"], result["outcome"]) == ("WARNING", "start")
    assert "1 events are not delivered to projects/demo/topics/events: HTTP 404" in warning["message"]


def test_unusable_receivers_are_named(world: FunctionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY", '{"webhooks": 3}')
    assert world.post().status_code == 500
    assert "NOTIFY" in world.logged[-1]["message"]
