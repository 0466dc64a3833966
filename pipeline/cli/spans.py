"""The commands of `adapt spans`: list, show, verify and adopt the portions of training data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptation.errors import AdaptationError
from pipeline.cli.shell import FAILED, Shell, complain, in_workspace, open_workspace

if TYPE_CHECKING:
    from adaptation.data.labels import Skipped
    from adaptation.data.spans import Manifest, Span, SpanStore


@click.group(cls=Shell.group_class)
def spans() -> None:
    """List, show, verify and adopt spans, the portions of training data."""


@spans.command("list")
@in_workspace
def list_spans(folder: Path) -> None:
    """List the published spans, and the folders that could be adopted."""
    from pipeline.console import minute, show

    store = open_workspace(folder).spans
    rows = [
        (
            f"span-{one.span}",
            one.batch,
            one.images_in("train"),
            one.images_in("test"),
            one.digest[:12],
            minute(one.created),
        )
        for one in store.manifests(store.spans())
    ]
    show("Spans", ["span", "batch", "train", "test", "digest", "created (UTC)"], rows)
    for span in store.unsigned():
        click.echo(f'{span} has no manifest; "adapt spans adopt {span}" verifies and signs it')


@spans.command("show")
@in_workspace
@click.argument("span")
def show_span(folder: Path, span: str) -> None:
    """Show the content of SPAN."""
    from adaptation.data.spans import SPLITS, Span
    from pipeline.console import show

    manifest = open_workspace(folder).spans.manifest(Span.parse(span))
    rows = [(label, *(manifest.counts[split][label] for split in SPLITS)) for label in manifest.labels]
    show(f"span-{manifest.span}, from {manifest.batch}", ["label", *SPLITS], rows)
    shards = [(shard.path, shard.images, shard.size) for shard in manifest.shards]
    show("Files", ["file", "images", "bytes"], shards)
    click.echo(f"digest {manifest.digest}\nsplit seed {manifest.seed}, test ratio {manifest.ratio}")
    list_skipped(manifest.skipped)


@spans.command()
@in_workspace
@click.argument("span", nargs=-1)
@click.option("--decode", is_flag=True, help="Decode every image, too, and name those that trainings leave out.")
def verify(folder: Path, span: tuple[str, ...], decode: bool) -> None:
    """Read every byte of each SPAN (default: of all) and compare it with the manifest."""
    from adaptation.data.spans import Span

    store = open_workspace(folder).spans
    named = [Span.parse(text) for text in span]
    if not all([_is_as_published(store, one, decode) for one in named or store.spans()]):
        click.get_current_context().exit(FAILED)


@spans.command()
@in_workspace
@click.argument("span")
def adopt(folder: Path, span: str) -> None:
    """Verify and sign the folder SPAN, whose TFRecord files came from elsewhere."""
    from adaptation.data.span_adoption import adopt as adopt_span
    from adaptation.data.spans import Span

    workspace = open_workspace(folder)
    manifest = adopt_span(workspace.spans, Span.parse(span), workspace.settings.labels.names, "adapt spans adopt")
    click.echo(f"span-{manifest.span}: {manifest.images} images, digest {manifest.digest[:12]}")
    list_skipped(manifest.skipped, f'"adapt spans show {manifest.span}" lists them all')


def list_skipped(skipped: Sequence[Skipped], rest: str = "") -> None:
    """Print all of them, or the first five and `rest`, which says where the others are."""
    shown: Iterable[Skipped] = skipped[:5] if rest else skipped
    for one in shown:
        click.echo(f"  skipped {one.name}: {one.reason}")
    if rest and len(skipped) > 5:
        click.echo(f"  ... {rest}")


def _is_as_published(store: SpanStore, span: Span, decode: bool) -> bool:
    try:
        manifest = store.verify(span)
        click.echo(f"{span}: {manifest.images} images are as published")
        return not decode or _decodes(store, manifest)
    except AdaptationError as error:
        complain(error)
        return False


def _decodes(store: SpanStore, manifest: Manifest) -> bool:
    from adaptation.data.span_decoding import unusable_images

    unusable = [image for shard in unusable_images(store, manifest).values() for image in shard]
    for image in unusable:
        click.echo(f"  {image.name} {image.reason}")
    click.echo(f"span-{manifest.span}: {len(unusable)} images cannot be decoded; trainings leave them out")
    return not unusable
