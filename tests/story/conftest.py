"""The network guard of the whole story, and its emulated cloud."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.rehearsal.cloud.emulated import Cloud
from tests.story.guard import sitecustomize as guard

PROJECT, LOCATION = "story", "europe-west4"


@pytest.fixture(scope="package")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that gets a line for each attempt to leave the loopback interface; this process is guarded as well."""
    record = tmp_path_factory.mktemp("network") / "attempts.txt"
    record.touch()
    guard.watch()
    os.environ[guard.VARIABLE] = str(record)
    yield record
    del os.environ[guard.VARIABLE]


@pytest.fixture(scope="package")
def guarded(attempts: Path) -> dict[str, str]:
    """The environment that guards another Python process."""
    return {"PYTHONPATH": str(Path(guard.__file__).parent), guard.VARIABLE: str(attempts)}


@pytest.fixture(scope="package")
def emulated(tmp_path_factory: pytest.TempPathFactory, guarded: dict[str, str]) -> Iterator[Cloud]:
    """The cloud; this process is a client of it."""
    folder = tmp_path_factory.mktemp("cloud")
    buckets = ["story-data", "story-collection", "story-pipelines"]
    with Cloud(folder, PROJECT, LOCATION, buckets, environment=guarded) as cloud, cloud.as_client():
        yield cloud
