"""The cost of a month on Google Cloud: measured durations times prices from a file that users can edit.

An estimate of the main items: pipeline runs, their tasks, batch predictions, endpoint, storage, schedule. What
free quotas cover, or what comes to cents for most (requests, log entries, the function's calls), is left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from adaptation.platforms.vertex.config import Machine, VertexSettings
from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from pipeline.energy import EnergyFactors
from pipeline.workspace.settings_file import InvalidSettings

PRICES = "prices.toml"
HOURS_A_MONTH = 730
PREDICTION, TRAINER = "BatchPredictionGen", "Trainer"
_GIGABYTE = 1 << 30
Measured = Mapping[str, Mapping[str, float]]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PipelinePrices(_Section):
    """A pipeline run, and an hour of one of its tasks."""

    run: NonNegativeFloat
    task_hour: NonNegativeFloat


class StoragePrices(_Section):
    """A GiB of standard storage for a month."""

    gigabyte_month: NonNegativeFloat


class TriggerPrices(_Section):
    """The schedule for a month."""

    schedule_month: NonNegativeFloat


class Prices(_Section):
    """All prices, in one currency; machines and accelerators by the hour and by the names that the settings have."""

    pipelines: PipelinePrices
    machines: Mapping[str, NonNegativeFloat]
    accelerators: Mapping[str, NonNegativeFloat]
    storage: StoragePrices
    trigger: TriggerPrices
    energy: EnergyFactors = EnergyFactors()

    def hour(self, machine: Machine) -> float:
        """Return the price of an hour of a machine with its accelerators.

        Raises:
          InvalidSettings: One of them has no price.
        """
        hour = _price(self.machines, "machines", machine.machine)
        if not machine.accelerator:
            return hour
        return hour + machine.accelerators * _price(self.accelerators, "accelerators", machine.accelerator)


@dataclass(frozen=True)
class Month:
    """The work of a month.

    Attributes:
      evaluations: Evaluation runs.
      trainings: Training runs.
      bytes: What is stored.
      seconds: The duration of each task by pipeline and task; without pipelines that were never measured.
    """

    evaluations: int
    trainings: int
    bytes: int
    seconds: Measured

    def hours(self, pipeline: str, task: str = "") -> float | None:
        """Return the hours of a pipeline's task (default: of all its tasks); None if they were not measured."""
        tasks = self.seconds.get(pipeline)
        if tasks is None:
            return None
        return (tasks.get(task, 0.0) if task else sum(tasks.values())) / 3600


@dataclass(frozen=True)
class Item:
    """A line of the bill; `amount` is None if its duration was never measured."""

    name: str
    quantity: str
    amount: float | None


def prices_file(given: Path | None, settings_file: Path) -> Path:
    """Return the given file, else prices.toml beside the settings, else the package's own."""
    beside = settings_file.with_name(PRICES)
    return given or (beside if beside.exists() else Path(__file__).with_name(PRICES))


def load_prices(file: Path) -> Prices:
    """Return the prices in a file.

    Raises:
      InvalidSettings: They are invalid; the message names every fault.
    """
    try:
        return Prices.model_validate(tomllib.loads(file.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{file} is not valid TOML: {error}. Fix it there.") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise InvalidSettings("\n  ".join([f"{file} is not a valid file of prices. Fix:", *faults])) from error


def bill(month: Month, settings: VertexSettings, prices: Prices) -> list[Item]:
    """Return the lines of a month's bill.

    Raises:
      InvalidSettings: A machine or an accelerator of the settings has no price.
    """
    runs = month.evaluations + month.trainings
    task_hour = prices.pipelines.task_hour
    machine_hour = settings.prediction.replicas * prices.hour(settings.prediction)
    items = [
        Item("pipeline runs", f"{runs} runs", runs * prices.pipelines.run),
        _timed("tasks of evaluations", month.evaluations, month.hours(EVALUATION), task_hour),
        _timed("tasks of trainings", month.trainings, month.hours(TRAINING), task_hour),
        _timed("batch predictions", month.evaluations, month.hours(EVALUATION, PREDICTION), machine_hour),
    ]
    if settings.training.machine:
        hour = prices.hour(settings.training)
        items.append(_timed("training machine", month.trainings, month.hours(TRAINING, TRAINER), hour))
    serving, gigabytes = settings.serving, month.bytes / _GIGABYTE
    hours = HOURS_A_MONTH * serving.min_replicas
    return [
        *items,
        Item("endpoint", f"{hours} h of {serving.machine}", hours * prices.hour(serving)),
        Item("storage", f"{gigabytes:.2f} GiB", gigabytes * prices.storage.gigabyte_month),
        Item("schedule", "1 job", prices.trigger.schedule_month),
    ]


def total(items: Iterable[Item]) -> float:
    """Return the sum of the known amounts."""
    return sum(item.amount or 0.0 for item in items)


def _timed(name: str, runs: int, hours: float | None, price: float) -> Item:
    if hours is None:
        return Item(name, f"{runs} runs, not measured yet", None)
    return Item(name, f"{runs} runs of {hours:.2f} h", runs * hours * price)


def _price(prices: Mapping[str, float], section: str, name: str) -> float:
    if name not in prices:
        raise InvalidSettings(
            f"{name} has no price. Add it to [{section}] in {PRICES} beside the settings; known: {', '.join(prices)}."
        )
    return prices[name]
