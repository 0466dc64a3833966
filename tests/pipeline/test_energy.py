"""Energy: what jobs used is measured, and shown with estimates and their factors."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from adaptation import codec
from adaptation.platforms.base import JobRequest
from adaptation.platforms.local.jobs import USAGE, LocalJobs, run_recorded
from adaptation.platforms.local.usage import Usage, measure
from adaptation.retraining import TRAINING
from pipeline.cli.main import cli
from pipeline.energy import EnergyFactors, energy
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.events import EventWorld


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(write_settings(tmp_path / "adapt.toml", ["cat", "dog"]))


def work(seconds: float) -> None:
    """Use so much CPU time."""
    used = measure()
    while used().cpu_seconds < seconds:
        sum(range(100_000))


def run(workspace: Workspace, job: str, failing: bool = False) -> Usage | None:
    waiting = 'while [ ! -e "$0/usage.json" ]; do sleep 0.1; done'  # its process must not end before the work
    jobs = LocalJobs(workspace.folder("jobs"), ("sh", "-c", waiting))
    jobs.create(JobRequest(job, TRAINING))

    def conclude(_: JobRequest) -> dict[str, str]:
        work(0.3)
        if failing:
            raise ValueError("it failed")
        return {}

    run_recorded(workspace.folder("jobs", job), conclude)
    return jobs.usage(job)


@pytest.mark.parametrize("failing", [False, True])
def test_job_records_its_cpu_time_and_memory_however_it_ends(workspace: Workspace, failing: bool) -> None:
    used = run(workspace, "training-1", failing)
    assert used is not None
    assert 0.3 <= used.cpu_seconds < 30
    assert 10 * 2**20 < used.peak_bytes < 2**40


def test_children_that_were_waited_for_count() -> None:
    import subprocess
    import sys

    used = measure()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert used().cpu_seconds >= 0.3


def test_gpu_energy_is_added_to_that_of_the_cpu() -> None:
    found = energy([Usage(0.0, 1, 3_600_000.0), Usage(3600.0, 1)], EnergyFactors(watts_per_cpu=1000, grams_per_kwh=100))
    assert (found.kwh, found.grams, found.each().kwh) == (2.0, 200.0, 1.0)


def test_cost_shows_what_was_measured_and_what_was_avoided(workspace: Workspace, tmp_path: Path) -> None:
    run(workspace, "training-1")
    (tmp_path / "jobs" / "training-1" / USAGE).write_bytes(codec.encode(Usage(7200.0, 2**30)))
    EventWorld(tmp_path).decide("evaluation-1")
    EventWorld(tmp_path).decide("evaluation-2", retrain=True)
    shown = CliRunner().invoke(cli, ["cost", "-w", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "0.00800" in shown.stdout and "3.80" in shown.stdout  # 2 h at 4 W, at 475 g a kWh
    assert "4 W a busy CPU thread, 475 g CO2 a kWh" in shown.stdout
    assert (
        "1 evaluations kept the model; a training after each of them would have taken about 2.000 CPU h" in shown.stdout
    )


def test_prices_of_before_have_the_default_factors(workspace: Workspace, tmp_path: Path) -> None:
    prices = CliRunner().invoke(cli, ["cost", "--show-prices", "-w", str(tmp_path)]).stdout
    (tmp_path / "prices.toml").write_text(prices.partition("[energy]")[0])
    assert CliRunner().invoke(cli, ["cost", "-w", str(tmp_path)]).exit_code == 0
