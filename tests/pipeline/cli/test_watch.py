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
    """Two watches of the same workspace."""
    watches = [watch(world), watch(world)]
    yield watches
    for process in watches:
        process.kill()
        process.communicate()


def watch(world: World, interval: str = "0.1") -> subprocess.Popen[str]:
    return start("watch", "--workspace", str(world.folder), "--interval", interval)


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line of the output, which must come.

    Left out are those of a job that is looked at before its process has begun; that depends on the machine's speed.
    """
    assert process.stdout
    timer = threading.Timer(60, process.kill)
    timer.start()
    while ": resume: " in (line := process.stdout.readline()):
        pass
    timer.cancel()
    assert line, "nothing was said"
    return line


def end(process: subprocess.Popen[str], signal_number: int = signal.SIGINT) -> tuple[int, str, str]:
    """Its exit code and what else it said."""
    process.send_signal(signal_number)
    output, progress = process.communicate(timeout=60)
    return process.returncode, output, progress


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_in_order(world: World, signal_number: int) -> None:
    process = watch(world, interval="3600")
    assert "no batch" in next_line(process)
    code, output, progress = end(process, signal_number)
    assert (code, output) == (0, "")
    assert "stopped" in progress


def test_it_says_one_line_a_change(world: World) -> None:
    process = watch(world)
    assert "no batch" in next_line(process)
    world.collect(3)
    assert next_line(process).startswith("2021-10: not enough: 3 new images, 7 more are needed")
    world.collect(10, first=3)
    assert next_line(process).startswith("2021-10: start: ")
    assert next_line(process) == f"2021-10: running: {JOB} is running\n"
    time.sleep(0.5)
    world.release()
    assert "nothing new" in next_line(process)
    assert end(process)[:2] == (0, "")


def test_the_job_goes_on_when_the_watch_ends_and_the_next_watch_finds_it(world: World) -> None:
    world.collect(10)
    process = watch(world)
    assert JOB in next_line(process)
    assert end(process)[0] == 0
    again = watch(world)
    assert next_line(again) == f"2021-10: running: {JOB} is running\n"
    world.release()
    assert "nothing new" in next_line(again)
    assert end(again)[0] == 0
    assert world.job_ids == [JOB]


def test_killed_between_the_record_and_the_job_the_next_watch_starts_it(world: World) -> None:
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


def test_two_watches_at_once_start_one_job(world: World, watching: list[subprocess.Popen[str]]) -> None:
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


def test_without_a_champion_it_says_so_and_goes_on_waiting_for_one(tmp_path: Path) -> None:
    world = World.make(tmp_path)
    world.collect(10)
    process = watch(world)
    assert "adapt train" in next_line(process)
    world.register()
    assert next_line(process).startswith("2021-10: start: ")
    assert end(process)[0] == 0
    world.release()


def test_settings_that_cannot_be_used_end_it_at_once(tmp_path: Path) -> None:
    process = watch(World(tmp_path))
    output, progress = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert progress.startswith("NoSettings: ") and str(tmp_path) in progress


@pytest.mark.parametrize("interval", ["0", "-1", "soon"])
def test_an_interval_that_cannot_be_is_wrong_usage(world: World, interval: str) -> None:
    process = watch(world, interval)
    _, progress = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--interval" in progress and interval in progress
