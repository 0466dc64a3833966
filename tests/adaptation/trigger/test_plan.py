"""`plan`: what follows from a state of the data, without any storage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptation.io.journal import Record
from adaptation.platforms.base import Job, JobState
from adaptation.trigger import Outcome, State, TriggerRecord, plan
from tests.worlds.trigger import OCTOBER

ENDED = (JobState.SUCCEEDED, JobState.FAILED)


def a_record(number: int = 1, **changes: Any) -> Record[TriggerRecord]:
    record = TriggerRecord("evaluation-2021-10-0001", 1, 100, "d", "2021-10-31T00:00:00+00:00", "100 new images")
    return Record(number, replace(record, **changes))


def a_job(state: JobState, job_id: str = "evaluation-2021-10-0001") -> Job:
    return Job(job_id, "evaluation", {"batch": "2021-10"}, state, "it broke", "the/log.txt", {})


def a_state(**changes: Any) -> State:
    return replace(State(OCTOBER, images=100, new=100, digest="d", min_images=100), **changes)


def test_collection_without_a_batch_has_outcome_no_batch() -> None:
    assert plan(State(None)).outcome is Outcome.NO_BATCH


def test_enough_new_images_start_the_first_evaluation() -> None:
    planned = plan(a_state())
    assert (planned.outcome, planned.job_id, planned.number, planned.attempt) == (
        Outcome.START,
        "evaluation-2021-10-0001",
        1,
        1,
    )


def test_too_few_new_images_say_how_many_are_missing() -> None:
    planned = plan(a_state(new=37))
    assert planned.outcome is Outcome.NOT_ENOUGH
    assert "37 new images, 63 more are needed" in planned.reason


def test_no_new_images_differ_from_too_few() -> None:
    planned = plan(a_state(new=0, last=a_record(), job=a_job(JobState.SUCCEEDED)))
    assert (planned.outcome, planned.job_id) == (Outcome.NOTHING_NEW, "evaluation-2021-10-0001")


def test_running_evaluation_is_awaited_whatever_arrives() -> None:
    planned = plan(a_state(images=9000, new=9000, last=a_record(), job=a_job(JobState.RUNNING)))
    assert planned.outcome is Outcome.RUNNING


@pytest.mark.parametrize("job", [None, a_job(JobState.PENDING)])
def test_record_without_a_running_job_is_resumed(job: Job | None) -> None:
    planned = plan(a_state(images=0, new=0, last=a_record(number=7, job="evaluation-2021-10-0007"), job=job))
    assert (planned.outcome, planned.job_id) == (Outcome.RESUME, "evaluation-2021-10-0007")


def test_failed_evaluation_is_retried_as_the_next_job() -> None:
    planned = plan(a_state(last=a_record(), job=a_job(JobState.FAILED)))
    assert (planned.outcome, planned.job_id, planned.attempt) == (Outcome.RETRY, "evaluation-2021-10-0002", 2)
    assert "it broke" in planned.reason


def test_failed_evaluation_is_retried_though_its_images_are_marked() -> None:
    assert plan(a_state(new=0, last=a_record(), job=a_job(JobState.FAILED))).outcome is Outcome.RETRY


def test_evaluation_that_failed_too_often_is_given_up_with_its_link() -> None:
    planned = plan(a_state(images=150, new=150, last=a_record(attempt=3), job=a_job(JobState.FAILED)))
    assert planned.outcome is Outcome.GIVE_UP
    assert "the/log.txt" in planned.reason
    assert "50 more images" in planned.reason


def test_enough_later_images_start_again_after_giving_up() -> None:
    planned = plan(a_state(images=200, new=200, last=a_record(number=3, attempt=3), job=a_job(JobState.FAILED)))
    assert (planned.outcome, planned.number, planned.attempt) == (Outcome.START, 4, 1)


def test_failed_evaluation_without_images_left_is_given_up() -> None:
    assert plan(a_state(images=0, new=0, last=a_record(), job=a_job(JobState.FAILED))).outcome is Outcome.GIVE_UP


@pytest.mark.parametrize("new", [0, 1, 100])
@pytest.mark.parametrize("state", ENDED)
def test_forced_evaluation_starts_at_any_time(new: int, state: JobState) -> None:
    planned = plan(a_state(new=new, force=True, last=a_record(attempt=3), job=a_job(state)))
    assert (planned.outcome, planned.number, planned.attempt) == (Outcome.START, 2, 1)


def test_forced_evaluation_does_not_start_beside_a_running_one() -> None:
    assert plan(a_state(force=True, last=a_record(), job=a_job(JobState.RUNNING))).outcome is Outcome.RUNNING


def test_forced_evaluation_of_no_images_does_not_start() -> None:
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
