"""The demo's folder: whose it is, what an interrupted demo leaves; and how its figures are shown.

That the demo does what it says is tested in `test_loop`.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from adaptation.errors import AlreadyExists
from adaptation.platforms.base import JobRequest, JobState
from pipeline import demo
from pipeline.cli.main import cli
from pipeline.demo import MARK, DemoResult, run_demo
from pipeline.workspace.digit_images import changed_camera, first_camera, write_digits
from pipeline.workspace.settings_file import InvalidSettings
from tests.worlds.images import contents
from tests.worlds.processes import wait_until
from tests.worlds.workspace import World, use_fake_jobs, use_real_jobs

COUNTS = {"both": 41, "champion_only": 2, "challenger_only": 33, "neither": 5}
RESULT = DemoResult(0.995, 0.41, True, "1-2", 0.99, 0.9876, 2, {"1": COUNTS}, {"0": COUNTS}, 141.2)


class Cut(Exception):
    """The interruption of the demo."""


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make demos small and let them end before they train."""
    monkeypatch.setattr(demo, "FIRST_SPAN", 100)
    monkeypatch.setattr(demo, "start_training", cut)


def cut(*_: Any, **__: Any) -> None:
    raise Cut


def adapt_demo(monkeypatch: pytest.MonkeyPatch, result: DemoResult, *options: str) -> Result:
    """Run the command with that result of the demo."""
    monkeypatch.setattr(demo, "run_demo", lambda folder: result)
    return CliRunner().invoke(cli, ["demo", *options])


def test_folder_that_is_no_demo_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(AlreadyExists, match=str(tmp_path)):
        run_demo(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"three years of work"}


@pytest.mark.parametrize("exists", [True, False])
def test_empty_or_new_folder_becomes_a_demo(tmp_path: Path, cut_off: None, exists: bool) -> None:
    folder = tmp_path if exists else tmp_path / "a" / "demo"
    with pytest.raises(Cut):
        run_demo(folder)
    assert (folder / MARK).exists() and (folder / "data" / "span-1" / "manifest.json").exists()


def test_earlier_demo_is_replaced(tmp_path: Path, cut_off: None) -> None:
    (tmp_path / MARK).touch()
    for name in ("adapt.toml", "registry/versions/1/version.json", "collection/2021-10_old/1_0001.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    with pytest.raises(Cut):
        run_demo(tmp_path)
    assert b"old" not in contents(tmp_path).values()
    assert not (tmp_path / "registry").exists()


@pytest.mark.parametrize("step", ["_await_jobs", "write_digits", "initialise"])
def test_interrupted_demo_is_recognised_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_off: None, step: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(demo, step, cut)
        with pytest.raises(Cut):
            run_demo(tmp_path)
    with pytest.raises(Cut):
        run_demo(tmp_path)
    assert (tmp_path / "data" / "span-1" / "manifest.json").exists()


def test_job_of_an_interrupted_demo_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would write into the new demo's folder."""
    world = World.make(tmp_path)
    (tmp_path / MARK).touch()
    world.hold()
    use_fake_jobs()
    world.workspace.jobs.create(JobRequest("training-1", "training"))
    use_real_jobs()
    wait_until(lambda: world.workspace.jobs.list()[0].state is JobState.RUNNING)

    shown: list[str] = []

    def working(text: str) -> AbstractContextManager[None]:
        shown.append(text)
        (world.control / "hold").unlink()
        return nullcontext()

    def write_digits(*_: Any) -> None:
        assert not (tmp_path / "jobs").exists()
        raise Cut

    monkeypatch.setattr(demo, "working", working)
    monkeypatch.setattr(demo, "write_digits", write_digits)
    with pytest.raises(Cut):
        run_demo(tmp_path)
    assert shown == ["waiting for training-1, which an interrupted demo has left"]


def test_environment_that_overrides_the_settings_of_the_demo_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPT_COLLECTION__ROOT", str(tmp_path / "real"))
    with pytest.raises(InvalidSettings, match="ADAPT_COLLECTION__ROOT"):
        run_demo(tmp_path / "demo")
    assert contents(tmp_path) == {}


def test_command_prints_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    result = adapt_demo(monkeypatch, RESULT)
    rows = [line.split()[-2:] for line in result.stdout.splitlines()[2:4]]
    assert rows == [["0.995", "0.410"], ["0.990", "0.988"]]
    assert result.stdout.splitlines()[-1] == "spans 1-2, 141 seconds"
    assert ["1", "41", "2", "33", "5"] in [line.split() for line in result.stdout.splitlines()]


def test_command_prints_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    result = adapt_demo(monkeypatch, RESULT, "--json")
    assert json.loads(result.stdout) == dataclasses.asdict(RESULT)


def test_demo_without_a_new_champion_has_the_exit_code_of_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert adapt_demo(monkeypatch, RESULT).exit_code == 0
    assert adapt_demo(monkeypatch, dataclasses.replace(RESULT, retrained=False)).exit_code == 3


def test_cameras_differ_and_each_is_deterministic(tmp_path: Path) -> None:
    for folder, camera in [("first", first_camera), ("changed", changed_camera), ("again", changed_camera)]:
        write_digits(tmp_path / folder, range(40), camera)
    first, changed, again = (contents(tmp_path / folder) for folder in ("first", "changed", "again"))
    assert first.keys() == changed.keys() and changed == again
    assert "0_0000.png" in first and "9_0009.png" in first
    assert all(contrast(tmp_path / "changed" / name) < contrast(tmp_path / "first" / name) for name in first)


def contrast(file: Path) -> float:
    with Image.open(file) as picture:
        assert (picture.mode, picture.size) == ("L", (32, 32))
        return float(np.asarray(picture, np.float64).std())
