"""From a configuration that travels as text (a component's parameter, an environment variable) to a platform.

Which configuration a person's settings ask for is not decided here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import Platform
from adaptation.platforms.vertex.config import VERTEX, VertexConfig

LOCAL = "local"


class UnknownPlatform(AdaptationError, ValueError):
    """A configuration that names no platform of this package, or not all that it needs."""


@dataclass(frozen=True)
class LocalConfig:
    """One machine.

    Attributes:
      root: Folder with the jobs, the registry and the endpoint.
      command: What runs a job, with the job's folder as the last argument.
    """

    root: str
    command: tuple[str, ...]

    def to_json(self) -> str:
        """The configuration as text; `connect` reads it."""
        return json.dumps({"platform": LOCAL, **asdict(self)})


def connect(config: str | LocalConfig | VertexConfig) -> Platform:
    """The platform that a configuration, or its text, describes. Nothing is written, sent or loaded.

    Raises:
      UnknownPlatform: The text is no configuration.
    """
    config = _parse(config) if isinstance(config, str) else config
    return _vertex(config) if isinstance(config, VertexConfig) else _local(config)


def _parse(text: str) -> LocalConfig | VertexConfig:
    try:
        value = json.loads(text)
        platform = value.pop("platform")
        if platform == LOCAL:
            return LocalConfig(value["root"], tuple(value["command"]))
        if platform == VERTEX:
            return VertexConfig.from_mapping(value)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnknownPlatform(f"{text!r} describes no platform ({error!r}). Take it from to_json().") from error
    raise UnknownPlatform(f"there is no platform {platform!r}. Name {LOCAL!r} or {VERTEX!r}.")


def _local(config: LocalConfig) -> Platform:
    from adaptation.platforms.local import LocalEndpoint, LocalJobs, LocalPredictor, LocalRegistry

    registry = LocalRegistry(storage.join(config.root, "registry"))
    return Platform(
        jobs=LocalJobs(storage.join(config.root, "jobs"), config.command),
        predictor=LocalPredictor(registry),
        registry=registry,
        endpoint=LocalEndpoint(storage.join(config.root, "endpoint")),
    )


def _vertex(config: VertexConfig) -> Platform:
    from adaptation.platforms.vertex.client import VertexClient
    from adaptation.platforms.vertex.endpoint import VertexEndpoint
    from adaptation.platforms.vertex.jobs import VertexJobs
    from adaptation.platforms.vertex.predictor import VertexPredictor
    from adaptation.platforms.vertex.registry import VertexRegistry

    client = VertexClient(config)
    registry = VertexRegistry(client)
    return Platform(
        jobs=VertexJobs(client),
        predictor=VertexPredictor(client, registry),
        registry=registry,
        endpoint=VertexEndpoint(client, registry),
    )
