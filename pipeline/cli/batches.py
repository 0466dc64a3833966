"""The commands of `adapt batches`: list and requeue the batches of collected images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shell import Shell, in_workspace, open_workspace

if TYPE_CHECKING:
    from adaptation.data.batches import Batch, BatchStore


@click.group(cls=Shell.group_class)
def batches() -> None:
    """List and requeue the batches of collected images."""


@batches.command("list")
@in_workspace
def list_batches(folder: Path) -> None:
    """List the batches with their images, new and archived ones."""
    from pipeline.console import show

    store = open_workspace(folder).batches
    show("Batches", ["batch", "images", "new", "archived"], [_batch_row(store, batch) for batch in store.batches()])


@batches.command()
@in_workspace
@click.argument("batch")
def requeue(folder: Path, batch: str) -> None:
    """Move the archived images of BATCH back; they stay evaluated."""
    from adaptation.data.batches import Batch

    count = open_workspace(folder).batches.requeue(Batch.parse(batch))
    click.echo(f"{batch}: {count} images are back")


def _batch_row(store: BatchStore, batch: Batch) -> tuple[str, int, int, int]:
    evaluated, images = store.evaluated(batch), set(store.images(batch))
    return str(batch), len(images), len(images - evaluated), len(store.archived(batch))
