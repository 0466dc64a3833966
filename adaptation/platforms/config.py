"""The common interface of all platforms' configurations; `connect` lists the platforms.

A new platform is a subclass, and a section of the settings that creates it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, ClassVar

from adaptation import codec
from adaptation.platforms.base import Platform


class PlatformConfig(ABC):
    """A platform's configuration, a frozen dataclass.

    Attributes:
      kind: Name of the platform in settings and texts.
      remote: True if jobs run on other machines and keep their outputs in object storage.
      root: Folder, or `gs://` folder, of jobs, records and pipeline outputs.
    """

    kind: ClassVar[str]
    remote: ClassVar[bool]
    root: str

    @abstractmethod
    def connect(self) -> Platform:
        """Return the platform. Nothing is written, sent or loaded."""

    @property
    def run_prefix(self) -> str:
        """Prefix of a job's id in the name of its pipeline run."""
        return ""

    def to_json(self) -> str:
        """Return the configuration as text, which `connect` reads.

        It holds only values that differ from the defaults. Every component that uses the platform gets this one text:
        settings that a component does not use (the serving container, for a predictor) are usually missing anyway, and
        a text for each component would declare a second time which part needs which value.
        """
        return codec.encode({"platform": self.kind, **_set_values(self)}, indent=0).decode()


def _set_values(value: Any) -> dict[str, Any]:
    return {
        field.name: _set_values(part) if is_dataclass(part) else part
        for field in fields(value)
        if (part := getattr(value, field.name)) != _default(field)
    }


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()
