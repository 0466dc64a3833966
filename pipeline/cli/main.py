"""The command `adapt`: each of its commands opens the workspace, calls one thing and shows what came of it.

Nothing is imported before a command needs it, so that help and usage errors appear at once. What is done, and how it is
shown, is decided elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptation.errors import AdaptationError
from pipeline.cli.cloud import compile_command, publish, submit
from pipeline.cli.cost import cost
from pipeline.cli.doctor import doctor
from pipeline.cli.function import function
from pipeline.cli.rehearsal import rehearse
from pipeline.cli.report import report
from pipeline.cli.review import review
from pipeline.cli.settings import settings as settings_group
from pipeline.cli.shell import FAILED, Shell, complain, in_workspace

if TYPE_CHECKING:
    from adaptation.data.batches import Batch, BatchStore
    from adaptation.data.labels import Skipped
    from adaptation.data.spans import Span, SpanStore
    from adaptation.platforms.base import Job, ModelVersion
    from pipeline.workspace.workspace import Workspace

REFUSED = 3


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="continuous-adaptation")
def cli() -> None:
    """Notices when a deployed image classifier meets changed data, retrains it and redeploys it.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the gate refused the challenger and the champion stays in service,
    130 interrupted.
    """


for command in (compile_command, publish, submit, rehearse, function, review, report, cost, doctor, settings_group):
    cli.add_command(command)


def main() -> None:
    """The command's entry point."""
    cli(prog_name="adapt")


@cli.command()
@in_workspace
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A folder of images.")
@click.option("--model", default=None, help="digits, cifar, resnet50, or the path of your own module.")
@click.option("--limit", type=click.IntRange(min=10), help="Take so many images, evenly over the classes.")
@click.option("--name", default=None, help="What the pipelines' names start with.")
def init(folder: Path, images: Path | None, model: str | None, limit: int | None, name: str | None) -> None:
    """Make a workspace: settings and span-1.

    The images of each class lie in a folder of its name, or are named like ship_0001.jpg. Without --images,
    scikit-learn's digits are taken.
    """
    from pipeline.console import working
    from pipeline.workspace.initialise import initialise

    given = {"model.name": model, "name": name}
    overrides = {key: value for key, value in given.items() if value is not None}
    with working(f"making a span of {images or 'the digits of scikit-learn'}"):
        workspace, manifest = initialise(folder, images, limit, overrides)
    settings = workspace.settings
    click.echo(f"{settings.file}: the settings, with every choice explained")
    click.echo(f"classes by {settings.labels.source}: {', '.join(manifest.labels)}")
    click.echo(f"span-{manifest.span}: {manifest.images} images, {len(manifest.skipped)} skipped")
    _list_skipped(manifest.skipped, f'"adapt spans show {manifest.span}" lists them all')
    click.echo(f'Next: "adapt train{"" if folder == Path(".") else f" -w {folder}"}"')


@cli.command()
@in_workspace
@click.option("--window", default="", help='Spans to train on: "all", "last:2" or "1,3,9-11"; else the settings\'.')
def train(folder: Path, window: str) -> None:
    """Train on a window of spans. The model is deployed if the gate lets it."""
    from pipeline.jobs import start_training

    workspace = _open(folder)
    _finish_training(workspace, start_training(workspace, window).id)


@cli.command()
@in_workspace
@click.option("--batch", default="", help="The month, like 2021-10; else the newest.")
def evaluate(folder: Path, batch: str) -> None:
    """Evaluate a month of images now. Below the threshold it becomes a span, which is trained on."""
    from pipeline.console import follow, say
    from pipeline.jobs import start_evaluation

    workspace = _open(folder)
    delivery = start_evaluation(workspace, batch)
    say(f"{delivery.plan.batch}: {delivery.plan.reason}")
    if delivery.job is None:
        return
    job = follow(workspace.jobs, delivery.job.id)
    click.echo(_conclusion(job))
    if training := job.result.get("training"):
        _finish_training(workspace, training)


