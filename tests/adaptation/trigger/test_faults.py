"""Deliveries that overlap, are interrupted after any access, and are repeated: everything is evaluated once."""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptation.data.batches import Batch
from adaptation.io import storage
from adaptation.platforms.base import Job, JobRequest, JobState
from adaptation.platforms.local import LocalJobs
from adaptation.trigger import MAX_ATTEMPTS, Outcome, Plan, deliver, journal, plan
from tests.worlds.trigger import NOVEMBER, OCTOBER, MemoryJobs, Places, TriggerWorld, Walker

WHO, ACCESSES = st.integers(0, 3), st.integers(1, 12)


STEPS = st.one_of(
    st.tuples(st.just("walk"), WHO, ACCESSES),
    st.tuples(st.just("walk"), WHO, ACCESSES),
    st.tuples(st.just("walk"), WHO, ACCESSES),
    st.tuples(st.just("crash"), WHO),
    st.tuples(st.just("arrive"), st.integers(1, 3)),
    st.tuples(st.just("next_batch"), st.integers(1, 3)),
    st.tuples(st.just("succeed"), st.booleans()),
    st.tuples(st.just("fail")),
    st.tuples(st.just("fail_for_good")),
)


INTERLEAVINGS = st.lists(STEPS, min_size=8, max_size=60)


EXAMPLES = {"local": 40, "memory": 300, "gs": 12}


def test_overtaken_delivery_reports_that_the_evaluation_runs(world: TriggerWorld) -> None:
    world.arrive(2)
    slow = Walker(world)
    slow.step_until("create")
    world.deliver()
    delivery = slow.finish()
    assert delivery is not None
    assert (delivery.plan.outcome, delivery.job) == (Outcome.RUNNING, None)
    assert "another delivery" in delivery.plan.reason


def test_recorded_job_that_was_not_created_is_created_next_time(world: TriggerWorld) -> None:
    world.arrive(2)
    cut_off = Walker(world)
    cut_off.step_until("jobs.create")
    cut_off.crash()
    assert world.jobs.jobs == {}
    delivery = world.deliver()
    assert (delivery.plan.outcome, list(world.jobs.jobs)) == (Outcome.RESUME, ["evaluation-2021-10-0001"])


def test_newer_batch_does_not_hide_an_evaluation_that_was_cut_off(world: TriggerWorld) -> None:
    world.arrive(2, OCTOBER)
    cut_off = Walker(world)
    cut_off.step_until("jobs.create")
    cut_off.crash()
    world.arrive(2, NOVEMBER)
    started = [world.deliver().plan.job_id, world.deliver().plan.job_id]
    assert started == ["evaluation-2021-10-0001", "evaluation-2021-11-0001"]


def test_evaluation_that_ends_during_a_look_is_not_repeated(world: TriggerWorld) -> None:
    world.arrive(2)
    world.deliver()
    for reads in range(30):
        looking = Walker(world)
        looking.step(reads)
        world.succeed("evaluation-2021-10-0001")
        looking.finish()
        assert list(world.jobs.jobs) == ["evaluation-2021-10-0001"]
        _forget_marks(world)
        world.jobs.end("evaluation-2021-10-0001", JobState.RUNNING)


def test_evaluation_that_begins_and_ends_during_a_look_is_not_repeated(world: TriggerWorld) -> None:
    for reads in range(30):
        world.arrive(2)
        looking = Walker(world)
        looking.step(reads)
        overtaking = world.deliver()
        assert looking.ended or overtaking.job
        world.succeed(world.jobs.list()[-1].id)
        looking.finish()
        assert len(world.jobs.jobs) == reads + 1


def test_concurrent_deliveries_run_one_real_job(tmp_path: Any) -> None:
    world = TriggerWorld(str(tmp_path))
    world.arrive(2)
    script = tmp_path / "job.py"
    script.write_text(
        "import sys\n"
        "from adaptation.platforms.local import run_recorded\n"
        f"log = open({str(tmp_path / 'ran')!r}, 'a')\n"
        "run_recorded(sys.argv[1], lambda request: print(request.id, file=log, flush=True) or {})\n"
    )
    jobs = LocalJobs(str(tmp_path / "jobs"), (sys.executable, str(script)))
    with ThreadPoolExecutor(8) as pool:
        tick = [pool.submit(deliver, world.batches, world.records, jobs, 2) for _ in range(16)]
        outcomes = [future.result().plan.outcome for future in tick]
    assert list(jobs.follow("evaluation-2021-10-0001")) == []
    assert outcomes.count(Outcome.START) == 1
    assert set(outcomes) <= {Outcome.START, Outcome.RESUME, Outcome.RUNNING}
    assert (tmp_path / "ran").read_text().splitlines() == ["evaluation-2021-10-0001"]


