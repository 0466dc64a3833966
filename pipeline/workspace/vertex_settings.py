"""Google Cloud from the settings: the configurations of the platform, TFX and Beam."""

from __future__ import annotations

from typing import Any

from adaptation.io import storage
from adaptation.platforms.vertex.config import VertexConfig
from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import InvalidSettings

PIPELINES = (TRAINING, EVALUATION)
# Without a runner, Beam downloads one (Prism) for each of its pipelines, and falls back to this one if it cannot.
# Without an image, TFX packs itself for workers that this runner does not have.
BEAM_IN_PROCESS = ("--runner=FnApiRunner", "--sdk_container_image=none")


def vertex_config(settings: Settings) -> VertexConfig:
    """Return the configuration that the settings describe.

    Raises:
      InvalidSettings: A setting that Google Cloud needs is missing, or is a path of this machine.
    """
    _refuse_incomplete(settings)
    return VertexConfig.of(settings.name, settings.vertex)


def training_job(settings: Settings) -> dict[str, Any]:
    """Return the config of TFX's Vertex AI Trainer: a custom job on a separate machine, in the pipelines' image.

    Source of the keys: tfx/extensions/google_cloud_ai_platform/constants.py and trainer/executor.py; of the job:
    google.cloud.aiplatform.v1.CustomJob.
    """
    vertex = settings.vertex
    training = vertex.training
    machine: dict[str, Any] = {"machine_type": training.machine}
    if training.accelerator:
        machine |= {"accelerator_type": training.accelerator, "accelerator_count": training.accelerators}
    pool = {"machine_spec": machine, "replica_count": 1, "container_spec": {"image_uri": vertex.image}}
    spec = {name: value for name in ("service_account", "network") if (value := getattr(vertex, name))}
    key = {"encryption_spec": {"kms_key_name": vertex.encryption_key}} if vertex.encryption_key else {}
    job = {
        "project": vertex.project,
        "job_spec": {**spec, "worker_pool_specs": [pool]},
        "labels": dict(vertex.labels),
        **key,
    }
    return {
        "ai_platform_enable_vertex": True,
        "ai_platform_vertex_region": vertex.location,
        "ai_platform_training_args": job,
    }


def beam_arguments(settings: Settings) -> list[str]:
    """Return Beam's arguments: run on Dataflow, with the pipelines' image on its workers, or in the task.

    Source of Dataflow's: apache_beam.options.pipeline_options, GoogleCloudOptions and WorkerOptions.
    """
    vertex = settings.vertex
    if not vertex.dataflow:
        return list(BEAM_IN_PROCESS)
    given = {
        "runner": "DataflowRunner",
        "project": vertex.project,
        "region": vertex.location,
        "temp_location": storage.join(vertex.root, "temporary"),
        "sdk_container_image": vertex.image,
        "service_account_email": vertex.service_account,
        "network": vertex.network.rpartition("/")[2],
        "dataflow_kms_key": vertex.encryption_key,
        **vertex.workers.options,
    }
    labels = {**vertex.labels, "continuous-adaptation": settings.name}
    return [
        *(f"--{name}={value}" for name, value in given.items() if value),
        *(f"--labels={name}={value}" for name, value in labels.items()),
        *(["--no_use_public_ips"] if not vertex.workers.public_ips else []),
    ]


def _refuse_incomplete(settings: Settings) -> None:
    vertex = settings.vertex
    missing = [f"vertex.{name} is missing" for name in ("project", "root", "image") if not getattr(vertex, name)]
    places = {
        "data.root": settings.data.root,
        "collection.root": settings.collection.root,
        "vertex.root": vertex.root,
        "labels.file": settings.labels.file,
    }
    elsewhere = [
        f"{name} = {place!r} is not in a bucket; it should start with gs://"
        for name, place in places.items()
        if place and not place.startswith("gs://")
    ]
    if missing or elsewhere:
        raise InvalidSettings(
            "\n  ".join([f"{settings.file} is incomplete for Google Cloud. Fix:", *missing, *elsewhere])
        )