@cli.command()
@in_workspace
def plan(folder: Path) -> None:
    """Show what the trigger would do now, and why."""
    from pipeline.jobs import planned

    workspace = _open(folder)
    state, intended = planned(workspace)
    lines = {
        "batch": state.batch or "none",
        "images": f"{state.images}, of which {state.new} are new",
        "digest": state.digest[:12] or "none",
        "job": intended.job_id or "none",
        "outcome": f"{intended.outcome}: {intended.reason}",
    }
    for name, value in lines.items():
        click.echo(f"{name:9}{value}")
    if workspace.platform.registry.champion() is None:
        click.echo('There is no champion to evaluate: nothing is started before "adapt train" has made one.')


@cli.command()
@in_workspace
@click.option("--interval", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Seconds.")
def watch(folder: Path, interval: float) -> None:
    """Start an evaluation whenever enough images have arrived.

    It goes on until Ctrl-C or SIGTERM. Stopping loses nothing: a job that was started goes on by itself, and the next
    watch finds it.
    """
    from adaptation.platforms.connect import connect
    from adaptation.watch import watch as deliver_again
    from pipeline.console import say
    from pipeline.jobs import trigger

    workspace = _open(folder)
    connect(workspace.config)  # what the settings lack is told now, not at every look
    stop = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stop.set())
    say(f"watching {workspace.batches.root} every {interval:g} s; Ctrl-C ends it")
    deliver_again(lambda: trigger(workspace), interval, stop, click.echo)
    say("stopped; what was started goes on by itself")


@cli.group()
def spans() -> None:
    """The portions of training data."""


