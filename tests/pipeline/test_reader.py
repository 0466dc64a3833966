"""A reader: a workspace on a read-only mount can be looked at.

The mount is real, so not even root can write through it; where nothing can be mounted, the tests are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from tests.pipeline.test_damaged_state import whole  # noqa: F401 - a fixture

READS = (
    "plan",
    "batches list",
    "spans list",
    "spans show span-1",
    "spans verify",
    "models list",
    "report -o {folder}/report.html",
    "report --json",
    "review export -o {folder}/review",
    "doctor",
)


@pytest.fixture(scope="module")
def mounted(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:  # noqa: F811
    place = tmp_path_factory.mktemp("mounted")
    shutil.copytree(whole, place / "copy")
    (place / "workspace").mkdir()
    binding = ["mount", "--bind", str(place / "copy"), str(place / "workspace")]
    if subprocess.run(binding, capture_output=True).returncode:
        pytest.skip("nothing can be mounted")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place / "workspace")], check=True)
        yield place / "workspace"
    finally:
        subprocess.run(["umount", str(place / "workspace")], check=True)


@pytest.mark.parametrize("command", READS)
def test_reader_can_look_at_everything(mounted: Path, tmp_path: Path, command: str) -> None:
    words = command.format(folder=tmp_path).split()
    result = CliRunner().invoke(cli, [*words, "-w", str(mounted)], prog_name="adapt")
    assert result.exit_code == 0, result.output
    assert "Read-only" not in result.output and "Permission" not in result.output


def test_reader_that_would_write_is_refused_with_a_remedy(mounted: Path) -> None:
    result = CliRunner().invoke(cli, ["evaluate", "-w", str(mounted)], prog_name="adapt")
    assert result.exit_code == 1
    assert "Read-only file system" in result.stderr and "name another place" in result.stderr


def test_doctor_says_what_a_reader_cannot_do(mounted: Path) -> None:
    result = CliRunner().invoke(cli, ["doctor", "-w", str(mounted)], prog_name="adapt")
    assert f"warning  permissions: this user can only read {mounted}" in result.output
