"""The gate: may the challenger take the champion's place?

It must reach the floor on the test split of every span that it was trained on, and must not be worse than the champion
on the newest one. How the scores come about is not looked at here. A training run ends in a `Deployment`: with a new
champion, or with a refused challenger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from adaptation import codec


@dataclass(frozen=True)
class Score:
    """A model on a span's test split: accuracy (0 to 1) over a number of images, and further metrics by name."""

    accuracy: float
    images: int
    metrics: Mapping[str, float] = field(default_factory=dict)


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
        """Return the comparison as a file's content: a list for each model, because JSON's keys are texts."""
        return codec.encode(_Listed(_listed(self.challenger), _listed(self.champion)))

    @classmethod
    def from_json(cls, data: bytes, source: str) -> Comparison:
        """Return the comparison that `to_json` wrote; an UnreadableState names the `source`."""
        listed = codec.decode(data, _Listed, source)
        return cls(_by_part(listed.challenger), _by_part(listed.champion))


@dataclass(frozen=True)
class _PartScore:
    span: int | None
    label: int | None
    accuracy: float
    images: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Listed:
    """The form of a comparison's file."""

    challenger: tuple[_PartScore, ...]
    champion: tuple[_PartScore, ...]


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


def _listed(scores: Mapping[Part, Score]) -> tuple[_PartScore, ...]:
    return tuple(
        _PartScore(part.span, part.label, one.accuracy, one.images, one.metrics) for part, one in scores.items()
    )


def _by_part(listed: Iterable[_PartScore]) -> dict[Part, Score]:
    return {Part(one.span, one.label): Score(one.accuracy, one.images, one.metrics) for one in listed}


def _praise(newest: int, ours: Score, theirs: Score | None, floor: float) -> str:
    compared = f", the champion {theirs.accuracy:.4f}" if theirs else ", and there is no champion yet"
    return (
        f"every span is at or above {floor:.4f}; on span-{newest} the challenger reaches {ours.accuracy:.4f}{compared}"
    )
