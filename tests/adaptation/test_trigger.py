"""The trigger: each state of the data starts one evaluation, however often it is delivered, whatever breaks."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptation.data.batches import Batch, BatchStore
from adaptation.io import object_store, storage
from adaptation.io.journal import Journal
from adaptation.platforms.base import Job, JobRequest, JobState, Platform, Upload
from adaptation.platforms.local import LocalJobs, LocalRegistry, NoSuchModel
from adaptation.trigger import (
    MAX_ATTEMPTS,
    Delivery,
    Outcome,
    Plan,
    State,
    TrainingFailed,
    TriggerRecord,
    act,
    deliver,
    look,
    plan,
    start_training,
    tick,
)
from emulators.storage.emulator import StorageEmulator

OCTOBER, NOVEMBER = Batch(2021, 10), Batch(2021, 11)
_BUCKETS = itertools.count()
ENDED = (JobState.SUCCEEDED, JobState.FAILED)


class Crash(BaseException):
    """The process is gone."""


class MemoryJobs:
    """Jobs that run when the test says so."""

    def __init__(self, first_state: JobState = JobState.RUNNING) -> None:
        self.jobs: dict[str, Job] = {}
        self.first_state = first_state

    def create(self, request: JobRequest) -> Job:
        job = Job(request.id, request.pipeline, request.parameters, self.first_state, "", f"link/{request.id}", {})
        return self.jobs.setdefault(request.id, job)

    def get(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    def list(self) -> list[Job]:
        return list(self.jobs.values())

    def end(self, job_id: str, state: JobState, message: str = "") -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], state=state, message=message)


@dataclass
class World:
    """Batches, records and jobs under one root; two new images are worth an evaluation."""

    root: str
    jobs: MemoryJobs = field(default_factory=MemoryJobs)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    min_images: int = 2

    @property
    def batches(self) -> BatchStore:
        return BatchStore(storage.join(self.root, "collection"))

    @property
    def records(self) -> str:
        return storage.join(self.root, "triggers")

    def arrive(self, images: int, batch: Batch = OCTOBER) -> None:
        for _ in range(images):
            name = f"ship_{next(self.numbers):04d}.png"
            storage.write(storage.join(self.batches.folder(batch), name), b"image")

    def deliver(self, **options: Any) -> Delivery:
        return deliver(self.batches, self.records, self.jobs, self.min_images, **options)

    def look(self, **options: Any) -> State:
        return look(self.batches, self.records, self.jobs, self.min_images, **options)

    def new(self, batch: Batch) -> int:
        evaluated = self.batches.evaluated(batch)
        return sum(image not in evaluated for image in self.batches.images(batch))

    def recorded(self, batch: Batch) -> list[int]:
        """How many images each record of a batch tells of."""
        return [record.value["images"] for record in Journal(storage.join(self.records, str(batch))).records()]

    def succeed(self, job_id: str, archive: bool = False) -> None:
        """Ends an evaluation as the pipeline does: its images are marked first."""
        batch = Batch.parse(self.jobs.jobs[job_id].parameters["batch"])
        if self.batches.images(batch):
            snapshot = self.batches.snapshot(batch)
            self.batches.mark_evaluated(snapshot)
            if archive:
                self.batches.archive(snapshot)
        self.jobs.end(job_id, JobState.SUCCEEDED)

    def fail(self, job_id: str) -> None:
        self.jobs.end(job_id, JobState.FAILED, "it broke")


@pytest.fixture(params=["local", "memory", "gs"])
def world(request: pytest.FixtureRequest, places: Places) -> Iterator[World]:
    with places(request.param) as root:
        yield World(root)


Places = Callable[[str], contextlib.AbstractContextManager[str]]


@pytest.fixture
def places(object_storage: StorageEmulator, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Makes empty places: on this machine's disk, in memory, or on object storage, whose pages hold two names."""
    monkeypatch.setattr(object_store, "NAMES_PER_PAGE", 2)
    for name, value in object_storage.environment().items():
        monkeypatch.setenv(name, value)

    @contextlib.contextmanager
    def place(kind: str) -> Iterator[str]:
        if kind == "local":
            with tempfile.TemporaryDirectory() as folder:
                yield folder
        elif kind == "memory":
            MemoryFileSystem.store.clear()
            MemoryFileSystem.pseudo_dirs[:] = [""]
            yield "memory://bucket"
        else:
            bucket = f"trigger-{next(_BUCKETS)}"
            object_storage.create_bucket(bucket)
            yield f"gs://{bucket}"

    return place


