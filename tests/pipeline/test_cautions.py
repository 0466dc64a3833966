"""Cautions: which figures make a decision pointless."""

from __future__ import annotations

from typing import Literal

import pytest

from adaptation.evaluation.mix import Recall
from adaptation.platforms.base import ModelVersion
from pipeline.cautions import cautions
from pipeline.workspace.settings import EvaluationSettings, GateSettings, LabelSettings, Settings


def cautions_for(
    threshold: float,
    floor: float,
    recalls: dict[str, Recall] | None = None,
    rule: Literal["evidence", "drop"] = "evidence",
) -> list[str]:
    settings = Settings(
        labels=LabelSettings(names=("cat", "dog")),
        evaluation=EvaluationSettings(threshold=threshold, rule=rule),
        gate=GateSettings(floor=floor),
    )
    champion = ModelVersion(4, "", "", (1,), {}, "", "", "", recalls=recalls or {})
    return list(cautions(settings, champion if recalls is not None else None))


def test_champion_at_its_threshold_and_a_floor_at_it_are_no_caution() -> None:
    assert cautions_for(0.9, 0.9, {"cat": Recall(50, 45), "dog": Recall(50, 45)}) == []


def test_champion_below_the_threshold_on_its_own_test_images_is_named() -> None:
    (caution,) = cautions_for(0.9, 0.8, {"cat": Recall(50, 45), "dog": Recall(50, 44)})
    assert "version 4, the champion, is right on 89 of its 100 test images (0.8900), below" in caution


def test_rule_drop_has_no_threshold_to_be_below() -> None:
    assert cautions_for(0.9, 0.95, {"cat": Recall(50, 45), "dog": Recall(50, 44)}, "drop") == []


@pytest.mark.parametrize("recalls", [None, {}], ids=["no champion", "a champion of 0.1.0"])
def test_champion_without_counts_is_no_caution(recalls: dict[str, Recall] | None) -> None:
    assert cautions_for(0.9, 0.8, recalls) == []


def test_floor_above_the_threshold_is_named() -> None:
    (caution,) = cautions_for(0.8, 0.85)
    assert "gate.floor = 0.85 is above evaluation.threshold = 0.8" in caution
