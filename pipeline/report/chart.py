"""The places of the marks in the story's chart; the template draws them.

Widths are in percent and heights in pixels, so that the chart fits any screen without its text being scaled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.content import Event

TOP, BOTTOM = 26.0, 226.0
BAND = 282.0
SLOT = 70
_ROUND = 2


@dataclass(frozen=True)
class Point:
    """An event's place; `y`, `low` and `high` are those of its accuracy and interval, if any."""

    index: int
    x: float
    y: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Band:
    """A serving version over some events: the first event's index, where it starts and its width."""

    index: int
    x: float
    width: float


@dataclass(frozen=True)
class StoryChart:
    """The accuracies of the evaluations in the order of all events, against the threshold.

    Attributes:
      points: A place for each event.
      joins: The evaluations with a figure, each with the next.
      ticks: Accuracies marked on the axis, with their heights.
      threshold: The threshold's height.
      bands: The serving versions.
      least_width: Least width in pixels; a narrower screen scrolls the chart.
    """

    points: tuple[Point, ...]
    joins: tuple[tuple[Point, Point], ...]
    ticks: tuple[tuple[str, float], ...]
    threshold: float
    bands: tuple[Band, ...]
    least_width: int

    @classmethod
    def of(cls, events: Sequence[Event], threshold: float) -> StoryChart:
        """Return the chart of a story."""
        lowest = min([threshold, *(event.low for event in events if event.low is not None)])
        scale = _Scale(max(0.0, math.floor(lowest * 10 - 0.5) / 10))
        points = [_point(index, event, len(events), scale) for index, event in enumerate(events)]
        measured = [point for point in points if point.y is not None]
        return cls(
            points=tuple(points),
            joins=tuple(itertools.pairwise(measured)),
            ticks=tuple((f"{tick:.1f}", scale.height(tick)) for tick in scale.ticks()),
            threshold=scale.height(threshold),
            bands=tuple(_bands(events)),
            least_width=SLOT * len(events),
        )


@dataclass(frozen=True)
class _Scale:
    """Accuracies from `floor` to 1 as heights from the bottom to the top."""

    floor: float

    def height(self, accuracy: float) -> float:
        return round(BOTTOM - (accuracy - self.floor) / (1 - self.floor) * (BOTTOM - TOP), _ROUND)

    def ticks(self) -> list[float]:
        tenths = round((1 - self.floor) * 10)
        step = 1 if tenths <= 5 else 2
        return [1 - number / 10 for number in range(0, tenths + 1, step)]


def _point(index: int, event: Event, count: int, scale: _Scale) -> Point:
    figures = (event.accuracy, event.low, event.high)
    y, low, high = (None if figure is None else scale.height(figure) for figure in figures)
    return Point(index, round((index + 0.5) / count * 100, _ROUND), y, low, high)


def _bands(events: Sequence[Event]) -> list[Band]:
    width = 100 / len(events) if events else 0.0
    bands = []
    for serving, group in itertools.groupby(enumerate(events), key=lambda pair: pair[1].serving):
        places = [index for index, _ in group]
        if serving is not None:
            bands.append(Band(places[0], round(places[0] * width, _ROUND), round(len(places) * width, _ROUND)))
    return bands
