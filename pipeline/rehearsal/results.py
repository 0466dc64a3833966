"""What a rehearsal is told and what it tells: where it runs, how each task stands, and how it all ended.

Only values live here. How a task is run is in `container`, which one and when in `runner`.
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
    """Where a pipeline is rehearsed.

    Attributes:
      folder: Folder of this machine for logs and for the record of all runs; several runs may share it.
      root: Folder or gs:// URI for the tasks' outputs; empty: the spec's own `gcsOutputDirectory`.
      environment: What the tasks' processes get in addition.
      parallel: How many tasks run at the same time.
      cache: Whether a task may take over an earlier run's result.
    """

    folder: Path
    root: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    parallel: int = 2
    cache: bool = False


@dataclass(frozen=True)
class TaskReport:
    """How a task stands.

    Attributes:
      name: The task.
      state: Its state.
      seconds: How long it ran.
      log: What its processes printed; None where none was started.
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
        """The end of the log."""
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
            lines.append(f'When the cause is mended, "{command} --task {report.name}" repeats it alone.')
        super().__init__("\n".join(lines))
        self.report = report


@dataclass(frozen=True)
class Rehearsal:
    """How a run ended.

    Attributes:
      run: Its name.
      tasks: The reports of all tasks by name, in the order in which they could run.
    """

    run: str
    tasks: Mapping[str, TaskReport]

    @property
    def failed(self) -> tuple[TaskReport, ...]:
        """The tasks that failed or were cancelled; none where the pipeline succeeded."""
        ended_badly = (TaskState.FAILED, TaskState.CANCELLED)
        return tuple(report for report in self.tasks.values() if report.state in ended_badly)

    def output(self, task: str, name: str) -> Artifact:
        """The artifact that a task made.

        Raises:
          KeyError: The task did not run, or has no such output.
        """
        (artifact,) = self.tasks[task].outputs[name]
        return artifact

    def check(self, command: str = "") -> None:
        """Does nothing where the pipeline succeeded.

        Args:
          command: A command that, followed by `--task NAME`, repeats a task alone; the message tells it.

        Raises:
          RehearsalFailed: A task failed or was cancelled; the first one is told.
        """
        if self.failed:
            raise RehearsalFailed(self.failed[0], command)
