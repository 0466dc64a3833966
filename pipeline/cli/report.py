"""The command `adapt report`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.shell import Command, in_workspace


@click.command(cls=Command)
@in_workspace
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False),
    default="report.html",
    show_default=True,
    help="Where to write it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON instead.")
def report(folder: Path, output: str, as_json: bool) -> None:
    """Write a page on the workspace: its story, its data, its champion.

    It is one file that needs no network and no script. The workspace is not changed.
    """
    from adaptation import codec
    from adaptation.io import storage
    from pipeline.report.collect import collect
    from pipeline.report.page import write_page
    from pipeline.workspace.workspace import Workspace

    facts = collect(Workspace.open(folder))
    if as_json:
        click.echo(codec.encode(facts))
        return
    write_page(facts, storage.absolute(output))
    click.echo(f"{output}: {len(facts.events)} events, {len(facts.spans)} spans; open it in a browser")
