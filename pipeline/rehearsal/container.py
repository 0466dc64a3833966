"""A task's container on this machine: the driver, if any, then the command, with their inputs and outputs.

They get an `ExecutorInput` and write an `ExecutorOutput` (source: kfp's pipeline_spec.proto), both JSON. They run as
processes, in an empty folder and with the packages of this environment; no container engine is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adaptation.io import storage
from pipeline.rehearsal.executions import Artifact, Execution, TaskState
from pipeline.rehearsal.placeholders import Scope
from pipeline.rehearsal.run_context import Inputs, Stage
from pipeline.rehearsal.task_graph import Task

OUTPUT_FILE = "executor_output.json"


@dataclass(frozen=True)
class _Exchange:
    """The container's inputs and declared outputs."""

    inputs: Inputs
    outputs: Mapping[str, Artifact]
    file: str

    @property
    def executor_input(self) -> dict[str, Any]:
        return {
            "inputs": {
                "parameterValues": dict(self.inputs.parameters),
                "artifacts": {name: listed(artifacts) for name, artifacts in self.inputs.artifacts.items()},
            },
            "outputs": {
                "artifacts": {name: listed([artifact]) for name, artifact in self.outputs.items()},
                "outputFile": self.file,
            },
        }

    def read_back(self) -> _Exchange:
        """Add what the container wrote: values of parameters (a driver's), places and properties of artifacts."""
        try:
            written = json.loads(storage.read(self.file))
        except FileNotFoundError:
            return self
        parameters = {**self.inputs.parameters, **written.get("parameterValues", {})}
        outputs = {name: _updated(artifact, written, name) for name, artifact in self.outputs.items()}
        return replace(self, inputs=replace(self.inputs, parameters=parameters), outputs=outputs)


def run_container(stage: Stage, task: Task, execution: Execution, inputs: Inputs) -> Execution:
    """Run the task's driver and command, or reuse the outputs of an earlier execution with the same inputs.

    Raises:
      AdaptationError: Driver or command failed.
      Ended: The rehearsal was stopped.
    """
    container = task.executor["container"]
    exchange = _planned(stage, task, execution, inputs)
    driver = container.get("lifecycle", {}).get("preCacheCheck")
    if driver:
        exchange = _run(stage, execution, driver, exchange)
    key = _key(task, exchange) if task.cacheable else ""
    earlier = stage.metadata.cached(stage.spec.name, key) if key and stage.place.cache else None
    if earlier:
        return replace(execution, state=TaskState.CACHED, outputs=earlier.outputs, key=key)
    exchange = _run(stage, execution, container, exchange)
    outputs = {name: (artifact,) for name, artifact in exchange.outputs.items()}
    return replace(execution, state=TaskState.SUCCEEDED, outputs=outputs, key=key)


def listed(artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """Return artifacts as an `ArtifactList`."""
    return {"artifacts": [vars(artifact) for artifact in artifacts]}


def _planned(stage: Stage, task: Task, execution: Execution, inputs: Inputs) -> _Exchange:
    folder = stage.outputs(execution)
    outputs = {
        name: execution.new_artifact(name, declared["artifactType"], storage.join(folder, name)).with_metadata(
            declared.get("metadata", {})
        )
        for name, declared in task.outputs.items()
    }
    return _Exchange(inputs, outputs, storage.join(folder, OUTPUT_FILE))


def _run(stage: Stage, execution: Execution, command: Mapping[str, Sequence[str]], exchange: _Exchange) -> _Exchange:
    scope = Scope(stage.run, execution.task, exchange.executor_input)
    words = [scope.resolve(word) for word in (*command.get("command", ()), *command.get("args", ()))]
    stage.processes.run(words, stage.environment, stage.log(execution))
    return exchange.read_back()


def _key(task: Task, exchange: _Exchange) -> str:
    """Return the cache key, as on Vertex AI: of inputs, declared outputs and the container's spec."""
    artifacts = {name: [one.name for one in given] for name, given in exchange.inputs.artifacts.items()}
    what = [task.component, task.executor, exchange.inputs.parameters, artifacts]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _updated(artifact: Artifact, written: Mapping[str, Any], name: str) -> Artifact:
    for one in written.get("artifacts", {}).get(name, {}).get("artifacts", []):
        return replace(artifact, uri=one.get("uri", artifact.uri)).with_metadata(one.get("metadata", {}))
    return artifact
