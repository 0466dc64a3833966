"""A workspace on Google Cloud, on the emulators, with the golden settings and specs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from adaptation.data.spans import SpanStore
from adaptation.io import storage
from adaptation.platforms.base import Upload
from adaptation.platforms.rollout import put_in_service
from emulators.storage.emulator import StorageEmulator
from emulators.vertex import VertexEmulator
from pipeline.cli.main import cli
from pipeline.compiled.spec import Spec
from pipeline.workspace import vertex_settings
from pipeline.workspace.settings import Settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import collect
from tests.worlds.spans import published
from tests.worlds.vertex import QUICK, object_storage

GOLDEN = Path(__file__).parents[1] / "pipeline" / "golden"
ROOT = "gs://shop/adaptation"
LABELS = ("bag", "hat", "shoe")
MONTH = "2021-10"
PARENT = "projects/shop/locations/europe-west4"


@dataclass(frozen=True)
class Cloud:
    """A workspace in `folder`, with its Vertex AI and its object storage."""

    folder: Path
    vertex: VertexEmulator
    objects: StorageEmulator

    @property
    def settings(self) -> Settings:
        return self.workspace.settings

    @property
    def workspace(self) -> Workspace:
        """The workspace, opened again."""
        return Workspace.open(self.folder)

    def adapt(self, *arguments: str) -> Result:
        """Run a command in the workspace."""
        return CliRunner().invoke(cli, [*arguments, "--workspace", str(self.folder)])

    def publish_specs(self) -> None:
        """Publish the golden specs as the latest."""
        for name in vertex_settings.PIPELINES:
            storage.write(f"{ROOT}/specs/{name}/latest.json", golden(name).to_json())

    def publish_spans(self, count: int = 1) -> None:
        """Publish so many further spans."""
        for _ in range(count):
            published(SpanStore("gs://shop/data"), names=LABELS)

    def collect(self, count: int) -> None:
        """Put so many images into the batch."""
        collect(f"gs://shop/collection/{MONTH}", [f"bag_{number}.png" for number in range(count)])

    def register(self, count: int = 1) -> None:
        """Register so many versions; the last becomes the champion."""
        platform = self.workspace.platform
        for number in range(1, count + 1):
            model = f"{ROOT}/made/{number}"
            storage.write(f"{model}/saved_model.pb", str(number).encode())
            upload = Upload(model, f"key-{number}", (1, number), {"span-1": 0.9 + number / 100}, model, "run")
            put_in_service(platform.registry, platform.endpoint, platform.registry.upload(upload), "made for a test")

    def jobs(self) -> list[dict[str, Any]]:
        """Return Vertex AI's jobs, oldest first."""
        answer = requests.get(f"{self.vertex.url}/v1/{PARENT}/pipelineJobs", timeout=60)
        return list(answer.json().get("pipelineJobs", []))

    @property
    def submitted(self) -> int:
        """Return the number of requests for a job."""
        return self.vertex.count(f"POST /v1/{PARENT}/pipelineJobs")


@contextmanager
def a_cloud(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Make a workspace without spec, span, image or model, whose waits are short."""
    folder.mkdir()
    shutil.copy(GOLDEN / "adapt.toml", folder)
    for name, value in asdict(QUICK).items():
        monkeypatch.setenv(f"ADAPT_VERTEX__RETRIES__{name.upper()}", str(value))
    with object_storage(monkeypatch) as objects, VertexEmulator("shop", "europe-west4", job_polls=4) as vertex:
        objects.create_bucket("shop")
        monkeypatch.setenv("ADAPT_VERTEX__API_ENDPOINT", vertex.url)
        monkeypatch.setenv("ADAPT_VERTEX__CREDENTIALS", "anonymous")
        yield Cloud(folder, vertex, objects)


def golden(name: str = "evaluation", **changes: Any) -> Spec:
    """Return a golden spec, with some of the job's fields changed."""
    spec = Spec.from_json((GOLDEN / f"{name}.json").read_bytes())
    return replace(spec, job={**spec.job, **changes})


def a_file(folder: Path, spec: Spec) -> str:
    """Write the spec as a compiled file and return its path."""
    file = folder / "compiled.json"
    file.write_bytes(spec.to_json())
    return str(file)


def done(result: Result) -> str:
    """Check that a command succeeded and return its output."""
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, code: int = 1) -> str:
    """Check that a command failed with a message for a person, and return the message."""
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert "Traceback" not in result.stderr
    assert "This is unexpected" not in result.stderr
    return result.stderr
