"""The tasks of a compiled pipeline: their inputs and their order; and the spec as it is rehearsed.

`pipeline.compiled.spec` checks what a spec needs to run anywhere; here is only what is special in a rehearsal.
"""

from __future__ import annotations

import copy
import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adaptation.errors import AdaptationError
from adaptation.platforms.base import InvalidJob
from pipeline.compiled.spec import BrokenSpec, Spec, check_runnable
from pipeline.rehearsal.conditions import Condition, UnknownCondition
from pipeline.rehearsal.executions import TaskState

EXECUTORS = ("container", "importer")
_COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"
_SOURCES = {
    "artifacts": ("taskOutputArtifact",),
    "parameters": ("runtimeValue", "componentInputParameter", "taskFinalStatus"),
}
_SERVICES = {
    "tfx.extensions.google_cloud_ai_platform.trainer.": "a job of Vertex AI's (leave vertex.training.machine empty)",
    "--runner=DataflowRunner": "Dataflow (set vertex.dataflow to false)",
}


class NotRehearsable(AdaptationError, ValueError):
    """A spec or a task that cannot be run on this machine: it needs a service, or an earlier run."""


@dataclass(frozen=True)
class Task:
    """A task of the pipeline.

    Attributes:
      name: Its name.
      spec: Its `PipelineTaskSpec`.
      component: Its `ComponentSpec`.
      executor: Its executor: an object with one of `EXECUTORS`.
    """

    name: str
    spec: Mapping[str, Any]
    component: Mapping[str, Any]
    executor: Mapping[str, Any]

    @property
    def upstream(self) -> frozenset[str]:
        """The tasks that come before it."""
        return frozenset(self.spec.get("dependentTasks", [])) | self.producers

    @property
    def producers(self) -> frozenset[str]:
        """The upstream tasks whose artifacts it takes."""
        return frozenset(source["taskOutputArtifact"]["producerTask"] for source in self.artifact_sources.values())

    @property
    def artifact_sources(self) -> Mapping[str, Mapping[str, Any]]:
        """The sources of its input artifacts."""
        return dict(self.spec.get("inputs", {}).get("artifacts", {}))

    @property
    def parameter_sources(self) -> Mapping[str, Mapping[str, Any]]:
        """The sources of its input parameters."""
        return dict(self.spec.get("inputs", {}).get("parameters", {}))

    @property
    def outputs(self) -> Mapping[str, Mapping[str, Any]]:
        """The declarations of its output artifacts."""
        return dict(self.component.get("outputDefinitions", {}).get("artifacts", {}))

    @property
    def condition(self) -> Condition:
        """The condition under which it runs after its upstream tasks.

        Raises:
          UnknownCondition: It has a form that TFX does not write.
        """
        return Condition.parse(self.spec.get("triggerPolicy", {}).get("condition", ""))

    @property
    def cacheable(self) -> bool:
        """True if the spec allows the run to reuse an earlier result."""
        caching = self.spec.get("cachingOptions")
        return "container" in self.executor and (caching is None or bool(caching.get("enableCache")))

    def turn(self, before: Mapping[str, TaskState]) -> TaskState:
        """Decide whether it runs, by the states of its upstream tasks, which have all ended.

        Returns:
          RUNNING: it runs if its condition holds. SKIPPED or NOT_STARTED: it never runs.
        """
        if self.spec.get("triggerPolicy", {}).get("strategy") == _COMPLETED:
            return TaskState.RUNNING
        states = [before[name] for name in self.upstream]
        if any(not state.done and state is not TaskState.SKIPPED for state in states):
            return TaskState.NOT_STARTED
        return TaskState.SKIPPED if TaskState.SKIPPED in states else TaskState.RUNNING


def rehearsed(spec: Spec, parameters: Mapping[str, str]) -> Spec:
    """Return the spec as it is run: without nested DAGs, and with the values of its runtime parameters.

    Args:
      spec: A compiled pipeline.
      parameters: Values of runtime parameters, in place of those in the spec.

    Raises:
      InvalidJob: The spec has no such parameter, or it is of another type.
      BrokenSpec: The spec would not run anywhere.
      NotRehearsable: It hands work to a service of Google's.
    """
    job = copy.deepcopy(dict(spec.job))
    _unfold(job["pipelineSpec"])
    _set_parameters(job, parameters)
    ready = Spec(job)
    check_runnable(ready)
    _refuse_faults(ready)
    return ready


