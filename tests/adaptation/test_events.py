"""Events: each record gives its event once, in order, whatever is cut off and however many read at once."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adaptation import codec
from adaptation.events import NEEDS_A_PERSON, Kind, Outbox, Reading
from adaptation.io.journal import Journal, Record
from adaptation.platforms.base import JobRequest, JobState, Standing
from tests.worlds.events import EventWorld

KINDS = sorted(set(Kind) - {Kind.TEST})


class Died(BaseException):
    """The process was killed."""


@pytest.fixture
def world(tmp_path: Path) -> EventWorld:
    return EventWorld(tmp_path)


def test_records_give_an_event_of_every_kind(world: EventWorld) -> None:
    world.live()
    assert {event.kind for event in world.collect()} == set(KINDS)


def test_second_reading_finds_nothing_and_writes_nothing(world: EventWorld) -> None:
    world.live()
    world.collect()
    files = sorted(world.root.rglob("*.json"))
    assert world.collect() == []
    assert sorted(world.root.rglob("*.json")) == files


def test_ids_differ_and_numbers_count_up(world: EventWorld) -> None:
    world.registry.promote(world.version("one"), "the first")
    world.collect()
    world.live()
    world.collect()
    found = world.outbox.after(0)
    assert [event.number for event in found] == list(range(1, len(found) + 1))
    assert max(Counter(event.id for event in found).values()) == 1
    assert world.outbox.after(found[-3].number) == found[-2:]


def test_events_of_one_reading_are_in_the_order_of_their_times(world: EventWorld) -> None:
    world.live()
    times = [datetime.fromisoformat(event.time) for event in world.collect()]
    assert times == sorted(times)


def test_training_that_is_running_is_followed_to_its_failure(world: EventWorld) -> None:
    world.train("training-1")
    assert [event.kind for event in world.collect()] == [Kind.TRAINING_STARTED]
    assert world.collect() == []
    world.fail("training-1")
    (failed,) = world.collect()
    assert (failed.kind, failed.data["error"]) == (Kind.TRAINING_FAILED, "the disk is full")
    assert world.collect() == []


def test_training_that_succeeds_is_followed_no_longer(world: EventWorld) -> None:
    world.train("training-1")
    world.collect()
    world.jobs.end("training-1", JobState.SUCCEEDED)
    assert world.collect() == []
    world.jobs.jobs.clear()
    assert world.collect() == []


def test_training_by_hand_is_given_up_at_its_first_failure(world: EventWorld) -> None:
    world.train("by-hand", span=None)
    world.fail("by-hand")
    assert [event.kind for event in world.collect()] == [Kind.TRAINING_STARTED, Kind.TRAINING_GIVEN_UP]


def test_training_is_announced_only_when_its_job_exists(world: EventWorld) -> None:
    world.train("training-1", created=False)
    assert world.collect() == []
    world.jobs.create(JobRequest("training-1", "training"))
    assert [event.kind for event in world.collect()] == [Kind.TRAINING_STARTED]


def test_decision_to_keep_and_calm_look_are_no_events(world: EventWorld) -> None:
    world.decide("evaluation-1")
    world.look(1, "calm")
    assert world.collect() == []


def test_decision_of_a_retried_run_is_one_event(world: EventWorld) -> None:
    world.decide("evaluation-1", retrain=True)
    world.decide("evaluation-1", retrain=True)
    assert [event.kind for event in world.collect()] == [Kind.RETRAINING]


def test_old_history_is_no_news_at_the_first_reading(world: EventWorld) -> None:
    old = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    world.train("training-1", time=old)
    world.train("training-2", attempt=2)
    assert [event.data["job"] for event in world.collect()] == ["training-2"]


def test_old_record_is_news_at_a_later_reading(world: EventWorld) -> None:
    world.train("training-1")
    world.collect()
    world.train("training-2", attempt=2, time=(datetime.now(UTC) - timedelta(days=3)).isoformat())
    assert [event.data["job"] for event in world.collect()] == ["training-2"]


def test_standing_with_an_earlier_time_is_found_all_the_same(
    world: EventWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (world.version(key) for key in ("one", "two", "three"))
    world.registry.promote(first, "the first")
    world.registry.mark(second, Standing.REFUSED, "worse")
    world.collect()
    behind = (datetime.now(UTC) - timedelta(minutes=10)).isoformat(timespec="seconds")
    monkeypatch.setattr("adaptation.platforms.local.registry._now", lambda: behind)
    world.registry.mark(third, Standing.REFUSED, "worse still")
    assert [event.subject for event in world.collect()] == ["version/3"]
    assert world.collect() == []


def test_reading_that_dies_before_its_record_loses_nothing(world: EventWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.live()

    def die(*_: object, **__: object) -> Record[Reading]:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(Journal, "append", die)
        world.collect()
    assert {event.kind for event in world.collect()} == set(KINDS)


def test_many_readings_at_once_add_each_event_once(world: EventWorld) -> None:
    world.live()
    threads = [threading.Thread(target=world.collect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [event.id for event in world.outbox.newest_first()]
    assert len(found) == len(set(found))
    assert {event.kind for event in world.outbox.after(0)} == set(KINDS)


def test_every_kind_that_needs_a_person_says_what_to_do(world: EventWorld) -> None:
    world.live()
    commands = {Kind.WAITING: "adapt models approve", Kind.TRAINING_GIVEN_UP: "adapt train"}
    found = {event.kind: event.message for event in world.collect()}
    assert found.keys() > NEEDS_A_PERSON
    assert all(command in found[kind] for kind, command in commands.items())


def test_outbox_works_on_object_storage_as_on_a_disk(root: str, world: EventWorld) -> None:
    world.live()
    outbox = Outbox(f"{root}/triggers")
    assert {event.kind for event in outbox.collect(world.sources)} == set(KINDS)
    assert outbox.collect(world.sources) == ()
    assert outbox.count() == len(outbox.after(0))


def test_long_history_is_read_once(world: EventWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 30):
        world.train(f"training-{number}")
        world.jobs.end(f"training-{number}", JobState.SUCCEEDED)
    world.collect()
    world.train("training-30")
    read: list[str] = []
    reading = codec.read

    def counted(uri: str, kind: type[object]) -> object:
        read.append(uri)
        return reading(uri, kind)

    monkeypatch.setattr(codec, "read", counted)
    assert len(world.collect()) == 1
    assert len([uri for uri in read if "trainings" in uri]) == 2  # as a new record, and as one whose job is followed
