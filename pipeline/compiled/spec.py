"""Compiled pipelines: one JSON object that Vertex AI Pipelines runs as it is, and Kubeflow by its `pipelineSpec` part.

A spec is checked before it leaves this machine: the compiler accepts a component that is missing from the pipeline, a
condition on an undeclared input, a parameter without a value, and a path of the building machine. `compilation` makes
specs.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptation import codec
from adaptation.codec import UnreadableState
from adaptation.errors import AdaptationError

SCHEMA = "2.1.0"
_COMPILE = 'Write one with "adapt compile", or publish it again.'
_EXECUTOR_FLAG = "--executor_class_path"
_CONDITION_KEY = re.compile(r"inputs\.(artifacts|parameter_values|parameters)\['([^']+)'\]")
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\"private_key\"|\bya29\.[\w-]{20}|\bAIza[\w-]{35}|\bgh[pousr]_\w{36}|\bsk-[\w-]{20}"
)


class BrokenSpec(AdaptationError, ValueError):
    """A spec that would not run, or is not the requested one; the message lists every fault."""


@dataclass(frozen=True)
class Spec:
    """A compiled pipeline.

    Attributes:
      job: The PipelineJob's JSON object: `displayName`, `pipelineSpec`, `runtimeConfig` ...
    """

    job: Mapping[str, Any]

    @classmethod
    def from_json(cls, data: bytes | str, source: str = "this") -> Spec:
        """Return the spec in a file's content.

        Raises:
          UnreadableState: It is not a JSON object with a `pipelineSpec`; the message names the `source`.
        """
        job = codec.decode(data, dict[str, Any], source, remedy=_COMPILE)
        try:
            job["pipelineSpec"]["root"]["dag"]["tasks"]
        except (TypeError, KeyError) as error:
            raise UnreadableState(f"{source} is not a compiled pipeline ({error!r}). {_COMPILE}") from error
        return cls(job)

    def to_json(self) -> bytes:
        """Return the spec as a file's content; the same spec gives the same bytes."""
        return json.dumps(self.job, indent=1, sort_keys=True).encode() + b"\n"

    @property
    def digest(self) -> str:
        """The digest of the content (64 hex digits)."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def pipeline(self) -> Mapping[str, Any]:
        """The part that Kubeflow Pipelines takes."""
        return dict(self.job["pipelineSpec"])

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        info = self.pipeline.get("pipelineInfo")
        return str(info.get("name", "")) if isinstance(info, Mapping) else ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The runtime parameters' values by name; None where missing."""
        declared = self.pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
        values = self.job.get("runtimeConfig", {}).get("parameterValues", {})
        return {name: values.get(name) for name in declared}

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """The tasks by name."""
        return dict(self.pipeline["root"]["dag"]["tasks"])

    @property
    def executors(self) -> Mapping[str, Mapping[str, Any]]:
        """The tasks' executors, by label."""
        return dict(self.pipeline["deploymentSpec"]["executors"])

    def component(self, task: str) -> Mapping[str, Any]:
        """Return the component that a task is an instance of; empty if the spec has none."""
        return dict(self.pipeline["components"].get(self.tasks[task]["componentRef"]["name"], {}))


def check(spec: Spec) -> None:
    """Refuse a spec that would not run, or that contains paths of this machine or secrets.

    Raises:
      BrokenSpec: The message lists every fault.
    """
    _refuse(spec, [*_found_faults(spec), *_leaks(spec)])


def check_runnable(spec: Spec) -> None:
    """Refuse a spec that would not run; paths of this machine are allowed.

    Raises:
      BrokenSpec: The message lists every fault.
    """
    _refuse(spec, _found_faults(spec))


def executor_classes(spec: Spec) -> list[str]:
    """Return the import paths of the classes that the containers run, sorted."""
    arguments = (executor.get("container", {}).get("args", []) for executor in spec.executors.values())
    return sorted({args[args.index(_EXECUTOR_FLAG) + 1] for args in arguments if _EXECUTOR_FLAG in args})


def _refuse(spec: Spec, faults: Sequence[str]) -> None:
    if faults:
        raise BrokenSpec("\n  ".join([f"{spec.name} is broken:", *faults]))


def _found_faults(spec: Spec) -> list[str]:
    """Return the faults; that a part is missing, or is of another kind than TFX writes, is one."""
    try:
        return list(_faults(spec))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        return [f"it has another shape than TFX compiles ({error!r:.200}). {_COMPILE}"]


def _faults(spec: Spec) -> Iterator[str]:
    for find in (_schema, _references, _conditions, _parameters, _classes):
        yield from find(spec)


def _schema(spec: Spec) -> Iterator[str]:
    version = spec.pipeline.get("schemaVersion")
    if version != SCHEMA:
        yield f"its schema is {version}, not {SCHEMA}: spans in file patterns would not be resolved"


def _references(spec: Spec) -> Iterator[str]:
    for name, task in spec.tasks.items():
        if not spec.component(name):
            yield f"{name} refers to a missing component"
        elif spec.component(name).get("executorLabel") not in spec.executors:
            yield f"{name} has no executor"
        for upstream in task.get("dependentTasks", []):
            if upstream not in spec.tasks:
                yield f"{name} depends on {upstream}, which is not in the pipeline"
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            yield from _producer(spec, name, key, source.get("taskOutputArtifact"), "artifacts", "outputArtifactKey")
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            yield from _producer(spec, name, key, source.get("taskOutputParameter"), "parameters", "outputParameterKey")


def _producer(
    spec: Spec, task: str, key: str, source: Mapping[str, str] | None, kind: str, output_key: str
) -> Iterator[str]:
    if source is None:
        return
    producer = source["producerTask"]
    if producer not in spec.tasks:
        yield f"{task} takes {key} from {producer}, which is not in the pipeline"
    elif source[output_key] not in spec.component(producer).get("outputDefinitions", {}).get(kind, {}):
        yield f"{task} takes {key} from {producer}, which has no output {source[output_key]}"


def _conditions(spec: Spec) -> Iterator[str]:
    for name, task in spec.tasks.items():
        condition = task.get("triggerPolicy", {}).get("condition", "")
        for kind, key in _CONDITION_KEY.findall(condition):
            declared = task.get("inputs", {}).get("artifacts" if kind == "artifacts" else "parameters", {})
            if key not in declared:
                yield f"the condition of {name} asks for {key}, which is not one of its inputs"


def _parameters(spec: Spec) -> Iterator[str]:
    for name, value in spec.parameters.items():
        if value is None:
            yield f"the runtime parameter {name} has no value"
    for task, given in spec.tasks.items():
        for key, source in given.get("inputs", {}).get("parameters", {}).items():
            wanted = source.get("componentInputParameter")
            if wanted is not None and wanted not in spec.parameters:
                yield f"{task} takes {key} from the runtime parameter {wanted}, which is not declared"


def _classes(spec: Spec) -> Iterator[str]:
    for path in executor_classes(spec):
        module, _, name = path.rpartition(".")
        try:
            getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            yield f"the executor {path} cannot be imported ({error})"


def _leaks(spec: Spec) -> Iterator[str]:
    homes = {str(path) for path in (Path.cwd(), Path.home(), Path(__file__).parents[2])} - {"/"}
    for place, text in _texts(spec.job, ""):
        for home in sorted(homes):
            if re.search(rf"(?<![\w/]){re.escape(home)}(?![\w-])", text):
                yield f"{place} names a path of this machine: {home}"
        if _SECRET.search(text):
            yield f"{place} holds what looks like a secret"


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place.lstrip("."), value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{place}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, place)
