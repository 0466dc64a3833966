"""The commands of `adapt review`: export images for people to label, import their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.loop import finish_evaluation
from pipeline.cli.shell import Shell, in_workspace

if TYPE_CHECKING:
    from adaptation.data.batches import Batch
    from pipeline.review.export import Format
    from pipeline.workspace.workspace import Workspace


@click.group(cls=Shell.group_class)
def review() -> None:
    """Export images for people to label, and import their labels as the true ones."""


@review.command("export")
@in_workspace
@click.option("--batch", default="", help="The batch, like 2021-10; default: the newest.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, file_okay=False), show_default="review-<batch>", help="A folder."
)
@click.option("--budget", type=click.IntRange(min=1), help="How many images to draw; else all, and no sample.")
@click.option("--blind", is_flag=True, help="Hide present labels and predictions, which would bias people.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "label-studio"]),
    default="csv",
    show_default=True,
    help="A table with contact sheets, or tasks for Label Studio.",
)
def export_command(
    folder: Path, batch: str, output: Path | None, budget: int | None, blind: bool, form: Format
) -> None:
    """Write a batch's images as a table to fill in (labels.csv) and contact sheets to look at.

    With a budget the images are drawn by chance, and the draw is recorded: the labels of a draw say how good the model
    is on the whole batch. A larger draw contains each smaller one. Edit the column label, leave it empty where you are
    not sure, then run "adapt review import" on the table.
    """
    from adaptation.data.batches import Batch
    from pipeline.console import say, working
    from pipeline.review.export import export
    from pipeline.workspace.workspace import Workspace

    workspace = Workspace.open(folder)
    chosen = Batch.parse(batch) if batch else workspace.batches.newest()
    with working(f"writing the images of {chosen} for review"):
        done = export(workspace, chosen, output or Path(f"review-{chosen}"), budget, blind, form)
    if done.predictions:
        say(f"predictions: {done.predictions}")
    elif not blind:
        say(f'no evaluation has predicted {chosen} yet; "adapt evaluate --batch {chosen}" does')
    click.echo(f"{done.table}: {done.images} images; {done.open} of {chosen} are not reviewed")
    if done.drawn > done.images:
        click.echo(f"{done.drawn} images are drawn, {done.drawn - done.images} of them are reviewed already")
    for sheet in done.sheets:
        click.echo(sheet)


@review.command("import")
@in_workspace
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_command(folder: Path, file: Path) -> None:
    """Import the labels of FILE, an exported and filled-in table, as true labels for evaluations.

    Rows without a label are skipped. If anything is wrong with the table, nothing is imported. An evaluation that waits
    for these labels is continued.
    """
    from adaptation.data.reviews import Reviews, read_review
    from adaptation.io import storage
    from pipeline.jobs import continue_evaluation
    from pipeline.workspace.workspace import Workspace

    workspace = Workspace.open(folder)
    names = workspace.settings.labels.names
    found = read_review(storage.absolute(str(file)), workspace.batches, names)
    for batch, labels in found.labels.items():
        changed = Reviews(workspace.batches).add(batch, labels)
        click.echo(f'{batch}: {len(labels)} labels, {changed} of them new; "adapt evaluate --batch {batch}" measures')
        _report_spans(workspace, batch)
    if found.open:
        click.echo(f"rows without a label: {found.open}")
    for batch in found.labels:
        if delivery := continue_evaluation(workspace, batch):
            finish_evaluation(workspace, delivery)


def _report_spans(workspace: Workspace, batch: Batch) -> None:
    """Report the spans that keep their old labels: a published span never changes."""
    from pipeline.console import say

    for manifest in workspace.spans.manifests(workspace.spans.spans()):
        if manifest.batch == str(batch):
            say(f"span-{manifest.span}, made from {batch}, keeps the labels that it was published with")
