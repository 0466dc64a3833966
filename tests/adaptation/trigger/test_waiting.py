"""Evaluations that wait for labels: neither repeated nor forgotten, and continued once by the labels that come."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from adaptation.data.batches import Batch, Snapshot
from adaptation.data.labelling import labelling
from adaptation.data.labels import Labels
from adaptation.data.reviews import Reviews
from adaptation.data.waiting import keep_waiting, snapshot_of, waiting_of
from adaptation.io import storage
from adaptation.platforms.base import JobState
from adaptation.trigger import Delivery, Outcome, continued, journal
from tests.worlds.processes import at_once
from tests.worlds.trigger import NOVEMBER, OCTOBER, TriggerWorld, Walker

LABELS = Labels(("ship", "truck"), "review")
ACTED = (Outcome.START, Outcome.RETRY, Outcome.RESUME)


def evaluated(world: TriggerWorld, job: str, state: JobState = JobState.SUCCEEDED) -> Snapshot:
    """Do what the pipeline does under labels by review; return the images that it was about."""
    batch = Batch.parse(world.jobs.jobs[job].parameters["batch"])
    waiting = continued(world.batches, world.records, batch, f"shop-{job}")
    snapshot = snapshot_of(world.batches, waiting) if waiting else world.batches.snapshot(batch)
    found = labelling(LABELS, snapshot, 0.05)
    keep_waiting(world.batches, snapshot, found, "results", "1-abc", LABELS.to_json(), 0.05)
    world.batches.mark_evaluated(snapshot)
    world.jobs.end(job, state, "it broke")
    return snapshot


def waits(world: TriggerWorld, images: int = 40, batch: Batch = OCTOBER) -> None:
    """Let images arrive, and evaluate them without labels."""
    world.arrive(images, batch)
    delivery = world.deliver(batch=batch)
    assert delivery.job is not None
    evaluated(world, delivery.job.id)


def drawn(world: TriggerWorld, budget: int, batch: Batch = OCTOBER) -> list[str]:
    names = world.batches.snapshot(batch).names
    return Reviews(world.batches).draw(batch, names, budget).of(names)


def reviewed(world: TriggerWorld, names: Sequence[str], batch: Batch = OCTOBER) -> None:
    images = {image.name: image for image in world.batches.images(batch)}
    Reviews(world.batches).add(batch, {images[name]: "ship" for name in names})


def counted(world: TriggerWorld, batch: Batch = OCTOBER) -> int:
    waiting = waiting_of(world.batches, batch)
    assert waiting is not None
    return waiting.counted


def started(delivery: Delivery) -> str:
    assert delivery.plan.outcome in ACTED and delivery.job is not None
    return delivery.job.id


def test_batch_that_waits_is_not_evaluated_again(world: TriggerWorld) -> None:
    waits(world)
    plans = [world.deliver().plan for _ in range(3)]
    assert {plan.outcome for plan in plans} == {Outcome.WAITING}
    assert '40 images wait for labels: "adapt review export --batch 2021-10' in plans[0].reason
    assert len(world.jobs.jobs) == 1


def test_labels_of_a_draw_continue_the_evaluation_once(world: TriggerWorld) -> None:
    waits(world)
    names = drawn(world, 20)
    reviewed(world, names)
    job = started(world.deliver())
    assert job == "evaluation-2021-10-0002"
    reviewed(world, names)
    assert world.deliver().plan.outcome is Outcome.RUNNING
    evaluated(world, job)
    assert counted(world) == 20
    assert [world.deliver().plan.outcome for _ in range(3)] == [Outcome.NOTHING_NEW] * 3


@pytest.mark.parametrize("picked", [False, True])
def test_too_few_labels_of_a_draw_continue_nothing(world: TriggerWorld, picked: bool) -> None:
    waits(world)
    names = drawn(world, 20)
    others = [name for name in world.batches.snapshot(OCTOBER).names if name not in names]
    reviewed(world, others[:15] if picked else names[:18])
    assert world.deliver().plan.outcome is Outcome.WAITING
    reviewed(world, names[:19])
    started(world.deliver())


def test_larger_draw_continues_the_evaluation_again(world: TriggerWorld) -> None:
    waits(world)
    reviewed(world, drawn(world, 10))
    evaluated(world, started(world.deliver()))
    reviewed(world, drawn(world, 20))
    evaluated(world, started(world.deliver()))
    assert counted(world) == 20
    reviewed(world, world.batches.snapshot(OCTOBER).names)
    evaluated(world, started(world.deliver()))
    assert counted(world) == 40
    assert world.deliver().plan.outcome is Outcome.NOTHING_NEW


def test_late_labels_of_an_older_batch_are_taken(world: TriggerWorld) -> None:
    waits(world)
    waits(world, batch=NOVEMBER)
    for month in (12, 11, 10):
        world.arrive(1, Batch(2020, month))
    reviewed(world, drawn(world, 20))
    job = started(world.deliver())
    assert job == "evaluation-2021-10-0002"
    assert world.deliver().plan.outcome is Outcome.WAITING, "the newest batch is looked at meanwhile"
    evaluated(world, job)
    assert world.deliver().plan.batch == NOVEMBER


def test_labels_of_every_older_batch_are_taken_in_turn(world: TriggerWorld) -> None:
    months = [Batch(2021, month) for month in range(1, 6)]
    for batch in months:
        waits(world, batch=batch)
    for batch in months:
        reviewed(world, drawn(world, 10, batch), batch)
    assert [str(Batch.parse(started(world.deliver()).split("evaluation-")[1][:7])) for _ in months] == [
        str(batch) for batch in months
    ]


def test_evaluation_goes_on_with_its_images_though_others_have_arrived(world: TriggerWorld) -> None:
    waits(world)
    reviewed(world, drawn(world, 20))
    world.arrive(30)
    job = started(world.deliver())
    assert len(evaluated(world, job).images) == 40
    assert world.deliver().plan.outcome is Outcome.START, "the new images are next"
    assert len(evaluated(world, "evaluation-2021-10-0003").images) == 70


def test_failed_continuation_is_repeated_with_its_images(world: TriggerWorld) -> None:
    """It may have counted the labels and died before its decision was recorded."""
    waits(world)
    reviewed(world, drawn(world, 20))
    job = started(world.deliver())
    evaluated(world, job, JobState.FAILED)
    assert counted(world) == 20
    world.arrive(30)
    delivery = world.deliver()
    assert delivery.plan.outcome is Outcome.RETRY
    assert len(evaluated(world, started(delivery)).images) == 40


def test_failed_continuation_of_an_older_batch_is_repeated_then_given_up(world: TriggerWorld) -> None:
    months = [OCTOBER, NOVEMBER, Batch(2021, 12), Batch(2022, 1)]
    for batch in months:
        waits(world, batch=batch)
    reviewed(world, drawn(world, 10))
    jobs = []
    for _ in range(3):
        jobs.append(started(world.deliver()))
        evaluated(world, jobs[-1], JobState.FAILED)
    assert [job.rpartition("-")[2] for job in jobs] == ["0002", "0003", "0004"]
    assert world.deliver().plan.batch == months[-1], "it hides no newer batch"
    reviewed(world, drawn(world, 20))
    delivery = world.deliver()
    assert delivery.plan.batch == OCTOBER and delivery.plan.attempt == 1
    assert "20 images are labelled now" in delivery.plan.reason


def test_record_without_a_job_is_resumed_in_an_older_batch(world: TriggerWorld) -> None:
    for batch in (OCTOBER, NOVEMBER, Batch(2021, 12)):
        waits(world, batch=batch)
    reviewed(world, drawn(world, 10))
    job = started(world.deliver())
    del world.jobs.jobs[job]
    delivery = world.deliver()
    assert (delivery.plan.outcome, started(delivery)) == (Outcome.RESUME, job)


def test_importers_at_the_same_time_start_one_job(world: TriggerWorld) -> None:
    if world.root.startswith("memory://"):
        return  # the importers are processes, which share no memory
    waits(world)
    names = drawn(world, 20)

    def imported() -> Delivery:
        reviewed(world, names)
        return world.deliver(batch=OCTOBER)

    deliveries = at_once(*[imported] * 4)
    assert {delivery.plan.job_id for delivery in deliveries} == {"evaluation-2021-10-0002"}
    assert [delivery.plan.outcome for delivery in deliveries].count(Outcome.START) == 1
    assert len(journal(world.records, OCTOBER).records()) == 2


def test_delivery_killed_at_any_access_is_made_good_by_the_next(world: TriggerWorld) -> None:
    if storage.is_local(world.root):
        waits(world)
        names, accesses = drawn(world, 20), 0
        reviewed(world, names)
        while True:
            walker = Walker(world)
            walker.step(accesses)
            if walker.ended:
                break
            walker.crash()
            accesses += 1
        walker.finish()
        world.deliver()
        assert accesses > 10
        assert sorted(world.jobs.jobs) == ["evaluation-2021-10-0001", "evaluation-2021-10-0002"]
        assert len(journal(world.records, OCTOBER).records()) == 2


def test_collection_that_was_moved_keeps_what_waits(world: TriggerWorld) -> None:
    waits(world)
    waiting = waiting_of(world.batches, OCTOBER)
    assert waiting is not None
    assert snapshot_of(world.batches, waiting) == world.batches.snapshot(OCTOBER)