def tasks_of(spec: Spec) -> Mapping[str, Task]:
    """Return the tasks by name, each after its upstream tasks."""
    tasks = {name: Task(name, body, spec.component(name), _executor(spec, name)) for name, body in spec.tasks.items()}
    return {name: tasks[name] for name in graphlib.TopologicalSorter(upstream(tasks)).static_order()}


def upstream(tasks: Mapping[str, Task]) -> Mapping[str, list[str]]:
    """Return the upstream tasks' names of each, sorted, so that the same spec runs in the same order."""
    return {name: sorted(tasks[name].upstream) for name in sorted(tasks)}


def _unfold(pipeline: dict[str, Any]) -> None:
    """Move the tasks of nested DAGs, which TFX makes of a pipeline with an exit handler, to the root."""
    tasks = pipeline["root"]["dag"]["tasks"]
    for name in list(tasks):
        inner = pipeline.get("components", {}).get(tasks[name]["componentRef"]["name"], {}).get("dag")
        if inner is None:
            continue
        del tasks[name]
        tasks.update(inner["tasks"])
        for task in tasks.values():
            if name in task.get("dependentTasks", []):
                task["dependentTasks"] = sorted({*task["dependentTasks"], *inner["tasks"]} - {name})


def _set_parameters(job: dict[str, Any], given: Mapping[str, str]) -> None:
    declared = job["pipelineSpec"]["root"].get("inputDefinitions", {}).get("parameters", {})
    if unknown := sorted(set(given) - set(declared)):
        known = ", ".join(sorted(declared)) or "none"
        raise InvalidJob(f"the pipeline has no runtime parameter {', '.join(unknown)}; it has: {known}.")
    defaults = {name: one["defaultValue"] for name, one in declared.items() if "defaultValue" in one}
    runtime = job.setdefault("runtimeConfig", {})
    typed = {name: _typed(name, value, declared[name].get("parameterType", "")) for name, value in given.items()}
    runtime["parameterValues"] = {**defaults, **runtime.get("parameterValues", {}), **typed}


def _typed(name: str, text: str, wanted: str) -> str | float:
    if wanted not in ("NUMBER_INTEGER", "NUMBER_DOUBLE"):
        return text
    try:
        return float(text) if wanted == "NUMBER_DOUBLE" else int(text)
    except ValueError as error:
        raise InvalidJob(f"the runtime parameter {name} takes a number, {wanted}, not {text!r}.") from error


def _executor(spec: Spec, name: str) -> Mapping[str, Any]:
    return dict(spec.executors[spec.component(name)["executorLabel"]])


def _refuse_faults(spec: Spec) -> None:
    faults = [*_executors(spec), *_sources(spec), *_conditions(spec)] or [*_cycles(spec)]
    if faults:
        raise BrokenSpec("\n  ".join([f"{spec.name} is broken:", *faults]))
    if services := list(_services(spec)):
        raise NotRehearsable("\n  ".join([f"{spec.name} cannot be rehearsed as it is:", *services]))


def _cycles(spec: Spec) -> Iterator[str]:
    try:
        tasks_of(spec)
    except graphlib.CycleError as error:
        yield f"these wait for one another: {', '.join(sorted(set(error.args[1])))}"


def _conditions(spec: Spec) -> Iterator[str]:
    for name, task in spec.tasks.items():
        try:
            Condition.parse(task.get("triggerPolicy", {}).get("condition", ""))
        except UnknownCondition as error:
            yield f"{name}: {error}"


def _sources(spec: Spec) -> Iterator[str]:
    for task, body in spec.tasks.items():
        for kind, known in _SOURCES.items():
            for name, source in body.get("inputs", {}).get(kind, {}).items():
                if not set(known) & set(source):
                    yield f"{task} takes {name} from {', '.join(source)}, not from one of {', '.join(known)}"


def _executors(spec: Spec) -> Iterator[str]:
    for name in spec.tasks:
        if not set(EXECUTORS) & set(executor := _executor(spec, name)):
            yield f"{name} is carried out by {', '.join(executor) or 'nothing'}, not by one of {', '.join(EXECUTORS)}"


def _services(spec: Spec) -> Iterator[str]:
    for name in spec.tasks:
        arguments = _executor(spec, name).get("container", {}).get("args", [])
        for mark, service in _SERVICES.items():
            if any(argument.startswith(mark) for argument in arguments):
                yield f"{name} hands its work to {service}, which a rehearsal does not have"
