"""The display of a running rehearsal: a live table of its tasks on a terminal, else a line a change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pipeline.console import PROGRESS, say
from pipeline.rehearsal.executions import TaskState
from pipeline.rehearsal.results import TaskReport
from pipeline.rehearsal.run import OnChange

_COLOURS = {
    TaskState.NOT_STARTED: "dim",
    TaskState.RUNNING: "bold",
    TaskState.SUCCEEDED: "green",
    TaskState.CACHED: "green",
    TaskState.SKIPPED: "dim",
    TaskState.FAILED: "red",
    TaskState.CANCELLED: "red",
}


@contextmanager
def live_table() -> Iterator[OnChange]:
    """Show the tasks' states while the context lasts; yield the callback for each change."""
    if not PROGRESS.is_terminal:
        yield _say_change
        return
    rows = _Rows()
    with Live(console=PROGRESS, get_renderable=rows.table, refresh_per_second=4):
        yield rows.update


class _Rows:
    """The table's content."""

    def __init__(self) -> None:
        self._reports: dict[str, TaskReport] = {}
        self._started: dict[str, float] = {}

    def update(self, report: TaskReport) -> None:
        self._reports[report.name] = report
        if report.state is TaskState.RUNNING:
            self._started[report.name] = time.monotonic()

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for report in list(self._reports.values()):
            row = (report.name, report.state, self._seconds(report), escape(report.message))
            table.add_row(*row, style=_COLOURS[report.state])
        return table

    def _seconds(self, report: TaskReport) -> str:
        if report.state is TaskState.RUNNING:
            return f"{time.monotonic() - self._started[report.name]:.0f} s"
        return f"{report.seconds:.0f} s" if report.seconds else ""


def _say_change(report: TaskReport) -> None:
    if report.state is not TaskState.NOT_STARTED or report.message:
        seconds = f" after {report.seconds:.1f} s" if report.seconds else ""
        say(f"  {report.name}: {report.state}{seconds}{f': {report.message}' if report.message else ''}")