def a_record(**changes: Any) -> TriggerRecord:
    record = TriggerRecord(1, "evaluation-2021-10-0001", 1, 100, "d", "2021-10-31T00:00:00+00:00", "100 new images")
    return replace(record, **changes)


def a_job(state: JobState, job_id: str = "evaluation-2021-10-0001") -> Job:
    return Job(job_id, "evaluation", {"batch": "2021-10"}, state, "it broke", "the/log.txt", {})


def a_state(**changes: Any) -> State:
    return replace(State(OCTOBER, images=100, new=100, digest="d", min_images=100), **changes)


# What follows from a state


def test_no_month_is_no_batch() -> None:
    assert plan(State(None)).outcome is Outcome.NO_BATCH


def test_enough_new_images_start_the_first_evaluation() -> None:
    planned = plan(a_state())
    assert (planned.outcome, planned.job_id, planned.number, planned.attempt) == (
        Outcome.START,
        "evaluation-2021-10-0001",
        1,
        1,
    )


def test_too_few_new_images_are_told_with_how_many_are_missing() -> None:
    planned = plan(a_state(new=37))
    assert planned.outcome is Outcome.NOT_ENOUGH
    assert "37 new images, 63 more are needed" in planned.reason


def test_nothing_new_is_told_apart_from_too_few() -> None:
    planned = plan(a_state(new=0, last=a_record(), job=a_job(JobState.SUCCEEDED)))
    assert (planned.outcome, planned.job_id) == (Outcome.NOTHING_NEW, "evaluation-2021-10-0001")


def test_a_running_evaluation_is_waited_for_however_many_images_arrive() -> None:
    planned = plan(a_state(images=9000, new=9000, last=a_record(), job=a_job(JobState.RUNNING)))
    assert planned.outcome is Outcome.RUNNING


@pytest.mark.parametrize("job", [None, a_job(JobState.PENDING)])
def test_a_record_without_a_running_job_is_resumed_whatever_the_images(job: Job | None) -> None:
    planned = plan(a_state(images=0, new=0, last=a_record(number=7, job="evaluation-2021-10-0007"), job=job))
    assert (planned.outcome, planned.job_id) == (Outcome.RESUME, "evaluation-2021-10-0007")


def test_a_failed_evaluation_is_retried_as_the_next_job() -> None:
    planned = plan(a_state(last=a_record(), job=a_job(JobState.FAILED)))
    assert (planned.outcome, planned.job_id, planned.attempt) == (Outcome.RETRY, "evaluation-2021-10-0002", 2)
    assert "it broke" in planned.reason


def test_a_failed_evaluation_is_retried_though_its_images_are_marked_already() -> None:
    assert plan(a_state(new=0, last=a_record(), job=a_job(JobState.FAILED))).outcome is Outcome.RETRY


def test_an_evaluation_that_failed_as_often_as_allowed_is_given_up_and_says_where_to_look() -> None:
    planned = plan(a_state(images=150, new=150, last=a_record(attempt=3), job=a_job(JobState.FAILED)))
    assert planned.outcome is Outcome.GIVE_UP
    assert "the/log.txt" in planned.reason
    assert "50 more images" in planned.reason


