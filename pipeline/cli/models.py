"""The commands about the model's versions: `adapt models` and `adapt rollback`."""

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
    from pipeline.console import show

    registry = open_workspace(folder).platform.registry
    champion = registry.champion()
    rows = [
        _model_row(version, is_champion=champion is not None and version.number == champion.number)
        for version in registry.versions()
    ]
    title = "Models and their accuracies"
    show(title, ["version", "in service", "spans", "lowest", "on the newest", "further metrics", "created (UTC)"], rows)


@click.command(cls=Command)
@in_workspace
def rollback(folder: Path) -> None:
    """Go back to the version that was the champion before."""
    from adaptation.platforms.rollout import roll_back

    platform = open_workspace(folder).platform
    version = roll_back(platform.registry, platform.endpoint)
    click.echo(f"version {version.number} is the champion again")


def _model_row(version: ModelVersion, is_champion: bool) -> tuple[int, str, str, str, str, str, str]:
    from adaptation.data.spans import Span, enumerate_spans
    from pipeline.console import minute

    figures = dict(version.metrics)
    accuracies = {Span.parse(name): figures.pop(name) for name in version.metrics if name.startswith("span-")}
    lowest, newest = min(accuracies, key=accuracies.__getitem__, default=None), max(accuracies, default=None)
    worst, latest = (f"{span}: {accuracies[span]:.3f}" if span else "" for span in (lowest, newest))
    in_service = "champion" if is_champion else ""
    return (
        version.number,
        in_service,
        enumerate_spans(map(Span, version.spans)),
        worst,
        latest,
        ", ".join(f"{name} {value:.3f}" for name, value in sorted(figures.items())),
        minute(version.created),
    )
