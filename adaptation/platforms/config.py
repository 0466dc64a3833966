"""What the configuration of every platform can do; `connect` lists the platforms.

Another platform is one more subclass, and a section of the settings that makes it.
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
      kind: Names the platform in settings and texts.
      remote: Whether jobs run elsewhere than on this machine, and keep what they make in object storage.
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
        """What a run's name has before its job's id."""
        return ""

    def to_json(self) -> str:
        """Return the configuration as text, which `connect` reads.

        Only what differs from the defaults is in it. Every component that reaches the platform gets this one text: what
        a component does not use (a predictor the serving container, say) is missing from it anyway, unless a person has
        set it, and a separate text for each would declare a second time which part needs which value.
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
