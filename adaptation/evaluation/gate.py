"""The gate: may the challenger take the champion's place?

It must reach the floor on the test split of every span that it was trained on, and must not be worse than the champion
on the newest one. How the scores come about is not looked at here. A training run ends in a `Deployment`: with a new
champion, or with a refused challenger.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """A model on a span's test split: accuracy (0 to 1) over a number of images."""

    accuracy: float
    images: int


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and why, for a person to read.

    Attributes:
      blessed: Whether the challenger may be deployed.
      reasons: One sentence for each rule that was looked at and decided something.
      challenger: The challenger's scores by span number.
      champion: The champion's scores by span number; empty where there was none.
    """

    blessed: bool
    reasons: tuple[str, ...]
    challenger: Mapping[int, Score]
    champion: Mapping[int, Score]

    def to_json(self) -> bytes:
        """The verdict as a file's content; `from_json` reads it."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Verdict:
        """The verdict that `to_json` wrote."""
        value = json.loads(data)
        return cls(value["blessed"], tuple(value["reasons"]), _scores(value["challenger"]), _scores(value["champion"]))


@dataclass(frozen=True)
class Part:
    """A part of the test images: those of a span, of a label (its index), or of both; None stands for all."""

    span: int | None = None
    label: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Both models part by part; for people: the gate decides by the spans alone.

    Attributes:
      challenger: The challenger's scores.
      champion: The champion's; empty where there was none.
    """

    challenger: Mapping[Part, Score]
    champion: Mapping[Part, Score]

    def to_json(self) -> bytes:
        """The comparison as a file's content; `from_json` reads it."""
        value = {"challenger": _part_list(self.challenger), "champion": _part_list(self.champion)}
        return json.dumps(value, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Comparison:
        """The comparison that `to_json` wrote."""
        value = json.loads(data)
        return cls(_parts(value["challenger"]), _parts(value["champion"]))


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


def judge(
    challenger: Mapping[int, Score], champion: Mapping[int, Score], *, floor: float, tolerance: float = 0.0
) -> Verdict:
    """Decides on a challenger.

    Args:
      challenger: Its scores by span number, of every span that it was trained on.
      champion: The champion's scores on the same spans; empty where there is no champion yet.
      floor: The least accuracy on every span.
      tolerance: How much worse than the champion's the accuracy on the newest span may be.

    Returns:
      The verdict. A challenger without any score is refused, and one that a champion without a score on the newest span
      cannot be compared with. No accuracy that is not a number passes.
    """
    if not challenger:
        return Verdict(False, ("there is no test image to judge the challenger by",), {}, dict(champion))
    newest = max(challenger)
    refusals = [
        f"on span-{span} the challenger reaches {score.accuracy:.4f}, below the floor of {floor:.4f}"
        for span, score in sorted(challenger.items())
        if not score.accuracy >= floor
    ]
    ours, theirs = challenger[newest], champion.get(newest)
    if champion and theirs is None:
        refusals.append(f"the champion has no score on the newest span, span-{newest}, to compare with")
    if theirs and not ours.accuracy >= theirs.accuracy - tolerance:
        refusals.append(
            f"on the newest span, span-{newest}, the challenger reaches {ours.accuracy:.4f}, worse than the champion's "
            f"{theirs.accuracy:.4f}"
        )
    reasons = refusals or [_praise(newest, ours, theirs, floor)]
    return Verdict(not refusals, tuple(reasons), dict(challenger), dict(champion))


def _scores(value: Mapping[str, Mapping[str, Any]]) -> dict[int, Score]:
    return {int(span): Score(**score) for span, score in value.items()}


def _part_list(scores: Mapping[Part, Score]) -> list[dict[str, Any]]:
    return [asdict(part) | asdict(score) for part, score in scores.items()]


def _parts(values: Iterable[Mapping[str, Any]]) -> dict[Part, Score]:
    return {Part(one["span"], one["label"]): Score(one["accuracy"], one["images"]) for one in values}


def _praise(newest: int, ours: Score, theirs: Score | None, floor: float) -> str:
    compared = f", the champion {theirs.accuracy:.4f}" if theirs else ", and there is no champion yet"
    return (
        f"every span is at or above {floor:.4f}; on span-{newest} the challenger reaches {ours.accuracy:.4f}{compared}"
    )
