"""The two pipelines as runs on this machine: what a job does, from its parameters to its result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from tfx import v1 as tfx
from tfx.utils.path_utils import serving_model_dir

from adaptation import codec
from adaptation.evaluation.accuracy import Evaluation
from adaptation.evaluation.decision import Decision
from adaptation.evaluation.gate import Deployment, Outcome
from adaptation.evaluation.paired import Pairs
from adaptation.io import storage
from adaptation.progress import report
from components import artifacts
from models.export import history_uri
from pipeline.evaluation import evaluation_pipeline
from pipeline.ingestion import ingestion
from pipeline.local.runner import Output, run_pipeline
from pipeline.place import Place
from pipeline.training import training_pipeline
from pipeline.workspace.workspace import Workspace

_T = TypeVar("_T")


@dataclass(frozen=True)
class TrainingResult:
    """What a training run concluded.

    Attributes:
      deployed: Whether there is a new champion.
      version: The challenger's number.
      outcome: What the gate said of it: deploy, refuse or undecided.
      standing: What it is now, see `Deployment`.
      reason: Why, in a sentence.
      by_span: On how many test images which model was right, by number of span.
      by_label: The same by name of class.
      spans: The window that was trained on, like `1-3`.
      history: Path of the training's curves.
      events: Folder of TensorBoard's event files; empty where none are written.
    """

    deployed: bool
    version: int
    outcome: Outcome
    standing: str
    reason: str
    by_span: Mapping[int, Pairs]
    by_label: Mapping[str, Pairs]
    spans: str
    history: str
    events: str


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation run concluded.

    Attributes:
      batch: The month.
      images: How many images were evaluated.
      accuracy: Their share that was predicted right; None where there were none.
      retrain: Whether the model is retrained.
      reason: Why, in a sentence.
      training: Id of the training job; None where none was started.
      look: How the batch seemed before its labels were read, in a sentence.
    """

    batch: str
    images: int
    accuracy: float | None
    retrain: bool
    reason: str
    training: str | None
    look: str


def run_training(workspace: Workspace, name: str, window: str = "", digest: str = "") -> TrainingResult:
    """Trains on a window of spans and deploys the model if the gate lets it. One training runs at a time.

    Args:
      workspace: What it works on.
      name: Name of this run.
      window: The spans; the settings' own where it is left out.
      digest: The content that is meant; any where it is left out.

    Raises:
      AdaptationError: The window is none, its content is not that of `digest`, or a component failed.
    """
    selection = workspace.select(window, digest)
    report(f"training on span {selection.window}: {sum(manifest.images for manifest in selection.manifests)} images")
    with _alone(workspace, "training"):
        place = local_place(workspace, "training", name)
        run = run_pipeline(training_pipeline(workspace.settings, ingestion(workspace.settings, selection), place), name)
    deployment = _read(run.outputs["Deployer", "deployment"], artifacts.DEPLOYMENT, Deployment)
    return TrainingResult(
        deployed=deployment.deployed,
        version=deployment.version,
        outcome=deployment.verdict.outcome,
        standing=deployment.standing,
        reason=deployment.reason,
        by_span=deployment.comparison.by_span,
        by_label=deployment.comparison.by_label,
        spans=selection.window,
        history=history_uri(serving_model_dir(run.outputs["Trainer", "model"].uri)),
        events=run.outputs["Trainer", "model_run"].uri if workspace.settings.model.tensorboard else "",
    )


def run_evaluation(workspace: Workspace, name: str, batch: str = "") -> EvaluationResult:
    """Evaluates a batch and triggers the training if it is called for.

    Args:
      workspace: What it works on.
      name: Name of this run.
      batch: The month; the newest where it is left out.

    Raises:
      AdaptationError: There is no such batch, or a component failed.
    """
    with _alone(workspace, "evaluation"):
        place = local_place(workspace, "evaluation", name)
        run = run_pipeline(evaluation_pipeline(workspace.settings, batch, place), name)
    metrics = run.outputs["PerformanceEvaluator", "metrics"]
    evaluation = _read(metrics, artifacts.EVALUATION, Evaluation)
    decision = _read(metrics, artifacts.DECISION, Decision)
    training = run.outputs.get(("PipelineTrigger", "job"))
    return EvaluationResult(
        batch=evaluation.batch,
        images=evaluation.images,
        accuracy=evaluation.accuracy,
        retrain=decision.retrain,
        reason=decision.reason,
        training=str(training.properties["job"]) if training else None,
        look=decision.look,
    )


def local_place(workspace: Workspace, pipeline: str, run: str) -> Place:
    """Return where a run of a pipeline finds its platform, and keeps its outputs and its metadata."""
    database = workspace.folder("metadata", f"{pipeline}.sqlite")
    os.makedirs(os.path.dirname(database), exist_ok=True)
    return Place(
        root=workspace.folder("pipelines", pipeline),
        platform=workspace.config.to_json(),
        run=run,
        records=workspace.triggers,
        metadata=tfx.orchestration.metadata.sqlite_metadata_connection_config(database),
    )


def _alone(workspace: Workspace, pipeline: str) -> AbstractContextManager[None]:
    return storage.locked(workspace.folder("metadata", f"{pipeline}.lock"))


def _read(output: Output, name: str, kind: type[_T]) -> _T:
    return codec.read(storage.join(output.uri, name), kind)
