"""What the platform needs to know about a deployment on Google Cloud. Where a person sets it is not known here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from adaptation.errors import AdaptationError

VERTEX = "vertex"
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")  # what names a model and an endpoint, and begins a job's id


class InvalidConfig(AdaptationError, ValueError):
    """A configuration that Vertex AI could not take."""


@dataclass(frozen=True)
class Machine:
    """Machines of one kind.

    Attributes:
      type: Machine type.
      replicas: How many; for serving, the least.
      most: For serving, the largest number that load may lead to.
      accelerator: Accelerator type, like `NVIDIA_TESLA_T4`; none where it is empty.
      accelerators: How many of them in each machine.
    """

    type: str = "n1-standard-4"
    replicas: int = 1
    most: int = 1
    accelerator: str = ""
    accelerators: int = 1

    @property
    def spec(self) -> dict[str, Any]:
        """The machine as Vertex AI's requests name it."""
        if not self.accelerator:
            return {"machineType": self.type}
        accelerators = {"acceleratorType": self.accelerator, "acceleratorCount": self.accelerators}
        return {"machineType": self.type, **accelerators}


@dataclass(frozen=True)
class Container:
    """The container that serves a version. Routes and port are left out for Google's own images, which know theirs.

    Attributes:
      image: URI of the image.
      predict_route: Path that it predicts at.
      health_route: Path that tells that it is ready.
      port: Port that it listens on; 0: the service's default.
      arguments: What its entry point gets.
    """

    image: str
    predict_route: str = ""
    health_route: str = ""
    port: int = 0
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try; seconds.

    Attributes:
      request: A request may take this long.
      attempts: A request that fails for a passing reason is sent this often in all.
      pause: Before the second attempt; each further pause is twice as long, up to `longest_pause`.
      longest_pause: The longest of them.
      poll: Between two looks at an operation or a job.
      operation: An operation (an upload, a deployment) may take this long.
      job: A batch prediction may take this long.
    """

    request: float = 60
    attempts: int = 6
    pause: float = 1
    longest_pause: float = 30
    poll: float = 10
    operation: float = 3600
    job: float = 24 * 3600


@dataclass(frozen=True)
class VertexConfig:
    """A deployment on Vertex AI.

    Attributes:
      name: Names the deployment: its jobs' ids start with it, and what it creates carries it as a label.
      project: Id of the Google Cloud project.
      location: Region, like `us-central1`.
      root: `gs://` folder for the pipelines' outputs.
      specs: URI of the compiled specification of each pipeline, by its name: `evaluation`, `training`.
      container: What serves the model.
      model: Display name of the one model whose versions these are, and the id that it gets; `name` where it is empty.
      endpoint: The same for the endpoint.
      api_endpoint: Address of the service; the location's own where it is empty.
      credentials: `default`: Google's application default credentials; `anonymous`: none, for a local server.
      serving: Machines of the endpoint.
      prediction: Machines of batch predictions.
      service_account: E-mail of what the work runs as; the project's default where it is empty.
      network: Full name of the network that pipeline jobs are peered with.
      labels: More labels for what is created.
      encryption_key: Name of the Cloud KMS key for what is created.
      caching: Whether tasks of a pipeline may take over the results of earlier runs.
      patience: How long to wait.
    """

    name: str
    project: str
    location: str
    root: str
    specs: Mapping[str, str]
    container: Container
    model: str = ""
    endpoint: str = ""
    api_endpoint: str = ""
    credentials: Literal["default", "anonymous"] = "default"
    serving: Machine = Machine()
    prediction: Machine = Machine()
    service_account: str = ""
    network: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    encryption_key: str = ""
    caching: bool = True
    patience: Patience = Patience()

    def __post_init__(self) -> None:
        for kind, name in (("name", self.name), ("model", self.model), ("endpoint", self.endpoint)):
            if not _ID.fullmatch(name or self.name):
                raise InvalidConfig(
                    f"{kind} {name!r} cannot be used on Vertex AI. Use up to 63 of a-z, 0-9 and -, "
                    "a letter first and no - at the end."
                )
        if self.credentials not in ("default", "anonymous"):
            raise InvalidConfig(f"credentials {self.credentials!r} are unknown. Name 'default' or 'anonymous'.")

    @property
    def parent(self) -> str:
        """Resource name of the place where everything is."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def url(self) -> str:
        """Address of the service."""
        return (self.api_endpoint or f"https://{self.location}-aiplatform.googleapis.com").rstrip("/")

    @property
    def all_labels(self) -> dict[str, str]:
        """The labels of what is created."""
        return {**self.labels, "continuous-adaptation": self.name}

    @property
    def encryption(self) -> dict[str, Any]:
        """The field of a request that names the encryption key, where there is one."""
        return {"encryptionSpec": {"kmsKeyName": self.encryption_key}} if self.encryption_key else {}

    @property
    def identity(self) -> dict[str, Any]:
        """The field of a request that names the service account, where there is one."""
        return {"serviceAccount": self.service_account} if self.service_account else {}

    def to_json(self) -> str:
        """The configuration as text; `adaptation.platforms.connect.connect` reads it."""
        return json.dumps({"platform": VERTEX, **asdict(self)})

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> VertexConfig:
        """The configuration that `to_json` wrote, as parsed and without `platform`.

        Raises:
          TypeError, KeyError: A field is unknown or missing.
        """
        container = {**value["container"], "arguments": tuple(value["container"].get("arguments", ()))}
        parts: dict[str, Any] = {"container": Container(**container)}
        for part, kind in (("serving", Machine), ("prediction", Machine), ("patience", Patience)):
            if part in value:
                parts[part] = kind(**value[part])
        return cls(**{**value, **parts})
