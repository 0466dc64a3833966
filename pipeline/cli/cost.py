"""The command `adapt cost`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shell import Command, in_workspace

if TYPE_CHECKING:
    from pipeline.energy import EnergyFactors
    from pipeline.workspace.workspace import Workspace


@click.command(cls=Command)
@in_workspace
@click.option("--evaluations", type=click.IntRange(min=0), default=1, show_default=True, help="Evaluations in a month.")
@click.option("--trainings", type=click.IntRange(min=0), default=1, show_default=True, help="Trainings in a month.")
@click.option(
    "--prices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file of prices; default: prices.toml beside the settings, or the package's own.",
)
@click.option("--show-prices", is_flag=True, help="Print the prices in use, as a start for your own file.")
def cost(folder: Path, evaluations: int, trainings: int, prices: Path | None, show_prices: bool) -> None:
    """Estimate what a month on Google Cloud costs, and what the jobs of this machine used.

    Durations are those of the newest runs in the workspace; on one machine they approximate those in the cloud. For
    your own prices, save what --show-prices prints as prices.toml beside the settings.
    """
    from pipeline.console import show
    from pipeline.cost import Month, bill, load_prices, prices_file, total
    from pipeline.run_history import newest_durations
    from pipeline.workspace.workspace import Workspace

    workspace = Workspace.open(folder)
    file = prices_file(prices, workspace.settings.file)
    if show_prices:
        click.echo(file.read_text(), nl=False)
        return
    month = Month(evaluations, trainings, _stored(workspace), newest_durations(workspace))
    items = bill(month, workspace.settings.vertex, load_prices(file))
    rows = [(item.name, item.quantity, "?" if item.amount is None else f"{item.amount:.2f}") for item in items]
    show("A month on Google Cloud", ["", "", "USD"], [*rows, ("together", "", f"{total(items):.2f}")])
    click.echo(f"prices from {file}: list prices change, check yours")
    if not workspace.settings.target.remote:
        _show_energy(workspace, load_prices(file).energy)


def _show_energy(workspace: Workspace, factors: EnergyFactors) -> None:
    """Print what the jobs of this machine used, and what retraining after every evaluation would have used."""
    from adaptation.evaluation.decisions import decisions
    from adaptation.retraining import TRAINING
    from pipeline.console import show
    from pipeline.energy import energy_by_pipeline

    found = energy_by_pipeline(workspace, factors)
    if not found:
        return
    columns = ["", "jobs", "CPU h", "peak GiB", "kWh, estimated", "g CO2, estimated"]
    rows = [
        (
            name,
            str(one.jobs),
            f"{one.cpu_hours:.3f}",
            f"{one.peak_bytes / 2**30:.2f}",
            f"{one.kwh:.5f}",
            f"{one.grams:.2f}",
        )
        for name, one in found.items()
    ]
    show("Measured on this machine", columns, rows)
    click.echo(f"estimates: {factors.watts_per_cpu:g} W a busy CPU thread, {factors.grams_per_kwh:g} g CO2 a kWh")
    kept = sum(not one.retrain for one in decisions(workspace.batches))
    if TRAINING in found and kept:
        each = found[TRAINING].each()
        click.echo(
            f"{kept} evaluations kept the model; a training after each of them would have taken about "
            f"{kept * each.cpu_hours:.3f} CPU h, {kept * each.kwh:.5f} kWh"
        )


def _stored(workspace: Workspace) -> int:
    """Return the bytes of the spans and of their archived source images."""
    manifests = map(workspace.spans.manifest, workspace.spans.spans())
    return 2 * sum(shard.size for manifest in manifests for shard in manifest.shards)
