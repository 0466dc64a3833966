"""The commands of `adapt review`: images go out to people, their labels come back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shell import Shell, in_workspace

if TYPE_CHECKING:
    from adaptation.data.batches import Batch
    from pipeline.workspace.workspace import Workspace


@click.group(cls=Shell.group_class)
def review() -> None:
    """Labels by people: what they say of an image is its true label."""


@review.command("export")
@in_workspace
@click.option("--batch", default="", help="The month, like 2021-10; else the newest.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, file_okay=False), show_default="review-<month>", help="A folder."
)
@click.option("--limit", type=click.IntRange(min=1), help="Take so many images, a fair sample of those not reviewed.")
@click.option("--blind", is_flag=True, help="Show neither present labels nor predictions, which would lead people.")
def export_command(folder: Path, batch: str, output: Path | None, limit: int | None, blind: bool) -> None:
    """Write a month's images as a table to fill in (labels.csv) and contact sheets to look at.

    Edit the column label, leave it empty where you cannot tell, then give the table to "adapt review import".
    """
    from adaptation.data.batches import Batch
    from pipeline.console import say, working
    from pipeline.review.export import export
    from pipeline.workspace.workspace import Workspace

    workspace = Workspace.open(folder)
    month = Batch.parse(batch) if batch else workspace.batches.newest()
    with working(f"writing the images of {month} for review"):
        done = export(workspace, month, output or Path(f"review-{month}"), limit, blind)
    if done.predictions:
        say(f"predictions: {done.predictions}")
    elif not blind:
        say(f'no evaluation has predicted {month} yet; "adapt evaluate --batch {month}" does')
    click.echo(f"{done.table}: {done.images} images; {done.open} of {month} are not reviewed")
    for sheet in done.sheets:
        click.echo(sheet)


@review.command("import")
@in_workspace
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_command(folder: Path, file: Path) -> None:
    """Make the labels of FILE, a table that was exported and filled in, the truth for the evaluation.

    Rows without a label are left as they are. Where anything is wrong with the table, nothing of it is taken.
    """
    from adaptation.data.reviews import Reviews, read_review
    from adaptation.io import storage
    from pipeline.workspace.workspace import Workspace

    workspace = Workspace.open(folder)
    names = workspace.settings.labels.names
    found = read_review(storage.absolute(str(file)), workspace.batches, names)
    for batch, labels in found.labels.items():
        changed = Reviews(workspace.batches).add(batch, labels)
        click.echo(f'{batch}: {len(labels)} labels, {changed} of them new; "adapt evaluate --batch {batch}" measures')
        _tell_of_spans(workspace, batch)
    if found.open:
        click.echo(f"rows without a label: {found.open}")


def _tell_of_spans(workspace: Workspace, batch: Batch) -> None:
    """A published span never changes: who reviews its images afterwards should know."""
    from pipeline.console import say

    for manifest in workspace.spans.manifests(workspace.spans.spans()):
        if manifest.batch == str(batch):
            say(f"span-{manifest.span}, made from {batch}, keeps the labels that it was published with")
