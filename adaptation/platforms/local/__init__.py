"""One machine as a platform: folders and processes. Jobs, registry, endpoint and predictor have a file each."""

from __future__ import annotations

from adaptation.platforms.local.endpoint import LocalEndpoint
from adaptation.platforms.local.jobs import LocalJobs, run_recorded
from adaptation.platforms.local.predictor import LocalPredictor
from adaptation.platforms.local.registry import LocalRegistry

__all__ = ["LocalEndpoint", "LocalJobs", "LocalPredictor", "LocalRegistry", "run_recorded"]
