"""What a job used: CPU time, memory and, on NVIDIA GPUs, energy. Measured by the job's own process.

A GPU's energy is that of the whole device, as its driver counts it (NVML, in mJ since it was loaded); it is known where
the package `pynvml` is installed. What a CPU's work takes is estimated from its time, see `pipeline.energy`.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass

_KIBIBYTE = 1024 if sys.platform == "linux" else 1  # the unit of ru_maxrss


@dataclass(frozen=True)
class Usage:
    """What a job used.

    Attributes:
      cpu_seconds: CPU time of the process and of those that it waited for, in seconds.
      peak_bytes: The largest resident memory of one of these processes, in bytes.
      gpu_joules: Energy of the machine's GPUs meanwhile, in J; None if it is not measured.
    """

    cpu_seconds: float
    peak_bytes: int
    gpu_joules: float | None = None


def measure() -> Callable[[], Usage]:
    """Begin to measure; the returned function says what was used since."""
    cpu, joules = _cpu_seconds(), _gpu_joules()

    def used() -> Usage:
        now = _gpu_joules()
        spent = now - joules if now is not None and joules is not None else None
        return Usage(round(_cpu_seconds() - cpu, 3), _peak_bytes(), spent)

    return used


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_bytes() -> int:
    return _KIBIBYTE * max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def _gpu_joules() -> float | None:
    try:
        import pynvml
    except ImportError:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return float(sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, handles))) / 1000
    return None
