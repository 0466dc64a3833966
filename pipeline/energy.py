"""Energy of the jobs of this machine: measured CPU time and GPU energy; kWh and CO2 estimated by stated factors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from adaptation.platforms.base import Job
from adaptation.platforms.local import LocalJobs
from adaptation.platforms.local.usage import Usage
from pipeline.workspace.workspace import Workspace

_JOULES_A_KWH = 3_600_000


class EnergyFactors(BaseModel):
    """What estimates rest on; `[energy]` in the file of prices.

    The defaults are codecarbon's (version 3): 4 W for a busy thread of a processor that is not known, and 475 g of CO2
    for a kWh, the world's mean (IEA, 2019). Take your machine's and your grid's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    watts_per_cpu: NonNegativeFloat = 4.0
    grams_per_kwh: NonNegativeFloat = 475.0


@dataclass(frozen=True)
class Energy:
    """What the measured jobs of one pipeline used.

    Attributes:
      jobs: How many were measured.
      cpu_hours: Their CPU time together, in hours.
      peak_bytes: The largest memory of one of them, in bytes.
      kwh: An estimate from CPU time, plus what GPUs measured.
      grams: An estimate of the CO2, in g.
    """

    jobs: int
    cpu_hours: float
    peak_bytes: int
    kwh: float
    grams: float

    def each(self) -> Energy:
        """Return the mean of one job."""
        count = max(self.jobs, 1)
        return Energy(min(self.jobs, 1), self.cpu_hours / count, self.peak_bytes, self.kwh / count, self.grams / count)


def energy_by_pipeline(workspace: Workspace, factors: EnergyFactors) -> dict[str, Energy]:
    """Return the energy of the measured jobs of this machine, by pipeline; none on Google Cloud."""
    used: dict[str, list[Usage]] = defaultdict(list)
    for job, usage in measured_jobs(workspace):
        used[job.pipeline].append(usage)
    return {pipeline: energy(found, factors) for pipeline, found in sorted(used.items())}


def measured_jobs(workspace: Workspace) -> list[tuple[Job, Usage]]:
    """Return the measured jobs of this machine with what they used, the oldest first; none on Google Cloud."""
    jobs = workspace.jobs
    if not isinstance(jobs, LocalJobs):
        return []
    return [(job, usage) for job in jobs.list() if (usage := jobs.usage(job.id)) is not None]


def usage_of(workspace: Workspace, job_id: str) -> Usage | None:
    """Return what a job of this machine used, or None if that is not known."""
    jobs = workspace.jobs
    return jobs.usage(job_id) if isinstance(jobs, LocalJobs) and jobs.get(job_id) else None


def energy(used: Iterable[Usage], factors: EnergyFactors) -> Energy:
    """Return the energy of some jobs.

    >>> energy([Usage(3600.0, 10), Usage(3600.0, 20)], EnergyFactors(watts_per_cpu=5, grams_per_kwh=400))
    Energy(jobs=2, cpu_hours=2.0, peak_bytes=20, kwh=0.01, grams=4.0)
    """
    jobs: Sequence[Usage] = list(used)
    seconds = sum(one.cpu_seconds for one in jobs)
    joules = seconds * factors.watts_per_cpu + sum(one.gpu_joules or 0.0 for one in jobs)
    kwh = joules / _JOULES_A_KWH
    peak = max((one.peak_bytes for one in jobs), default=0)
    return Energy(len(jobs), seconds / 3600, peak, kwh, kwh * factors.grams_per_kwh)
