"""Turns a configuration in text form (a component's parameter, an environment variable) into a platform.

The settings choose the configuration elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar

from adaptation import codec
from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import Platform
from adaptation.platforms.config import PlatformConfig
from adaptation.platforms.vertex.config import VertexConfig


@dataclass(frozen=True)
class LocalConfig(PlatformConfig):
    """The configuration of one machine.

    Attributes:
      root: Folder with the jobs, the registry and the endpoint.
      command: The command that runs a job, with the job's folder as the last argument.
    """

    kind: ClassVar[str] = "local"
    remote: ClassVar[bool] = False

    root: str
    command: tuple[str, ...]

    def connect(self) -> Platform:
        """Return the platform in the root's folders; nothing is written or loaded."""
        from adaptation.platforms.local import LocalEndpoint, LocalJobs, LocalPredictor, LocalRegistry

        registry = LocalRegistry(storage.join(self.root, "registry"))
        return Platform(
            jobs=LocalJobs(storage.join(self.root, "jobs"), self.command),
            predictor=LocalPredictor(registry),
            registry=registry,
            endpoint=LocalEndpoint(storage.join(self.root, "endpoint")),
        )


_KINDS: dict[str, type[LocalConfig | VertexConfig]] = {config.kind: config for config in (LocalConfig, VertexConfig)}


@dataclass(frozen=True)
class _Tag:
    platform: str


def connect(config: str | PlatformConfig) -> Platform:
    """Return the platform that a configuration, or its text, describes. Nothing is written, sent or loaded.

    Raises:
      AdaptationError: The text is no configuration.
    """
    return (parse(config) if isinstance(config, str) else config).connect()


def parse(text: str) -> PlatformConfig:
    """Return the configuration that `to_json` wrote; errors as for `connect`."""
    source, remedy = f"the platform's configuration {text!r}", "Take it from to_json()."
    kind = codec.decode(text, _Tag, source, remedy=remedy).platform
    if kind not in _KINDS:
        raise AdaptationError(f"there is no platform {kind!r}. Name {' or '.join(map(repr, _KINDS))}.")
    config = codec.decode(text, _KINDS[kind], source, remedy=remedy)
    if unknown := list(_unknown(json.loads(text), config)):
        raise AdaptationError(f"{source} has {', '.join(unknown)}, unknown to this version. Publish it again.")
    return config


def _unknown(value: Mapping[str, Any], config: object, prefix: str = "") -> Iterator[str]:
    """Yield the names in a text that its configuration does not have, such as those of another version."""
    for name, part in value.items():
        if not hasattr(config, name) and prefix + name != "platform":
            yield prefix + name
        elif is_dataclass(known := getattr(config, name, None)):
            yield from _unknown(part, known, f"{prefix}{name}.")
