"""The rehearsal of what TFX's compiler makes, through TFX's own entry points of the containers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adaptation.data.tfrecords import frame
from pipeline.compiled.spec import BrokenSpec, Spec
from pipeline.rehearsal import NotRehearsable, Place, Rehearsal, rehearse
from pipeline.workspace.settings_file import load
from tests.worlds.rehearsal import container

PROJECT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parents[1] / "golden"
LABELS = "gs://shop/labels.csv"


def compiled(pipeline: Any, folder: Path, handler: Any = None, schema: bool = True) -> Spec:
    """The spec of a pipeline, by default with the schema 2.1.0."""
    from tfx.v1.orchestration import experimental

    config = experimental.KubeflowV2DagRunnerConfig(default_image="none", use_pipeline_spec_2_1=schema)
    runner = experimental.KubeflowV2DagRunner(config=config, output_dir=str(folder), output_filename="spec.json")
    if handler is not None:
        runner.set_exit_handler(handler)
    runner.run(pipeline, parameter_values={"month": "2021-10"} if handler is None else None)
    return Spec.from_json((folder / "spec.json").read_bytes())


def deciding(folder: Path, guarded_input: str = "note") -> Any:
    """An ExampleGen over span patterns, an importer, a decision and its two branches."""
    from tfx import v1 as tfx
    from tfx.orchestration.data_types import RuntimeParameter
    from tfx.types.experimental.simple_artifacts import File

    from tests.worlds.rehearsed import Decide, Prepare, Rest

    splits = [tfx.proto.Input.Split(name="train", pattern="span-{SPAN}/*.tfrecord")]
    examples = tfx.components.ImportExampleGen(str(folder / "data"), input_config=tfx.proto.Input(splits=splits))
    labels = tfx.dsl.Importer(source_uri=LABELS, artifact_type=File).with_id("Labels")
    decide = Decide(
        examples=examples.outputs["examples"],
        labels=labels.outputs["result"],
        month=RuntimeParameter(name="month", ptype=str),
        most=3,
    )
    retrain = decide.outputs["metrics"].future().custom_property("retrain")
    note = decide.outputs[guarded_input]
    with tfx.dsl.Cond(retrain == 1):
        prepare = Prepare(note=note, run="{{$.pipeline_job_name}}")
    with tfx.dsl.Cond(retrain != 1):
        rest = Rest(note=decide.outputs["note"])
    components = [examples, labels, decide, prepare, rest]
    return tfx.dsl.Pipeline("shop", str(folder / "outputs"), components=components)


def with_exit_handler(folder: Path) -> Spec:
    """Return a pipeline that fails, with an exit handler: compiled by TFX, its containers run a few lines of Python."""
    from tfx import v1 as tfx

    from tests.worlds.rehearsed import Report, Work

    pipeline = tfx.dsl.Pipeline("shop", str(folder / "outputs"), components=[Work()])
    spec = compiled(pipeline, folder, Report(status=tfx.orchestration.experimental.FinalStatusStr()))
    quick = {"Work": "sys.exit('the disk is full')", "Report": "print(parameters['status'])"}
    for name, code in quick.items():
        spec.executors[f"{name}_executor"]["container"].update(container(code)["container"])
    return spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two spans of one record each."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("tfx")
    for span in ("span-1", "span-2"):
        (folder / "data" / span).mkdir(parents=True)
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[span.encode()]))
        example = tf.train.Example(features=tf.train.Features(feature={"name": feature}))
        (folder / "data" / span / "images.tfrecord").write_bytes(frame(example.SerializeToString()))
    return folder


@pytest.fixture(scope="module")
def first(folder: Path) -> Rehearsal:
    """The run of October, which retrains."""
    return rehearse(compiled(deciding(folder), folder), a_place(folder), run="run-1")


@pytest.fixture(scope="module")
def second(folder: Path, first: Rehearsal) -> Rehearsal:
    """The run of November, with cached results, which does not retrain."""
    del first
    return rehearse(compiled(deciding(folder), folder), a_place(folder), {"month": "2021-11"}, run="run-2")


def a_place(folder: Path) -> Place:
    return Place(folder / "rehearsal", environment={"PYTHONPATH": str(PROJECT)}, cache=True)


def states(rehearsal: Rehearsal) -> dict[str, str]:
    rehearsal.check()
    return {name: str(report.state) for name, report in rehearsal.tasks.items()}


def noted(rehearsal: Rehearsal) -> Mapping[str, Any]:
    return rehearsal.output("Decide", "note").metadata


def test_branch_whose_condition_holds_runs_and_the_other_does_not(first: Rehearsal, second: Rehearsal) -> None:
    branches = ("Prepare", "Rest")
    assert [states(first)[name] for name in branches] == ["SUCCEEDED", "SKIPPED"]
    assert [states(second)[name] for name in branches] == ["SKIPPED", "SUCCEEDED"]


def test_driver_finds_the_newest_span_and_the_executor_reads_it(first: Rehearsal) -> None:
    import tensorflow as tf

    examples = first.output("ImportExampleGen", "examples")
    (file,) = Path(examples.uri, "Split-train").iterdir()
    (record,) = tf.data.TFRecordDataset(str(file), compression_type="GZIP").as_numpy_iterator()
    assert tf.train.Example.FromString(record).features.feature["name"].bytes_list.value[0] == b"span-2"
    assert noted(first)["span"] == 2


def test_properties_and_parameters_arrive_with_their_types(first: Rehearsal) -> None:
    assert (noted(first)["most"], noted(first)["accuracy"]) == (3, 0.5)
    made = first.output("Prepare", "span").metadata
    assert (made["most"], made["run"]) == (3, "run-1")


def test_importer_passes_on_the_artifact_that_it_names(first: Rehearsal) -> None:
    assert noted(first)["labels"] == LABELS


def test_cached_examples_are_used_if_the_driver_finds_them_unchanged(first: Rehearsal, second: Rehearsal) -> None:
    assert states(second)["ImportExampleGen"] == "CACHED"
    assert second.output("ImportExampleGen", "examples") == first.output("ImportExampleGen", "examples")
    assert states(second)["Decide"] == "SUCCEEDED"


def test_exit_handler_runs_after_all_other_tasks_and_gets_their_status(folder: Path) -> None:
    done = rehearse(with_exit_handler(folder), a_place(folder))
    assert [(report.name, report.message) for report in done.failed] == [("Work", "exit code 1: the disk is full")]
    (status,) = done.tasks["Report"].last_lines()[-1:]
    assert json.loads(status)["state"] == "FAILED"


def test_condition_lost_by_the_compiler_is_found_before_anything_runs(folder: Path) -> None:
    """A guarded component that takes the channel of its own condition compiles to an undeclared input."""
    spec = compiled(deciding(folder, guarded_input="metrics"), folder)
    with pytest.raises(BrokenSpec, match="the condition of Prepare asks for _Decide.metrics"):
        rehearse(spec, a_place(folder), run="broken")


@pytest.mark.parametrize(("setting", "value"), [("training__machine", "n1-standard-16"), ("dataflow", "true")])
def test_spec_that_needs_cloud_machines_is_refused_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    from pipeline.compiled.compilation import compile_pipeline

    monkeypatch.setenv(f"ADAPT_VERTEX__{setting.upper()}", value)
    spec = compile_pipeline(load(GOLDEN / "adapt.toml"), "training")
    with pytest.raises(NotRehearsable, match=f"Trainer hands its work to .*vertex.{setting.replace('__', '.')}"):
        rehearse(spec, a_place(tmp_path))


def test_older_schema_is_refused_with_the_reason(folder: Path) -> None:
    spec = compiled(deciding(folder), folder, schema=False)
    with pytest.raises(BrokenSpec, match=r"its schema is 2\.0\.0, not 2\.1\.0: spans in file patterns would not be"):
        rehearse(spec, a_place(folder), run="broken")
