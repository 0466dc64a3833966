"""The command `adapt rehearse`, on compiled files whose containers start at once."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adaptation.data.spans import SpanStore
from pipeline.cli.main import cli
from tests.pipeline.cli.test_main import read_all
from tests.worlds.cloud import refused
from tests.worlds.processes import is_alive, wait_until
from tests.worlds.rehearsal import a_spec, container, holding, task
from tests.worlds.spans import published
from tests.worlds.workspace import LABELS, World, plain, start

QUIET = container("leave()")
WINDOW = {name: {"componentInputParameter": name} for name in ("window", "digest")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "shop")


def compiled(
    world: World,
    tasks: Mapping[str, Mapping[str, Any]],
    pipeline: str = "evaluation",
    runtime: Mapping[str, Any] | None = None,
) -> str:
    """Compile these tasks and return the path of the file."""
    file = world.folder / f"{pipeline}.json"
    file.write_bytes(a_spec(world.folder, tasks, runtime, name=f"digits-{pipeline}").to_json())
    return str(file)


def adapt(world: World, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["rehearse", *arguments, "--workspace", str(world.folder)])


def test_task_changes_are_lines_and_the_logs_are_named(world: World) -> None:
    spec = compiled(world, {"First": task(QUIET), "Last": task(QUIET, takes=["First"])})
    done = adapt(world, "evaluation", "--spec", spec)
    assert done.exit_code == 0, done.output
    assert [line.split(" after")[0].strip() for line in done.stderr.splitlines()[1:]] == [
        "First: RUNNING",
        "First: SUCCEEDED",
        "Last: RUNNING",
        "Last: SUCCEEDED",
    ]
    logs = Path(done.stdout.split("the logs are in ")[1].strip())
    assert logs.parent == world.folder / "rehearsal" / "runs"
    assert {log.name for log in logs.glob("*.log")} == {"First_1.log", "Last_3.log"}


def test_failure_shows_the_end_of_the_log_and_the_command_to_repeat(world: World) -> None:
    mark = world.folder / "fixed"
    code = f"print('reading'); Path({str(mark)!r}).exists() or sys.exit('the disk is full')"
    spec = compiled(world, {"First": task(QUIET), "Last": task(container(code), takes=["First"])})
    complaint = refused_after_start(adapt(world, "evaluation", "--spec", spec))
    assert "RehearsalFailed: Last failed after" in complaint
    assert "  | reading\n  | the disk is full" in complaint
    command = shlex.split(complaint.split('fixed, "')[1].split('"')[0])
    assert command[-2:] == ["--task", "Last"]
    mark.touch()
    repeated = CliRunner().invoke(cli, command[1:])
    assert repeated.exit_code == 0, repeated.output
    assert "First" not in repeated.stderr


def test_parameters_reach_the_tasks(world: World) -> None:
    code = "sys.exit(parameters['month'] != '2021-10')"
    given = {"month": {"componentInputParameter": "month"}}
    spec = compiled(world, {"First": task(container(code), parameters=given)}, runtime={"month": ""})
    assert adapt(world, "evaluation", "--spec", spec, "--param", "month=2021-10").exit_code == 0
    assert adapt(world, "evaluation", "--spec", spec, "--param", "month=2021-11").exit_code == 1


def test_training_without_parameters_gets_those_of_the_window(world: World) -> None:
    published(SpanStore(str(world.folder / "data")), names=LABELS)
    code = "sys.exit(parameters['window'] != '1' or len(parameters['digest']) != 64)"
    tasks = {"First": task(container(code), parameters=WINDOW)}
    spec = compiled(world, tasks, "training", {"window": "all", "digest": ""})
    done = adapt(world, "training", "--spec", spec)
    assert done.exit_code == 0, done.output


def test_training_without_spans_is_refused(world: World) -> None:
    spec = compiled(world, {"First": task(QUIET)}, "training", {"window": "all", "digest": ""})
    assert "SpanNotPublished" in refused_after_start(adapt(world, "training", "--spec", spec))


def test_results_are_cached_on_request_only(world: World) -> None:
    spec = compiled(world, {"First": task(QUIET)})
    shown = [adapt(world, "evaluation", "--spec", spec, *option).stderr for option in ([], [], ["--cache"])]
    assert ["CACHED" in text for text in shown] == [False, False, True]


def test_file_of_another_pipeline_is_refused(world: World) -> None:
    spec = compiled(world, {"First": task(QUIET)}, "training")
    complaint = refused_after_start(adapt(world, "evaluation", "--spec", spec))
    assert f"BrokenSpec: {spec} is the pipeline digits-training, not digits-evaluation" in complaint


def test_file_that_is_no_spec_is_refused(world: World) -> None:
    complaint = refused_after_start(adapt(world, "evaluation", "--spec", str(world.folder / "adapt.toml")))
    assert f"UnreadableState: {world.folder}/adapt.toml cannot be read" in complaint


@pytest.mark.parametrize("given", ["month", "=1"])
def test_malformed_parameter_is_wrong_usage(world: World, given: str) -> None:
    assert "NAME=VALUE" in refused(adapt(world, "evaluation", "--param", given), code=2)


def test_unreachable_spec_on_google_cloud_is_refused_with_the_option(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = a_spec(world.folder, {"First": task(QUIET)}, name="digits-evaluation")
    spec.job["runtimeConfig"]["gcsOutputDirectory"] = "gs://shop/adaptation"
    (world.folder / "remote.json").write_bytes(spec.to_json())
    with socket.socket() as silent:  # bound, but nothing listens
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        complaint = refused_after_start(adapt(world, "evaluation", "--spec", str(world.folder / "remote.json")))
    assert "NotRehearsable: the tasks of digits-evaluation work on gs://shop/adaptation" in complaint
    assert "Use --cloud" in complaint


def test_terminal_shows_the_tasks_as_a_table_that_stays(world: World) -> None:
    spec = compiled(world, {"First": task(QUIET), "Last": task(QUIET, takes=["First"])})
    terminal, stderr = pty.openpty()
    process = start("rehearse", "evaluation", "--spec", spec, "--workspace", str(world.folder), terminal=stderr)
    os.close(stderr)
    shown = plain(read_all(terminal))
    assert process.wait(60) == 0
    first, last = shown.splitlines()[-2:]
    assert (first.split()[:2], last.split()[:2]) == (["First", "SUCCEEDED"], ["Last", "SUCCEEDED"])


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_tasks(world: World, signal_number: int) -> None:
    spec = compiled(world, {"Held": task(container(holding(world.folder)))})
    process = start("rehearse", "evaluation", "--spec", spec, "--workspace", str(world.folder))
    wait_until((world.folder / "pids").exists)
    process.send_signal(signal_number)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown.splitlines()[-1] == "interrupted"
    for pid in map(int, (world.folder / "pids").read_text().strip("[]").split(",")):
        wait_until(lambda pid=pid: not is_alive(pid))


def refused_after_start(result: Result) -> str:
    """Return the error message of a rehearsal that failed."""
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert "This is unexpected" not in result.stderr
    return result.stderr


def test_missing_extra_is_named_with_the_command_that_installs_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "celpy", None)
    complaint = refused(adapt(world, "evaluation"))
    assert 'celpy, not installed here. Run: pip install "continuous-adaptation[rehearse]"' in complaint
