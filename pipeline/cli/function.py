"""The commands of `adapt function`: build what is deployed, and deploy it."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.shell import Shell, in_workspace

FOLDER = "function"
_output = click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    show_default=f'"{FOLDER}" beside the settings',
    help="The folder that is deployed; it is replaced as a whole.",
)


@click.group(cls=Shell.group_class)
def function() -> None:
    """Build and deploy the Cloud Function that starts an evaluation when enough new images have arrived."""


@function.command()
@in_workspace
@_output
def build(folder: Path, output: Path | None) -> None:
    """Write the folder that is deployed."""
    from pipeline.function.build import build as write
    from pipeline.workspace.workspace import Workspace

    settings = Workspace.open(folder).settings
    output = output or settings.file.parent / FOLDER
    write(settings, output)
    click.echo(f"{output}: the function's code, requirements and environment")


@function.command()
@in_workspace
@_output
@click.option("--dry-run", is_flag=True, help="Print the commands, as a script for a shell, and run nothing.")
def deploy(folder: Path, output: Path | None, dry_run: bool) -> None:
    """Build the folder, and deploy it with everything that calls it.

    That is two functions, a schedule, a topic with a subscription, and two service accounts with no more rights than
    they need. gcloud makes them, with the account that is logged in. It is safe to repeat, and updates everything.
    """
    from pipeline.console import working
    from pipeline.function.build import build as write
    from pipeline.function.deployment import deployment_steps
    from pipeline.function.gcloud import Step, carry_out, script
    from pipeline.workspace.workspace import Workspace

    settings = Workspace.open(folder).settings
    output = (output or settings.file.parent / FOLDER).absolute()
    steps = deployment_steps(settings, output)
    if dry_run:
        command = ("adapt", "function", "build", f"--workspace={settings.file}", f"--output={output}")
        click.echo("set -e\n" + script([Step("the folder that is deployed", command), *steps]), nl=False)
        return
    write(settings, output)
    carry_out(steps, working)
    click.echo(f"{settings.name} is deployed: {len(steps)} steps done")
