"""The command `adapt doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.shell import FAILED, Command, in_workspace


@click.command(cls=Command)
@in_workspace
def doctor(folder: Path) -> None:
    """Check the machine, the settings and what they refer to; name each problem and its fix.

    The exit code is 1 if something is broken; warnings alone leave it 0.
    """
    from pipeline.doctor.examine import examine

    results = []
    for result in examine(folder):
        results.append(result)
        if not result.findings:
            click.echo(f"ok       {result.name}")
        for finding in result.findings:
            click.echo(f"{finding.severity:<8} {result.name}: {finding.text}")
    if any(result.broken for result in results):
        click.get_current_context().exit(FAILED)
    if not any(result.findings for result in results):
        click.echo("no problems found")
