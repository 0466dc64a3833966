"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import wheel


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel that is uploaded and return its path."""
    return wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(built_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel outside the clone and return the command `adapt`."""
    return wheel.install(built_wheel, tmp_path_factory.mktemp("user") / "environment")
