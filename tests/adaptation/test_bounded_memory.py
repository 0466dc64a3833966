"""Memory: a batch ten times larger needs no more of it, in a process whose memory the kernel limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = {"prepare": 30, "predict": 30, "evaluate": 30_000}
ONE_ARENA = {"MALLOC_ARENA_MAX": "1", "POLARS_MAX_THREADS": "2"}  # else each thread keeps what it has freed


def work(name: str, folder: Path, count: int) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.adaptation.bounded", name, str(folder), str(count)]
    return subprocess.run(command, env=os.environ | ONE_ARENA, capture_output=True, text=True, timeout=280)


@pytest.mark.parametrize("name", SMALL)
def test_ten_times_the_input_fits_into_the_same_memory(tmp_path: Path, name: str) -> None:
    for times in (1, 10):
        done = work(name, tmp_path / f"{times}", times * SMALL[name])
        assert done.returncode == 0, done.stderr[-3000:]


def test_two_million_images_are_cut_and_staged_within_a_gigabyte(tmp_path: Path) -> None:
    done = work("cut", tmp_path / "data", 2_000_000)
    assert done.returncode == 0, done.stderr[-3000:]


def test_memory_limit_is_below_the_size_of_the_large_input() -> None:
    """The input of each large run would not fit into the limit."""
    code = "from tests.adaptation.bounded import limit_memory; limit_memory(288); bytearray(400 * 2**20)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "MemoryError" in done.stderr
