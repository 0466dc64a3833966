"""Vertex AI and object storage as emulators, and a deployment on them."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from adaptation.io import storage
from adaptation.platforms.base import ModelVersion, Platform, Upload
from adaptation.platforms.connect import connect
from adaptation.platforms.rollout import put_in_service
from adaptation.platforms.vertex.client import VertexClient
from adaptation.platforms.vertex.config import Container, Retries, VertexConfig
from adaptation.platforms.vertex.endpoint import VertexEndpoint
from adaptation.platforms.vertex.jobs import VertexJobs
from adaptation.platforms.vertex.registry import VertexRegistry
from emulators.storage.emulator import StorageEmulator
from emulators.vertex import VertexEmulator

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # read when gcsfs is first imported
import gcsfs  # noqa: E402

ROOT = "gs://bucket/ships"
QUICK = Retries(request_timeout=5, attempts=4, backoff=0.005, poll_interval=0.005, operation_timeout=5, job_timeout=5)


@contextmanager
def object_storage(monkeypatch: pytest.MonkeyPatch, bucket: str = "bucket") -> Iterator[StorageEmulator]:
    """Emulate gs:// with one bucket; gcsfs caches its file systems, so its cache is cleared before and after."""
    with StorageEmulator() as emulator:
        emulator.create_bucket(bucket)
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield emulator
        gcsfs.GCSFileSystem.clear_instance_cache()


def a_spec(pipeline: str = "evaluation", parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a compiled pipeline of two tasks; `parameters` are its runtime parameters with compiled values."""
    parameters = {"data_gcs_prefix": ""} if parameters is None else parameters
    tasks = {task: {"taskInfo": {"name": task}, "cachingOptions": {"enableCache": True}} for task in ("First", "Last")}
    return {
        "displayName": pipeline,
        "labels": {"tfx_version": "1-21-0"},
        "pipelineSpec": {
            "pipelineInfo": {"name": pipeline},
            "root": {
                "dag": {"tasks": tasks},
                "inputDefinitions": {"parameters": {name: {"parameterType": "STRING"} for name in parameters}},
            },
        },
        "runtimeConfig": {"gcsOutputDirectory": f"{ROOT}/out", "parameterValues": dict(parameters)},
    }


def a_config(server: VertexEmulator, **changes: Any) -> VertexConfig:
    """Return the configuration of a deployment on the emulator, whose waits are short."""
    config = VertexConfig(
        name="ships",
        project="demo",
        location="us-central1",
        root=ROOT,
        specs={name: f"{ROOT}/specs/{name}.json" for name in ("evaluation", "training")},
        container=Container("us-docker.pkg.dev/demo/serving:1"),
        api_endpoint=server.url,
        credentials="anonymous",
        retries=QUICK,
    )
    return replace(config, **changes)


def publish(pipeline: str = "evaluation", spec: object = None) -> None:
    """Publish a spec at the URI that `a_config` names."""
    storage.write(f"{ROOT}/specs/{pipeline}.json", json.dumps(spec or a_spec(pipeline)).encode())


def an_upload(key: str = "run-1") -> Upload:
    """Write a model and return its upload."""
    model = f"{ROOT}/models/{key}"
    storage.write(f"{model}/saved_model.pb", key.encode())
    return Upload(model, key, (1, 2), {"span-1": 0.98}, f"{model}/source", key)


@dataclass(frozen=True)
class Vertex:
    """A deployment, with questions of the tests beyond the protocols."""

    server: VertexEmulator
    config: VertexConfig

    @property
    def platform(self) -> Platform:
        """Connect to the platform as a new process would."""
        return connect(self.config.to_json())

    @property
    def client(self) -> VertexClient:
        return VertexClient(self.config)

    @property
    def jobs(self) -> VertexJobs:
        return VertexJobs(self.client)

    @property
    def registry(self) -> VertexRegistry:
        return VertexRegistry(self.client)

    @property
    def endpoint(self) -> VertexEndpoint:
        return VertexEndpoint(self.client, self.registry)

    def with_versions(self, count: int) -> Vertex:
        """Upload so many further versions and return self."""
        first = len(self.registry.versions()) + 1
        for number in range(first, first + count):
            self.registry.upload(an_upload(f"run-{number}"))
        return self

    def serving_versions(self, count: int) -> Vertex:
        """Upload and deploy so many versions one after the other and return self."""
        self.with_versions(count)
        for number in range(1, count + 1):
            put_in_service(self.registry, self.endpoint, self.version(number), "because")
        return self

    def version(self, number: int) -> ModelVersion:
        return self.registry.find(str(number))

    def split(self) -> dict[int, int]:
        """Return the endpoint's traffic by version; a version deployed without traffic has 0."""
        endpoint = self.client.named("endpoints", "ships") or {}
        shares = endpoint.get("trafficSplit", {})
        return {int(item["modelVersionId"]): shares.get(item["id"], 0) for item in endpoint.get("deployedModels", [])}

    def deployed(self) -> int:
        """Return the endpoint's number of deployed models."""
        return len((self.client.named("endpoints", "ships") or {}).get("deployedModels", []))


def at_write(number: int, *, before: Callable[[], object] = int, after: Callable[[], object] = int) -> Any:
    """Return `VertexClient._sent` with an action at its write of that number; reads are not counted."""
    original, writes = VertexClient._sent, itertools.count(1)

    def sending(self: VertexClient, request: Any) -> Any:
        now = request.method != "GET" and next(writes) == number
        if now:
            before()
        answer = original(self, request)
        if now:
            after()
        return answer

    return sending
