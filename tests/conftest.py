"""What every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import wheel


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, as it is uploaded."""
    return wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(built_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `adapt` as a user has it who has no clone."""
    return wheel.install(built_wheel, tmp_path_factory.mktemp("user") / "environment")
