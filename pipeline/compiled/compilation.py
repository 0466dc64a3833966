"""Compilation: the two pipelines as specs that Vertex AI Pipelines and Kubeflow Pipelines run.

The definitions are those that run on one machine. What only the start of a run decides is a runtime parameter: the
batch of an evaluation, the window of a training or, where ImportExampleGen ingests, its configuration.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tfx import v1 as tfx
from tfx.orchestration.data_types import RuntimeParameter

from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from models import user_code
from pipeline.compiled.spec import Spec, check
from pipeline.evaluation import evaluation_pipeline
from pipeline.ingestion import imported, linked
from pipeline.place import Place
from pipeline.training import training_pipeline
from pipeline.user_code import code_uri
from pipeline.workspace.settings import Settings
from pipeline.workspace.vertex_settings import beam_arguments, vertex_config
from pipeline.workspace.workspace import Workspace

RUN_NAME = "{{$.pipeline_job_name}}"
BATCH = "data_gcs_prefix"
WINDOW, DIGEST = "window", "digest"
INPUT_CONFIG, OUTPUT_CONFIG = "input-config", "output-config"
_FILE = "spec.json"
_NO_IMAGE = "none"  # required by the compiler where no container is started


def compile_pipeline(settings: Settings, name: str) -> Spec:
    """Return the checked spec of a pipeline; the same settings give the same spec. It needs no network.

    Args:
      settings: The deployment's settings.
      name: `training` or `evaluation`.

    Raises:
      InvalidSettings: The settings do not say enough for Google Cloud.
      UnusableRecipe, InvalidSpec: The recipe is missing or broken, or does not allow a setting.
      BrokenSpec: The spec would not run.
    """
    config = vertex_config(settings).to_json()
    place = Place(
        root=settings.vertex.output_folder(name),
        platform=config,
        run=RUN_NAME,
        records=Workspace(settings).triggers,
        beam=beam_arguments(settings),
        ingestion=settings.training.ingestion,
    )
    spec = _compiled(settings, name, place)
    check(spec)
    return spec


def compile_here(workspace: Workspace, name: str) -> Spec:
    """Return a pipeline's spec for a rehearsal: its tasks use a local workspace's own folders and platform.

    Args:
      workspace: A workspace of this machine.
      name: `training` or `evaluation`.
    """
    outputs = workspace.folder("rehearsal", "outputs", name)
    return _compiled(workspace.settings, name, Place(outputs, workspace.config.to_json(), RUN_NAME, workspace.triggers))


def _command(settings: Settings) -> list[str] | None:
    """Return what a task's container starts: TFX's own command (None), after the user's code if any."""
    code = code_uri(settings)
    return ["python", "-m", user_code.__name__, code] if code else None


def _training(settings: Settings, place: Place) -> tuple[tfx.dsl.Pipeline, dict[str, str]]:
    if settings.training.ingestion == "spans":
        examples = linked(settings, _parameter(WINDOW), _parameter(DIGEST))
        return training_pipeline(settings, examples, place), {WINDOW: settings.training.window, DIGEST: ""}
    examples = imported(settings, _parameter(INPUT_CONFIG), _parameter(OUTPUT_CONFIG))
    return training_pipeline(settings, examples, place), {INPUT_CONFIG: "{}", OUTPUT_CONFIG: "{}"}


def _evaluation(settings: Settings, place: Place) -> tuple[tfx.dsl.Pipeline, dict[str, str]]:
    return evaluation_pipeline(settings, _parameter(BATCH), place), {BATCH: ""}


def _parameter(name: str) -> Any:
    return RuntimeParameter(name=name, ptype=str)


def _compiled(settings: Settings, name: str, place: Place) -> Spec:
    pipeline, parameters = {TRAINING: _training, EVALUATION: _evaluation}[name](settings, place)
    # The default schema, 2.0.0, drops what an ExampleGen's driver resolves, such as a span in a file pattern.
    config = tfx.orchestration.experimental.KubeflowV2DagRunnerConfig(
        default_image=settings.vertex.image or _NO_IMAGE,
        default_commands=_command(settings) if name == TRAINING else None,
        use_pipeline_spec_2_1=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        runner = tfx.orchestration.experimental.KubeflowV2DagRunner(
            config=config, output_dir=folder, output_filename=_FILE
        )
        runner.run(pipeline, parameter_values=parameters)
        return Spec.from_json(Path(folder, _FILE).read_bytes())