def test_enough_images_after_the_failed_ones_end_the_giving_up() -> None:
    planned = plan(a_state(images=200, new=200, last=a_record(number=3, attempt=3), job=a_job(JobState.FAILED)))
    assert (planned.outcome, planned.number, planned.attempt) == (Outcome.START, 4, 1)


def test_a_failed_evaluation_without_images_left_is_given_up() -> None:
    assert plan(a_state(images=0, new=0, last=a_record(), job=a_job(JobState.FAILED))).outcome is Outcome.GIVE_UP


@pytest.mark.parametrize("new", [0, 1, 100])
@pytest.mark.parametrize("state", ENDED)
def test_a_person_may_ask_for_an_evaluation_at_any_time(new: int, state: JobState) -> None:
    planned = plan(a_state(new=new, force=True, last=a_record(attempt=3), job=a_job(state)))
    assert (planned.outcome, planned.number, planned.attempt) == (Outcome.START, 2, 1)


def test_asking_starts_no_second_evaluation_beside_a_running_one() -> None:
    assert plan(a_state(force=True, last=a_record(), job=a_job(JobState.RUNNING))).outcome is Outcome.RUNNING


def test_asking_for_an_evaluation_of_no_images_starts_none() -> None:
    assert plan(a_state(images=0, new=0, force=True)).outcome is Outcome.NOTHING_NEW


@given(
    images=st.integers(0, 300),
    new=st.integers(0, 300),
    min_images=st.integers(1, 200),
    attempt=st.integers(1, 5),
    last_images=st.integers(0, 300),
    job=st.sampled_from([None, *JobState]),
    recorded=st.booleans(),
    force=st.booleans(),
)
def test_every_state_has_one_outcome_and_a_reason(
    images: int,
    new: int,
    min_images: int,
    attempt: int,
    last_images: int,
    job: JobState | None,
    recorded: bool,
    force: bool,
) -> None:
    planned = plan(
        State(
            OCTOBER,
            images=images,
            new=min(new, images),
            min_images=min_images,
            last=a_record(attempt=attempt, images=last_images) if recorded else None,
            job=a_job(job) if recorded and job else None,
            force=force,
        )
    )
    assert planned.outcome in Outcome
    assert planned.reason
    assert planned.number == int(planned.job_id[-4:] or 0)


# Looking and acting


def test_a_delivery_creates_the_evaluation_of_the_newest_month(world: World) -> None:
    world.arrive(5, OCTOBER)
    world.arrive(2, NOVEMBER)
    delivery = world.deliver()
    assert delivery.plan.outcome is Outcome.START
    assert delivery.job == world.jobs.get("evaluation-2021-11-0001")
    assert delivery.job is not None
    assert (delivery.job.pipeline, delivery.job.parameters) == ("evaluation", {"batch": "2021-11"})


def test_what_was_triggered_is_recorded_as_far_as_it_was_counted(world: World) -> None:
    world.arrive(2)
    world.deliver()
    last = world.look().last
    assert last is not None
    assert (last.number, last.attempt, last.images) == (1, 1, 2)
    assert last.digest == world.batches.snapshot(OCTOBER).digest


def test_images_beyond_those_that_are_enough_are_not_counted_unless_asked_for(world: World) -> None:
    world.arrive(5)
    state, whole = world.look(), world.look(whole=True)
    assert (state.images, state.new, state.whole) == (2, 2, False)
    assert (whole.images, whole.new, whole.whole) == (5, 5, True)
    assert whole.digest == world.batches.snapshot(OCTOBER).digest != state.digest
    assert "2 or more new images" in plan(state).reason
    assert "5 new images" in plan(whole).reason
    assert plan(state).job_id == plan(whole).job_id


def test_what_a_person_asks_for_is_counted_whole(world: World) -> None:
    world.arrive(5)
    assert plan(world.look(force=True)).reason == "asked for: 5 images, 5 of them new"


