"""`adapt watch` as a process: what it starts, what it says, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptation.platforms.base import JobState
from tests.worlds.processes import wait_until
from tests.worlds.workspace import World, a_held_world, start

JOB = "evaluation-2021-10-0001"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A champion and no image yet; jobs do not end before they are released."""
    with a_held_world(tmp_path) as world:
        yield world


@pytest.fixture
def watching(world: World) -> Iterator[list[subprocess.Popen[str]]]:
    """Two watches of one workspace."""
    watches = [watch(world), watch(world)]
    yield watches
    for process in watches:
        process.kill()
        process.communicate()


def watch(world: World, interval: str = "0.1") -> subprocess.Popen[str]:
    return start("watch", "--workspace", str(world.folder), "--interval", interval)


def next_line(process: subprocess.Popen[str]) -> str:
    """Return the next line of the output, which must come.

    Lines of a job that is seen before its process has begun are left out; they depend on the machine's speed.
    """
    assert process.stdout
    timer = threading.Timer(60, process.kill)
    timer.start()
    while ": resume: " in (line := process.stdout.readline()):
        pass
    timer.cancel()
    assert line, "nothing was printed"
    return line


def end(process: subprocess.Popen[str], signal_number: int = signal.SIGINT) -> tuple[int, str, str]:
    """Return its exit code and its remaining output."""
    process.send_signal(signal_number)
    output, progress = process.communicate(timeout=60)
    return process.returncode, output, progress


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_watch_ends_at_once_on_a_signal(world: World, signal_number: int) -> None:
    process = watch(world, interval="3600")
    assert "no batch" in next_line(process)
    code, output, progress = end(process, signal_number)
    assert (code, output) == (0, "")
    assert "stopped" in progress


def test_watch_prints_one_line_per_change(world: World) -> None:
    process = watch(world)
    assert "no batch" in next_line(process)
    world.collect(3)
    assert next_line(process).startswith("2021-10: not enough: 3 new images, 7 more are needed")
    world.collect(10, first=3)
    assert next_line(process).startswith("2021-10: start: ")
    assert next_line(process).startswith(f"2021-10: running: {JOB} is running")
    time.sleep(0.5)
    world.release()
    assert "nothing new" in next_line(process)
    assert end(process)[:2] == (0, "")


def test_job_continues_when_the_watch_ends_and_the_next_watch_finds_it(world: World) -> None:
    world.collect(10)
    process = watch(world)
    assert JOB in next_line(process)
    assert end(process)[0] == 0
    again = watch(world)
    assert next_line(again).startswith(f"2021-10: running: {JOB} is running")
    world.release()
    assert "nothing new" in next_line(again)
    assert end(again)[0] == 0
    assert world.job_ids == [JOB]


def test_next_watch_starts_a_recorded_job_that_was_never_started(world: World) -> None:
    world.collect(10)
    process = watch(world)
    next_line(process)
    process.kill()
    process.communicate()
    world.release()
    (world.folder / "jobs").rename(world.folder / "lost")
    again = watch(world)
    wait_until(lambda: [job.state for job in world.workspace.jobs.list()] == [JobState.SUCCEEDED])
    assert end(again)[0] == 0
    assert world.job_ids == [JOB]


def test_watches_that_run_at_once_start_one_job(world: World, watching: list[subprocess.Popen[str]]) -> None:
    for process in watching:
        assert "no batch" in next_line(process)
    world.collect(10, month="2021-11")
    for process in watching:
        while "not enough" in (line := next_line(process)):
            pass
        assert line.startswith(("2021-11: start: ", "2021-11: running: "))
    wait_until(lambda: (world.folder / "jobs" / "evaluation-2021-11-0001" / "progress.jsonl").exists())
    time.sleep(0.5)
    assert world.job_ids == ["evaluation-2021-11-0001"]
    assert [record.name for record in (world.folder / "triggers" / "2021-11").iterdir()] == ["0001.json"]


def test_watch_waits_for_a_champion(tmp_path: Path) -> None:
    world = World.make(tmp_path)
    world.collect(10)
    process = watch(world)
    assert "adapt train" in next_line(process)
    world.register()
    assert next_line(process).startswith("2021-10: start: ")
    assert end(process)[0] == 0
    world.release()


def test_watch_ends_at_once_without_settings(tmp_path: Path) -> None:
    process = watch(World(tmp_path))
    output, progress = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert progress.startswith("NoSettings: ") and str(tmp_path) in progress


@pytest.mark.parametrize("interval", ["0", "-1", "soon"])
def test_invalid_interval_is_wrong_usage(world: World, interval: str) -> None:
    process = watch(world, interval)
    _, progress = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--interval" in progress and interval in progress
