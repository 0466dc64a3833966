"""A workspace: the rooms of one deployment, opened from its settings. Nothing heavy is imported or loaded here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from adaptation.data.batches import BatchStore
from adaptation.data.labels import Labels
from adaptation.data.spans import SpanStore
from adaptation.data.windows import Selection, select
from adaptation.events import Sources
from adaptation.io import storage
from adaptation.notify.config import NotifyConfig
from adaptation.platforms.base import Jobs, Platform
from adaptation.platforms.config import PlatformConfig
from adaptation.platforms.connect import LocalConfig, connect
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import load, locate_settings
from pipeline.workspace.vertex_settings import vertex_config


@dataclass(frozen=True)
class Workspace:
    """What a command or a job works on.

    Attributes:
      settings: The settings.
    """

    settings: Settings

    @classmethod
    def open(cls, path: str | Path) -> Workspace:
        """The workspace of a settings file, or of the folder that holds an `adapt.toml`.

        Raises:
          NoSettings, InvalidSettings: There is no file, or it cannot be used.
        """
        return cls(load(locate_settings(Path(path))))

    @property
    def root(self) -> str:
        """Folder of jobs, models, metadata and pipeline outputs."""
        return self.settings.target.root

    @cached_property
    def batches(self) -> BatchStore:
        """The collected images."""
        return BatchStore(self.settings.collection.root)

    @cached_property
    def spans(self) -> SpanStore:
        """The spans."""
        return SpanStore(self.settings.data.root)

    @cached_property
    def labels(self) -> Labels:
        """Where true labels come from."""
        return self.settings.labels.truth

    @property
    def config(self) -> PlatformConfig:
        """The platform's configuration, as the components get it.

        Raises:
          InvalidSettings: The settings do not say enough for the platform.
        """
        return _CONFIGS[self.settings.platform.kind](self.settings)

    @cached_property
    def platform(self) -> Platform:
        """Jobs, predictor, registry and endpoint."""
        return connect(self.config)

    @property
    def jobs(self) -> Jobs:
        """The pipeline runs."""
        return self.platform.jobs

    @property
    def triggers(self) -> str:
        """Folder of the records of what was triggered."""
        return self.folder("triggers")

    @property
    def sources(self) -> Sources:
        """The records that events are derived from."""
        return Sources(self.batches, self.triggers, self.jobs, self.platform.registry)

    @property
    def notification(self) -> NotifyConfig:
        """Whom to notify of events."""
        return NotifyConfig(self.settings.name, **dict(self.settings.notify))

    def folder(self, *parts: str) -> str:
        """A folder below the root."""
        return storage.join(self.root, *parts)

    def select(self, window: str = "", digest: str = "") -> Selection:
        """The spans of a window, the settings' own where none is given; errors as for `windows.select`."""
        settings = self.settings
        return select(settings.data.root, window or settings.training.window, digest, settings.labels.names)


def _local_config(settings: Settings) -> LocalConfig:
    # -P: a folder `pipeline` or `models` where the command was given must not be taken for this package's.
    command = (sys.executable, "-P", "-m", "pipeline.local.job", "--settings", str(settings.file))
    return LocalConfig(settings.platform.root, command)


_CONFIGS: dict[str, Callable[[Settings], PlatformConfig]] = {"local": _local_config, "vertex": vertex_config}
