"""A world for single components: a collection with images of two classes, spans and a platform."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from adaptation import codec
from adaptation.data.batches import Batch, BatchStore
from adaptation.data.labels import Labels
from adaptation.data.spans import SpanStore
from adaptation.evaluation.gate import Comparison, Outcome, Verdict
from adaptation.evaluation.look import Profile, Reference
from adaptation.evaluation.paired import Pairs
from adaptation.platforms.base import ModelVersion, Platform, Upload
from adaptation.platforms.connect import LocalConfig, connect
from tests.worlds.images import grey

SUCCEED = """
import sys
from adaptation.platforms.local.jobs import run_recorded
from tests.worlds.images import grey
run_recorded(sys.argv[-1], lambda request: {})
"""


OCTOBER = Batch(2021, 10)
LABELS = Labels(("dark", "light"))
COMPARED = Comparison.of(
    0, {(1, "dark"): Pairs(45, 2, 4, 1), (1, "light"): Pairs(48), (2, "light"): Pairs(10, 1, 9, 0)}
)


REFERENCE = Reference(Profile.of({"dark": 52, "light": 68}, [0.9] * 120), COMPARED.recalls)


def toned(label: str, number: int) -> bytes:
    """Return a PNG of the label's tone that differs from every other one."""
    return grey(number % 100 + (0 if label == "dark" else 150), (8, 8), number // 100)


def judged(folder: Path, outcome: Outcome, comparison: Comparison = COMPARED) -> Path:
    """What ModelComparator and ChampionGate leave of a challenger, into a folder that this makes."""
    folder.mkdir(parents=True, exist_ok=True)
    verdict = Verdict(outcome, f"it is to {outcome}", ())
    files = {"verdict": verdict, "pairs": comparison, "further_metrics": {"top_3": 0.99}, "reference": REFERENCE}
    for name, value in files.items():
        (folder / f"{name}.json").write_bytes(codec.encode(value))
    return folder


@dataclass(frozen=True)
class ComponentWorld:
    """A workspace without settings."""

    root: Path

    @property
    def batches(self) -> BatchStore:
        return BatchStore(str(self.root / "collection"))

    @property
    def spans(self) -> SpanStore:
        return SpanStore(str(self.root / "data"))

    @property
    def config(self) -> LocalConfig:
        """Return the configuration of a platform whose jobs succeed at once."""
        return LocalConfig(str(self.root), (sys.executable, "-c", SUCCEED))

    @property
    def platform(self) -> Platform:
        return connect(self.config)

    def collect(self, count: int = 40, start: int = 0, batch: Batch = OCTOBER) -> list[str]:
        """Put images into a batch, half of each class. Return their names."""
        folder = Path(self.batches.folder(batch))
        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for number in range(start, start + count):
            label = LABELS.names[number % 2]
            names.append(f"{label}_{number:04d}.png")
            (folder / names[-1]).write_bytes(toned(label, number))
        return names

    def register(self, model: str, source: str = "first") -> ModelVersion:
        """Make a SavedModel the champion."""
        upload = Upload(model=model, key=source, spans=(1,), metrics={}, source=source, run=source)
        version = self.platform.registry.upload(upload)
        self.platform.registry.promote(version, "first")
        return version
