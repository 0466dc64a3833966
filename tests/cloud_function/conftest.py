"""The function's world: object storage and Vertex AI as emulators, a month of images, and calls of the function."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import functions_framework
import pytest
from werkzeug.test import Client, TestResponse

from adaptation.io import storage
from emulators.storage.emulator import StorageEmulator
from emulators.vertex import VertexEmulator
from tests.cloud_function import serving
from tests.worlds.vertex import ROOT, Vertex, a_config, object_storage, publish

MAIN = Path(__file__).parents[2] / "cloud_function" / "main.py"
COLLECTION, RECORDS = f"{ROOT}/collected", f"{ROOT}/triggers"
MONTH = "2021-10"
ENOUGH = 3


@dataclass
class World:
    """What the function runs on, and the lines that it has logged."""

    storage: StorageEmulator
    vertex: Vertex
    capture: pytest.CaptureFixture[str]
    logged: list[dict[str, Any]] = field(default_factory=list)

    def collect(self, count: int = ENOUGH, month: str = MONTH) -> None:
        for number in range(count):
            storage.write(f"{COLLECTION}/{month}/ship_{number}.jpg", b"image")

    def forget_requests(self) -> None:
        self.storage.requests.clear()
        self.vertex.server.requests.clear()

    @property
    def requests(self) -> list[str]:
        return [*self.storage.requests, *self.vertex.server.requests]

    @property
    def jobs(self) -> list[str]:
        return [job.id for job in self.vertex.jobs.list()]

    def post(self, body: object = b"", headers: Mapping[str, str] | None = None, method: str = "POST") -> TestResponse:
        """Sends the schedule's request, or another."""
        return self._answered("on_request", body, headers or {}, method)

    def push(self, message: object) -> TestResponse:
        """Sends a message as Pub/Sub pushes it."""
        return self.post({"message": message, "subscription": "projects/demo/subscriptions/new-images"})

    def send(self, kind: str, data: object, headers: Mapping[str, str | None] | None = None) -> TestResponse:
        """Sends a CloudEvent as Eventarc does, but for these headers; None leaves one out."""
        sent = {**event_headers(kind), **(headers or {})}
        return self._answered("on_event", data, {name: text for name, text in sent.items() if text is not None}, "POST")

    def upload(self, name: str, bucket: str = "bucket") -> TestResponse:
        """Sends the news of an object."""
        return self.send(FINALIZED, {"bucket": bucket, "name": name, "size": "5"})

    def _answered(self, target: str, body: object, headers: Mapping[str, str], method: str) -> TestResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        app = functions_framework.create_app(target, str(MAIN))
        self.capture.readouterr()
        answer = Client(app).open("/", method=method, data=data, headers={"Content-Type": JSON, **headers})
        self.logged += [json.loads(line) for line in self.capture.readouterr().out.splitlines()]
        return answer


JSON = "application/json"
FINALIZED = "google.cloud.storage.object.v1.finalized"
PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"


def event_headers(kind: str) -> dict[str, str]:
    return {"ce-id": "1", "ce-specversion": "1.0", "ce-type": kind, "ce-source": "//storage.googleapis.com/x"}


def news(name: str, bucket: str = "bucket", kind: str = "OBJECT_FINALIZE") -> dict[str, Any]:
    """Cloud Storage's notification of an object as a message of Pub/Sub's."""
    data = base64.b64encode(json.dumps({"name": name, "bucket": bucket}).encode()).decode()
    attributes = {"eventType": kind, "bucketId": bucket, "objectId": name, "payloadFormat": "JSON_API_V1"}
    return {"data": data, "attributes": attributes, "messageId": "1", "publishTime": "2021-10-31T00:00:00Z"}


def environment(vertex: Vertex) -> dict[str, str]:
    """The function's environment variables."""
    return {
        "COLLECTION_ROOT": COLLECTION,
        "RECORDS_ROOT": RECORDS,
        "MIN_IMAGES": str(ENOUGH),
        "PLATFORM": vertex.config.to_json(),
    }


def serve_a_champion(vertex: Vertex) -> None:
    """Publishes the specification, and puts a version in service."""
    publish()
    vertex.with_versions(1).registry.promote(vertex.version(1), "because")


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Place]:
    """Two instances of the entry point that the module of the tests names as its TARGET."""
    with pytest.MonkeyPatch.context() as patch, object_storage(patch) as emulator, VertexEmulator() as server:
        server.hang_jobs(1_000)
        vertex = Vertex(server, a_config(server))
        serve_a_champion(vertex)
        variables, folder = {**emulator.environment(), **environment(vertex)}, tmp_path_factory.mktemp("logs")
        with contextlib.ExitStack() as stack:
            instances = [
                stack.enter_context(serving.serving(MAIN, request.module.TARGET, variables, folder / f"{number}.log"))
                for number in range(serving.INSTANCES)
            ]
            yield serving.Place(emulator, vertex, instances)


@pytest.fixture
def month(place: serving.Place) -> Iterator[str]:
    """A month of its own; no other is there."""
    yield next(serving.MONTHS)
    storage.remove_folder(COLLECTION)
    storage.remove_folder(RECORDS)


@pytest.fixture
def empty_world(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    """No image, no champion, no specification. Jobs run until they are told to end."""
    with object_storage(monkeypatch) as emulator, VertexEmulator() as server:
        server.hang_jobs(1_000)
        vertex = Vertex(server, a_config(server))
        for name, value in environment(vertex).items():
            monkeypatch.setenv(name, value)
        yield World(emulator, vertex, capsys)


@pytest.fixture
def world(empty_world: World) -> World:
    """A champion, its specification, and a month with enough images."""
    serve_a_champion(empty_world.vertex)
    empty_world.collect()
    empty_world.forget_requests()
    return empty_world
