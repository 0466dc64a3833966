"""`look`: which images of a batch are read and counted."""

from __future__ import annotations

from typing import Any

import pytest

from adaptation.io import storage
from adaptation.trigger import Outcome, plan
from tests.worlds.trigger import NOVEMBER, OCTOBER, TriggerWorld


def test_record_holds_what_was_counted(world: TriggerWorld) -> None:
    world.arrive(2)
    world.deliver()
    last = world.look().last
    assert last is not None
    assert (last.number, last.value.attempt, last.value.images) == (1, 1, 2)
    assert last.value.digest == world.batches.snapshot(OCTOBER).digest


def test_images_beyond_enough_are_counted_only_on_request(world: TriggerWorld) -> None:
    world.arrive(5)
    state, whole = world.look(), world.look(whole=True)
    assert (state.images, state.new, state.whole) == (2, 2, False)
    assert (whole.images, whole.new, whole.whole) == (5, 5, True)
    assert whole.digest == world.batches.snapshot(OCTOBER).digest != state.digest
    assert "2 or more new images" in plan(state).reason
    assert "5 new images" in plan(whole).reason
    assert plan(state).job_id == plan(whole).job_id


def test_forced_look_counts_the_whole_batch(world: TriggerWorld) -> None:
    world.arrive(5)
    assert plan(world.look(force=True)).reason == "requested: 5 images, 5 of them new"


def test_too_few_images_are_all_counted(world: TriggerWorld) -> None:
    world.arrive(1)
    state = world.look()
    assert (state.images, state.whole) == (1, True)
    assert plan(state).reason == "1 new images, 1 more are needed"


def test_new_images_are_found_behind_evaluated_ones(world: TriggerWorld) -> None:
    world.arrive(7)
    world.deliver()
    world.succeed("evaluation-2021-10-0001")
    world.arrive(3)
    state = world.look()
    assert (state.new, state.whole) == (2, False)
    assert world.deliver().plan.job_id == "evaluation-2021-10-0002"


def test_images_are_not_listed_while_an_evaluation_runs(world: TriggerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.arrive(2)
    world.deliver()
    monkeypatch.setattr(storage, "iter_files_below", forbidden)
    assert world.deliver().plan.outcome is Outcome.RUNNING
    world.jobs.jobs.clear()
    assert world.deliver().plan.outcome is Outcome.RESUME


def test_named_batch_is_looked_at_instead_of_the_newest(world: TriggerWorld) -> None:
    world.arrive(3, OCTOBER)
    world.arrive(2, NOVEMBER)
    assert (world.look().batch, world.look(batch=OCTOBER).batch) == (NOVEMBER, OCTOBER)


def forbidden(*args: object) -> Any:
    raise AssertionError(f"this is not to be called: {args}")