def test_too_few_images_are_all_counted(world: World) -> None:
    world.arrive(1)
    state = world.look()
    assert (state.images, state.whole) == (1, True)
    assert plan(state).reason == "1 new images, 1 more are needed"


def test_new_images_are_found_behind_those_that_were_evaluated(world: World) -> None:
    world.arrive(7)
    world.deliver()
    world.succeed("evaluation-2021-10-0001")
    world.arrive(3)
    state = world.look()
    assert (state.new, state.whole) == (2, False)
    assert world.deliver().plan.job_id == "evaluation-2021-10-0002"


def test_after_a_failure_images_that_were_there_are_not_taken_for_new_arrivals(world: World) -> None:
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


def test_no_image_is_looked_at_while_an_evaluation_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.arrive(2)
    world.deliver()
    monkeypatch.setattr(storage, "iter_files_below", forbidden)
    assert world.deliver().plan.outcome is Outcome.RUNNING
    world.jobs.jobs.clear()
    assert world.deliver().plan.outcome is Outcome.RESUME


def forbidden(*args: object) -> Any:
    raise AssertionError(f"this is not to be called: {args}")


def test_repeated_deliveries_of_one_state_create_one_job(world: World) -> None:
    world.arrive(2)
    outcomes = [world.deliver().plan.outcome for _ in range(3)]
    world.succeed("evaluation-2021-10-0001")
    outcomes += [world.deliver().plan.outcome for _ in range(3)]
    assert outcomes == [Outcome.START, *[Outcome.RUNNING] * 2, *[Outcome.NOTHING_NEW] * 3]
    assert len(world.jobs.jobs) == 1


def test_only_images_that_were_not_evaluated_count(world: World) -> None:
    world.arrive(2)
    world.deliver()
    world.succeed("evaluation-2021-10-0001")
    world.arrive(1)
    assert world.deliver().plan.outcome is Outcome.NOT_ENOUGH
    world.arrive(1)
    assert world.deliver().plan.job_id == "evaluation-2021-10-0002"


def test_requeued_images_are_evaluated_again(world: World) -> None:
    world.arrive(2)
    world.deliver()
    world.succeed("evaluation-2021-10-0001", archive=True)
    assert world.deliver().plan.outcome in (Outcome.NOTHING_NEW, Outcome.NO_BATCH)  # buckets have no empty folders
    world.batches.requeue(OCTOBER)
    assert world.deliver().plan.job_id == "evaluation-2021-10-0002"


def test_a_named_month_is_looked_at_instead_of_the_newest(world: World) -> None:
    world.arrive(3, OCTOBER)
    world.arrive(2, NOVEMBER)
    assert (world.look().batch, world.look(batch=OCTOBER).batch) == (NOVEMBER, OCTOBER)


def test_an_empty_collection_is_no_error(world: World) -> None:
    assert world.deliver().plan.outcome is Outcome.NO_BATCH
    assert world.jobs.jobs == {}


def test_a_failing_evaluation_is_tried_three_times_and_no_more(world: World) -> None:
    world.arrive(2)
    outcomes = []
    for _ in range(5):
        delivery = world.deliver()
        outcomes.append(delivery.plan.outcome)
        if delivery.job:
            world.fail(delivery.job.id)
    assert outcomes == [Outcome.START, Outcome.RETRY, Outcome.RETRY, Outcome.GIVE_UP, Outcome.GIVE_UP]


def test_who_comes_second_creates_no_job_and_says_so(world: World) -> None:
    world.arrive(2)
    planned = plan(world.look())
    first, second = act(planned, world.records, world.jobs), act(planned, world.records, world.jobs)
    assert first is not None
    assert second is None


def test_a_delivery_that_was_overtaken_tells_that_the_evaluation_runs(world: World) -> None:
    world.arrive(2)
    slow = Walker(world)
    slow.step_until("create")
    world.deliver()
    delivery = slow.finish()
    assert delivery is not None
    assert (delivery.plan.outcome, delivery.job) == (Outcome.RUNNING, None)
    assert "another delivery" in delivery.plan.reason


