"""The configuration of a deployment on Google Cloud: each value with its default, limits and explanation.

The `[vertex]` sections of a settings file are these classes: pydantic reads a field's metadata, in its own words
(`description`, `gt`, `min_length`), and checks the limits when settings are loaded. Nothing of pydantic is imported
here, because the Cloud Function and the components do without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import Platform
from adaptation.platforms.config import PlatformConfig

VERTEX = "vertex"
SERVING_IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
LATEST = "latest.json"
LABEL = "continuous-adaptation"
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")  # the id of a model or an endpoint, and the start of a job's id
_T = TypeVar("_T")


class InvalidConfig(AdaptationError, ValueError):
    """A configuration that Vertex AI would refuse."""


def _setting(default: _T, description: str, **limits: object) -> _T:
    declared: _T = field(default=default, metadata={"description": description, **limits})
    return declared


class _Section:
    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True)
class Machine(_Section):
    """Machines of one kind."""

    machine: str = _setting("n1-standard-4", "machine type", min_length=1)
    accelerator: str = _setting("", "accelerator type, like NVIDIA_TESLA_T4; empty: none")
    accelerators: int = _setting(1, "number of accelerators per machine", gt=0)

    @property
    def spec(self) -> dict[str, Any]:
        """Return a request's `machineSpec`."""
        if not self.accelerator:
            return {"machineType": self.machine}
        accelerators = {"acceleratorType": self.accelerator, "acceleratorCount": self.accelerators}
        return {"machineType": self.machine, **accelerators}


@dataclass(frozen=True)
class Serving(Machine):
    """The machines of the endpoint; between the two numbers of replicas it scales by load."""

    machine: str = _setting("n1-standard-2", "machine type", min_length=1)
    min_replicas: int = _setting(1, "least number of machines", gt=0)
    max_replicas: int = _setting(0, "largest number of machines; 0: min_replicas, without autoscaling", ge=0)

    def __post_init__(self) -> None:
        if 0 < self.max_replicas < self.min_replicas:
            raise InvalidConfig(
                f"max_replicas = {self.max_replicas} is below min_replicas = {self.min_replicas}. Raise it, or set it "
                "to 0 for no autoscaling."
            )

    @property
    def resources(self) -> dict[str, Any]:
        """Return a deployed model's `dedicatedResources`."""
        most = self.max_replicas or self.min_replicas
        return {"machineSpec": self.spec, "minReplicaCount": self.min_replicas, "maxReplicaCount": most}


@dataclass(frozen=True)
class Prediction(Machine):
    """The machines of a batch prediction."""

    replicas: int = _setting(1, "number of machines; a batch prediction is not scaled", gt=0)

    @property
    def resources(self) -> dict[str, Any]:
        """Return a batch prediction job's `dedicatedResources`."""
        return {"machineSpec": self.spec, "startingReplicaCount": self.replicas, "maxReplicaCount": self.replicas}


@dataclass(frozen=True)
class Training(Machine):
    """A training job on a machine of its own."""

    machine: str = _setting("", "machine type; empty: no such job, the pipeline's task trains")


@dataclass(frozen=True)
class Workers(_Section):
    """Dataflow's workers, if `dataflow` is true."""

    machine: str = _setting("", "machine type; empty: Dataflow's choice")
    count: int = _setting(0, "number of workers at the start; 0: Dataflow's choice", ge=0)
    max_count: int = _setting(0, "largest number of workers; 0: Dataflow's choice", ge=0)
    subnetwork: str = _setting("", "regions/REGION/subnetworks/NAME, or its full address; empty: the network's own")
    public_ips: bool = _setting(True, "whether workers have public addresses")

    @property
    def options(self) -> dict[str, str]:
        """Beam's options, by name (source: apache_beam.options.pipeline_options.WorkerOptions)."""
        given = {
            "machine_type": self.machine,
            "num_workers": self.count,
            "max_num_workers": self.max_count,
            "subnetwork": self.subnetwork,
        }
        return {name: str(value) for name, value in given.items() if value}


@dataclass(frozen=True)
class Container(_Section):
    """The container that serves the model. Google's own images know their routes and port."""

    image: str = _setting(SERVING_IMAGE, "container image", min_length=1)
    predict_route: str = _setting("", "path of predictions; empty: the image's own")
    health_route: str = _setting("", "path of the health check; empty: the image's own")
    port: int = _setting(0, "port to listen on; 0: Vertex AI's default", ge=0, le=65535)
    arguments: tuple[str, ...] = _setting((), "arguments of its entry point")


@dataclass(frozen=True)
class Retries(_Section):
    """Timeouts of requests to Vertex AI, and retries after transient errors."""

    request_timeout: float = _setting(60.0, "timeout of a request in seconds", gt=0)
    attempts: int = _setting(6, "attempts for a request, the first included", gt=0)
    backoff: float = _setting(1.0, "seconds before the second attempt; doubled before each further one", ge=0)
    max_backoff: float = _setting(30.0, "longest pause between two attempts in seconds", ge=0)
    poll_interval: float = _setting(10.0, "seconds between two polls of a job or an operation", gt=0)
    operation_timeout: float = _setting(3600.0, "timeout of an upload or a deployment in seconds", gt=0)
    job_timeout: float = _setting(86400.0, "timeout of a batch prediction in seconds", gt=0)


