"""The look's benchmark: what it changes in images, and how it counts."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from adaptation.evaluation.look_records import Look, Outcome
from benchmarks.corruptions import KINDS, SEVERITIES, corrupted
from benchmarks.images import photograph
from benchmarks.look import GROUPS, Condition, _figure, table

WARNED, CALM = Look(Outcome.LOOK, "", estimate=0.5), Look(Outcome.CALM, "", estimate=0.7)


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_changes_more_with_each_severity(kind: str) -> None:
    images = np.stack([np.asarray(Image.open(io.BytesIO(photograph(seed, 32)))) for seed in range(8)])
    changes = [np.abs(corrupted(images, kind, severity).astype(int) - images).mean() for severity in SEVERITIES]
    assert changes[0] > 0 and changes == sorted(changes)
    assert np.array_equal(corrupted(images, kind, 3), corrupted(images, kind, 3))


def test_changes_are_counted_by_their_fall() -> None:
    conditions = [
        Condition("clean", 0.0, [CALM] * 100),
        Condition("haze 1", 1.9, [CALM] * 50 + [WARNED] * 50),
        Condition("haze 2", 20.0, [WARNED] * 1000),
        Condition("three classes 2 times as often", 15.0, [CALM] * 100),
    ]
    figures = [_figure(group, conditions) for group in GROUPS]
    assert [figure.ratio for figure in figures] == [0, 50, None, None, 100]
    assert [figure.ok for figure in figures] == [None, False, None, None, True]
    assert "| haze 1 | +1.9 | 50 % | 68 % | 60 % |" in table(conditions)
