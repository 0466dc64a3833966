"""Deployment: how a training run ended, with a new champion or with a refused challenger."""

from __future__ import annotations

import json
from dataclasses import dataclass

from adaptation.evaluation.gate import Verdict


@dataclass(frozen=True)
class Deployment:
    """The end of a training run.

    Attributes:
      version: Number of the version that was put in service; 0 where the gate refused.
      verdict: The gate's.
    """

    version: int
    verdict: Verdict

    @property
    def deployed(self) -> bool:
        """Whether there is a new champion."""
        return self.version > 0

    @property
    def reason(self) -> str:
        """What happened and why, in a sentence."""
        what = f"version {self.version} is the champion" if self.deployed else "the challenger was refused"
        return f"{what}: {'; '.join(self.verdict.reasons)}"

    def to_json(self) -> bytes:
        """The deployment as a file's content; `from_json` reads it."""
        return json.dumps({"version": self.version, "verdict": json.loads(self.verdict.to_json())}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Deployment:
        """The deployment that `to_json` wrote."""
        value = json.loads(data)
        return cls(value["version"], Verdict.from_json(json.dumps(value["verdict"]).encode()))