@dataclass(frozen=True)
class VertexSettings(_Section):
    """Google Cloud, if platform.kind is vertex. Nothing here is a secret: credentials are the environment's own."""

    remote: ClassVar[bool] = True

    project: str = _setting("", "id of the project")
    location: str = _setting("us-central1", "region", min_length=1)
    root: str = _setting("", "gs:// folder of specs and pipeline outputs")
    image: str = _setting("", "container image of every task, made from the Dockerfile")
    model: str = _setting("", "id of the model in the registry; empty: the deployment's name")
    endpoint: str = _setting("", "id of the endpoint; empty: the deployment's name")
    service_account: str = _setting("", "e-mail of the account that runs the pipelines; empty: the project's default")
    network: str = _setting("", "full name of the network to peer with; empty: none")
    labels: Mapping[str, str] = field(default_factory=dict, metadata={"description": "labels of created resources"})
    encryption_key: str = _setting("", "name of the Cloud KMS key; empty: Google's own")
    caching: bool = _setting(False, "whether a task may reuse an earlier run's result")
    dataflow: bool = _setting(False, "whether Beam runs on Dataflow, on [vertex.workers], instead of in the task")
    api_endpoint: str = _setting("", "address of a server in place of Vertex AI's, for a rehearsal")
    credentials: Literal["default", "anonymous"] = _setting("default", "anonymous: none, for a rehearsal")
    serving: Serving = Serving()
    prediction: Prediction = Prediction()
    training: Training = Training()
    workers: Workers = Workers()
    container: Container = Container()
    retries: Retries = Retries()

    def spec_folder(self, pipeline: str) -> str:
        """Return the folder of a pipeline's published specs."""
        return storage.join(self.root, "specs", pipeline)

    def output_folder(self, pipeline: str) -> str:
        """Return the folder of a pipeline's outputs."""
        return storage.join(self.root, "pipelines", pipeline)


@dataclass(frozen=True, kw_only=True)
class VertexConfig(VertexSettings, PlatformConfig):
    """A deployment: the settings, its name, and its specs.

    Attributes:
      name: Name of the deployment: the prefix of its jobs' ids, and a label of what it creates.
      specs: URIs of compiled specs by pipeline (`evaluation`, `training`), in place of the published ones.
    """

    kind: ClassVar[str] = VERTEX

    name: str
    specs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if missing := [name for name in ("project", "root") if not getattr(self, name)]:
            raise InvalidConfig(f"the configuration of {self.name!r} has no {' and no '.join(missing)}. Name them.")
        for what, name in (("name", self.name), ("model", self.model), ("endpoint", self.endpoint)):
            if not _ID.fullmatch(name or self.name):
                raise InvalidConfig(
                    f"{what} {name!r} cannot be used on Vertex AI. Use up to 63 of a-z, 0-9 and -, "
                    "a letter first and no - at the end."
                )

    @classmethod
    def of(cls, name: str, settings: VertexSettings) -> VertexConfig:
        """Return the configuration of the deployment that has this name and these settings."""
        return cls(name=name, **vars(settings))

    @property
    def run_prefix(self) -> str:
        """Prefix of a job's id in the service."""
        return f"{self.name}-"

    @property
    def parent(self) -> str:
        """Resource name of the project and location."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def url(self) -> str:
        """Address of the service."""
        return (self.api_endpoint or f"https://{self.location}-aiplatform.googleapis.com").rstrip("/")

    @property
    def all_labels(self) -> dict[str, str]:
        """Return the labels of created resources."""
        return {**self.labels, LABEL: self.name}

    @property
    def encryption(self) -> dict[str, Any]:
        """Return the field of a request that names the encryption key, if there is one."""
        return {"encryptionSpec": {"kmsKeyName": self.encryption_key}} if self.encryption_key else {}

    @property
    def identity(self) -> dict[str, Any]:
        """Return the field of a request that names the service account, if there is one."""
        return {"serviceAccount": self.service_account} if self.service_account else {}

    def spec(self, pipeline: str) -> str:
        """Return the URI of the spec from which a pipeline's jobs are started."""
        return self.specs.get(pipeline) or storage.join(self.spec_folder(pipeline), LATEST)

    def connect(self) -> Platform:
        """Return the platform. Nothing is sent, and no credentials are looked up."""
        from adaptation.platforms.vertex.client import VertexClient
        from adaptation.platforms.vertex.endpoint import VertexEndpoint
        from adaptation.platforms.vertex.jobs import VertexJobs
        from adaptation.platforms.vertex.predictor import VertexPredictor
        from adaptation.platforms.vertex.registry import VertexRegistry

        client = VertexClient(self)
        registry = VertexRegistry(client)
        return Platform(
            jobs=VertexJobs(client),
            predictor=VertexPredictor(client, registry),
            registry=registry,
            endpoint=VertexEndpoint(client, registry),
        )
