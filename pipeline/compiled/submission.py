"""Submission: a compiled pipeline, published or from a file, started on Vertex AI or on Kubeflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adaptation.data.windows import training_parameters
from adaptation.io import storage
from adaptation.platforms.base import JobRequest
from adaptation.platforms.vertex.client import VertexClient
from adaptation.platforms.vertex.config import VertexConfig
from adaptation.platforms.vertex.jobs import VertexJobs
from adaptation.retraining import TRAINING
from pipeline.compiled import kubeflow
from pipeline.compiled.spec import BrokenSpec, Spec
from pipeline.jobs import by_hand
from pipeline.workspace.settings import Settings
from pipeline.workspace.vertex_settings import vertex_config
from pipeline.workspace.workspace import Workspace


@dataclass(frozen=True)
class Submission:
    """A run to start.

    Attributes:
      request: Its id, pipeline and parameters.
      config: Where it runs, with the spec to run.
    """

    request: JobRequest
    config: VertexConfig

    def job(self) -> Spec:
        """Return the spec as it is sent: with the job's name, its parameters' values and what the settings add.

        Raises:
          InvalidJob: There is no spec, or it has other parameters.
        """
        return Spec(VertexJobs(VertexClient(self.config)).body(self.request))


def submission(
    settings: Settings, pipeline: str, spec: Path | None, parameters: Mapping[str, str], window: str = ""
) -> Submission:
    """Return the job to submit; nothing is sent.

    Args:
      settings: The settings of a deployment on Google Cloud.
      pipeline: `training` or `evaluation`.
      spec: A compiled spec; the published one where it is left out.
      parameters: Values of runtime parameters. Without any, a training gets those of the window.
      window: The spans to train on; the settings' own where it is left out.

    Raises:
      InvalidSettings: The settings do not say enough for Google Cloud.
      SpanNotPublished, InvalidWindow: The window names no published spans.
      UnreadableState, BrokenSpec: The file is not a compiled pipeline, or another one.
    """
    config = vertex_config(settings)
    if spec:
        read_spec(spec, settings, pipeline)
        config = replace(config, specs={pipeline: storage.absolute(str(spec))})
    if pipeline == TRAINING and not parameters:
        # The compiled ingestion, which does not depend on the platform of `adapt train`.
        selection = Workspace(settings).select(window)
        parameters = training_parameters(settings.data.root, selection, settings.training.ingestion)
    return Submission(JobRequest(by_hand(pipeline), pipeline, dict(parameters)), config)


def read_spec(file: Path, settings: Settings, pipeline: str) -> Spec:
    """Return the compiled pipeline in a file.

    Raises:
      UnreadableState, BrokenSpec: The file is not a compiled pipeline, or another one.
    """
    spec, name = Spec.from_json(file.read_bytes(), str(file)), f"{settings.name}-{pipeline}"
    if spec.name != name:
        raise BrokenSpec(f"{file} is the pipeline {spec.name}, not {name}. Name the file that was compiled for that.")
    return spec


def vertex_request(planned: Submission) -> str:
    """Return the request that would be sent to Vertex AI, as readable JSON."""
    config, job = planned.config, planned.job().job
    url = f"{config.url}/v1/{config.parent}/pipelineJobs?pipelineJobId={job['displayName']}"
    return _readable({"method": "POST", "url": url, "body": job})


def kubeflow_request(planned: Submission, host: str) -> str:
    """Return the request that would be sent to Kubeflow, as readable JSON."""
    return _readable(kubeflow.request(planned.job(), host))


def _readable(request: Mapping[str, object]) -> str:
    return json.dumps(request, indent=1)
