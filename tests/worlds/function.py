"""The function's world: what it runs on, how it is called, and how the runtime serves it in processes."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import functions_framework
import pytest
from werkzeug.test import Client, TestResponse

from adaptation.io import storage
from emulators.storage.emulator import StorageEmulator
from tests.worlds.processes import free_port
from tests.worlds.vertex import ROOT, Vertex, publish

MAIN = Path(__file__).parents[2] / "cloud_function" / "main.py"
COLLECTION, RECORDS = f"{ROOT}/collected", f"{ROOT}/triggers"
BATCH = "2021-10"
ENOUGH = 3


@dataclass
class FunctionWorld:
    """The emulators that the function runs on, and the lines that it has logged."""

    storage: StorageEmulator
    vertex: Vertex
    capture: pytest.CaptureFixture[str]
    logged: list[dict[str, Any]] = field(default_factory=list)

    def collect(self, count: int = ENOUGH, batch: str = BATCH) -> None:
        for number in range(count):
            storage.write(f"{COLLECTION}/{batch}/ship_{number}.jpg", b"image")

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
        """Send the schedule's request, or another."""
        return self._answered("on_request", body, headers or {}, method)

    def push(self, message: object) -> TestResponse:
        """Send a message as Pub/Sub pushes it."""
        return self.post({"message": message, "subscription": "projects/demo/subscriptions/new-images"})

    def send(self, kind: str, data: object, headers: Mapping[str, str | None] | None = None) -> TestResponse:
        """Send a CloudEvent as Eventarc does, with these headers changed; None leaves one out."""
        sent = {**event_headers(kind), **(headers or {})}
        return self._answered("on_event", data, {name: text for name, text in sent.items() if text is not None}, "POST")

    def upload(self, name: str, bucket: str = "bucket") -> TestResponse:
        """Send the event of a new object."""
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


def notification(name: str, bucket: str = "bucket", kind: str = "OBJECT_FINALIZE") -> dict[str, Any]:
    """Return Cloud Storage's notification of an object as a Pub/Sub message."""
    data = base64.b64encode(json.dumps({"name": name, "bucket": bucket}).encode()).decode()
    attributes = {"eventType": kind, "bucketId": bucket, "objectId": name, "payloadFormat": "JSON_API_V1"}
    return {"data": data, "attributes": attributes, "messageId": "1", "publishTime": "2021-10-31T00:00:00Z"}


def environment(vertex: Vertex) -> dict[str, str]:
    """Return the function's environment variables."""
    return {
        "COLLECTION_ROOT": COLLECTION,
        "RECORDS_ROOT": RECORDS,
        "MIN_IMAGES": str(ENOUGH),
        "PLATFORM": vertex.config.to_json(),
    }


def serve_a_champion(vertex: Vertex) -> None:
    """Publish the specs and deploy a version."""
    publish()
    vertex.with_versions(1).registry.promote(vertex.version(1), "because")


INSTANCES = 2
BATCHES = (f"20{number:02d}-10" for number in itertools.count(10))
_SECONDS_TO_START = 60
_SECONDS_TO_STOP = 20


@dataclass(frozen=True)
class Served:
    """A function that a process serves."""

    url: str
    out: Path

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged; each line must be JSON."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@dataclass(frozen=True)
class Place:
    """The emulators and the instances of one entry point."""

    storage: StorageEmulator
    vertex: Vertex
    instances: list[Served]

    def jobs(self, batch: str) -> list[str]:
        return [job.id for job in self.vertex.jobs.list() if job.parameters["batch"] == batch]

    def lines(self, batch: str) -> list[dict[str, Any]]:
        """Return what the instances have logged about a batch."""
        return [line for served in self.instances for line in served.lines() if line.get("batch") == batch]


@contextlib.contextmanager
def serving(main: Path, target: str, variables: dict[str, str], out: Path) -> Iterator[Served]:
    """Serve an entry point on a free port until the context ends."""
    port = free_port()
    command = [sys.executable, "-m", "functions_framework", "--target", target, "--source", str(main)]
    with out.open("wb") as stdout:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, **variables, "THREADS": "8", "WORKERS": "1"},
            stdout=stdout,
        )
    try:
        _wait_for(port, server)
        yield Served(f"http://127.0.0.1:{port}", out)
    finally:
        server.terminate()
        try:
            server.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"no function was served on {port} within {_SECONDS_TO_START} s; exit code {server.poll()}")


def collect(folder: str, count: int) -> None:
    uris = [f"{folder}/ship_{number:04}.jpg" for number in range(count)]
    storage.in_parallel(lambda uri: storage.write(uri, b"image"), uris)
