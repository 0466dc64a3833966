"""The commands about the model's versions: `adapt models list`, `history`, `card`, `approve` ...; `adapt rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shell import Command, Shell, in_workspace, open_workspace

if TYPE_CHECKING:
    from adaptation.platforms.base import ModelVersion


@click.group(cls=Shell.group_class)
def models() -> None:
    """The versions of the model."""


@models.command("list")
@in_workspace
def list_models(folder: Path) -> None:
    """List the versions."""
    from adaptation.platforms.base import CHAMPION, standings_of
    from pipeline.console import show

    registry = open_workspace(folder).platform.registry
    standings = {number: str(record.standing) for number, record in standings_of(registry).items()}
    if champion := registry.champion():
        standings[champion.number] = CHAMPION
    rows = [_model_row(version, standings.get(version.number, "")) for version in registry.versions()]
    title = "Models and their accuracies"
    show(title, ["version", "standing", "spans", "lowest", "on the newest", "further metrics", "created (UTC)"], rows)


@models.command("history")
@in_workspace
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of the table.")
def show_history(folder: Path, as_json: bool) -> None:
    """Show which version served when and why, and what was decided about the others."""
    from adaptation import codec
    from adaptation.platforms.history import history
    from pipeline.console import minute, show

    events = history(open_workspace(folder).platform.registry)
    if as_json:
        click.echo(codec.encode(events))
        return
    columns = ["from (UTC)", "until (UTC)", "version", "standing", "why", "run", "code"]
    rows = [
        (minute(one.time), minute(one.until), one.version, one.standing, one.reason, one.run, one.code)
        for one in events
    ]
    show("History of the model's versions", columns, rows)


@models.command("card")
@in_workspace
@click.argument("version")
@click.option("--save", is_flag=True, help="Write it as README.md beside the version's model instead.")
def show_card(folder: Path, version: str, save: bool) -> None:
    """Print the model card of a VERSION, in Hugging Face's format."""
    from pipeline.model_card import model_card, save_card

    workspace = open_workspace(folder)
    found = workspace.platform.registry.find(version)
    card = model_card(workspace, found)
    click.echo(save_card(found, card) if save else card)


@models.command("approve")
@in_workspace
@click.argument("version")
def approve_version(folder: Path, version: str) -> None:
    """Deploy a VERSION that waits for approval."""
    from adaptation.platforms.rollout import approve
    from pipeline.notification import notify_now

    workspace = open_workspace(folder)
    platform = workspace.platform
    found = platform.registry.find(version)
    approve(platform.registry, platform.endpoint, found)
    click.echo(f"version {found.number} is the champion")
    notify_now(workspace)


@models.command("reject")
@in_workspace
@click.argument("version")
@click.option("--reason", required=True, help="Why, for the history.")
def reject_version(folder: Path, version: str, reason: str) -> None:
    """Record that a VERSION that waits for approval, or is the candidate, will not be deployed."""
    from adaptation.platforms.rollout import reject
    from pipeline.notification import notify_now

    workspace = open_workspace(folder)
    registry = workspace.platform.registry
    found = registry.find(version)
    reject(registry, found, reason)
    click.echo(f"version {found.number} is rejected")
    notify_now(workspace)


@click.command(cls=Command)
@in_workspace
def rollback(folder: Path) -> None:
    """Go back to the version that was the champion before."""
    from adaptation.platforms.rollout import roll_back
    from pipeline.notification import notify_now

    workspace = open_workspace(folder)
    version = roll_back(workspace.platform.registry, workspace.platform.endpoint)
    click.echo(f"version {version.number} is the champion again")
    notify_now(workspace)


def _model_row(version: ModelVersion, standing: str) -> tuple[int, str, str, str, str, str, str]:
    from adaptation.data.spans import Span, enumerate_spans
    from pipeline.console import minute

    figures = dict(version.metrics)
    accuracies = {Span.parse(name): figures.pop(name) for name in version.metrics if name.startswith("span-")}
    lowest, newest = min(accuracies, key=accuracies.__getitem__, default=None), max(accuracies, default=None)
    worst, latest = (f"{span}: {accuracies[span]:.3f}" if span else "" for span in (lowest, newest))
    return (
        version.number,
        standing,
        enumerate_spans(map(Span, version.spans)),
        worst,
        latest,
        ", ".join(f"{name} {value:.3f}" for name, value in sorted(figures.items())),
        minute(version.created),
    )
