"""Reuse of earlier rehearsals: artifacts, results, the inputs of a task repeated alone."""

from __future__ import annotations

import copy
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from adaptation.errors import AlreadyExists
from pipeline.compiled.spec import BrokenSpec, Spec
from pipeline.rehearsal import Rehearsal, rehearse
from pipeline.rehearsal.task_graph import NotRehearsable
from tests.worlds.rehearsal import FILE, a_place, a_spec, container, decision, metadata, states, task

QUIET = container("leave()")


def test_importer_records_the_same_artifact_once_unless_it_reimports(tmp_path: Path) -> None:
    def importing(reimport: bool) -> dict[str, Any]:
        source = {"runtimeParameter": "artifact_uri"}
        importer = {"artifactUri": source, "typeSchema": FILE, "metadata": {"version": 2.0}, "reimport": reimport}
        return task({"importer": importer}, parameters={"artifact_uri": {"componentInputParameter": "uri"}})

    def imported(reimport: bool, uri: str = "gs://shop/schema") -> Any:
        spec = a_spec(tmp_path, {"Import": importing(reimport)}, {"uri": uri})
        return rehearse(spec, a_place(tmp_path)).output("Import", "made")

    first = imported(reimport=False)
    assert (first.uri, first.metadata, first.type) == ("gs://shop/schema", {"version": 2}, FILE)
    assert imported(reimport=False) == first
    assert imported(reimport=True).name != first.name
    assert imported(reimport=False, uri="gs://shop/other").uri == "gs://shop/other"


def cached_spec(root: Path, code: str = "leave(number=value('First', 'number'))", month: str = "2021-10") -> Spec:
    tasks = {
        "First": task(container("leave(number=1.0)"), parameters={"month": {"componentInputParameter": "month"}}),
        "Last": task(container(code), takes=["First"]),
    }
    return a_spec(root, tasks, {"month": month})


def test_result_is_cached_if_requested_and_nothing_differs(tmp_path: Path) -> None:
    first = rehearse(cached_spec(tmp_path), a_place(tmp_path))
    second = rehearse(cached_spec(tmp_path), a_place(tmp_path, cache=True))
    without = rehearse(cached_spec(tmp_path), a_place(tmp_path))
    assert states(second) == {"First": "CACHED", "Last": "CACHED"}
    assert second.output("Last", "made") == first.output("Last", "made")
    assert set(states(without).values()) == {"SUCCEEDED"}


def test_cache_misses_other_inputs_other_commands_and_forbidding_specs(tmp_path: Path) -> None:
    place = a_place(tmp_path, cache=True)
    rehearse(cached_spec(tmp_path), place)
    assert set(states(rehearse(cached_spec(tmp_path, month="2021-11"), place)).values()) == {"SUCCEEDED"}
    other = rehearse(cached_spec(tmp_path, code="leave(number=2.0)"), place)
    assert states(other) == {"First": "CACHED", "Last": "SUCCEEDED"}
    job = copy.deepcopy(dict(cached_spec(tmp_path).job))
    job["pipelineSpec"]["root"]["dag"]["tasks"]["First"]["cachingOptions"] = {"enableCache": False}
    assert states(rehearse(Spec(job), place))["First"] == "SUCCEEDED"


def repeatable(root: Path, code: str) -> Spec:
    tasks = {
        "First": task(container("leave(number=41.0)"), parameters={"month": {"componentInputParameter": "month"}}),
        "Last": task(container(code), takes=["First"], parameters={"month": {"componentInputParameter": "month"}}),
    }
    return a_spec(root, tasks, {"month": ""})


def test_task_is_repeated_alone_on_results_of_the_last_run(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    failed = rehearse(repeatable(tmp_path, "sys.exit(1)"), place, {"month": "2021-10"})
    fixed = "leave(number=value('First', 'number'), month=parameters['month'])"
    again = rehearse(repeatable(tmp_path, fixed), place, only="Last")
    assert again.run == failed.run
    assert states(again) == {"First": "NOT_STARTED", "Last": "SUCCEEDED"}
    assert metadata(again, "Last") == {"number": 41, "month": "2021-10"}
    other = rehearse(repeatable(tmp_path, fixed), place, {"month": "2021-11"}, run=failed.run, only="Last")
    assert metadata(other, "Last")["month"] == "2021-11"


def test_task_that_cannot_be_repeated_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    spec = a_spec(tmp_path, {"First": task(container("sys.exit(1)")), "Last": task(QUIET, takes=["First"])})
    with pytest.raises(NotRehearsable, match="Run the whole pipeline first"):
        rehearse(spec, place, only="Last")
    rehearse(spec, place)
    with pytest.raises(NotRehearsable, match="output of First"):
        rehearse(spec, place, only="Last")
    with pytest.raises(NotRehearsable, match="no task Lats. Name one of: First, Last"):
        rehearse(spec, place, only="Lats")


def test_run_with_the_name_of_another_is_refused(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, {"First": task(QUIET)})
    rehearse(spec, a_place(tmp_path), run="run-1")
    with pytest.raises(AlreadyExists, match="run-1"):
        rehearse(spec, a_place(tmp_path), run="run-1")


def test_runs_share_a_folder_at_the_same_time(tmp_path: Path) -> None:
    spec, done = a_spec(tmp_path, decision(1)), list[Rehearsal]()
    runs = [
        threading.Thread(target=lambda name=name: done.append(rehearse(spec, a_place(tmp_path), run=name)))
        for name in ("run-a", "run-b", "run-c")
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(120)
    assert sorted(one.run for one in done) == ["run-a", "run-b", "run-c"]
    assert not any(one.failed for one in done)
    assert len({one.output("Report", "made").name for one in done}) == 3


def test_importer_leaves_no_log(tmp_path: Path) -> None:
    importer = {"artifactUri": {"constant": "gs://shop/schema"}, "typeSchema": FILE}
    done = rehearse(a_spec(tmp_path, {"Find": task({"importer": importer})}), a_place(tmp_path))
    assert done.tasks["Find"].log is None
    assert os.listdir(tmp_path / "rehearsal" / "runs" / done.run) == ["job.json"]


def test_resolver_is_refused_as_on_kubeflow(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, {"Find": task({"resolver": {"outputArtifactQueries": {}}})})
    with pytest.raises(BrokenSpec, match="Find is carried out by resolver, not by one of container, importer"):
        rehearse(spec, a_place(tmp_path))
