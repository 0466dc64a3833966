"""Starting jobs: what is refused before anything starts, what is started once, and what is left to run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptation import retraining
from adaptation.data.batches import Batch, InvalidBatch, NoBatch
from adaptation.data.spans import SpanNotPublished
from adaptation.data.windows import InvalidWindow
from adaptation.errors import AdaptationError
from adaptation.evaluation.accuracy import Evaluation, wilson_interval
from adaptation.evaluation.log import EvaluationLog, version_id
from adaptation.platforms.base import Job, JobState, NoSuchModel
from adaptation.retraining import TRAINING, Decision, Step
from adaptation.trigger import Delivery, Outcome, Plan
from pipeline import jobs
from pipeline.jobs import current_evidence, planned, start_evaluation, start_training, trigger
from pipeline.workspace.initialise import initialise
from tests.worlds.images import collect
from tests.worlds.processes import wait_until
from tests.worlds.workspace import MONTH, World, a_held_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two classes, no image, a champion; its jobs do not end before they are released."""
    with a_held_world(tmp_path) as world:
        yield world


def start_evaluations_at_once(world: World, count: int) -> list[Delivery]:
    barrier, deliveries = threading.Barrier(count), []

    def deliver() -> None:
        workspace = world.workspace
        barrier.wait()
        deliveries.append(start_evaluation(workspace))

    threads = [threading.Thread(target=deliver) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return deliveries


@pytest.mark.parametrize(
    ("batch", "error"),
    [
        ("2021-13", InvalidBatch),
        ("2021-1", InvalidBatch),
        ("october", InvalidBatch),
        ("1999-01", NoBatch),
        ("2021-09", NoBatch),
    ],
)
def test_invalid_or_empty_batch_starts_nothing(world: World, batch: str, error: type[AdaptationError]) -> None:
    (world.folder / "collection" / "2021-09").mkdir(parents=True)
    world.collect(20)
    with pytest.raises(error, match=batch):
        start_evaluation(world.workspace, batch)
    assert world.job_ids == []


def test_collection_without_batches_starts_nothing(world: World) -> None:
    with pytest.raises(NoBatch, match="collection"):
        start_evaluation(world.workspace)
    assert world.job_ids == []


@pytest.mark.parametrize("run", [start_evaluation, trigger])
def test_evaluation_without_a_champion_is_refused(tmp_path: Path, run: object) -> None:
    world = World.make(tmp_path)
    world.collect(20)
    with pytest.raises(NoSuchModel, match="adapt train"):
        run(world.workspace)  # type: ignore[operator]
    assert world.job_ids == []
    assert not (tmp_path / "triggers").exists()


def test_evaluation_by_hand_needs_no_number_of_new_images(world: World) -> None:
    world.collect(3)
    delivery = start_evaluation(world.workspace, MONTH)
    assert (delivery.plan.outcome, delivery.plan.batch) == (Outcome.START, Batch(2021, 10))
    assert delivery.job and delivery.job.id == "evaluation-2021-10-0001"


def test_evaluation_by_hand_takes_the_newest_batch(world: World) -> None:
    world.collect(3, "2021-09")
    world.collect(3, "2021-11")
    assert start_evaluation(world.workspace).plan.job_id == "evaluation-2021-11-0001"


def test_running_evaluation_is_named_and_no_other_starts(world: World) -> None:
    world.collect(3)
    start_evaluation(world.workspace)
    wait_until(lambda: world.workspace.jobs.list()[0].state is JobState.RUNNING)
    again = start_evaluation(world.workspace)
    assert again.plan.outcome is Outcome.RUNNING
    assert again.job and again.job.id == "evaluation-2021-10-0001"
    assert world.job_ids == ["evaluation-2021-10-0001"]


def test_batch_is_evaluated_again_on_request_after_its_evaluation(world: World) -> None:
    world.collect(3)
    start_evaluation(world.workspace)
    world.release()
    assert start_evaluation(world.workspace).plan.job_id == "evaluation-2021-10-0002"


def test_evaluations_started_at_once_are_one_job_that_all_name(world: World) -> None:
    world.collect(3)
    deliveries = start_evaluations_at_once(world, 4)
    assert [delivery.job and delivery.job.id for delivery in deliveries] == ["evaluation-2021-10-0001"] * 4
    assert world.job_ids == ["evaluation-2021-10-0001"]


def test_overtaken_start_follows_the_other_new_job_not_an_older_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.collect(3)
    start_evaluation(world.workspace)
    world.release()
    world.hold()
    overtaken = iter([True])

    def overtaken_act(intended: Plan, *rest: object) -> Job | None:
        if next(overtaken, False):
            monkeypatch.undo()
            start_evaluation(world.workspace)
        return jobs.act(intended, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "act", overtaken_act)
    delivery = start_evaluation(world.workspace)
    assert delivery.job and delivery.job.id == "evaluation-2021-10-0002"
    assert world.job_ids == ["evaluation-2021-10-0001", "evaluation-2021-10-0002"]


def test_images_deleted_meanwhile_start_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.collect(3)
    look = jobs.look

    def look_too_late(*arguments: object, **options: object) -> object:
        for image in (world.folder / "collection" / MONTH).iterdir():
            image.unlink()
        return look(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "look", look_too_late)
    assert start_evaluation(world.workspace).job is None


def test_trigger_waits_for_enough_images_and_starts_once(world: World) -> None:
    world.collect(9)
    assert trigger(world.workspace).plan.outcome is Outcome.NOT_ENOUGH
    world.collect(1, first=9)
    assert planned(world.workspace)[1].outcome is Outcome.START
    assert world.job_ids == []
    assert [trigger(world.workspace).plan.job_id for _ in range(3)] == ["evaluation-2021-10-0001"] * 3
    assert world.job_ids == ["evaluation-2021-10-0001"]


def test_plan_counts_all_images_not_only_the_minimum(world: World) -> None:
    world.collect(25)
    state, intended = planned(world.workspace)
    assert (state.images, state.new, state.digest) == (25, 25, world.workspace.batches.snapshot(Batch(2021, 10)).digest)
    assert "25 new images" in intended.reason


@pytest.mark.parametrize(("window", "error"), [("1,7", SpanNotPublished), ("newest", InvalidWindow)])
def test_invalid_window_starts_no_training(
    world: World, tmp_path: Path, window: str, error: type[AdaptationError]
) -> None:
    one_span(world, tmp_path)
    with pytest.raises(error, match=window[-1]):
        start_training(world.workspace, window)
    assert world.job_ids == []


def test_training_names_its_spans_and_their_digest(world: World, tmp_path: Path) -> None:
    one_span(world, tmp_path)
    job = start_training(world.workspace)
    assert job.id.startswith("training-by-hand-")
    assert job.parameters == {"window": "1", "digest": world.workspace.select().digest}


def one_span(world: World, folder: Path) -> None:
    collect(folder / "own", [f"{label}_{number}.png" for label in ("ship", "truck") for number in range(20)])
    initialise(world.folder, folder / "own")


def test_second_training_by_hand_is_refused_while_one_runs(world: World, tmp_path: Path) -> None:
    one_span(world, tmp_path)
    world.hold()
    job = start_training(world.workspace)
    with pytest.raises(AdaptationError, match=job.id):
        start_training(world.workspace)
    world.release()
    list(world.workspace.jobs.follow(job.id))


def test_evidence_is_that_of_the_champions_own_log(world: World) -> None:
    champion = world.workspace.platform.registry.find()
    log = EvaluationLog(world.workspace.batches, version_id(champion.number, champion.key))
    found = current_evidence(world.workspace)
    assert found is not None and found.block is None
    world.collect(100)
    snapshot = world.workspace.batches.snapshot(Batch.parse(MONTH))
    log.add(snapshot, an_evaluation(60), frozenset(), "evaluation-1")
    found = current_evidence(world.workspace)
    assert found is not None and found.reached and "60 of 100 correct" in found.reason


def an_evaluation(correct: int) -> Evaluation:
    """An evaluation of 100 new images."""
    fresh = ((correct - 50, 100 - correct), (0, 50))
    interval = wilson_interval(correct, 100)
    return Evaluation(MONTH, 100, correct, correct / 100, interval, (), ("ship", "truck"), fresh, (), (), fresh)


def test_training_killed_at_any_moment_is_repeated_by_the_next_delivery(world: World, tmp_path: Path) -> None:
    one_span(world, tmp_path)
    world.conclude(TRAINING, deployed=True)
    workspace = world.workspace
    decision = Decision(1, "evaluation-2021-10-0001", 1, workspace.spans.root, "all", "spans")
    world.hold()
    killed = [retraining.start(workspace.triggers, workspace.jobs, workspace.platform.registry, decision).id]
    kill_job(world, killed[0])
    assert planned(workspace)[0].training.step is Step.RETRY
    killed.append(trigger(workspace).training.job.id)  # type: ignore[union-attr]
    kill_job(world, killed[1])
    world.release()
    last = trigger(workspace).training.job.id  # type: ignore[union-attr]
    list(workspace.jobs.follow(last))
    assert [job.rpartition("-")[2] for job in (*killed, last)] == ["1", "2", "3"]
    assert planned(workspace)[0].training.step is Step.DONE and trigger(workspace).training.job.id == last  # type: ignore[union-attr]


def kill_job(world: World, job: str) -> None:
    """Send SIGKILL to the process of a job that has begun."""
    next(iter(world.workspace.jobs.follow(job)))
    folder = str(Path(world.workspace.root, "jobs", job)).encode()
    (process,) = [int(one.parent.name) for one in Path("/proc").glob("[0-9]*/cmdline") if folder in arguments_of(one)]
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: world.workspace.jobs.get(job).state is JobState.FAILED)  # type: ignore[union-attr]


def arguments_of(command_line: Path) -> list[bytes]:
    """The arguments of a process; none if it has ended."""
    try:
        return command_line.read_bytes().split(b"\0")
    except OSError:
        return []
