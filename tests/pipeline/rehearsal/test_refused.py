"""Specs and parameters that are not rehearsed: the cause is reported before anything runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptation.platforms.base import InvalidJob
from pipeline.compiled.spec import BrokenSpec, Spec
from pipeline.rehearsal import NotRehearsable, rehearse
from tests.worlds.rehearsal import RETRAIN, a_place, a_spec, container, decision, task

QUIET = container("leave()")


def test_unknown_or_mistyped_parameters_are_refused(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, {"First": task(QUIET)}, {"month": "", "images": 3})
    with pytest.raises(InvalidJob, match="no runtime parameter moth; it has: images, month"):
        rehearse(spec, a_place(tmp_path), {"moth": "2021-10"})
    with pytest.raises(InvalidJob, match="images takes a number, NUMBER_INTEGER, not 'many'"):
        rehearse(spec, a_place(tmp_path), {"images": "many"})
    assert not (tmp_path / "rehearsal").exists()


def tasks_in(job: Any) -> Any:
    return job["pipelineSpec"]["root"]["dag"]["tasks"]


def cycle(job: Any) -> None:
    tasks_in(job)["Decide"]["dependentTasks"] = ["Trigger"]


def foreign_executor(job: Any) -> None:
    job["pipelineSpec"]["deploymentSpec"]["executors"]["Decide"] = {"customJob": {}}


def upstream_value(job: Any) -> None:
    tasks_in(job)["Span"]["inputs"]["parameters"]["n"] = {"taskFinalState": {}}


def strange_condition(job: Any) -> None:
    tasks_in(job)["Span"]["triggerPolicy"]["condition"] = f"{RETRAIN} ? true : false"


def no_value(job: Any) -> None:
    del job["runtimeConfig"]["parameterValues"]["month"]


def not_importable(job: Any) -> None:
    executor = job["pipelineSpec"]["deploymentSpec"]["executors"]["Decide"]["container"]
    executor["args"] = ["--executor_class_path", "shop.no_such.Executor"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (cycle, "these wait for one another: Decide, Span, Trigger"),
        (foreign_executor, "Decide is carried out by customJob"),
        (upstream_value, "Span takes n from taskFinalState"),
        (strange_condition, "Span: the condition .* is not understood"),
        (no_value, "the runtime parameter month has no value"),
        (not_importable, "the executor shop.no_such.Executor cannot be imported"),
        (lambda job: tasks_in(job).pop("Decide"), "Span takes Decide from Decide, which is not in the pipeline"),
        (
            lambda job: tasks_in(job)["Span"]["inputs"]["artifacts"].clear(),
            "Span asks for Decide, which is not one of its",
        ),
        (lambda job: job["pipelineSpec"].update(schemaVersion="2.0.0"), "its schema is 2.0.0, not 2.1.0"),
    ],
)
def test_broken_spec_is_refused_with_the_cause_before_anything_runs(
    tmp_path: Path, change: Callable[[Any], object], cause: str
) -> None:
    job = copy.deepcopy(dict(a_spec(tmp_path, decision(1), {"month": "2021-10"}).job))
    change(job)
    with pytest.raises(BrokenSpec, match=cause):
        rehearse(Spec(job), a_place(tmp_path))
    assert not (tmp_path / "rehearsal").exists()


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("tfx.extensions.google_cloud_ai_platform.trainer.executor.GenericExecutor", "vertex.training.machine empty"),
        ("--runner=DataflowRunner", "vertex.dataflow to false"),
    ],
)
def test_work_for_a_cloud_service_is_refused_with_the_remedy(tmp_path: Path, word: str, remedy: str) -> None:
    executor = container("leave()")
    executor["container"]["args"].append(word)
    with pytest.raises(NotRehearsable, match=f"Train hands its work to .*{remedy}"):
        rehearse(a_spec(tmp_path, {"Train": task(executor)}), a_place(tmp_path))
