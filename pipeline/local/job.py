"""The process of a job: `python -m pipeline.local.job --settings FILE FOLDER` runs the job in FOLDER.

`adaptation.platforms.local.jobs` starts one for each job, with the job's log as its output.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from adaptation.io.storage import collector_at_rest
from adaptation.platforms.base import InvalidJob, JobRequest
from adaptation.platforms.local.jobs import run_recorded
from adaptation.progress import report
from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from pipeline.notification import notify_after
from pipeline.workspace.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.local.runs import EvaluationResult, TrainingResult


def main() -> None:
    """Run one job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the settings file")
    parser.add_argument("folder", help="the job's folder")
    arguments = parser.parse_args()
    run_recorded(arguments.folder, partial(_work, arguments.settings))
    notify_after(arguments.settings)


def _work(settings: str, request: JobRequest) -> TrainingResult | EvaluationResult:
    workspace = Workspace.open(settings)
    if request.pipeline not in (TRAINING, EVALUATION):
        raise InvalidJob(f"there is no pipeline {request.pipeline!r}. Ask for {TRAINING} or {EVALUATION}.")
    if "tfx" not in sys.modules:  # else the process was forked from one that has loaded it
        report("starting TFX")
    with collector_at_rest():
        from pipeline.local.runs import run_evaluation, run_training

    run = run_training if request.pipeline == TRAINING else run_evaluation
    return run(workspace, request.id, **request.parameters)


if __name__ == "__main__":
    main()
