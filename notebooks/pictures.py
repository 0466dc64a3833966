"""The notebooks' pictures: each function draws one with matplotlib, and Jupyter shows it below its cell.

Functions take the package's own values. They read and compute only what they draw.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from adaptation.data.spans import Manifest
from pipeline.report.content import Event, Kind, LabelMatch, Picture

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # distinct for colour-blind readers, too
GREY = "#666666"
WIDTH, DOTS = 9, 72
COLUMNS = 12


def images(pictures: Sequence[Picture]) -> None:
    """Draw images in rows, each with its label above it."""
    rows = -(-len(pictures) // COLUMNS)
    axes = _subplots(rows, COLUMNS, height=WIDTH / COLUMNS * 1.3 * rows)
    for place in axes.flat:
        place.axis("off")
    for place, picture in zip(axes.flat, pictures, strict=False):
        place.imshow(decoded(picture), interpolation="nearest")
        place.set_title(picture.label, fontsize=9)


def decoded(picture: Picture) -> Image.Image:
    """Return the image in a picture's `data:` URI."""
    data = base64.b64decode(picture.source.partition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB")


def classes(manifests: Sequence[Manifest]) -> None:
    """Plot how many images of each class the spans have: a group of bars a class, a bar a span."""
    axes = _axes("images")
    for place, manifest in enumerate(manifests):
        counts = [sum(split[label] for split in manifest.counts.values()) for label in manifest.labels]
        _bars(axes, place, len(manifests), counts, f"span-{manifest.span}, from {manifest.batch}")
    _name_classes(axes, manifests[0].labels)


def accuracy_by_class(matches: Sequence[LabelMatch]) -> None:
    """Plot the challenger's accuracy on each class, beside the champion's if there was one."""
    axes = _axes("accuracy on held-out images")
    known = [(match.label, match.all) for match in matches if match.all]
    champion = [math.nan if one.champion is None else one.champion for _, one in known]
    models = 1 if all(map(math.isnan, champion)) else 2
    if models == 2:
        _bars(axes, 0, models, champion, "champion")
    _bars(axes, models - 1, models, [one.challenger for _, one in known], "challenger")
    _name_classes(axes, [label for label, _ in known])


def confusion(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> None:
    """Plot the confusion matrix: true labels as rows, predicted ones as columns."""
    axes = _subplots(height=WIDTH / 2).item()
    counts = np.asarray(matrix)
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if count > counts.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true")


def deliveries(counts: Sequence[int], outcomes: Sequence[str], needed: int) -> None:
    """Plot a batch's images at each trigger check, the trigger's decision, and how many new images it needs."""
    axes = _axes("images in the month")
    bars = axes.bar(range(len(counts)), counts, color=COLOURS[0], width=0.6)
    axes.bar_label(bars, labels=list(outcomes), label_type="center", color="white")
    axes.axhline(needed, color=GREY, linestyle="--", label=f"new images that are needed: {needed}")
    axes.set_xticks(range(len(counts)), [f"look {number}" for number in range(1, len(counts) + 1)])
    axes.legend(frameon=False)


def accuracy_over_time(events: Sequence[Event], threshold: float) -> None:
    """Plot the accuracy of each evaluation with its 95 % interval, coloured by the evaluated version."""
    axes = _axes("accuracy")
    measured = [event for event in events if event.kind is Kind.EVALUATION and event.accuracy is not None]
    for number, version in enumerate(sorted({event.version or 0 for event in measured})):
        places = [place for place, event in enumerate(measured) if (event.version or 0) == version]
        _points(axes, places, [measured[place] for place in places], COLOURS[number % len(COLOURS)])
    axes.axhline(threshold, color=GREY, linestyle="--", label=f"threshold {threshold:g}")
    axes.set_xticks(range(len(measured)), [event.subject for event in measured])
    axes.set_xlim(-0.5, len(measured) - 0.5)
    axes.set_ylim(0, 1.03)
    axes.legend(frameon=False, loc="lower right")


def _subplots(rows: int = 1, columns: int = 1, *, height: float) -> np.ndarray:
    """Return the axes of a new figure, row by row; the height is in inches."""
    figure = plt.figure(figsize=(WIDTH, height), dpi=DOTS, layout="constrained")
    axes: np.ndarray = figure.subplots(rows, columns, squeeze=False)
    return axes


def _axes(measure: str) -> Axes:
    axes: Axes = _subplots(height=WIDTH / 3).item()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel(measure)
    return axes


def _bars(axes: Axes, place: int, of: int, heights: Sequence[float], label: str) -> None:
    width = 0.8 / of
    middles = np.arange(len(heights)) + (place - (of - 1) / 2) * width
    axes.bar(middles, heights, width, color=COLOURS[place % len(COLOURS)], label=label)


def _name_classes(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("class")
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))


def _points(axes: Axes, places: Sequence[int], events: Sequence[Event], colour: str) -> None:
    accuracies = [event.accuracy or 0 for event in events]
    below = [accuracy - (event.low or 0) for accuracy, event in zip(accuracies, events, strict=True)]
    above = [(event.high or 0) - accuracy for accuracy, event in zip(accuracies, events, strict=True)]
    label = f"version {events[0].version}"
    axes.errorbar(places, accuracies, yerr=[below, above], fmt="o", capsize=4, color=colour, label=label)
