"""The rehearsal of a whole pipeline: each task after its upstream tasks, independent ones in parallel.

A failed task does not stop those that do not depend on it, as on Vertex AI. An interrupted rehearsal ends its tasks and
records that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from graphlib import TopologicalSorter

from adaptation.errors import AdaptationError, AlreadyExists, described
from adaptation.io import storage
from pipeline.compiled.spec import Spec
from pipeline.rehearsal.conditions import ConditionFailed
from pipeline.rehearsal.executions import Artifacts, TaskState
from pipeline.rehearsal.processes import Ended, Processes
from pipeline.rehearsal.results import Place, Rehearsal, TaskReport
from pipeline.rehearsal.run_context import JOB, Inputs, Stage, metadata_in, run_folder
from pipeline.rehearsal.task_graph import NotRehearsable, Task, rehearsed, tasks_of, upstream
from pipeline.rehearsal.tasks import input_artifacts, input_parameters, perform

OnChange = Callable[[TaskReport], None]


def rehearse(
    spec: Spec,
    place: Place,
    parameters: Mapping[str, str] | None = None,
    *,
    run: str = "",
    only: str = "",
    on_change: OnChange = lambda report: None,
    processes: Processes | None = None,
) -> Rehearsal:
    """Run a compiled pipeline on this machine, each task as the command that its container would start.

    Args:
      spec: The compiled pipeline.
      place: Where it runs.
      parameters: Values of runtime parameters, in place of those in the spec.
      run: Name of the run; empty: a new one. With `only`, the run to continue; empty: the last one.
      only: A task to run alone, on what the tasks before it made in an earlier run, with that run's parameters.
      on_change: Gets a report of every task, then of each that starts or has ended; called by this thread.
      processes: Starts the tasks' processes; another thread may stop them through it.

    Returns:
      The result; a failed task does not raise here, see `Rehearsal.check`.

    Raises:
      BrokenSpec: The spec would not run; nothing was run.
      NotRehearsable: It hands work to a service of Google's, or the task cannot be run alone; nothing was run.
      InvalidJob: The spec has no such parameter, or it is of another type; nothing was run.
      AlreadyExists: A run of that name exists.

    Failure: interrupted by an exception of any kind, the tasks' processes are ended and recorded as CANCELLED; killed,
    they are recorded as RUNNING. What was recorded before stays.
    """
    processes = processes or Processes()
    if only:
        return _Run(_earlier(spec, place, parameters or {}, run, processes), on_change).one(only)
    ready = rehearsed(spec, parameters or {})
    stage = Stage(ready, place, run or f"{ready.name}-{datetime.now(UTC):%Y%m%dt%H%M%S%f}", processes)
    try:
        storage.create(str(stage.folder / JOB), ready.to_json())
    except FileExistsError as error:
        raise AlreadyExists(f"the run {stage.run} exists in {stage.folder}. Choose another name.") from error
    return _Run(stage, on_change).all()


def _earlier(spec: Spec, place: Place, parameters: Mapping[str, str], run: str, processes: Processes) -> Stage:
    """Return the context of an earlier run."""
    run = run or _last_run(spec, place)
    file = run_folder(place, run) / JOB
    if not file.exists():
        raise NotRehearsable(f"there is no run {run!r} of {spec.name} in {place.folder}. Run the whole pipeline first.")
    ready = rehearsed(_with_values_of(spec, Spec.from_json(file.read_bytes(), str(file))), parameters)
    return Stage(ready, place, run, processes)


def _last_run(spec: Spec, place: Place) -> str:
    executions = metadata_in(place).executions(spec.name)
    return max(executions, key=lambda execution: execution.number).run if executions else ""


def _with_values_of(spec: Spec, earlier: Spec) -> Spec:
    """Return the spec with an earlier run's values for the runtime parameters that it still has."""
    runtime = spec.job.get("runtimeConfig", {})
    values = {name: value for name, value in earlier.parameters.items() if name in spec.parameters}
    given = {**runtime.get("parameterValues", {}), **values}
    return Spec({**spec.job, "runtimeConfig": {**runtime, "parameterValues": given}})


