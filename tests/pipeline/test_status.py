"""Status: one screen of what serves, runs, waits or has failed, and an exit code for monitoring."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adaptation.platforms.base import JobRequest, Standing
from adaptation.platforms.rollout import put_in_service
from adaptation.retraining import TRAINING, start_by_hand
from pipeline.cli.main import cli
from pipeline.notification import notify_now
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.events import EventWorld, HttpReceiver
from tests.worlds.workspace import LABELS

MEMBERS = {
    "schema": int,
    "deployment": str,
    "time": str,
    "champion": dict,
    "evidence": float,
    "decision": dict,
    "look": dict,
    "delivery": dict,
    "running": list,
    "waiting": list,
    "given_up": list,
    "undelivered": list,
    "events": list,
    "todo": list,
}


@dataclass
class World:
    """A workspace whose records the test writes."""

    folder: Path

    @property
    def records(self) -> EventWorld:
        return EventWorld(self.folder)

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.folder)

    def serve(self, key: str = "one") -> int:
        platform, version = self.workspace.platform, self.records.version(key)
        put_in_service(platform.registry, platform.endpoint, version, "made for a test")
        return version.number

    def notify(self, setting: str, receiver: str) -> None:
        """Set a receiver from now on."""
        file = self.folder / "adapt.toml"
        file.unlink()
        write_settings(file, LABELS, {f"notify.{setting}": [receiver]})

    def status(self) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(cli, ["status", "--json", "-w", str(self.folder)])
        return done.exit_code, json.loads(done.stdout)

    def screen(self) -> str:
        return CliRunner().invoke(cli, ["status", "-w", str(self.folder)]).stdout


@pytest.fixture
def world(tmp_path: Path) -> World:
    write_settings(tmp_path / "adapt.toml", LABELS)
    return World(tmp_path)


def test_status_without_a_champion_says_how_to_get_one(world: World) -> None:
    code, status = world.status()
    assert (code, status["champion"]) == (5, None)
    assert "adapt train" in status["todo"][0]


def test_status_of_a_serving_champion_is_fine(world: World) -> None:
    world.serve()
    code, status = world.status()
    assert (code, status["todo"]) == (0, [])
    assert (status["champion"]["version"], status["champion"]["reason"]) == (1, "made for a test")
    assert "nothing for a person to do" in world.screen()


def test_version_that_waits_for_approval_needs_a_person(world: World) -> None:
    world.serve()
    world.workspace.platform.registry.mark(world.records.version("two"), Standing.WAITING, "better")
    code, status = world.status()
    assert (code, status["waiting"][0]["subject"]) == (5, "version 2")
    assert "adapt models approve 2" in status["todo"][0]


def test_candidate_waits_without_a_person(world: World) -> None:
    world.serve()
    world.workspace.platform.registry.mark(world.records.version("two"), Standing.CANDIDATE, "undecided")
    code, status = world.status()
    assert (code, status["waiting"][0]["subject"]) == (0, "version 2")


def test_look_needs_a_person_until_its_batch_is_decided_on(world: World) -> None:
    world.serve()
    world.records.look(1, "look")
    assert world.status()[0] == 5
    world.records.decide("evaluation-2")
    code, status = world.status()
    assert (code, status["look"]["outcome"], status["decision"]["outcome"]) == (0, "look", "keep")


def test_batch_that_waits_for_labels_needs_a_person(world: World) -> None:
    world.serve()
    world.records.decide("evaluation-1", outcome="waiting for labels")
    assert world.status()[0] == 5


def test_proposed_rollback_needs_a_person_until_it_is_done(world: World) -> None:
    world.serve()
    world.records.decide("evaluation-1", rollback=True)
    assert world.status()[0] == 5
    world.serve("two")
    assert world.status()[0] == 0


def test_training_that_was_given_up_needs_a_person(world: World) -> None:
    world.serve()
    workspace, request = world.workspace, JobRequest("training-by-hand-1", TRAINING, {"window": "9"})
    start_by_hand(workspace.triggers, workspace.jobs, workspace.platform.registry, request)
    code, status = world.status()
    assert (code, [item["subject"] for item in status["running"]]) == (0, ["training-by-hand-1"])
    list(workspace.jobs.follow(request.id))
    code, status = world.status()
    assert (code, [item["subject"] for item in status["given_up"]]) == (5, ["training-by-hand-1"])
    assert 'run "adapt train"' in status["todo"][0]


def test_events_that_a_receiver_did_not_take_are_shown(world: World) -> None:
    world.notify("command", "false")
    world.serve()
    notify_now(world.workspace)
    code, status = world.status()
    (left,) = status["undelivered"]
    assert (code, left["events"], left["error"]) == (5, 1, "the command ended with exit code 1")
    assert status["events"][0]["kind"] == "challenger.deployed"
    assert "adapt notify" in world.screen()


def test_json_has_the_documented_members(world: World) -> None:
    world.serve()
    world.records.look(1, "look")
    world.records.decide("evaluation-1")
    status = world.status()[1]
    assert status.keys() == MEMBERS.keys()
    assert all(isinstance(status[name], kind) for name, kind in MEMBERS.items())
    documented = (Path(__file__).parents[2] / "docs" / "status.md").read_text()
    assert [name for name in MEMBERS if f"`{name}`" not in documented] == []


def test_reading_the_status_changes_nothing(world: World) -> None:
    world.serve()
    world.records.live()
    before = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    world.status()
    assert {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()} == before


def test_notify_sends_what_is_waiting_at_once(world: World) -> None:
    with HttpReceiver() as receiver:
        world.notify("webhooks", receiver.url)
        world.serve()
        receiver.fail_next(status=503)
        assert CliRunner().invoke(cli, ["notify", "-w", str(world.folder)]).exit_code == 1
        done = CliRunner().invoke(cli, ["notify", "-w", str(world.folder)])
    assert (done.exit_code, len(receiver.received)) == (0, 1)
    assert "has everything" in done.stdout


def test_notify_can_try_every_receiver(world: World) -> None:
    with HttpReceiver() as receiver:
        world.notify("webhooks", receiver.url)
        done = CliRunner().invoke(cli, ["notify", "--test", "-w", str(world.folder)])
    assert done.exit_code == 0, done.output
    assert json.loads(receiver.received[0].body)["type"] == "continuous-adaptation.test"


def test_notify_without_receivers_is_wrong_usage(world: World) -> None:
    assert CliRunner().invoke(cli, ["notify", "-w", str(world.folder)]).exit_code == 2
