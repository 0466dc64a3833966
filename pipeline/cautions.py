"""Cautions: settings that do not go with the champion's own figures or with one another, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator

from adaptation.platforms.base import ModelVersion
from pipeline.workspace.settings import Settings


def cautions(settings: Settings, champion: ModelVersion | None) -> Iterator[str]:
    """Return a sentence, with a remedy, for each figure that makes a decision pointless.

    Args:
      settings: The rule of the evaluation, its threshold and the floor.
      champion: The serving version; None before the first. One of 0.1.0 has no counts to look at.
    """
    if settings.evaluation.rule == "drop":  # it compares with the champion's own accuracy, not with a threshold
        return
    threshold, floor = settings.evaluation.threshold, settings.gate.floor
    recalls = champion.recalls.values() if champion else ()
    images, correct = sum(one.images for one in recalls), sum(one.correct for one in recalls)
    if champion and correct < threshold * images:
        yield (
            f"version {champion.number}, the champion, is right on {correct} of its {images} test images "
            f"({correct / images:.4f}), below evaluation.threshold = {threshold:g}: months that are no harder count as "
            "too bad. Set a threshold below that, or train a better model."
        )
    if floor > threshold:
        yield (
            f"gate.floor = {floor:g} is above evaluation.threshold = {threshold:g}: a model good enough to stay would "
            "be refused. Set the floor at the threshold or below."
        )