def test_a_job_that_was_recorded_but_never_created_is_created_by_the_next_delivery(world: World) -> None:
    world.arrive(2)
    cut_off = Walker(world)
    cut_off.step_until("jobs.create")
    cut_off.crash()
    assert world.jobs.jobs == {}
    delivery = world.deliver()
    assert (delivery.plan.outcome, list(world.jobs.jobs)) == (Outcome.RESUME, ["evaluation-2021-10-0001"])


def test_a_newer_month_does_not_hide_an_evaluation_that_was_cut_off(world: World) -> None:
    world.arrive(2, OCTOBER)
    cut_off = Walker(world)
    cut_off.step_until("jobs.create")
    cut_off.crash()
    world.arrive(2, NOVEMBER)
    started = [world.deliver().plan.job_id, world.deliver().plan.job_id]
    assert started == ["evaluation-2021-10-0001", "evaluation-2021-11-0001"]


def test_a_newer_month_does_not_hide_an_evaluation_that_fails_later(world: World) -> None:
    world.arrive(2, OCTOBER)
    world.deliver()
    world.arrive(2, NOVEMBER)
    assert world.deliver().plan.job_id == "evaluation-2021-11-0001"
    world.fail("evaluation-2021-10-0001")
    assert world.deliver().plan.job_id == "evaluation-2021-10-0002"


@pytest.mark.parametrize("then", ["succeeds", "is given up", "has no images left"])
def test_an_older_month_that_needs_nothing_does_not_hold_up_the_newest(world: World, then: str) -> None:
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


def test_an_evaluation_that_ends_while_somebody_looks_is_not_followed_by_one_of_the_same_images(world: World) -> None:
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


def test_an_evaluation_that_begins_and_ends_while_somebody_looks_is_not_repeated(world: World) -> None:
    for reads in range(30):
        world.arrive(2)
        looking = Walker(world)
        looking.step(reads)
        overtaking = world.deliver()
        assert looking.ended or overtaking.job
        world.succeed(world.jobs.list()[-1].id)
        looking.finish()
        assert len(world.jobs.jobs) == reads + 1


def _forget_marks(world: World) -> None:
    storage.remove_folder(storage.join(world.batches.root, "_evaluated"))


# With a platform


def a_platform(world: World, registry: LocalRegistry) -> Platform:
    return Platform(jobs=world.jobs, predictor=None, registry=registry, endpoint=None)  # type: ignore[arg-type]


def test_without_a_champion_nothing_is_started_or_recorded(world: World, tmp_path: Path) -> None:
    world.arrive(2)
    with pytest.raises(NoSuchModel):
        tick(a_platform(world, LocalRegistry(str(tmp_path / "registry"))), world.batches, world.records, 2)
    assert world.jobs.jobs == {}
    assert storage.files_below(world.records) == []


def test_with_a_champion_a_tick_is_a_delivery(world: World, tmp_path: Path) -> None:
    world.arrive(2)
    storage.write(str(tmp_path / "model" / "saved_model.pb"), b"model")
    registry = LocalRegistry(str(tmp_path / "registry"))
    version = registry.upload(Upload(str(tmp_path / "model"), "key", (1,), {}, "source", "run"))
    registry.promote(version, "because")
    delivery = tick(a_platform(world, registry), world.batches, world.records, 2)
    assert (delivery.plan.outcome, list(world.jobs.jobs)) == (Outcome.START, ["evaluation-2021-10-0001"])


# Training


PARAMETERS = {"window": "1-2", "digest": "abcdef0123456789"}


def test_a_training_is_started_once_for_a_span() -> None:
    jobs = MemoryJobs()
    first, second = (start_training(jobs, 2, "abcdef0123456789", PARAMETERS) for _ in range(2))
    assert first == second == jobs.get("training-span-2-abcdef01-1")
    assert (first.pipeline, first.parameters) == ("training", PARAMETERS)


