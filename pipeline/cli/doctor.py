"""The command `adapt doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.shell import FAILED, Command, in_workspace, open_workspace


@click.command(cls=Command)
@in_workspace
@click.option("--repair", is_flag=True, help="Move files that cannot be read into quarantine/, after asking.")
def doctor(folder: Path, repair: bool) -> None:
    """Check the machine, the settings and what they refer to; name each problem and its fix.

    The exit code is 1 if something is broken; warnings alone leave it 0.
    """
    from pipeline.doctor.examine import examine

    if repair:
        _repair(folder)
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


def _repair(folder: Path) -> None:
    from pipeline.doctor.state import damaged, quarantine

    workspace = open_workspace(folder)
    if workspace.settings.target.remote:
        raise click.UsageError("--repair is for a workspace on this machine. Restore objects from their versions.")
    if not (found := list(damaged(workspace))):
        click.echo("no file is damaged")
        return
    for damage in found:
        click.echo(damage.reason)
    click.echo(
        "A copy is better. Without these files a job without its state runs again, an evaluation without its record is "
        "repeated, a span without its manifest is not published, and a version of the model is missing."
    )
    click.confirm(f"Move {len(found)} damaged files into quarantine/?", abort=True)
    click.echo(f"moved to {quarantine(workspace, found)}; nothing was deleted")