@pytest.mark.parametrize("kind", ["local", "memory", "gs"])
def test_interleaved_and_interrupted_deliveries_evaluate_everything_once(kind: str, places: Places) -> None:
    @settings(max_examples=EXAMPLES[kind], deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(INTERLEAVINGS)
    def check(steps: list[tuple[Any, ...]]) -> None:
        with places(kind) as root:
            story = Story(TriggerWorld(root, WatchfulJobs()))
            story.arrive(2)
            for action, *values in steps:
                getattr(story, action)(*values)
            story.end()

    check()


def _forget_marks(world: TriggerWorld) -> None:
    storage.remove_folder(storage.join(world.batches.root, "_evaluated"))


class WatchfulJobs(MemoryJobs):
    """Jobs that refuse what must never happen: a second live job of one batch, or one with too few images."""

    world: TriggerWorld

    def create(self, request: JobRequest) -> Job:
        if request.id not in self.jobs:
            batch = Batch.parse(request.parameters["batch"])
            same = [job for job in self.jobs.values() if job.parameters["batch"] == str(batch)]
            assert all(job.state.ended for job in same), f"{request.id} beside a live job"
            failures = len(list(itertools.takewhile(lambda job: job.state is JobState.FAILED, reversed(same))))
            if failures % MAX_ATTEMPTS == 0:
                assert self.world.new(batch) >= self.world.min_images, f"{request.id} has nothing new"
            if failures and failures % MAX_ATTEMPTS == 0:
                arrived = len(self.world.batches.images(batch)) - self.world.recorded(batch)[-2]
                assert arrived >= self.world.min_images, f"{request.id} though {arrived} images have come"
        return super().create(request)


class Story:
    """Concurrent deliveries while images arrive and jobs end, one step at a time."""

    def __init__(self, world: TriggerWorld) -> None:
        self.world = world
        self.batch = OCTOBER
        self.under_way: dict[int, Walker] = {}
        world.jobs.world = world  # type: ignore[attr-defined]

    def end(self) -> None:
        """Finish everything without further crashes; then nothing worth an evaluation may be left.

        A batch that was given up is evaluated again after enough further images.
        """
        for walker in self.under_way.values():
            walker.finish()
        final = self._at_rest()
        if final.outcome is Outcome.GIVE_UP:
            assert final.batch is not None
            self.world.arrive(self.world.min_images, final.batch)
            final = self._at_rest()
        assert final.outcome in (Outcome.NO_BATCH, Outcome.NOTHING_NEW, Outcome.NOT_ENOUGH), final
        assert all(self.world.new(batch) < self.world.min_images for batch in self._not_given_up())
        assert all(job.state.ended for job in self.world.jobs.list())
        assert self._recorded() == set(self.world.jobs.jobs)

    def _at_rest(self) -> Plan:
        for _ in range(20):
            self.world.deliver()
            self.succeed(archive=False)
        return self.world.deliver().plan

    def _not_given_up(self) -> list[Batch]:
        last = {job.parameters["batch"]: job for job in self.world.jobs.list()}
        failed = {batch for batch, job in last.items() if job.state is JobState.FAILED}
        return [batch for batch in (OCTOBER, NOVEMBER) if str(batch) not in failed]

    def _recorded(self) -> set[str]:
        months = storage.folders(self.world.records)
        journals = [journal(self.world.records, Batch.parse(month)) for month in months]
        return {record.value.job for triggered in journals for record in triggered.records()}

    def walk(self, who: int, accesses: int) -> None:
        if who not in self.under_way or self.under_way[who].ended:
            self.under_way[who] = Walker(self.world)
        self.under_way[who].step(accesses)

    def crash(self, who: int) -> None:
        if who in self.under_way:
            self.under_way[who].crash()

    def arrive(self, images: int) -> None:
        self.world.arrive(images, self.batch)

    def next_batch(self, images: int) -> None:
        """Start the next batch if all that is worth an evaluation is under way, if only by a record."""
        under_way = (Outcome.RESUME, Outcome.RUNNING, Outcome.RETRY)
        too_few = self.world.new(OCTOBER) < self.world.min_images
        if self.batch == OCTOBER and (too_few or plan(self.world.look(batch=OCTOBER)).outcome in under_way):
            self.batch = NOVEMBER
            self.world.arrive(images, self.batch)

    def succeed(self, archive: bool) -> None:
        for job in self._live():
            self.world.succeed(job.id, archive)

    def fail(self) -> None:
        for job in self._live():
            self.world.fail(job.id)

    def fail_for_good(self) -> None:
        """Fail the running evaluation at each attempt, unless another delivery comes between."""
        for _ in range(MAX_ATTEMPTS):
            self.fail()
            self.world.deliver()
        self.fail()

    def _live(self) -> list[Job]:
        return [job for job in self.world.jobs.list() if not job.state.ended]
