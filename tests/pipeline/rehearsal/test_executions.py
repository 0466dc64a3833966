"""The record of rehearsals: what importers and the cache find in it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.rehearsal.executions import Artifact, Execution, Metadata, TaskState

MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}


@pytest.fixture
def metadata(tmp_path: Path) -> Metadata:
    return Metadata(str(tmp_path))


def made(
    metadata: Metadata,
    kind: dict[str, str],
    pipeline: str = "shop",
    state: TaskState = TaskState.SUCCEEDED,
    uri: str = "/made",
    **properties: Any,
) -> Artifact:
    """Return an artifact of an execution that has ended."""
    execution = metadata.begin(pipeline, "run", "task")
    artifact = execution.new_artifact("made", kind, uri).with_metadata(properties)
    metadata.end(replace(execution, state=state, outputs={"made": (artifact,)}))
    return artifact


def test_artifact_made_last_at_a_uri_is_found(metadata: Metadata) -> None:
    made(metadata, MODEL, uri="/model")
    last = made(metadata, MODEL, uri="/model")
    made(metadata, MODEL, uri="/other")
    assert metadata.at("shop", "/model") == last


def test_artifact_of_overlapping_executions_is_of_the_last_to_end(metadata: Metadata) -> None:
    long = metadata.begin("shop", "run", "task")
    made(metadata, MODEL, uri="/model")
    artifact = long.new_artifact("made", MODEL, "/model")
    metadata.end(replace(long, state=TaskState.SUCCEEDED, outputs={"made": (artifact,)}))
    assert metadata.at("shop", "/model") == artifact


def test_artifact_of_another_pipeline_does_not_count(metadata: Metadata) -> None:
    made(metadata, MODEL, pipeline="other", uri="/model")
    assert metadata.at("shop", "/model") is None


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED, TaskState.RUNNING])
def test_artifact_of_a_task_that_did_not_succeed_does_not_count(metadata: Metadata, state: TaskState) -> None:
    made(metadata, MODEL, state=state, uri="/model")
    assert metadata.at("shop", "/model") is None


def test_whole_numbers_are_ints(metadata: Metadata) -> None:
    artifact = made(metadata, MODEL, images=39.0, accuracy=0.5)
    assert artifact.metadata == {"images": 39, "accuracy": 0.5}
    assert isinstance(artifact.metadata["images"], int)


def test_result_is_found_again_by_its_key(metadata: Metadata) -> None:
    first = metadata.begin("shop", "run", "task")
    metadata.end(replace(first, state=TaskState.SUCCEEDED, key="same"))
    failed = metadata.begin("shop", "run", "task")
    metadata.end(replace(failed, state=TaskState.FAILED, key="same"))
    found = metadata.cached("shop", "same")
    assert found is not None
    assert found.number == first.number
    assert metadata.cached("shop", "other") is None
    assert metadata.cached("other", "same") is None


def test_execution_that_never_ended_stays_running(metadata: Metadata) -> None:
    metadata.begin("shop", "run", "killed")
    made(metadata, MODEL)
    states = {execution.task: execution.state for execution in metadata.executions("shop")}
    assert states == {"killed": TaskState.RUNNING, "task": TaskState.SUCCEEDED}


def test_runs_that_write_at_once_lose_nothing_and_share_no_number(tmp_path: Path) -> None:
    def write(run: int) -> Execution:
        metadata = Metadata(str(tmp_path))
        execution = metadata.begin("shop", f"run-{run}", "task")
        metadata.end(replace(execution, state=TaskState.SUCCEEDED))
        return execution

    with ThreadPoolExecutor(8) as pool:
        executions = list(pool.map(write, range(24)))
    assert len({execution.number for execution in executions}) == 24
    recorded = Metadata(str(tmp_path)).executions("shop")
    assert {execution.run for execution in recorded} == {f"run-{run}" for run in range(24)}
    assert {execution.state for execution in recorded} == {TaskState.SUCCEEDED}


def test_record_is_read_as_it_was_written(metadata: Metadata) -> None:
    artifact = made(metadata, MODEL, owner="shop")
    (execution,) = metadata.executions("shop")
    assert execution.outputs == {"made": (artifact,)}
    assert (execution.run, execution.task, execution.state) == ("run", "task", TaskState.SUCCEEDED)
