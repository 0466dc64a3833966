"""Results of a batch prediction for the tests: a snapshot, lines, and folders of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from adaptation.data.batches import Snapshot
from adaptation.data.labels import Labels
from adaptation.io import storage

_NUMBERS = itertools.count(1)
ROOT = "gs://bucket/2021-10"
NAMES = ("car", "cat", "ship")
LABELS = Labels(NAMES)


def snapshot_of(names: Sequence[str], root: str = ROOT) -> Snapshot:
    return Snapshot("2021-10", root, tuple(storage.File(name, 1) for name in names))


def predicted(name: str, label: str, confidence: float = 0.5, root: str = ROOT) -> str:
    return json.dumps({"instance": f"{root}/{name}", "prediction": {"label": label, "confidence": confidence}}) + "\n"


def failed(name: str, message: str = "cannot be decoded") -> str:
    return json.dumps({"instance": f"{ROOT}/{name}", "error": {"code": 3, "message": message}}) + "\n"


def folder_of(*files: str, errors: str = "") -> str:
    """Write a folder of results and return its URI."""
    folder = f"memory://evaluated-{next(_NUMBERS)}"
    for number, content in enumerate(files):
        storage.write(f"{folder}/prediction.results-{number:05d}-of-{len(files):05d}", content.encode())
    storage.write(f"{folder}/prediction.errors_stats-00000-of-00001", errors.encode())
    return folder
