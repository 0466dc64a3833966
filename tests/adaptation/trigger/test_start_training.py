"""`start_training`: one training per span, repeated a bounded number of times."""

from __future__ import annotations

import pytest

from adaptation.platforms.base import JobFailed, JobState
from adaptation.trigger import start_training
from tests.worlds.trigger import MemoryJobs

PARAMETERS = {"window": "1-2", "digest": "abcdef0123456789"}


def test_training_is_started_once_for_a_span() -> None:
    jobs = MemoryJobs()
    first, second = (start_training(jobs, 2, "abcdef0123456789", PARAMETERS) for _ in range(2))
    assert first == second == jobs.get("training-span-2-abcdef01-1")
    assert (first.pipeline, first.parameters) == ("training", PARAMETERS)


def test_training_that_succeeded_is_not_repeated() -> None:
    jobs = MemoryJobs()
    jobs.end(start_training(jobs, 2, "abcdef01", PARAMETERS).id, JobState.SUCCEEDED)
    assert start_training(jobs, 2, "abcdef01", PARAMETERS).id == "training-span-2-abcdef01-1"


def test_training_that_failed_three_times_raises_with_its_link() -> None:
    jobs = MemoryJobs()
    for _ in range(3):
        jobs.end(start_training(jobs, 2, "abcdef01", PARAMETERS).id, JobState.FAILED, "no memory")
    with pytest.raises(JobFailed, match="failed 3 times.*no memory.*link/training-span-2-abcdef01-3"):
        start_training(jobs, 2, "abcdef01", PARAMETERS)
    assert len(jobs.jobs) == 3
