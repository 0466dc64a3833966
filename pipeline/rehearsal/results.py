"""The values of a rehearsal: where it runs, the state of each task, and the result.

`container` runs a task; `run` decides which and when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adaptation.errors import AdaptationError
from pipeline.rehearsal.executions import Artifact, TaskState

_LAST_LINES = 20


@dataclass(frozen=True)
class Place:
    """The place where a pipeline is rehearsed.

    Attributes:
      folder: Folder of this machine for logs and for the record of all runs; several runs may share it.
      root: Folder or gs:// URI for the tasks' outputs; empty: the spec's own `gcsOutputDirectory`.
      environment: Additional environment variables of the tasks' processes.
      parallel: How many tasks run at the same time.
      cache: True if a task may reuse an earlier run's result.
    """

    folder: Path
    root: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    parallel: int = 2
    cache: bool = False


@dataclass(frozen=True)
class TaskReport:
    """The state of a task.

    Attributes:
      name: The task.
      state: Its state.
      seconds: How long it ran.
      log: Its processes' output; None if none was started.
      message: Why it failed or was not run, in a line; else empty.
      outputs: Its artifacts by output name.
    """

    name: str
    state: TaskState
    seconds: float = 0.0
    log: Path | None = None
    message: str = ""
    outputs: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)

    def last_lines(self) -> list[str]:
        """Return the last lines of the log."""
        return self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:] if self.log else []


class RehearsalFailed(AdaptationError, RuntimeError):
    """A rehearsal in which a task failed; the message has the end of its log.

    Attributes:
      report: The task's.
    """

    def __init__(self, report: TaskReport, command: str = "") -> None:
        lines = [f"{report.name} failed after {report.seconds:.0f} s: {report.message}"]
        if report.log:
            lines += [f"The end of {report.log}:", *(f"  | {line}" for line in report.last_lines())]
        if command:
            lines.append(f'When the cause is fixed, "{command} --task {report.name}" repeats it alone.')
        super().__init__("\n".join(lines))
        self.report = report


@dataclass(frozen=True)
class Rehearsal:
    """The result of a run.

    Attributes:
      run: Its name.
      tasks: The reports of all tasks by name, in the order in which they could run.
    """

    run: str
    tasks: Mapping[str, TaskReport]

    @property
    def failed(self) -> tuple[TaskReport, ...]:
        """The tasks that failed or were cancelled; empty if the pipeline succeeded."""
        ended_badly = (TaskState.FAILED, TaskState.CANCELLED)
        return tuple(report for report in self.tasks.values() if report.state in ended_badly)

    def output(self, task: str, name: str) -> Artifact:
        """Return the artifact that a task made.

        Raises:
          KeyError: The task did not run, or has no such output.
        """
        (artifact,) = self.tasks[task].outputs[name]
        return artifact

    def check(self, command: str = "") -> None:
        """Check that the pipeline succeeded.

        Args:
          command: A command that, followed by `--task NAME`, repeats a task alone, for the message.

        Raises:
          RehearsalFailed: A task failed or was cancelled; it has the report of the first.
        """
        if self.failed:
            raise RehearsalFailed(self.failed[0], command)
