"""Console output: progress on the error stream, with a spinner on a terminal; tables on the output."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from adaptation.platforms.base import Job, JobFailed, Jobs, JobState

PROGRESS = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
_PASSING = ("epoch ", "predicted ", "prepared shard ")
_WIDEST = 1000
_COUNTS = {
    "both": "both right",
    "champion_only": "only champion",
    "challenger_only": "only challenger",
    "neither": "both wrong",
}


def minute(time: str) -> str:
    """Return an ISO 8601 time to the minute, as tables show it."""
    return time[:16].replace("T", " ")


def say(text: str) -> None:
    """Print a line about the work."""
    PROGRESS.print(escape(text))


def step(text: str) -> None:
    """Print the headline of a step."""
    PROGRESS.print(f"\n[bold]{escape(text)}[/bold]")


def working(text: str) -> AbstractContextManager[object]:
    """Print a line about work that takes a while, with a spinner as long as the context lasts."""
    say(text)
    return PROGRESS.status("")


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on the output, numbers to the right; never wider than the terminal."""
    cells = [tuple(row) for row in rows]
    if not cells:
        click.echo(f"{title}: none")
        return
    table = Table(box=None, pad_edge=False)
    for name, values in zip(columns, zip(*cells, strict=True), strict=True):
        table.add_column(name, justify="right" if all(map(_is_number, values)) else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(_text, row))
    output = _output()
    output.print(f"[bold]{escape(title)}[/bold]")  # a title of the table would wrap at its width
    output.print(table)


def show_counts(result: Mapping[str, Any]) -> None:
    """On how many test images which model was right, by span and by label; nothing if the training kept none."""
    for title, name in (("span", "by_span"), ("label", "by_label")):
        if counts := result.get(name):
            rows = [(each, *(counts[each][column] for column in _COUNTS)) for each in counts]
            show(f"Test images by {title}", [title, *_COUNTS.values()], rows)


def follow(jobs: Jobs, job_id: str) -> Job:
    """Show a job's progress until it has ended. To stop following does not stop the job; a message says so.

    Raises:
      NoSuchJob: None of that id was created.
      JobFailed: It failed; the message names the log.
    """
    started = jobs.get(job_id)
    log = started.link if started else ""
    say(f"job {job_id}, log: {log}")
    try:
        _show_progress(jobs.follow(job_id), job_id)
    except KeyboardInterrupt:
        say(f"{job_id} keeps running. Its log: {log}")
        raise
    return _succeeded(jobs.get(job_id), job_id)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _text(cell: object) -> str:
    return f"{cell:.3f}" if isinstance(cell, float) else escape(str(cell))


def _output() -> Console:
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDEST
    return console


def _show_progress(messages: Iterable[str], job_id: str) -> None:
    """Print messages as lines; on a terminal, passing ones only appear beside the spinner."""
    started = time.monotonic()
    with _spinner() as spinner:
        task = spinner.add_task(job_id, total=None)
        for message in messages:
            spinner.update(task, description=message)
            if not (PROGRESS.is_terminal and message.startswith(_PASSING)):
                say(f"  {time.monotonic() - started:6.1f} s  {message}")


def _spinner() -> Progress:
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    disable = not PROGRESS.is_terminal
    return Progress(SpinnerColumn(), TimeElapsedColumn(), text, console=PROGRESS, transient=True, disable=disable)


def _succeeded(job: Job | None, job_id: str) -> Job:
    if job is None or job.state is not JobState.SUCCEEDED:
        raise JobFailed(
            f"{job_id} failed: {job.message if job else 'no record of it'}. Its log: {job.link if job else ''}"
        )
    return job