@spans.command("list")
@in_workspace
def list_spans(folder: Path) -> None:
    """List the published spans, and the folders that could be adopted."""
    from pipeline.console import show

    store = _open(folder).spans
    rows = [
        (
            f"span-{one.span}",
            one.batch,
            one.images_in("train"),
            one.images_in("test"),
            one.digest[:12],
            _minute(one.created),
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
    """Show what is in SPAN."""
    from adaptation.data.spans import SPLITS, Span
    from pipeline.console import show

    manifest = _open(folder).spans.manifest(Span.parse(span))
    rows = [(label, *(manifest.counts[split][label] for split in SPLITS)) for label in manifest.labels]
    show(f"span-{manifest.span}, from {manifest.batch}", ["label", *SPLITS], rows)
    shards = [(shard.path, shard.images, shard.size) for shard in manifest.shards]
    show("Files", ["file", "images", "bytes"], shards)
    click.echo(f"digest {manifest.digest}\nsplit seed {manifest.seed}, test ratio {manifest.ratio}")
    _list_skipped(manifest.skipped)


@spans.command()
@in_workspace
@click.argument("span", nargs=-1)
def verify(folder: Path, span: tuple[str, ...]) -> None:
    """Read every byte of each SPAN (of all, where none is named) and hold it against its manifest."""
    from adaptation.data.spans import Span

    store = _open(folder).spans
    named = [Span.parse(text) for text in span]
    if not all([_is_as_published(store, one) for one in named or store.spans()]):
        click.get_current_context().exit(FAILED)


@spans.command()
@in_workspace
@click.argument("span")
def adopt(folder: Path, span: str) -> None:
    """Verify and sign the folder SPAN, whose TFRecord files came from elsewhere."""
    from adaptation.data.span_adoption import adopt as adopt_span
    from adaptation.data.spans import Span

    workspace = _open(folder)
    manifest = adopt_span(workspace.spans, Span.parse(span), workspace.settings.labels.names, "adapt spans adopt")
    click.echo(f"span-{manifest.span}: {manifest.images} images, digest {manifest.digest[:12]}")


@cli.group()
def batches() -> None:
    """The months of collected images."""


@batches.command("list")
@in_workspace
def list_batches(folder: Path) -> None:
    """List the months: images, those not evaluated yet, and those archived."""
    from pipeline.console import show

    store = _open(folder).batches
    show("Batches", ["month", "images", "new", "archived"], [_batch_row(store, batch) for batch in store.batches()])


@batches.command()
@in_workspace
@click.argument("batch")
def requeue(folder: Path, batch: str) -> None:
    """Move the archived images of BATCH back, to be evaluated again."""
    from adaptation.data.batches import Batch

    count = _open(folder).batches.requeue(Batch.parse(batch))
    click.echo(f"{batch}: {count} images are back and count as new")


@cli.group()
def models() -> None:
    """The versions of the model."""


@models.command("list")
@in_workspace
def list_models(folder: Path) -> None:
    """List the versions."""
    from pipeline.console import show

    registry = _open(folder).platform.registry
    champion = registry.champion()
    rows = [
        _model_row(version, is_champion=champion is not None and version.number == champion.number)
        for version in registry.versions()
    ]
    title = "Models and their accuracies"
    show(title, ["version", "in service", "spans", "lowest", "on the newest", "created (UTC)"], rows)


@cli.command()
@in_workspace
def rollback(folder: Path) -> None:
    """Go back to the version that was the champion before."""
    from adaptation.platforms.rollout import roll_back

    platform = _open(folder).platform
    version = roll_back(platform.registry, platform.endpoint)
    click.echo(f"version {version.number} is the champion again")


@cli.command()
@click.option(
    "--workspace",
    "-w",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="A folder of the demo's own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def demo(folder: Path, as_json: bool) -> None:
    """Run the whole loop on real images.

    A first model, a month of images from a changed camera, the retraining, the new champion. It takes a few minutes.
    """
    from pipeline.demo import run_demo, show_result

    result = run_demo(folder)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    else:
        show_result(result)
    if not result.retrained:
        click.get_current_context().exit(REFUSED)


def _open(folder: Path) -> Workspace:
    from pipeline.workspace.workspace import Workspace

    return Workspace.open(folder)


def _finish_training(workspace: Workspace, job_id: str) -> None:
    from pipeline.console import follow

    job = follow(workspace.jobs, job_id)
    click.echo(_conclusion(job))
    if not job.result.get("deployed", True):
        click.get_current_context().exit(REFUSED)


def _conclusion(job: Job) -> str:
    """Why it ended as it did. A job on Google Cloud keeps that to itself; its page and the registry tell."""
    where = f'{job.id} has ended; {job.link} shows what it concluded, "adapt models list" the champion'
    return str(job.result.get("reason", where))


def _is_as_published(store: SpanStore, span: Span) -> bool:
    try:
        click.echo(f"{span}: {store.verify(span).images} images are as published")
    except AdaptationError as error:
        complain(error)
        return False
    return True


def _batch_row(store: BatchStore, batch: Batch) -> tuple[str, int, int, int]:
    evaluated, images = store.evaluated(batch), set(store.images(batch))
    return str(batch), len(images), len(images - evaluated), len(store.archived(batch))


def _model_row(version: ModelVersion, is_champion: bool) -> tuple[int, str, str, str, str, str]:
    from adaptation.data.spans import Span, enumerate_spans

    accuracies = {Span.parse(name): accuracy for name, accuracy in version.metrics.items()}
    lowest, newest = min(accuracies, key=accuracies.__getitem__, default=None), max(accuracies, default=None)
    worst, latest = (f"{span}: {accuracies[span]:.3f}" if span else "" for span in (lowest, newest))
    in_service = "champion" if is_champion else ""
    return (
        version.number,
        in_service,
        enumerate_spans(map(Span, version.spans)),
        worst,
        latest,
        _minute(version.created),
    )


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _list_skipped(skipped: Sequence[Skipped], rest: str = "") -> None:
    """All of them, or a few, followed by `rest`, which tells where the others are."""
    shown: Iterable[Skipped] = skipped[:5] if rest else skipped
    for one in shown:
        click.echo(f"  skipped {one.name}: {one.reason}")
    if rest and len(skipped) > 5:
        click.echo(f"  ... {rest}")
