"""What `adapt rehearse` runs: the compiled pipeline of a workspace or a file, with parameters and a place to run it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from adaptation.data.windows import training_parameters
from adaptation.io import storage
from adaptation.io.object_store import StorageFailed
from adaptation.retraining import TRAINING
from pipeline.compiled.spec import Spec
from pipeline.compiled.submission import read_spec
from pipeline.rehearsal.task_graph import NotRehearsable
from pipeline.user_code import prepare, upload
from pipeline.workspace.workspace import Workspace

_REMOTE = "gs://"
_SECONDS = 10


@dataclass(frozen=True)
class Session:
    """A pipeline to rehearse.

    Attributes:
      spec: The compiled pipeline.
      parameters: Values of its runtime parameters.
      folder: Folder of this machine for the logs and the record of runs.
    """

    spec: Spec
    parameters: Mapping[str, str]
    folder: Path


def session(
    workspace: Workspace, pipeline: str, file: Path | None, parameters: Mapping[str, str], task: str = ""
) -> Session:
    """Return the requested session; nothing is run.

    Args:
      workspace: The workspace; a file may name another one's folders.
      pipeline: `training` or `evaluation`.
      file: A compiled spec; None: compile the workspace's.
      parameters: Values of runtime parameters. Without any, a training gets those of the settings' window.
      task: A task to repeat alone; parameters that are not given keep their values of that run.

    Raises:
      BrokenSpec: The file is not a compiled pipeline, or another one.
      SpanNotPublished, InvalidWindow: The window names no published spans.
      UnusableRecipe, InvalidSpec: The recipe is missing or broken, or does not allow a setting.
      NotRehearsable: The spec names Google Cloud's storage, which cannot be reached.
    """
    if pipeline == TRAINING:
        prepare(workspace.settings)
    spec = _spec(workspace, pipeline, file)
    _refuse_unreachable(spec)
    if pipeline == TRAINING:
        upload(workspace.settings)
    if pipeline == TRAINING and not parameters and not task:
        settings = workspace.settings
        parameters = training_parameters(settings.data.root, workspace.select(), settings.training.ingestion)
    return Session(spec, parameters, session_folder(workspace))


def session_folder(workspace: Workspace) -> Path:
    """Return the folder of a workspace's rehearsals, on this machine."""
    settings = workspace.settings
    return (settings.file.parent if settings.target.remote else Path(workspace.root)) / "rehearsal"


def _spec(workspace: Workspace, pipeline: str, file: Path | None) -> Spec:
    if file:
        return read_spec(file, workspace.settings, pipeline)
    from pipeline.compiled.compilation import compile_here, compile_pipeline

    if workspace.settings.target.remote:
        return compile_pipeline(workspace.settings, pipeline)
    return compile_here(workspace, pipeline)


def _refuse_unreachable(spec: Spec) -> None:
    outputs = str(spec.job.get("runtimeConfig", {}).get("gcsOutputDirectory", ""))
    if not outputs.startswith(_REMOTE):
        return
    try:
        # Any response will do; the object storage client would retry, with warnings, for half a minute.
        requests.head(os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com"), timeout=_SECONDS)
        storage.exists(outputs)
    except (requests.ConnectionError, requests.Timeout, StorageFailed) as error:
        raise NotRehearsable(
            f"the tasks of {spec.name} work on {outputs}, which cannot be reached from here ({error}). Use --cloud to "
            "rehearse on emulators of this machine, or credentials that may read and write there."
        ) from error
