"""What all tasks of one run share: the spec, the place, the run's name and folders, the record and the processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptation.io import storage
from pipeline.compiled.spec import Spec
from pipeline.rehearsal.executions import Artifacts, Execution, Metadata
from pipeline.rehearsal.processes import Processes
from pipeline.rehearsal.results import Place
from pipeline.workspace.settings import PREFIX

JOB = "job.json"
_NOT_IN_A_CONTAINER = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Inputs:
    """A task's inputs: the values of its parameters, and its artifacts, by input name."""

    parameters: Mapping[str, Any]
    artifacts: Artifacts


@dataclass(frozen=True)
class Stage:
    """The context of a run's tasks.

    Attributes:
      spec: The pipeline as it is run.
      place: Where.
      run: Name of the run.
      processes: The tasks' processes.
    """

    spec: Spec
    place: Place
    run: str
    processes: Processes

    @property
    def metadata(self) -> Metadata:
        """The record of all runs in this place."""
        return metadata_in(self.place)

    @property
    def folder(self) -> Path:
        """Folder of the run: its job and its logs."""
        return run_folder(self.place, self.run)

    def log(self, execution: Execution) -> Path:
        """Return the log file of an execution's processes."""
        return self.folder / f"{execution.task}_{execution.number}.log"

    def outputs(self, execution: Execution) -> str:
        """Return the folder of an execution's outputs: `<root>/<run>/<task>_<number>`, as on Vertex AI."""
        root = self.place.root or self.spec.job["runtimeConfig"]["gcsOutputDirectory"]
        return storage.join(storage.absolute(root), self.run, f"{execution.task}_{execution.number}")

    @property
    def environment(self) -> Mapping[str, str]:
        """The task processes' environment: without this shell's own variables; `python` is this process's."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(PREFIX) and name not in _NOT_IN_A_CONTAINER
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return {**kept, "PATH": path, **self.place.environment}


def metadata_in(place: Place) -> Metadata:
    """Return the record of all runs in a place."""
    return Metadata(str(place.folder.absolute() / "metadata"))


def run_folder(place: Place, run: str) -> Path:
    """Return the folder of a run: its job and its logs."""
    return place.folder.absolute() / "runs" / run
