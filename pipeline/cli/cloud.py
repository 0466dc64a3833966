"""The commands of `adapt` for Google Cloud and Kubeflow: compile, publish, submit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shell import Command, in_workspace

if TYPE_CHECKING:
    from pipeline.compiled.spec import Spec
    from pipeline.compiled.submission import Submission
    from pipeline.workspace.settings import Settings

BOTH = ("training", "evaluation")


@click.command("compile", cls=Command)
@in_workspace
@click.argument("pipeline", type=click.Choice([*BOTH, "all"]))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, file_okay=False), default=Path("."), show_default="here"
)
def compile_command(folder: Path, pipeline: str, output: Path) -> None:
    """Write the compiled and checked PIPELINE: training.json, evaluation.json. It needs no network."""
    from adaptation.io import storage

    for name, spec in _compiled(_settings(folder), pipeline).items():
        file = output / f"{name}.json"
        storage.write(storage.absolute(str(file)), spec.to_json())
        click.echo(f"{file}: {len(spec.tasks)} tasks, digest {spec.digest[:12]}")


@click.command(cls=Command)
@in_workspace
@click.argument("pipeline", type=click.Choice([*BOTH, "all"]), default="all")
def publish(folder: Path, pipeline: str) -> None:
    """Compile PIPELINE (default: both) and publish it in the bucket as the latest, which jobs run."""
    from pipeline.compiled.publication import publish as put

    settings = _settings(folder)
    for name, spec in _compiled(settings, pipeline).items():
        done = put(settings, name, spec)
        click.echo(f"{name}: {done.uri} is the latest now{'; it existed before' if done.known else ''}")


@click.command(cls=Command)
@in_workspace
@click.argument("pipeline", type=click.Choice(BOTH))
@click.option("--spec", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A compiled file.")
@click.option("--param", "given", multiple=True, metavar="NAME=VALUE", help="A runtime parameter; repeatable.")
@click.option("--window", default="", help="Spans to train on; default: the settings' own.")
@click.option("--wait/--no-wait", default=False, help="Show the tasks' states until the run has ended.")
@click.option("--dry-run", is_flag=True, help="Print the request instead of sending it.")
@click.option("--platform", type=click.Choice(["vertex", "kubeflow"]), default="vertex", show_default=True)
@click.option("--host", default="", metavar="URL", help="Address of the Kubeflow Pipelines API.")
def submit(
    folder: Path,
    pipeline: str,
    spec: Path | None,
    given: Sequence[str],
    window: str,
    wait: bool,
    dry_run: bool,
    platform: str,
    host: str,
) -> None:
    """Start a job of the published PIPELINE, or of --spec."""
    _check_host(platform, host, wait)
    _check_window(pipeline, window, given)
    from pipeline.compiled.submission import submission
    from pipeline.user_code import upload

    settings = _settings(folder)
    planned = submission(settings, pipeline, spec, parameters_of(given), window)
    if spec and pipeline == "training" and not dry_run:
        upload(settings)
    if platform == "kubeflow":
        _submit_to_kubeflow(planned, host, dry_run)
    else:
        _submit_to_vertex(planned, wait, dry_run)


def _submit_to_kubeflow(planned: Submission, host: str, dry_run: bool) -> None:
    from pipeline.compiled import kubeflow
    from pipeline.compiled.submission import kubeflow_request

    click.echo(kubeflow_request(planned, host) if dry_run else kubeflow.submit(planned.job(), host))


def _submit_to_vertex(planned: Submission, wait: bool, dry_run: bool) -> None:
    from adaptation.platforms.connect import connect
    from pipeline.compiled.submission import vertex_request
    from pipeline.console import follow

    if dry_run:
        click.echo(vertex_request(planned))
        return
    jobs = connect(planned.config).jobs
    job = jobs.create(planned.request)
    click.echo(f"{job.id}: {job.link}")
    if wait:
        follow(jobs, job.id)


def _settings(folder: Path) -> Settings:
    from pipeline.workspace.workspace import Workspace

    return Workspace.open(folder).settings


def _compiled(settings: Settings, pipeline: str) -> Mapping[str, Spec]:
    """Compile all requested pipelines before any is used; report missing settings before TFX is loaded."""
    from pipeline.console import working
    from pipeline.user_code import prepare
    from pipeline.workspace.vertex_settings import vertex_config

    vertex_config(settings)
    names = BOTH if pipeline == "all" else (pipeline,)
    if "training" in names:
        prepare(settings)
    with working(f"compiling {' and '.join(names)}"):
        from pipeline.compiled.compilation import compile_pipeline

        return {name: compile_pipeline(settings, name) for name in names}


def _check_host(platform: str, host: str, wait: bool) -> None:
    if platform != "kubeflow":
        if host:
            raise click.UsageError("--host goes with --platform kubeflow.")
        return
    if not host.startswith(("http://", "https://")):
        raise click.UsageError("--platform kubeflow needs --host, the address of its API, like http://localhost:8888.")
    if wait:
        raise click.UsageError("--wait goes with --platform vertex; Kubeflow's own page shows a run's states.")


def _check_window(pipeline: str, window: str, given: Sequence[str]) -> None:
    if window and pipeline != "training":
        raise click.UsageError("--window goes with training; the batch to evaluate is --param data_gcs_prefix=2021-10.")
    if window and given:
        raise click.UsageError("--window and --param exclude each other. Give one of them.")


def parameters_of(given: Sequence[str]) -> Mapping[str, str]:
    """Return the runtime parameters that --param names.

    Raises:
      click.BadParameter: One is not of the form NAME=VALUE, or given more than once.
    """
    pairs = [_parameter(text) for text in given]
    twice = sorted({name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1})
    if twice:
        raise click.BadParameter(f"{', '.join(twice)} is given more than once.", param_hint="--param")
    return dict(pairs)


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE.", param_hint="--param")
    return name, value
