"""What the components keep under their artifacts' URIs, and under which names: the contract between one and the next.

Artifacts hold small files beside custom properties, because both, unlike typed outputs, mean the same on every runner.
A number that a condition or another component reads is a custom property; what a person or a report reads is a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptation import codec
from adaptation.data.batches import Snapshot
from adaptation.evaluation.gate import Comparison, Deployment, Verdict
from adaptation.io import storage
from adaptation.platforms.base import ModelVersion

if TYPE_CHECKING:
    from tfx.types import Artifact  # what reads the files alone is not to wait for TFX

FILE_LIST = "file_list.txt"
SNAPSHOT = "snapshot.json"
EVALUATION = "evaluation.json"
DECISION = "decision.json"
VERSION = "version.json"
VERDICT = "verdict.json"
COMPARISON = "comparison.json"
MANIFEST = "manifest.json"
JOB = "job.json"
DEPLOYMENT = "deployment.json"


def file_list_uri(artifact: Artifact) -> str:
    """URI of the text file that batch prediction reads: one image URI a line."""
    return storage.join(artifact.uri, FILE_LIST)


def read_snapshot(artifact: Artifact) -> Snapshot:
    """The snapshot that FileListGen took."""
    return codec.read(storage.join(artifact.uri, SNAPSHOT), Snapshot)


def read_verdict(artifact: Artifact) -> Verdict:
    """The verdict that ChampionGate gave."""
    return codec.read(storage.join(artifact.uri, VERDICT), Verdict)


def read_comparison(artifact: Artifact) -> Comparison:
    """Both models part by part, as ChampionGate recorded them."""
    uri = storage.join(artifact.uri, COMPARISON)
    return Comparison.from_json(storage.read(uri), uri)


def read_version(artifact: Artifact) -> ModelVersion | None:
    """Return the version that BatchPredictionGen predicted with; None for predictions that come from elsewhere."""
    uri = storage.join(artifact.uri, VERSION)
    return codec.read(uri, ModelVersion) if storage.exists(uri) else None


def read_deployment(artifact: Artifact) -> Deployment:
    """How the training run ended, by VertexDeployer."""
    return codec.read(storage.join(artifact.uri, DEPLOYMENT), Deployment)


def write(artifact: Artifact, name: str, data: bytes) -> None:
    """Writes a file of the artifact, whole or not at all."""
    storage.write(storage.join(artifact.uri, name), data)