class _Run:
    """An ongoing run: the state of each task."""

    def __init__(self, stage: Stage, on_change: OnChange) -> None:
        self._stage = stage
        self._on_change = on_change
        self._tasks = tasks_of(stage.spec)
        self._reports = {name: TaskReport(name, TaskState.NOT_STARTED) for name in self._tasks}

    def all(self) -> Rehearsal:
        """Run all tasks in their order."""
        for report in self._reports.values():
            self._on_change(report)
        sorter = TopologicalSorter(upstream(self._tasks))
        sorter.prepare()
        ready: list[str] = []
        running: set[Future[TaskReport]] = set()
        with ThreadPoolExecutor(self._stage.place.parallel) as pool:
            try:
                while sorter.is_active():
                    ready += sorter.get_ready()
                    while ready and len(running) < self._stage.place.parallel:
                        running |= self._begin(ready.pop(0), pool, sorter)
                    if running:
                        running = self._await(running, sorter)
            except BaseException:
                self._stage.processes.stop()
                raise
        return self._rehearsal()

    def one(self, name: str) -> Rehearsal:
        """Run one task, regardless of its condition, on the outputs of an earlier run's other tasks."""
        if name not in self._tasks:
            known = ", ".join(self._tasks)
            raise NotRehearsable(f"{self._stage.spec.name} has no task {name}. Name one of: {known}.")
        task = self._tasks[name]
        made = {producer: self._made_before(task, producer) for producer in task.producers}
        with ThreadPoolExecutor(1) as pool:
            try:
                self._note(replace(self._reports[name], state=TaskState.RUNNING))
                states = dict.fromkeys(task.upstream, TaskState.SUCCEEDED)
                self._note(pool.submit(_performed, self._stage, task, input_artifacts(task, made), states).result())
            except BaseException:
                self._stage.processes.stop()
                raise
        return self._rehearsal()

    def _begin(self, name: str, pool: ThreadPoolExecutor, sorter: TopologicalSorter[str]) -> set[Future[TaskReport]]:
        """Start the task, or record at once that it does not run."""
        task = self._tasks[name]
        states = {before: self._reports[before].state for before in task.upstream}
        artifacts = input_artifacts(task, {before: self._reports[before].outputs for before in task.upstream})
        report = _turn(task, states, artifacts)
        self._note(report)
        if report.state is TaskState.RUNNING:
            return {pool.submit(_performed, self._stage, task, artifacts, states)}
        sorter.done(name)
        return set()

    def _await(self, running: set[Future[TaskReport]], sorter: TopologicalSorter[str]) -> set[Future[TaskReport]]:
        """Wait until a task has ended; return those still running."""
        ended, going = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            self._note(future.result())
            sorter.done(future.result().name)
        return going

    def _made_before(self, task: Task, producer: str) -> Artifacts:
        execution = self._stage.metadata.done(self._stage.spec.name, self._stage.run, producer)
        if execution is None:
            raise NotRehearsable(
                f"{task.name} needs the output of {producer}, which has not succeeded in the run {self._stage.run}. "
                f"Repeat {producer} first, or run the whole pipeline."
            )
        return execution.outputs

    def _note(self, report: TaskReport) -> None:
        self._reports[report.name] = report
        self._on_change(report)

    def _rehearsal(self) -> Rehearsal:
        return Rehearsal(self._stage.run, dict(self._reports))


def _turn(task: Task, states: Mapping[str, TaskState], artifacts: Artifacts) -> TaskReport:
    """Decide whether the task runs, now that all before it have ended."""
    state = task.turn(states)
    if state is not TaskState.RUNNING:
        reason = {TaskState.SKIPPED: "an upstream task was skipped", TaskState.NOT_STARTED: "an upstream task failed"}
        return TaskReport(task.name, state, message=reason[state])
    try:
        if task.condition.holds(artifacts):
            return TaskReport(task.name, state)
        return TaskReport(task.name, TaskState.SKIPPED, message="its condition does not hold")
    except ConditionFailed as error:
        return TaskReport(task.name, TaskState.FAILED, message=str(error))


def _performed(stage: Stage, task: Task, artifacts: Artifacts, before: Mapping[str, TaskState]) -> TaskReport:
    """Run the task and record it."""
    started, metadata = time.monotonic(), stage.metadata
    execution = metadata.begin(stage.spec.name, stage.run, task.name)
    try:
        ended = perform(stage, task, execution, Inputs(input_parameters(stage, task, before), artifacts))
    except Ended as error:
        ended = replace(execution, state=TaskState.CANCELLED, message=str(error))
    except AdaptationError as error:
        ended = replace(execution, state=TaskState.FAILED, message=str(error))
    except Exception as error:
        ended = replace(execution, state=TaskState.FAILED, message=described(error))
    metadata.end(ended)
    log = stage.log(execution)
    return TaskReport(
        name=task.name,
        state=ended.state,
        seconds=time.monotonic() - started,
        log=log if log.exists() else None,
        message=ended.message,
        outputs=ended.outputs,
    )
