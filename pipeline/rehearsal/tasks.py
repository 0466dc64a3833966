"""What a task does: a container runs, an importer records an artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.rehearsal.container import run_container
from pipeline.rehearsal.executions import Artifacts, Execution, TaskState
from pipeline.rehearsal.placeholders import Scope
from pipeline.rehearsal.run_context import Inputs, Stage
from pipeline.rehearsal.task_graph import Task


def input_artifacts(task: Task, made: Mapping[str, Artifacts]) -> Artifacts:
    """Return the task's input artifacts by name.

    Args:
      task: The task.
      made: The outputs of the tasks that were run.
    """
    sources = {name: source["taskOutputArtifact"] for name, source in task.artifact_sources.items()}
    return {
        name: made.get(source["producerTask"], {}).get(source["outputArtifactKey"], ())
        for name, source in sources.items()
    }


def input_parameters(stage: Stage, task: Task, before: Mapping[str, TaskState]) -> Mapping[str, Any]:
    """Return the values of the task's parameters by name.

    Args:
      stage: The run.
      task: The task.
      before: The states of its upstream tasks, for an exit handler.

    Raises:
      BrokenSpec: A constant has an unknown placeholder.
    """
    scope = Scope(stage.run, task.name)
    values: dict[str, Any] = {}
    for name, source in task.parameter_sources.items():
        if "componentInputParameter" in source:
            values[name] = stage.spec.parameters[source["componentInputParameter"]]
        elif "taskFinalStatus" in source:
            values[name] = _final_status(stage, source["taskFinalStatus"]["producerTask"], before)
        else:
            constant = source["runtimeValue"]["constant"]
            values[name] = scope.resolve(constant) if isinstance(constant, str) else constant
    return values


def perform(stage: Stage, task: Task, execution: Execution, inputs: Inputs) -> Execution:
    """Carry the task out; return the ended execution.

    Raises:
      AdaptationError: It failed, or was stopped.
    """
    if "container" in task.executor:
        return run_container(stage, task, execution, inputs)
    return replace(execution, state=TaskState.SUCCEEDED, outputs=_import(stage, task, execution, inputs))


def _import(stage: Stage, task: Task, execution: Execution, inputs: Inputs) -> Artifacts:
    """Record the content of a URI as an artifact; reuse a recorded one unless `reimport` is set."""
    importer = task.executor["importer"]
    source = importer["artifactUri"]
    given = source["constant"] if "constant" in source else inputs.parameters[source["runtimeParameter"]]
    uri = Scope(stage.run, task.name).resolve(given)
    ((name, _),) = task.outputs.items()
    imported = execution.new_artifact(name, importer["typeSchema"], uri).with_metadata(importer.get("metadata", {}))
    known = None if importer.get("reimport") else stage.metadata.at(stage.spec.name, uri)
    same = known is not None and (known.type, known.metadata) == (imported.type, imported.metadata)
    return {name: (known if known and same else imported,)}


def _final_status(stage: Stage, producer: str, before: Mapping[str, TaskState]) -> str:
    """Return what an exit handler gets (source: `PipelineTaskFinalStatus` in kfp's pipeline_spec.proto)."""
    failed = sorted(name for name, state in before.items() if state is TaskState.FAILED)
    status: dict[str, Any] = {
        "state": "FAILED" if failed else "SUCCEEDED",
        "pipelineJobResourceName": Scope(stage.run, producer).resolve("{{$.pipeline_job_resource_name}}"),
        "pipelineTaskName": producer,
    }
    if failed:
        status["error"] = {"message": f"{', '.join(failed)} failed"}
    return json.dumps(status)