def test_a_training_that_succeeded_is_not_repeated() -> None:
    jobs = MemoryJobs()
    jobs.end(start_training(jobs, 2, "abcdef01", PARAMETERS).id, JobState.SUCCEEDED)
    assert start_training(jobs, 2, "abcdef01", PARAMETERS).id == "training-span-2-abcdef01-1"


def test_a_failing_training_is_tried_so_often_and_then_says_where_to_look() -> None:
    jobs = MemoryJobs()
    for _ in range(3):
        jobs.end(start_training(jobs, 2, "abcdef01", PARAMETERS).id, JobState.FAILED, "no memory")
    with pytest.raises(TrainingFailed, match="failed 3 times.*no memory.*link/training-span-2-abcdef01-3"):
        start_training(jobs, 2, "abcdef01", PARAMETERS)
    assert len(jobs.jobs) == 3


# With processes


def test_many_deliveries_at_once_run_one_real_job(tmp_path: Any) -> None:
    world = World(str(tmp_path))
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


# Any interleaving

WHO, ACCESSES = st.integers(0, 3), st.integers(1, 12)
STEPS = st.one_of(
    st.tuples(st.just("walk"), WHO, ACCESSES),
    st.tuples(st.just("walk"), WHO, ACCESSES),
    st.tuples(st.just("walk"), WHO, ACCESSES),
    st.tuples(st.just("crash"), WHO),
    st.tuples(st.just("arrive"), st.integers(1, 3)),
    st.tuples(st.just("next_month"), st.integers(1, 3)),
    st.tuples(st.just("succeed"), st.booleans()),
    st.tuples(st.just("fail")),
    st.tuples(st.just("fail_for_good")),
)
INTERLEAVINGS = st.lists(STEPS, min_size=8, max_size=60)
EXAMPLES = {"local": 40, "memory": 300, "gs": 12}


