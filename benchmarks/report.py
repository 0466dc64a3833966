"""The report of the figures: a table for people, a JSON list for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.suite import Report

VERDICTS = {True: "yes", False: "NO", None: "too noisy to tell"}


def show(reports: Sequence[Report]) -> None:
    """Show the figures as a table, with the remarks below it."""
    table = Table(title="Ratios to baselines measured in the same run")
    for column in ("subject", "against", "ratio", "spread", "reach", "reached"):
        table.add_column(column, justify="right" if column in ("ratio", "spread") else "left")
    figures = [figure for report in reports for figure in report.figures]
    for figure in figures:
        ratio = "-" if figure.ratio is None else f"{figure.ratio:.2f}"
        reached = "not measured" if figure.failure else VERDICTS[figure.ok]
        table.add_row(figure.subject, figure.against, ratio, f"± {figure.spread:.2f}", figure.reach, reached)
    console = Console()
    console.print(table)
    for subject, failure in dict.fromkeys((figure.subject, figure.failure) for figure in figures if figure.failure):
        console.print(f"{subject} was not measured: {failure}", highlight=False, markup=False)
    for report in reports:
        if report.remark:
            console.print(f"{report.figures[0].subject}: {report.remark}", highlight=False)


def write(reports: Sequence[Report], file: Path) -> None:
    """Write the figures as a JSON list, one object a figure."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figures = [asdict(figure) for report in reports for figure in report.figures]
    file.write_text(json.dumps(figures, indent=1) + "\n")
