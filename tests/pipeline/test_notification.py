"""Notification: jobs, the watch and commands send events, and never fail or wait because of a receiver."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from adaptation.platforms.base import JobRequest, JobState
from adaptation.retraining import TRAINING, start_by_hand
from pipeline.cli.main import cli
from pipeline.notification import Background, notify_after, notify_now
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.events import HttpReceiver
from tests.worlds.processes import wait_until
from tests.worlds.workspace import World


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


def notifying(folder: Path, receiver: HttpReceiver) -> Workspace:
    """Make a workspace that posts its events to the receiver."""
    return Workspace.open(write_settings(folder / "adapt.toml", ["cat", "dog"], {"notify.webhooks": [receiver.url]}))


def kinds(receiver: HttpReceiver) -> list[str]:
    return [json.loads(request.body)["type"].removeprefix("continuous-adaptation.") for request in receiver.received]


def start_training_that_fails(workspace: Workspace) -> str:
    request = JobRequest("training-by-hand-1", TRAINING, {"window": "9"})
    job = start_by_hand(workspace.triggers, workspace.jobs, workspace.platform.registry, request)
    list(workspace.jobs.follow(job.id))
    return job.id


def test_job_that_fails_is_sent_by_its_own_process(tmp_path: Path, receiver: HttpReceiver) -> None:
    start_training_that_fails(notifying(tmp_path, receiver))
    wait_until(lambda: len(receiver.received) == 2)
    assert kinds(receiver) == ["training.started", "training.given-up"]


def test_job_ends_as_it_would_whatever_the_receiver_answers(tmp_path: Path) -> None:
    with HttpReceiver(lambda _: web.Response(status=500)) as broken:
        workspace = notifying(tmp_path, broken)
        job = workspace.jobs.get(start_training_that_fails(workspace))
        wait_until(lambda: bool(broken.received))
    assert job is not None
    assert (job.state, job.message.split(":")[0]) == (JobState.FAILED, "SpanNotPublished")


def test_rollback_is_sent_by_its_command(tmp_path: Path, receiver: HttpReceiver) -> None:
    world = World.make(tmp_path)
    write_settings(tmp_path / "other.toml", ["ship", "truck"], {"notify.webhooks": [receiver.url]})
    world.register(2)
    done = CliRunner().invoke(cli, ["rollback", "-w", str(tmp_path / "other.toml")])
    assert done.exit_code == 0, done.output
    assert kinds(receiver) == ["challenger.deployed", "challenger.deployed", "rollback.done"]


def test_command_succeeds_while_the_receiver_is_down(tmp_path: Path) -> None:
    world = World.make(tmp_path)
    write_settings(tmp_path / "other.toml", ["ship", "truck"], {"notify.command": ["false"]})
    world.register(2)
    done = CliRunner().invoke(cli, ["rollback", "-w", str(tmp_path / "other.toml")])
    assert (done.exit_code, done.output) == (0, "version 1 is the champion again\n")
    (left,) = notify_now(Workspace.open(tmp_path / "other.toml"))
    assert (left.events, left.error) == (3, "the command ended with exit code 1")


def test_background_notifies_one_at_a_time(tmp_path: Path, receiver: HttpReceiver) -> None:
    workspace = notifying(tmp_path, receiver)
    World(tmp_path).register()
    receiver.fail_next(delay=0.5)
    background = Background(workspace)
    for _ in range(20):
        background.notify()
    wait_until(lambda: bool(receiver.received))
    assert kinds(receiver) == ["challenger.deployed"]


def test_unreadable_records_and_settings_are_reported_not_raised(
    tmp_path: Path, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "adaptation.progress")
    workspace = notifying(tmp_path, receiver)
    World(tmp_path).register()
    (record,) = (tmp_path / "registry" / "champion").glob("*.json")
    record.write_text("{")
    assert notify_now(workspace) == []
    assert "events were not sent: UnreadableState" in caplog.text
    (tmp_path / "adapt.toml").write_text("[labels]\nnames = 3\n")
    notify_after(tmp_path)
    assert "events were not sent: InvalidSettings" in caplog.text