@pytest.mark.parametrize("kind", ["local", "memory", "gs"])
def test_deliveries_interleaved_cut_off_and_repeated_evaluate_everything_once(kind: str, places: Places) -> None:
    @settings(max_examples=EXAMPLES[kind], deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(INTERLEAVINGS)
    def check(steps: list[tuple[Any, ...]]) -> None:
        with places(kind) as root:
            story = Story(World(root, WatchfulJobs()))
            story.arrive(2)
            for action, *values in steps:
                getattr(story, action)(*values)
            story.end()

    check()


class WatchfulJobs(MemoryJobs):
    """Refuses what must never happen: a second live job of one batch, or one that has too little to do."""

    world: World

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
    """Deliveries under way at the same time, while images arrive and jobs end; one step at a time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.month = OCTOBER
        self.under_way: dict[int, Walker] = {}
        world.jobs.world = world  # type: ignore[attr-defined]

    def end(self) -> None:
        """Lets everything come to rest without further crashes; then nothing worth an evaluation may be left.

        What was given up is started again once as many images have come as are worth it.
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
        journals = [Journal(storage.join(self.world.records, month)) for month in months]
        return {str(record.value["job"]) for journal in journals for record in journal.records()}

    def walk(self, who: int, accesses: int) -> None:
        if who not in self.under_way or self.under_way[who].ended:
            self.under_way[who] = Walker(self.world)
        self.under_way[who].step(accesses)

    def crash(self, who: int) -> None:
        if who in self.under_way:
            self.under_way[who].crash()

    def arrive(self, images: int) -> None:
        self.world.arrive(images, self.month)

    def next_month(self, images: int) -> None:
        """The month may turn while all that is worth an evaluation is under way, if only by a record."""
        under_way = (Outcome.RESUME, Outcome.RUNNING, Outcome.RETRY)
        too_few = self.world.new(OCTOBER) < self.world.min_images
        if self.month == OCTOBER and (too_few or plan(self.world.look(batch=OCTOBER)).outcome in under_way):
            self.month = NOVEMBER
            self.world.arrive(images, self.month)

    def succeed(self, archive: bool) -> None:
        for job in self._live():
            self.world.succeed(job.id, archive)

    def fail(self) -> None:
        for job in self._live():
            self.world.fail(job.id)

    def fail_for_good(self) -> None:
        """The evaluation under way fails as often as it is tried, unless another delivery comes between."""
        for _ in range(MAX_ATTEMPTS):
            self.fail()
            self.world.deliver()
        self.fail()

    def _live(self) -> list[Job]:
        return [job for job in self.world.jobs.list() if not job.state.ended]


class Walker:
    """A delivery in a thread of its own that goes on by one access, to storage or to jobs, when it is told to."""

    def __init__(self, world: World) -> None:
        self.delivery: Delivery | None = None
        self.error: BaseException | None = None
        self.next_access = ""
        self.ended = False
        self._world = replace(world, jobs=_Gated(world.jobs, self))  # type: ignore[arg-type]
        self._crashed = False
        self._free = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._walk, daemon=True)
        self._thread.start()
        self._stopped.acquire()

    def step(self, accesses: int = 1) -> None:
        for _ in range(accesses):
            if not self.ended:
                self._go.release()
                self._stopped.acquire()

    def step_until(self, access: str) -> None:
        """Goes on until this kind of access would be the next."""
        while self.next_access != access:
            assert not self.ended, f"no access {access}"
            self.step()

    def finish(self) -> Delivery | None:
        """Goes on to the end."""
        while not self.ended:
            self.step()
        self._thread.join()
        if self.error and not isinstance(self.error, Crash):
            raise self.error
        return self.delivery

    def crash(self) -> None:
        """Is cut off where it stands: what it did last is done, what it would do next is not."""
        self._crashed = True
        self.finish()

    def gate(self, access: str) -> None:
        self.next_access = access
        self._stopped.release()
        self._go.acquire()
        if self._crashed:
            raise Crash

    def _walk(self) -> None:
        _WALKING.walker = self
        try:
            self.delivery = self._world.deliver()
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self._stopped.release()


class _Gated:
    def __init__(self, jobs: MemoryJobs, walker: Walker) -> None:
        self._jobs, self._walker = jobs, walker

    def create(self, request: JobRequest) -> Job:
        self._walker.gate("jobs.create")
        with _one_access():
            return self._jobs.create(request)

    def get(self, job_id: str) -> Job | None:
        self._walker.gate("jobs.get")
        return self._jobs.get(job_id)


@contextlib.contextmanager
def _one_access() -> Iterator[None]:
    """What is accessed inside is part of the access that was let through."""
    _WALKING.walker, walker = None, _WALKING.walker
    try:
        yield
    finally:
        _WALKING.walker = walker


_WALKING = threading.local()
_ACCESSES = {name: getattr(storage, name) for name in ("create", "read", "files", "folders", "exists")}
_LISTING = storage.iter_files_below


def _gated(name: str, access: Callable[..., Any]) -> Callable[..., Any]:
    def waiting(*args: Any, **options: Any) -> Any:
        walker = getattr(_WALKING, "walker", None)
        if walker:
            walker.gate(name)
        return access(*args, **options)

    return waiting


def _gated_listing(uri: str) -> Iterator[storage.File]:
    """Each file that is found may be a page of its own."""
    files = _LISTING(uri)
    while found := list(_gated("iter_files_below", itertools.islice)(files, 1)):
        yield from found


@pytest.fixture(autouse=True)
def _walking_deliveries_wait_for_their_turn() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, access in _ACCESSES.items():
            stack.enter_context(mock.patch.object(storage, name, _gated(name, access)))
        stack.enter_context(mock.patch.object(storage, "iter_files_below", _gated_listing))
        yield
