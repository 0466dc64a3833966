"""Published spans to measure with, and the components that ingest them, called as TFX calls them, but by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto import example_gen_pb2
from tfx.types.standard_artifacts import Examples

from adaptation.data.span_preparation import prepare
from adaptation.data.spans import SpanStore
from adaptation.data.windows import input_config, select
from benchmarks.images import some_images
from benchmarks.span_preparation import LABELS
from components.span_example_gen import SpanExampleGen

SPLITS = {"train": "Split-train", "eval": "Split-eval"}


def publish_spans(folder: Path, spans: int, images: int) -> str:
    """Publish so many spans of so many different images each; return the data root."""
    whole = some_images(folder / "images", spans * images)
    store = SpanStore(str(folder / "data"))
    for number in range(spans):
        prepare(store, replace(whole, batch=f"month {number}", images=whole.images[number::spans]), LABELS)
    return store.root


def linked(data_root: str, folder: Path) -> Examples:
    """Return the output of SpanExampleGen for all spans."""
    window = {"data_root": data_root, "window": "all", "digest": "", "labels": "[]"}
    return _examples(SpanExampleGen(**window), window, folder)


def imported(data_root: str, folder: Path) -> Examples:
    """Return the output of TFX's ImportExampleGen for all spans."""
    config = json_format.Parse(input_config(data_root, select(data_root, "all")), example_gen_pb2.Input())
    component = tfx.components.ImportExampleGen(input_base=data_root, input_config=config)
    return _examples(component, component.exec_properties, folder)


def patterns(examples: Examples, split: str) -> list[str]:
    """Return the file patterns of a split."""
    return [f"{examples.uri}/{SPLITS[split]}/*"]


def _examples(component: BaseNode, properties: Mapping[str, Any], folder: Path) -> Examples:
    examples = Examples()
    examples.uri = str(folder)
    spec = component.executor_spec
    assert isinstance(spec, ExecutorClassSpec)
    executor = spec.executor_class
    for_beam: dict[str, Any] = {"beam_pipeline_args": []} if issubclass(executor, BaseBeamExecutor) else {}
    context = executor.Context(**for_beam, tmp_dir=str(folder / "tmp"), unique_id="1")
    executor(context).Do({}, {"examples": [examples]}, dict(properties))
    return examples
