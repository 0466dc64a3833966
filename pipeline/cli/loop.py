"""The commands of the loop: make a workspace, train, evaluate, watch, and the demo of all of it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shell import Command, in_workspace, open_workspace
from pipeline.cli.spans import list_skipped

if TYPE_CHECKING:
    from adaptation.platforms.base import Job
    from adaptation.trigger import Delivery
    from pipeline.workspace.workspace import Workspace

REFUSED, UNDECIDED = 3, 4


@click.command(cls=Command)
@in_workspace
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A folder of images.")
@click.option("--model", default=None, help="Name of a recipe, like digits, or the path of your own module.")
@click.option("--recipe", is_flag=True, help="Write recipe.py, a recipe of your own to change, as the model.")
@click.option("--limit", type=click.IntRange(min=10), help="Take so many images, evenly over the classes.")
@click.option("--name", default=None, help="What the pipelines' names start with.")
@click.option("--pattern", default=None, help="Finds the class in a name, like '_(?P<label>[a-z]+)[.]'.")
@click.option("--class-folder", type=click.Choice(["first", "last"]), help="Of folders in folders, which is the class.")
def init(
    folder: Path,
    images: Path | None,
    model: str | None,
    recipe: bool,
    limit: int | None,
    name: str | None,
    pattern: str | None,
    class_folder: str | None,
) -> None:
    """Make a workspace: settings and span-1.

    The images of each class lie in a folder of its name, or are named like ship_0001.jpg. Without --images,
    scikit-learn's digits are taken. What was read from the names is shown, and what was passed over.
    """
    from adaptation.data.spans import Span
    from pipeline.console import working
    from pipeline.user_code import find, write_recipe
    from pipeline.workspace.classes import describe_classes
    from pipeline.workspace.initialise import initialise
    from pipeline.workspace.settings_file import locate_settings

    if recipe:
        if model:
            raise click.UsageError("--model and --recipe name two models. Give one of them.")
        model = write_recipe(locate_settings(folder).parent)
    elif model:
        find(model, locate_settings(folder).parent)
    given = {"model.name": model, "name": name, "labels.pattern": pattern, "labels.class_folder": class_folder}
    overrides = {key: value for key, value in given.items() if value is not None}
    with working(f"making a span of {images or 'the digits of scikit-learn'}"):
        workspace, manifest = initialise(folder, images, limit, overrides)
    settings = workspace.settings
    click.echo(f"{settings.file}: the settings, with every choice explained")
    click.echo(f"classes by {settings.labels.source}: {', '.join(manifest.labels)}")
    if snapshot := workspace.spans.snapshot(Span(manifest.span)):
        click.echo("\n".join(describe_classes(snapshot, workspace.labels.in_batch(snapshot.root, snapshot.names))))
    click.echo(f"span-{manifest.span}: {manifest.images} images, {len(manifest.skipped)} skipped")
    list_skipped(manifest.skipped, f'"adapt spans show {manifest.span}" lists them all')
    click.echo(f'Next: "adapt train{"" if folder == Path(".") else f" -w {folder}"}"')


@click.command(cls=Command)
@in_workspace
@click.option("--window", default="", help='Spans to train on: "all", "last:2" or "1,3,9-11"; else the settings\'.')
def train(folder: Path, window: str) -> None:
    """Train on a window of spans. The model is deployed if the gate lets it.

    Exit codes: 3 if the gate refuses it, 4 if it is undecided: it stays a candidate, which further labelled images
    decide on.
    """
    from pipeline.jobs import start_training
    from pipeline.user_code import prepare

    workspace = open_workspace(folder)
    if not workspace.settings.target.remote:  # there the published pipeline runs, with the code of its own
        prepare(workspace.settings)
    _finish_training(workspace, start_training(workspace, window).id)


@click.command(cls=Command)
@in_workspace
@click.option("--batch", default="", help="The month, like 2021-10; else the newest.")
def evaluate(folder: Path, batch: str) -> None:
    """Evaluate a month of images now. Below the threshold it becomes a span, which is trained on."""
    from pipeline.jobs import start_evaluation

    workspace = open_workspace(folder)
    finish_evaluation(workspace, start_evaluation(workspace, batch))


def finish_evaluation(workspace: Workspace, delivery: Delivery) -> None:
    """Say what a delivery has started, and follow it to the end of the training that it decides on."""
    from pipeline.console import follow, say

    say(f"{delivery.plan.batch}: {delivery.plan.reason}")
    if delivery.job is None:
        return
    job = follow(workspace.jobs, delivery.job.id)
    click.echo(_conclusion(job))
    if training := job.result.get("training"):
        _finish_training(workspace, training)


@click.command(cls=Command)
@in_workspace
@click.option("--power", is_flag=True, help="Show how many images it takes to see a fall of the accuracy.")
@click.option("--images", type=click.IntRange(min=1), help="Labelled images of a batch, for --power.")
def plan(folder: Path, power: bool, images: int | None) -> None:
    """Show what the trigger would do now, and why."""
    from pipeline.cautions import cautions
    from pipeline.jobs import current_evidence, planned

    workspace = open_workspace(folder)
    state, intended = planned(workspace)
    lines = {
        "batch": state.batch or "none",
        "images": f"{state.images}, of which {state.new} are new",
        "digest": state.digest[:12] or "none",
        "job": intended.job_id or "none",
        "outcome": f"{intended.outcome}: {intended.reason}",
    }
    if state.batch and (passed_over := workspace.batches.passed_over(state.batch)):
        lines["files"] = str(passed_over)
    if state.training.record:
        lines["training"] = f"{state.training.step}: {state.training.reason}"
    if (evidence := current_evidence(workspace)) and evidence.block:
        lines["evidence"] = evidence.reason.removeprefix("evidence ")
    for name, value in lines.items():
        click.echo(f"{name:9}{value}")
    champion = workspace.platform.registry.champion()
    for caution in cautions(workspace.settings, champion):
        click.echo(f"Caution: {caution}")
    if champion is None:
        click.echo('There is no champion to evaluate: nothing is started before "adapt train" has made one.')
    if power:
        _show_power(workspace, images or state.images)


def _show_power(workspace: Workspace, images: int) -> None:
    from adaptation.evaluation.evidence import power

    settings = workspace.settings.evaluation
    if not images:
        raise click.UsageError("there is no batch to take the number of images from. Name one: --images 1000")
    click.echo(f"With {images} labelled images a batch and the threshold {settings.threshold:g}, a fall is seen after:")
    click.echo("accuracy   images, half of the falls   nine in ten   batches, half   nine in ten")
    for one in power(images, settings.threshold, settings.false_alarms):
        figures = (one.median_images, one.images_90, one.median_months, one.months_90)
        half, most, batches, most_batches = ("over 10 years" if figure is None else f"{figure:,}" for figure in figures)
        accuracy = f"{settings.threshold - one.fall:.2f}"
        click.echo(f"{accuracy:<10} {half:>26} {most:>13} {batches:>15} {most_batches:>13}")


@click.command(cls=Command)
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
    from pipeline.notification import Background

    workspace = open_workspace(folder)
    notification = Background(workspace)

    def tick() -> Delivery:
        try:
            return trigger(workspace)
        finally:
            notification.notify()

    connect(workspace.config)  # report what the settings lack now, not at every look
    stop = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stop.set())
    say(f"watching {workspace.batches.root} every {interval:g} s; Ctrl-C ends it")
    deliver_again(tick, interval, stop, click.echo)
    say("stopped; what was started goes on by itself")


@click.command(cls=Command)
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
    from adaptation import codec
    from pipeline.demo import run_demo, show_result

    result = run_demo(folder)
    if as_json:
        click.echo(codec.encode(result, indent=0))
    else:
        show_result(result)
    if not result.retrained:
        click.get_current_context().exit(REFUSED)


def _finish_training(workspace: Workspace, job_id: str) -> None:
    from pipeline.cautions import cautions
    from pipeline.console import follow, say, show_counts

    job = follow(workspace.jobs, job_id)
    if history := job.result.get("history"):
        say(f"curves of the training: {history}")
    if events := job.result.get("events"):
        say(f'event files: "tensorboard --logdir {events}" shows them')
    show_counts(job.result)
    click.echo(_conclusion(job))
    for caution in cautions(workspace.settings, workspace.platform.registry.champion()):
        say(f"Caution: {caution}")
    standing = job.result.get("standing", "champion" if job.result.get("deployed", True) else "refused")
    if code := {"refused": REFUSED, "dropped": REFUSED, "candidate": UNDECIDED}.get(standing):
        click.get_current_context().exit(code)


def _conclusion(job: Job) -> str:
    """Return the reason of its end. A job on Google Cloud does not report it; its page and the registry do."""
    where = f'{job.id} has ended; {job.link} shows what it concluded, "adapt models list" the champion'
    return str(job.result.get("reason", where))
