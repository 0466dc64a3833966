"""The costs of a month: durations times prices, line by line, and valid files of prices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adaptation.platforms.vertex.config import Prediction, Serving, Training, VertexSettings
from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from pipeline.cli.main import cli
from pipeline.cost import Item, Month, Prices, bill, load_prices, prices_file, total
from pipeline.run_history import newest_durations
from pipeline.workspace.settings_file import InvalidSettings
from tests.worlds.cloud import a_cloud, done, golden
from tests.worlds.workspace import World

PRICES = """
[pipelines]
run = 2
task_hour = 10
[machines]
n1-standard-2 = 1
n1-standard-4 = 100
large = 1000
[accelerators]
NVIDIA_L4 = 50
[storage]
gigabyte_month = 3
[trigger]
schedule_month = 0.5
"""
MEASURED = {EVALUATION: {"FileListGen": 1800.0, "BatchPredictionGen": 5400.0}, TRAINING: {"Trainer": 7200.0}}


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    file = tmp_path / "mine.toml"
    file.write_text(PRICES)
    return load_prices(file)


def amounts(month: Month, prices: Prices, **settings: Any) -> dict[str, float | None]:
    return {item.name: item.amount for item in bill(month, VertexSettings(**settings), prices)}


def test_bill_multiplies_quantities_by_prices(prices: Prices) -> None:
    assert amounts(Month(4, 3, 5 << 30, MEASURED), prices) == {
        "pipeline runs": 7 * 2,
        "tasks of evaluations": 4 * 2 * 10,
        "tasks of trainings": 3 * 2 * 10,
        "batch predictions": 4 * 1.5 * 100,
        "endpoint": 730 * 1,
        "storage": 5 * 3,
        "schedule": 0.5,
    }


def test_training_machine_costs_with_its_accelerators(prices: Prices) -> None:
    given = amounts(Month(0, 3, 0, MEASURED), prices, training=Training("large", "NVIDIA_L4", 2))
    assert given["training machine"] == 3 * 2 * (1000 + 2 * 50)


def test_replicas_and_accelerators_cost_each(prices: Prices) -> None:
    serving, prediction = Serving(min_replicas=2, max_replicas=9), Prediction(accelerator="NVIDIA_L4", replicas=3)
    given = amounts(Month(4, 0, 0, MEASURED), prices, serving=serving, prediction=prediction)
    assert (given["endpoint"], given["batch predictions"]) == (730 * 2 * 1, 4 * 1.5 * 3 * (100 + 50))


def test_unmeasured_item_has_no_amount_and_is_not_in_the_sum(prices: Prices) -> None:
    items = bill(Month(1, 1, 0, {EVALUATION: MEASURED[EVALUATION]}), VertexSettings(), prices)
    assert Item("tasks of trainings", "1 runs, not measured yet", None) in items
    assert total(items) == sum(item.amount for item in items if item.amount is not None) > 0


def test_machine_without_a_price_is_named(prices: Prices) -> None:
    with pytest.raises(InvalidSettings, match=r"m9 has no price. Add it to \[machines\] in prices.toml"):
        bill(Month(1, 1, 0, {}), VertexSettings(serving=Serving("m9")), prices)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pipelines = ", "is not valid TOML"),
        (PRICES.replace("run = 2", "run = -2"), "pipelines.run"),
        (PRICES.replace("task_hour", "task_our"), "pipelines.task_our"),
        (PRICES.replace("= 100\n", "= nan\n"), "machines.n1-standard-4"),
    ],
)
def test_faulty_file_is_refused_with_its_faults(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(InvalidSettings, match=fault):
        load_prices(file)


def test_file_beside_the_settings_comes_before_the_one_of_the_package(tmp_path: Path) -> None:
    settings, given = tmp_path / "adapt.toml", tmp_path / "given.toml"
    assert prices_file(None, settings).parent.name == "pipeline"
    (tmp_path / "prices.toml").write_text(PRICES)
    assert prices_file(None, settings) == tmp_path / "prices.toml"
    assert prices_file(given, settings) == given


def test_prices_of_the_package_have_every_default_machine() -> None:
    items = bill(Month(1, 1, 0, MEASURED), VertexSettings(), load_prices(prices_file(None, Path("adapt.toml"))))
    assert all(item.amount for item in items if item.name != "storage")


def test_command_shows_the_bill_and_the_prices(tmp_path: Path) -> None:
    world = World.make(tmp_path)
    shown = CliRunner().invoke(cli, ["cost", "-w", str(world.folder), "--show-prices"])
    assert shown.exit_code == 0
    (world.folder / "prices.toml").write_text(shown.stdout.replace("schedule_month = 0.1", "schedule_month = 77"))
    result = CliRunner().invoke(cli, ["cost", "-w", str(world.folder), "--evaluations", "4"])
    assert result.exit_code == 0, result.output
    assert "5 runs" in result.stdout
    assert "77.00" in result.stdout
    assert "not measured yet" in result.stdout
    assert str(world.folder / "prices.toml") in result.stdout


def test_durations_on_google_cloud_come_from_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_cloud(tmp_path / "shop", monkeypatch) as cloud:
        cloud.publish_specs()
        cloud.publish_spans()
        assert newest_durations(cloud.workspace) == {}
        done(cloud.adapt("submit", "training", "--wait"))
        durations = newest_durations(cloud.workspace)
    assert set(durations) == {TRAINING}
    assert set(durations[TRAINING]) == set(golden(TRAINING).tasks)
    assert all(0 < seconds < 600 for seconds in durations[TRAINING].values())
