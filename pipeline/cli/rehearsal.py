"""The command `adapt rehearse`."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.cloud import BOTH, parameters_of
from pipeline.cli.shell import Command, in_workspace

if TYPE_CHECKING:
    from pipeline.rehearsal import Place, Rehearsal
    from pipeline.rehearsal.request import Session
    from pipeline.workspace.workspace import Workspace

_EXTRA = ("celpy", "gcp_storage_emulator", "trustme")  # modules of the extra `rehearse`


@click.command(cls=Command)
@in_workspace
@click.argument("pipeline", type=click.Choice(BOTH))
@click.option("--spec", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A compiled file.")
@click.option("--param", "given", multiple=True, metavar="NAME=VALUE", help="A runtime parameter; repeatable.")
@click.option("--task", default="", metavar="NAME", help="Repeat one task alone, on the outputs of the last run.")
@click.option("--parallel", type=click.IntRange(min=1), default=2, show_default=True, help="Tasks at the same time.")
@click.option("--cache", is_flag=True, help="Reuse the results of earlier runs.")
@click.option("--cloud", is_flag=True, help="Rehearse in Google Cloud as emulated on this machine, on copies.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    help="The local workspace that --cloud copies; default: the rehearsed one.",
)
def rehearse(
    folder: Path,
    pipeline: str,
    spec: Path | None,
    given: Sequence[str],
    task: str,
    parallel: int,
    cache: bool,
    cloud: bool,
    data: Path | None,
) -> None:
    """Run the compiled PIPELINE on this machine, each task as the command that its container would start.

    Without --spec it is compiled from the workspace. The tasks change the workspace: it gets spans, models and a
    champion as by "adapt evaluate" and "adapt train".

    With --cloud, object storage and Vertex AI are emulated as well. They begin with copies of a local workspace's
    spans, batches and champion; the tasks change the copies, and only the logs are left. A training that the
    evaluation starts is rehearsed too. A local workspace is rehearsed as a deployment like it.
    """
    _check_installed()
    from pipeline.rehearsal import Place
    from pipeline.workspace.workspace import Workspace

    _check_cloud(cloud, data, task, cache)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the tasks, as Ctrl-C does
    parameters, workspace = parameters_of(given), Workspace.open(folder)
    if cloud:
        _rehearse_in_cloud(workspace, data, pipeline, spec, parameters, parallel)
        return
    prepared = _prepared(workspace, pipeline, spec, parameters, task)
    done = _run(prepared, Place(prepared.folder, parallel=parallel, cache=cache), task)
    done.check(_command(pipeline, folder, spec))
    _report_end(done, prepared.folder)


def _rehearse_in_cloud(
    workspace: Workspace,
    data: Path | None,
    pipeline: str,
    spec: Path | None,
    parameters: Mapping[str, str],
    parallel: int,
) -> None:
    from pipeline.console import follow, working
    from pipeline.rehearsal.cloud.seed import emulated
    from pipeline.rehearsal.request import session_folder

    folder = session_folder(workspace) / "cloud" / f"{datetime.now(UTC):%Y%m%dt%H%M%S%f}"
    with ExitStack() as stack:
        with working("bringing up the emulated cloud"):
            there = stack.enter_context(emulated(workspace, _source(workspace, data), folder, parallel))
        stack.callback(_report_refused, there.refused)
        prepared = _prepared(there.workspace, pipeline, spec, parameters)
        done = _run(prepared, there.place)
        done.check()
        jobs = there.workspace.jobs
        for job in jobs.list():  # started by the tasks
            follow(jobs, job.id)
    _report_end(done, folder)


def _source(workspace: Workspace, data: Path | None) -> Workspace:
    from pipeline.workspace.workspace import Workspace

    source = Workspace.open(data) if data else workspace
    if source.settings.target.remote:
        file = source.settings.file
        raise click.UsageError(f"the data of {file} is on Google Cloud. Name a local workspace to copy with --data.")
    return source


def _prepared(
    workspace: Workspace, pipeline: str, spec: Path | None, parameters: Mapping[str, str], task: str = ""
) -> Session:
    from pipeline.console import working
    from pipeline.rehearsal.request import session

    with working(f"preparing the rehearsal of {pipeline}"):
        return session(workspace, pipeline, spec, parameters, task)


def _run(prepared: Session, place: Place, task: str = "") -> Rehearsal:
    from pipeline.rehearsal import rehearse as run
    from pipeline.rehearsal.live_table import live_table

    with live_table() as on_change:
        return run(prepared.spec, place, prepared.parameters, only=task, on_change=on_change)


def _report_end(done: Rehearsal, folder: Path) -> None:
    click.echo(f"{done.run} succeeded; the logs are in {folder / 'runs' / done.run}")


def _report_refused(requests: Sequence[str]) -> None:
    from pipeline.console import say

    for request in sorted(set(requests)):
        say(f"{request} was refused: a rehearsal in the emulated cloud stays on this machine")


def _check_installed() -> None:
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        install = 'pip install "continuous-adaptation[rehearse]"'
        raise click.ClickException(f"a rehearsal needs {', '.join(missing)}, not installed here. Run: {install}")


def _check_cloud(cloud: bool, data: Path | None, task: str, cache: bool) -> None:
    if data and not cloud:
        raise click.UsageError("--data goes with --cloud.")
    if cloud and (task or cache):
        raise click.UsageError("--task and --cache need an earlier run's outputs; --cloud always starts anew.")


def _command(pipeline: str, folder: Path, spec: Path | None) -> str:
    """Return the command without the options of this run alone."""
    options = {"-w": str(folder) if folder != Path(".") else "", "--spec": str(spec or "")}
    given = (word for name, value in options.items() if value for word in (name, value))
    return shlex.join(["adapt", "rehearse", pipeline, *given])
