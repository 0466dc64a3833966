"""The faults of a compiled pipeline that are found before it leaves this machine."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptation.codec import UnreadableState
from pipeline.compiled.spec import BrokenSpec, Spec, check, executor_classes

GOLDEN = Path(__file__).parents[1] / "golden"


def spec(name: str = "evaluation") -> Spec:
    return Spec.from_json((GOLDEN / f"{name}.json").read_bytes())


def broken(change: Callable[[Any], None], name: str = "evaluation") -> str:
    """Return the complaint about a spec with that change."""
    job = copy.deepcopy(dict(spec(name).job))
    change(job)
    with pytest.raises(BrokenSpec) as caught:
        check(Spec(job))
    return str(caught.value)


def tasks(job: Any) -> Any:
    return job["pipelineSpec"]["root"]["dag"]["tasks"]


def executor(job: Any, label: str) -> Any:
    return job["pipelineSpec"]["deploymentSpec"]["executors"][label]["container"]


@pytest.mark.parametrize("name", ["training", "evaluation"])
def test_golden_specs_are_whole(name: str) -> None:
    check(spec(name))


def test_missing_component_is_named() -> None:
    complaint = broken(lambda job: tasks(job).pop("FileListGen"))
    assert "BatchPredictionGen takes file_list from FileListGen, which is not in the pipeline" in complaint
    assert "BatchPredictionGen depends on FileListGen, which is not in the pipeline" in complaint


def test_missing_output_of_a_producer_is_named() -> None:
    def change(job: Any) -> None:
        job["pipelineSpec"]["components"]["FileListGen"]["outputDefinitions"]["artifacts"].pop("file_list")

    assert "takes file_list from FileListGen, which has no output file_list" in broken(change)


def test_condition_on_an_undeclared_input_is_named() -> None:
    def change(job: Any) -> None:
        tasks(job)["SpanPreparator"]["inputs"]["artifacts"].pop("_PerformanceEvaluator.metrics")

    assert "the condition of SpanPreparator asks for _PerformanceEvaluator.metrics" in broken(change)


def test_parameter_without_a_value_is_named() -> None:
    def change(job: Any) -> None:
        del job["runtimeConfig"]["parameterValues"]["data_gcs_prefix"]

    assert "the runtime parameter data_gcs_prefix has no value" in broken(change)


def test_undeclared_parameter_is_named() -> None:
    def change(job: Any) -> None:
        del job["pipelineSpec"]["root"]["inputDefinitions"]

    assert "from the runtime parameter data_gcs_prefix, which is not declared" in broken(change)


def test_executor_that_cannot_be_imported_is_named() -> None:
    def change(job: Any) -> None:
        arguments = executor(job, "FileListGen_executor")["args"]
        arguments[arguments.index("--executor_class_path") + 1] = "components.file_list_gen.NoSuch"

    assert "components.file_list_gen.NoSuch cannot be imported" in broken(change)


def test_component_without_definition_or_executor_is_named() -> None:
    def undefined(job: Any) -> None:
        del job["pipelineSpec"]["components"]["FileListGen"]

    def unexecuted(job: Any) -> None:
        del job["pipelineSpec"]["deploymentSpec"]["executors"]["FileListGen_executor"]

    assert "FileListGen refers to a missing component" in broken(undefined)
    assert "FileListGen has no executor" in broken(unexecuted)


def test_older_schema_is_refused() -> None:
    def change(job: Any) -> None:
        job["pipelineSpec"]["schemaVersion"] = "2.0.0"

    assert "its schema is 2.0.0, not 2.1.0" in broken(change)


def test_path_of_this_machine_is_named_with_its_place() -> None:
    def change(job: Any) -> None:
        job["runtimeConfig"]["gcsOutputDirectory"] = f"{Path.cwd()}/pipelines"

    assert f"runtimeConfig.gcsOutputDirectory names a path of this machine: {Path.cwd()}" in broken(change)


@pytest.mark.parametrize("secret", ["-----BEGIN " + "PRIVATE KEY-----", "ya29." + "a" * 30, "ghp_" + "a" * 36])
def test_secret_is_found(secret: str) -> None:
    def change(job: Any) -> None:
        executor(job, "FileListGen_executor")["args"].append(f"--token={secret}")

    assert "holds what looks like a secret" in broken(change)


def test_faults_are_reported_all_at_once() -> None:
    def change(job: Any) -> None:
        job["pipelineSpec"]["schemaVersion"] = "2.0.0"
        del job["runtimeConfig"]["parameterValues"]["data_gcs_prefix"]

    assert len(broken(change).splitlines()) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pipelineSpec": {}}', "no json"])
def test_text_that_is_no_compiled_pipeline_is_refused(text: str) -> None:
    with pytest.raises(UnreadableState, match=r"^a\.json .*adapt compile"):
        Spec.from_json(text, "a.json")


def test_digest_depends_on_the_content_not_on_its_formatting() -> None:
    original = spec()
    assert Spec.from_json(json.dumps(original.job, indent=7)).digest == original.digest
    assert spec("training").digest != original.digest


def test_executors_include_every_component_of_the_package() -> None:
    ours = {
        path for name in ("training", "evaluation") for path in executor_classes(spec(name)) if "components." in path
    }
    modules = {path.split(".")[1] for path in ours if path.startswith("components.")}
    assert {"file_list_gen", "span_preparator", "span_example_gen", "champion_gate", "batch_archiver"} <= modules
