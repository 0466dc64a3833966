"""Cost of a delivery on object storage: pages of listings, counted as requests, for any amount of data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

import pytest

from adaptation.data.batches import Batch, BatchStore
from adaptation.platforms.base import JobRequest, JobState
from adaptation.trigger import Outcome, TriggerRecord, deliver, journal, look, plan
from emulators.http_server import Request
from emulators.storage.emulator import StorageEmulator
from tests.worlds.trigger import MemoryJobs
from tests.worlds.vertex import object_storage

JUNE = Batch(2026, 6)
ENOUGH = 100
LISTING = r"^GET /storage/v1/b/images/o\?"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageEmulator]:
    with object_storage(monkeypatch, "images") as emulator:
        yield emulator


@pytest.fixture
def batches(emulator: StorageEmulator) -> BatchStore:
    return BatchStore("gs://images/collected")


RECORDS = "gs://images/triggers"


def fill(emulator: StorageEmulator, names: Iterable[str]) -> int:
    """Put empty objects into the bucket without a connection for each. Return how many."""
    uploads = (f"/upload/storage/v1/b/images/o?uploadType=media&name={quote(name)}" for name in names)
    answers = [emulator.answer(Request("POST", upload, {"host": "127.0.0.1"}, b"")).status for upload in uploads]
    assert set(answers) == {200}
    return len(answers)


def images(folder: str, count: int) -> Iterator[str]:
    return (f"collected/{folder}/ship_{number:06}.jpg" for number in range(count))


def pages(emulator: StorageEmulator, prefix: str = "") -> int:
    """Return the pages of listings requested since the last call, of folders with this prefix."""
    count = emulator.count(f"{LISTING}prefix={prefix}")
    emulator.requests.clear()
    return count


def test_first_look_at_a_full_batch_costs_the_same_beside_100_000_objects(
    emulator: StorageEmulator, batches: BatchStore
) -> None:
    fill(emulator, images(str(JUNE), ENOUGH))
    few = _pages_of_a_look(emulator, batches, MemoryJobs())
    years = [f"{year}-{month:02d}" for year in range(1995, 2026) for month in range(1, 13)]
    objects = fill(emulator, (name for month in years for name in images(month, 50)))
    objects += fill(emulator, (name for month in years for name in images(f"{month}_old", 50)))
    objects += fill(emulator, images("2026-05", 30_000))
    objects += fill(emulator, images(str(JUNE), 30_000))
    objects += fill(emulator, (f"other/{number}.jpg" for number in range(4_000)))
    assert objects >= 100_000
    assert _pages_of_a_look(emulator, batches, MemoryJobs()) == few <= 11


def _pages_of_a_look(emulator: StorageEmulator, batches: BatchStore, jobs: MemoryJobs) -> int:
    emulator.requests.clear()
    state = look(batches, RECORDS, jobs, ENOUGH)
    assert (state.batch, state.new, plan(state).outcome) == (JUNE, ENOUGH, Outcome.START)
    return pages(emulator)


def test_look_costs_the_same_after_two_months_as_after_ten_years(
    emulator: StorageEmulator, batches: BatchStore
) -> None:
    fill(emulator, images(str(JUNE), ENOUGH))
    jobs = MemoryJobs()
    for month in ("2026-04", "2026-05"):
        _evaluated_often(month, jobs)
    few = _pages_of_a_look(emulator, batches, jobs)
    for month in (f"{year}-{month:02d}" for year in range(2016, 2026) for month in range(1, 13)):
        fill(emulator, images(month, 20))
        _evaluated_often(month, jobs)
    assert _pages_of_a_look(emulator, batches, jobs) == few <= 11


def _evaluated_often(month: str, jobs: MemoryJobs, times: int = 20) -> None:
    triggered = journal(RECORDS, Batch.parse(month))
    for number in range(times):
        job = f"evaluation-{month}-{number + 1:04d}"
        triggered.append(TriggerRecord(job, attempt=1, images=1, digest="", time="", reason=""), after=number)
        jobs.create(JobRequest(job, "evaluation", {"batch": month}))
        jobs.end(job, JobState.SUCCEEDED)


def test_evaluated_images_that_stayed_are_skipped_page_by_page(emulator: StorageEmulator, batches: BatchStore) -> None:
    fill(emulator, images(str(JUNE), 2_500))
    batches.mark_evaluated(batches.snapshot(JUNE))
    fill(emulator, (f"collected/{JUNE}/truck_{number:06}.jpg" for number in range(5_000)))
    emulator.requests.clear()
    state = look(batches, RECORDS, MemoryJobs(), ENOUGH)
    assert (state.images, state.new) == (2_600, ENOUGH)
    assert pages(emulator, f"collected/{JUNE}/") == 3


def test_batch_under_evaluation_costs_no_page_of_its_images(emulator: StorageEmulator, batches: BatchStore) -> None:
    fill(emulator, images(str(JUNE), ENOUGH))
    jobs = MemoryJobs()
    deliver(batches, RECORDS, jobs, ENOUGH)
    emulator.requests.clear()
    assert deliver(batches, RECORDS, jobs, ENOUGH).plan.outcome is Outcome.RUNNING
    assert pages(emulator, f"collected/{JUNE}/") == 0


def test_batch_is_read_to_its_end_after_a_failure(emulator: StorageEmulator, batches: BatchStore) -> None:
    fill(emulator, images(str(JUNE), 2_500))
    jobs = MemoryJobs()
    deliver(batches, RECORDS, jobs, ENOUGH)
    jobs.end("evaluation-2026-06-0001", JobState.FAILED)
    delivery = deliver(batches, RECORDS, jobs, ENOUGH)
    assert (delivery.plan.outcome, delivery.plan.images) == (Outcome.RETRY, 2_500)


@pytest.mark.parametrize("newest", ["9999-12", "2026-11", "2026-01", "2025-01", "2018-01", "1950-01", "0001-01"])
def test_newest_batch_is_found_in_a_few_pages_however_long_ago(
    emulator: StorageEmulator, batches: BatchStore, newest: str
) -> None:
    fill(emulator, (f"collected/{month}/ship.jpg" for month in (newest, "0000-01", "0000-12", f"{newest}_old")))
    emulator.requests.clear()
    assert str(batches.newest()) == newest
    assert pages(emulator) <= 5
