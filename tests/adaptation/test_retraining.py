"""Retraining: a decision starts one training, is never lost, and is followed to its end."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adaptation import retraining
from adaptation.data.batches import snapshot_folder
from adaptation.data.labels import Labels
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import SpanStore
from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import JobFailed, JobRequest, JobState, Upload
from adaptation.platforms.local import LocalRegistry
from adaptation.retraining import TRAINING, Decision, Step, Training
from tests.worlds.images import collect
from tests.worlds.trigger import MemoryJobs

LABELS = Labels(("cat", "dog"))


class Died(BaseException):
    """The process was killed."""


@dataclass
class World:
    """Spans, records, jobs that the test ends, and a registry with one champion."""

    root: Path
    jobs: MemoryJobs = field(default_factory=MemoryJobs)

    @property
    def records(self) -> str:
        return str(self.root / "triggers")

    @property
    def registry(self) -> LocalRegistry:
        return LocalRegistry(str(self.root / "registry"))

    def publish(self, span: int) -> None:
        folder = self.root / "images" / str(span)
        collect(folder, [f"{LABELS.names[number % 2]}_{span}_{number}.png" for number in range(24)])
        store = SpanStore(str(self.root / "data"))
        assert prepare(store, snapshot_folder(str(folder), f"images {span}"), LABELS).span == span

    def promote(self, run: str) -> None:
        model = self.root / "model"
        storage.write(str(model / "saved_model.pb"), b"model")
        version = self.registry.upload(Upload(str(model), key=run, spans=(1,), metrics={}, source=run, run=run))
        self.registry.promote(version, "better")

    def decision(self, span: int = 2, champion: int = 1) -> Decision:
        return Decision(span, f"evaluation-{span}", champion, str(self.root / "data"), "all", "spans")

    def decide(self, span: int = 2, champion: int = 1) -> None:
        retraining.decide(self.records, self.decision(span, champion))

    def start(self, span: int = 2) -> str:
        return retraining.start(self.records, self.jobs, self.registry, self.decision(span)).id

    def start_by_hand(self, job: str = "by-hand-1") -> str:
        request = JobRequest(job, TRAINING, {"window": "1"})
        return retraining.start_by_hand(self.records, self.jobs, self.registry, request).id

    def look(self) -> Training:
        return retraining.look(self.records, self.jobs, self.registry)

    def deliver(self) -> Training:
        return retraining.deliver(self.records, self.jobs, self.registry)

    def end(self, job: str, state: JobState = JobState.FAILED) -> None:
        self.jobs.end(job, state, "killed")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.publish(1)
    world.promote("first")
    return world


def begun(world: World) -> str:
    """Start a training on a published span-2. Return its id."""
    world.publish(2)
    return world.start()


def test_look_finds_nothing_in_a_new_workspace(world: World) -> None:
    assert world.look().step is Step.NONE and not world.look().is_open


def test_start_trains_once_on_the_window_as_it_is_then(world: World) -> None:
    job = begun(world)
    assert world.start() == job and job.startswith("training-span-2-") and job.endswith("-1")
    assert list(world.jobs.jobs) == [job]
    assert world.jobs.jobs[job].parameters["window"] == "1-2"
    assert world.look().step is Step.RUNNING


def test_decision_waits_until_its_span_is_published(world: World) -> None:
    world.decide()
    assert (world.deliver().step, world.jobs.jobs) == (Step.WAIT, {})
    world.publish(2)
    world.deliver()
    assert list(world.jobs.jobs) == [world.look().record.job] and world.look().step is Step.RUNNING  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [shutil.move, shutil.copytree])
def test_decision_is_about_the_spans_of_a_moved_or_copied_workspace(
    world: World, tmp_path: Path, change: Callable[[Path, Path], object]
) -> None:
    world.decide()
    there = tmp_path.with_name("there")
    change(tmp_path, there)
    moved = World(there, world.jobs)
    assert moved.look().step is Step.WAIT
    moved.publish(2)
    assert moved.deliver().job is not None
    assert world.look().step is (Step.NONE if change is shutil.move else Step.WAIT)
    shutil.rmtree(there)
    tmp_path.mkdir(exist_ok=True)


def test_decision_is_recorded_once_for_a_span(world: World) -> None:
    world.decide()
    number = world.look().number
    retraining.decide(world.records, dataclasses.replace(world.decision(), cause="the evaluation's second attempt"))
    assert world.look().number == number


def test_failed_training_is_repeated_three_times_then_given_up(world: World) -> None:
    job = begun(world)
    for attempt in (2, 3):
        world.end(job)
        assert world.look().step is Step.RETRY
        job = world.deliver().job.id  # type: ignore[union-attr]
        assert job.endswith(f"-{attempt}")
    world.end(job)
    for _ in range(2):
        assert world.deliver().step is Step.GIVE_UP
    assert len(world.jobs.jobs) == 3 and world.look().is_open
    assert 'fix the cause, then run "adapt train"' in world.look().reason
    with pytest.raises(JobFailed, match="attempt 3 of 3"):
        world.start()


def test_repeated_training_has_the_spans_of_the_first(world: World) -> None:
    job = begun(world)
    world.publish(3)
    world.end(job)
    assert world.deliver().job.parameters["window"] == "1-2"  # type: ignore[union-attr]


def test_training_that_died_after_its_model_was_promoted_is_done(world: World) -> None:
    job = begun(world)
    world.promote(f"shop-{job}")  # as a run is named on Vertex AI
    world.end(job)
    assert world.deliver().step is Step.DONE and len(world.jobs.jobs) == 1


def test_second_decision_waits_for_the_running_training(world: World) -> None:
    first = begun(world)
    world.publish(3)
    assert world.start(3) == first and world.deliver().step is Step.WAIT
    world.end(first, JobState.SUCCEEDED)
    second = world.deliver().job.id  # type: ignore[union-attr]
    assert second.startswith("training-span-3-") and world.look().step is Step.RUNNING


def test_second_decision_lapses_when_the_first_brings_a_new_champion(world: World) -> None:
    first = begun(world)
    world.publish(3)
    world.start(3)
    world.promote(first)
    world.end(first, JobState.SUCCEEDED)
    assert world.deliver().step is Step.DONE and "lapsed" in world.look().reason and len(world.jobs.jobs) == 1


def test_training_by_hand_is_refused_while_one_is_running(world: World) -> None:
    job = begun(world)
    with pytest.raises(AdaptationError, match=job):
        world.start_by_hand()
    world.end(job, JobState.SUCCEEDED)
    assert world.start_by_hand() == "by-hand-1"


def test_training_by_hand_settles_a_decision_that_was_given_up(world: World) -> None:
    job = begun(world)
    for _ in range(3):
        world.end(job)
        job = world.deliver().job.id  # type: ignore[union-attr]
    assert world.look().step is Step.GIVE_UP
    world.end(world.start_by_hand(), JobState.SUCCEEDED)
    assert world.look().step is Step.DONE


def test_training_by_hand_is_not_repeated_by_a_delivery(world: World) -> None:
    world.end(world.start_by_hand())
    assert world.deliver().step is Step.GIVE_UP and list(world.jobs.jobs) == ["by-hand-1"]


def test_training_follows_its_evaluation_once_the_span_is_published(world: World) -> None:
    world.decide()
    assert not world.look().follows("evaluation-2")
    world.publish(2)
    assert world.look().follows("evaluation-2") and not world.look().follows("evaluation-1")


@pytest.mark.parametrize("writes", range(4))
def test_delivery_that_dies_at_any_write_is_finished_by_the_next(
    world: World, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish(2)
    left = itertools.count(writes, -1)

    def dies(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            if next(left) == 0:
                raise Died
            return call(*arguments)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(storage, "create", dies(storage.create))
        patch.setattr(world.jobs, "create", dies(world.jobs.create))
        try:
            world.start()
        except Died:
            pass
        else:
            assert writes == 3  # a decision, an attempt, a job: there is no fourth write
    world.start()
    assert len(world.jobs.jobs) == 1 and world.look().step is Step.RUNNING
