"""Batches, records and jobs for the trigger, and deliveries that advance one access at a time."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from adaptation.data.batches import Batch, BatchStore
from adaptation.io import storage
from adaptation.platforms.base import Job, JobRequest, JobState
from adaptation.trigger import Delivery, State, deliver, journal, look

OCTOBER, NOVEMBER = Batch(2021, 10), Batch(2021, 11)
Places = Callable[[str], contextlib.AbstractContextManager[str]]


class Crash(BaseException):
    """The process was killed."""


class MemoryJobs:
    """Jobs whose states the test sets."""

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
class TriggerWorld:
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
        """Return the number of images in each record of a batch."""
        return [record.value.images for record in journal(self.records, batch).records()]

    def succeed(self, job_id: str, archive: bool = False) -> None:
        """End an evaluation as the pipeline does: its images are marked first."""
        batch = Batch.parse(self.jobs.jobs[job_id].parameters["batch"])
        if self.batches.images(batch):
            snapshot = self.batches.snapshot(batch)
            self.batches.mark_evaluated(snapshot)
            if archive:
                self.batches.archive(snapshot)
        self.jobs.end(job_id, JobState.SUCCEEDED)

    def fail(self, job_id: str) -> None:
        self.jobs.end(job_id, JobState.FAILED, "it broke")


class Walker:
    """A delivery in a thread that advances by one access, to storage or to jobs, at each `step`."""

    def __init__(self, world: TriggerWorld) -> None:
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
        """Advance until this kind of access would be the next."""
        while self.next_access != access:
            assert not self.ended, f"no access {access}"
            self.step()

    def finish(self) -> Delivery | None:
        """Advance to the end."""
        while not self.ended:
            self.step()
        self._thread.join()
        if self.error and not isinstance(self.error, Crash):
            raise self.error
        return self.delivery

    def crash(self) -> None:
        """Stop here: the last access has happened, the next one does not."""
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
    """Make all accesses inside a part of the one that was admitted."""
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


def _gated_listing(uri: str, *options: Any) -> Iterator[storage.File]:
    """Make each file that is found an access, as each may begin a page."""
    files = _LISTING(uri, *options)
    while found := list(_gated("iter_files_below", itertools.islice)(files, 1)):
        yield from found


@contextlib.contextmanager
def walking() -> Iterator[None]:
    """Make walkers, and nobody else, wait for their turn at each access to storage."""
    with contextlib.ExitStack() as stack:
        for name, access in _ACCESSES.items():
            stack.enter_context(mock.patch.object(storage, name, _gated(name, access)))
        stack.enter_context(mock.patch.object(storage, "iter_files_below", _gated_listing))
        yield
