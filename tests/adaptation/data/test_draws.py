"""Draws: nested, independent of how they are made, and the same for a part of the batch."""

from __future__ import annotations

from collections import Counter

import pytest

from adaptation.data.draws import Draw, draw
from adaptation.errors import AdaptationError

NAMES = [f"ship_{number:04}.jpg" for number in range(300)]


def of(names: list[str], budget: int) -> Draw:
    return draw("2021-10", names, budget, "2021-11-01T00:00:00+00:00")


def test_larger_draw_contains_each_smaller_one() -> None:
    draws = [of(NAMES, budget).of(NAMES) for budget in (1, 50, 100, 300, 1000)]
    assert [len(drawn) for drawn in draws] == [1, 50, 100, 300, 300]
    assert all(larger[: len(smaller)] == smaller for smaller, larger in zip(draws, draws[1:], strict=False))


def test_order_of_a_draw_is_the_same_for_ever() -> None:
    """An extended draw must contain the one that another version of this package has recorded."""
    assert of(NAMES, 3).of(NAMES) == ["ship_0119.jpg", "ship_0005.jpg", "ship_0239.jpg"]


def test_draw_does_not_depend_on_the_order_of_the_names() -> None:
    assert of(NAMES[::-1], 50) == of(NAMES, 50)


def test_draw_of_a_part_is_its_part_of_the_draw() -> None:
    made, part = of(NAMES, 50), NAMES[::3]
    assert made.of(part) == [name for name in made.of(NAMES) if name in part]


def test_images_that_arrive_later_are_drawn_in_their_share() -> None:
    later = [f"late_{number:04}.jpg" for number in range(300)]
    assert 30 <= len(set(of(NAMES, 50).of(NAMES + later)) & set(later)) <= 70


def test_classes_of_similar_names_are_drawn_in_their_shares() -> None:
    names = [f"{label}_{number:03}.jpg" for label in ("cat", "ship") for number in range(500)]
    counts = Counter(name.split("_")[0] for name in of(names, 200).of(names))
    assert 75 <= counts["cat"] <= 125


@pytest.mark.parametrize(("names", "budget"), [([], 5), (NAMES, 0), (NAMES, -1)])
def test_draw_of_nothing_is_refused(names: list[str], budget: int) -> None:
    with pytest.raises(AdaptationError, match="Draw at least one"):
        of(names, budget)
