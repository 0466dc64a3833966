"""The names and formats of the files under the components' artifacts: the contract between the components.

Artifacts hold small files beside custom properties, because both, unlike typed outputs, work the same on every runner.
A number that a condition or another component reads is a custom property; content for a person or a report is a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptation import codec
from adaptation.data.batches import Snapshot
from adaptation.evaluation.gate import Comparison, Deployment, Verdict
from adaptation.evaluation.look_records import LookRecord
from adaptation.io import storage
from adaptation.platforms.base import ModelVersion

if TYPE_CHECKING:
    from tfx.types import Artifact  # readers of the files alone must not wait for TFX

FILE_LIST = "file_list.txt"
SNAPSHOT = "snapshot.json"
EVALUATION = "evaluation.json"
DECISION = "decision.json"
LOOK = "look.json"
VERSION = "version.json"
VERDICT = "verdict.json"
PAIRS = "pairs.json"
REFERENCE = "reference.json"
FURTHER_METRICS = "further_metrics.json"
MANIFEST = "manifest.json"
JOB = "job.json"
DEPLOYMENT = "deployment.json"


def file_list_uri(artifact: Artifact) -> str:
    """Return the URI of the text file that batch prediction reads: one image URI a line."""
    return storage.join(artifact.uri, FILE_LIST)


def read_snapshot(artifact: Artifact) -> Snapshot:
    """Return the snapshot that FileListGen took."""
    return codec.read(storage.join(artifact.uri, SNAPSHOT), Snapshot)


def read_look(artifact: Artifact) -> LookRecord:
    """Return the look at a batch, by DriftDetector."""
    return codec.read(storage.join(artifact.uri, LOOK), LookRecord)


def read_verdict(artifact: Artifact) -> Verdict:
    """Return the verdict of ChampionGate."""
    return codec.read(storage.join(artifact.uri, VERDICT), Verdict)


def read_pairs(artifact: Artifact) -> Comparison:
    """Return both models' counts on the same images: of ModelComparator or, with floor and margin, of ChampionGate."""
    return codec.read(storage.join(artifact.uri, PAIRS), Comparison)


def reference_uri(comparison: Artifact) -> str:
    """Return the URI of the reference that ModelComparator made; empty for a result of before there were any."""
    uri = storage.join(comparison.uri, REFERENCE)
    return uri if storage.exists(uri) else ""


def read_further_metrics(artifact: Artifact) -> dict[str, float]:
    """Return the challenger's metrics that the recipe added, as ChampionGate recorded them."""
    return codec.read(storage.join(artifact.uri, FURTHER_METRICS), dict[str, float])


def read_version(artifact: Artifact) -> ModelVersion | None:
    """Return the version that BatchPredictionGen predicted with, or None for predictions from elsewhere."""
    uri = storage.join(artifact.uri, VERSION)
    return codec.read(uri, ModelVersion) if storage.exists(uri) else None


def read_deployment(artifact: Artifact) -> Deployment:
    """Return the end of the training job, by VertexDeployer."""
    return codec.read(storage.join(artifact.uri, DEPLOYMENT), Deployment)


def write(artifact: Artifact, name: str, data: bytes) -> None:
    """Write a file of the artifact, whole or not at all."""
    storage.write(storage.join(artifact.uri, name), data)
