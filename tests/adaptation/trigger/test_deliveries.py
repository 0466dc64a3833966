"""`deliver`, `act` and `tick`: each state of the data starts one evaluation, for any number of deliveries."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptation.io import storage
from adaptation.platforms.base import NoSuchModel, Platform, Upload
from adaptation.platforms.local import LocalRegistry
from adaptation.trigger import Outcome, act, plan, tick
from tests.worlds.trigger import NOVEMBER, OCTOBER, TriggerWorld


def test_delivery_creates_the_evaluation_of_the_newest_batch(world: TriggerWorld) -> None:
    world.arrive(5, OCTOBER)
    world.arrive(2, NOVEMBER)
    delivery = world.deliver()
    assert delivery.plan.outcome is Outcome.START
    assert delivery.job == world.jobs.get("evaluation-2021-11-0001")
    assert delivery.job is not None
    assert (delivery.job.pipeline, delivery.job.parameters) == ("evaluation", {"batch": "2021-11"})


def test_images_before_a_failure_do_not_count_as_new_arrivals(world: TriggerWorld) -> None:
    world.arrive(9)
    outcomes, counted = [], []
    for _ in range(4):
        delivery = world.deliver()
        outcomes.append(delivery.plan.outcome)
        counted.append(delivery.plan.images)
        if delivery.job:
            world.fail(delivery.job.id)
    assert outcomes == [Outcome.START, Outcome.RETRY, Outcome.RETRY, Outcome.GIVE_UP]
    assert counted == [2, 9, 9, 9]
    world.arrive(1)
    assert world.deliver().plan.outcome is Outcome.GIVE_UP
    world.arrive(1)
    delivery = world.deliver()
    assert (delivery.plan.outcome, delivery.plan.attempt) == (Outcome.START, 1)
    assert "2 images have arrived since" in delivery.plan.reason


def test_repeated_deliveries_of_one_state_create_one_job(world: TriggerWorld) -> None:
    world.arrive(2)
    outcomes = [world.deliver().plan.outcome for _ in range(3)]
    world.succeed("evaluation-2021-10-0001")
    outcomes += [world.deliver().plan.outcome for _ in range(3)]
    assert outcomes == [Outcome.START, *[Outcome.RUNNING] * 2, *[Outcome.NOTHING_NEW] * 3]
    assert len(world.jobs.jobs) == 1


def test_evaluated_images_do_not_count_as_new(world: TriggerWorld) -> None:
    world.arrive(2)
    world.deliver()
    world.succeed("evaluation-2021-10-0001")
    world.arrive(1)
    assert world.deliver().plan.outcome is Outcome.NOT_ENOUGH
    world.arrive(1)
    assert world.deliver().plan.job_id == "evaluation-2021-10-0002"


def test_requeued_images_stay_evaluated(world: TriggerWorld) -> None:
    world.arrive(2)
    world.deliver()
    world.succeed("evaluation-2021-10-0001", archive=True)
    assert world.deliver().plan.outcome in (Outcome.NOTHING_NEW, Outcome.NO_BATCH)  # buckets have no empty folders
    world.batches.requeue(OCTOBER)
    assert world.deliver().plan.outcome is Outcome.NOTHING_NEW


def test_empty_collection_is_no_error(world: TriggerWorld) -> None:
    assert world.deliver().plan.outcome is Outcome.NO_BATCH
    assert world.jobs.jobs == {}


def test_failing_evaluation_is_tried_three_times(world: TriggerWorld) -> None:
    world.arrive(2)
    outcomes = []
    for _ in range(5):
        delivery = world.deliver()
        outcomes.append(delivery.plan.outcome)
        if delivery.job:
            world.fail(delivery.job.id)
    assert outcomes == [Outcome.START, Outcome.RETRY, Outcome.RETRY, Outcome.GIVE_UP, Outcome.GIVE_UP]


def test_second_act_on_one_plan_creates_no_job(world: TriggerWorld) -> None:
    world.arrive(2)
    planned = plan(world.look())
    first, second = act(planned, world.records, world.jobs), act(planned, world.records, world.jobs)
    assert first is not None
    assert second is None


def test_newer_batch_does_not_hide_an_evaluation_that_fails_later(world: TriggerWorld) -> None:
    world.arrive(2, OCTOBER)
    world.deliver()
    world.arrive(2, NOVEMBER)
    assert world.deliver().plan.job_id == "evaluation-2021-11-0001"
    world.fail("evaluation-2021-10-0001")
    assert world.deliver().plan.job_id == "evaluation-2021-10-0002"


@pytest.mark.parametrize("then", ["succeeds", "is given up", "has no images left"])
def test_older_batch_that_needs_nothing_does_not_delay_the_newest(world: TriggerWorld, then: str) -> None:
    world.arrive(2, OCTOBER)
    world.deliver()
    if then == "succeeds":
        world.succeed("evaluation-2021-10-0001")
    elif then == "is given up":
        for number in (1, 2, 3):
            world.fail(f"evaluation-2021-10-000{number}")
            world.deliver()
    else:
        world.batches.archive(world.batches.snapshot(OCTOBER))
        world.fail("evaluation-2021-10-0001")
    world.arrive(2, NOVEMBER)
    assert world.deliver().plan.job_id == "evaluation-2021-11-0001"


def test_tick_without_a_champion_starts_and_records_nothing(world: TriggerWorld, tmp_path: Path) -> None:
    world.arrive(2)
    with pytest.raises(NoSuchModel):
        tick(a_platform(world, LocalRegistry(str(tmp_path / "registry"))), world.batches, world.records, 2)
    assert world.jobs.jobs == {}
    assert storage.files_below(world.records) == []


def test_tick_with_a_champion_is_a_delivery(world: TriggerWorld, tmp_path: Path) -> None:
    world.arrive(2)
    storage.write(str(tmp_path / "model" / "saved_model.pb"), b"model")
    registry = LocalRegistry(str(tmp_path / "registry"))
    version = registry.upload(Upload(str(tmp_path / "model"), "key", (1,), {}, "source", "run"))
    registry.promote(version, "because")
    delivery = tick(a_platform(world, registry), world.batches, world.records, 2)
    assert (delivery.plan.outcome, list(world.jobs.jobs)) == (Outcome.START, ["evaluation-2021-10-0001"])


def a_platform(world: TriggerWorld, registry: LocalRegistry) -> Platform:
    return Platform(jobs=world.jobs, predictor=None, registry=registry, endpoint=None)  # type: ignore[arg-type]
