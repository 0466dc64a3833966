"""The pictures show the values that they are given, as matplotlib draws them."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from adaptation.data.spans import Manifest, Shard
from notebooks import pictures
from pipeline.report.content import Event, Kind, LabelMatch, Match, Picture
from tests.worlds.images import image


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    """Show nothing on a screen, and close every figure."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


def drawn() -> Axes:
    """Return the axes of the only figure."""
    assert len(plt.get_fignums()) == 1
    return plt.gcf().axes[0]


def bars(axes: Axes) -> dict[str, list[float]]:
    """Return the heights of the bars by the names in the legend."""
    return {str(one.get_label()): [float(bar.get_height()) for bar in one.patches] for one in axes.containers}


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def an_image(number: int) -> Picture:
    encoded = base64.b64encode(image(number, size=(12, 12))).decode()
    return Picture(f"{number}.png", f"class {number}", f"data:image/png;base64,{encoded}")


def a_manifest(span: int, counts: Mapping[str, Mapping[str, int]]) -> Manifest:
    shard = Shard("train/shard-0-of-1-00000000.tfrecord", 1, "00000000", 1)
    labels = tuple(counts["train"])
    return Manifest(span, f"2021-{span:02d}", "key", counts, (shard,), (), 0, 0.2, labels, "run", "2021-10-01T00:00:00")


def an_evaluation(batch: str, accuracy: float, version: int) -> Event:
    return Event(
        Kind.EVALUATION,
        "2021-10-01T00:00:00",
        batch,
        "job",
        "keep",
        "",
        accuracy=accuracy,
        low=accuracy - 0.05,
        high=accuracy + 0.02,
        version=version,
    )


def test_images_are_shown_below_their_labels() -> None:
    pictures.images([an_image(number) for number in range(3)])
    places = plt.gcf().axes
    assert [place.get_title() for place in places if place.get_images()] == ["class 0", "class 1", "class 2"]


def test_images_are_shown_unchanged() -> None:
    pictures.images([an_image(7)])
    shown = np.asarray(drawn().get_images()[0].get_array())
    assert np.array_equal(shown, np.asarray(pictures.decoded(an_image(7))))
    assert shown.shape == (12, 12, 3) and len(np.unique(shown)) > 20


def test_full_last_row_is_not_followed_by_an_empty_one() -> None:
    pictures.images([an_image(number) for number in range(pictures.COLUMNS)])
    assert len(plt.gcf().axes) == pictures.COLUMNS


def test_image_beyond_a_full_row_starts_another_row() -> None:
    pictures.images([an_image(number) for number in range(pictures.COLUMNS + 1)])
    places = plt.gcf().axes
    assert len(places) == 2 * pictures.COLUMNS
    assert sum(bool(place.get_images()) for place in places) == pictures.COLUMNS + 1
    assert not any(place.axison for place in places)


def test_classes_have_one_bar_per_span_over_all_splits() -> None:
    counts = {"train": {"ship": 8, "truck": 4}, "test": {"ship": 2, "truck": 1}}
    more = {"train": {"ship": 3, "truck": 30}, "test": {"ship": 1, "truck": 2}}
    pictures.classes([a_manifest(1, counts), a_manifest(2, more)])
    assert bars(drawn()) == {"span-1, from 2021-01": [10, 5], "span-2, from 2021-02": [4, 32]}
    assert ticks(drawn()) == ["ship", "truck"]


def test_bars_of_two_spans_do_not_overlap() -> None:
    counts = {"train": {"ship": 8, "truck": 4}, "test": {"ship": 2, "truck": 1}}
    pictures.classes([a_manifest(1, counts), a_manifest(2, counts)])
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in drawn().patches)
    assert all(end <= start + 1e-9 for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def test_challenger_and_champion_are_compared_by_class() -> None:
    matches = [
        LabelMatch("ship", Match(10, 0.9, 0.5, 1, 1), None),
        LabelMatch("truck", Match(8, 0.75, 0.25, 1, 1), None),
    ]
    pictures.accuracy_by_class(matches)
    assert bars(drawn()) == {"champion": [0.5, 0.25], "challenger": [0.9, 0.75]}


def test_class_without_a_figure_of_the_champion_has_a_gap() -> None:
    matches = [
        LabelMatch("ship", Match(10, 0.9, None, 1, 1), None),
        LabelMatch("truck", Match(8, 0.75, 0.25, 1, 1), None),
    ]
    pictures.accuracy_by_class(matches)
    assert bars(drawn()) == {"champion": [pytest.approx(math.nan, nan_ok=True), 0.25], "challenger": [0.9, 0.75]}


def test_challenger_without_a_champion_is_shown_alone() -> None:
    pictures.accuracy_by_class([LabelMatch("ship", Match(10, 0.9, None, 1, 1), None), LabelMatch("truck", None, None)])
    assert bars(drawn()) == {"challenger": [0.9]}
    assert ticks(drawn()) == ["ship"]


def test_confusion_matrix_has_true_labels_in_rows_and_no_zeros() -> None:
    pictures.confusion(["ship", "truck"], [[9, 1], [0, 7]])
    numbers = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in drawn().texts}
    assert numbers == {(0, 0): "9", (0, 1): "1", (1, 1): "7"}
    assert (drawn().get_ylabel(), drawn().get_xlabel()) == ("true", "predicted")
    assert ticks(drawn()) == ["ship", "truck"]


def test_numbers_are_readable_on_dark_and_light_cells() -> None:
    pictures.confusion(["ship", "truck"], [[9, 1], [0, 7]])
    assert {text.get_text(): text.get_color() for text in drawn().texts} == {"9": "white", "1": "black", "7": "white"}


def test_deliveries_show_images_outcomes_and_the_number_needed() -> None:
    pictures.deliveries([40, 150], ["not enough", "start"], needed=100)
    assert [bar.get_height() for bar in drawn().patches] == [40, 150]
    assert [text.get_text() for text in drawn().texts] == ["not enough", "start"]
    assert list(np.unique(drawn().lines[0].get_ydata())) == [100]


def test_accuracy_over_time_has_batches_in_order_and_a_colour_per_version() -> None:
    story = [an_evaluation("2021-09", 0.95, 1), an_evaluation("2021-10", 0.4, 1), an_evaluation("2021-11", 0.9, 2)]
    pictures.accuracy_over_time(story, 0.85)
    assert ticks(drawn()) == ["2021-09", "2021-10", "2021-11"]
    points = {str(one.get_label()): one for one in drawn().containers if isinstance(one, ErrorbarContainer)}
    assert {name: [list(one[0].get_xdata()), list(one[0].get_ydata())] for name, one in points.items()} == {
        "version 1": [[0, 1], [0.95, 0.4]],
        "version 2": [[2], [0.9]],
    }
    assert points["version 1"][0].get_color() != points["version 2"][0].get_color()


def test_accuracy_over_time_shows_intervals_and_the_threshold() -> None:
    pictures.accuracy_over_time([an_evaluation("2021-10", 0.4, 1)], 0.85)
    (points,) = (one for one in drawn().containers if isinstance(one, ErrorbarContainer))
    ((_, low), (_, high)) = points[2][0].get_segments()[0]
    assert (low, high) == pytest.approx((0.35, 0.42))
    assert 0.85 in {float(value) for line in drawn().lines for value in np.atleast_1d(line.get_ydata())}


def test_accuracy_over_time_has_points_of_measured_evaluations_only() -> None:
    training = Event(Kind.TRAINING, "2021-10-01T00:00:00", "1", "job", "deployed", "")
    failed = Event(Kind.EVALUATION, "2021-10-01T00:00:00", "2021-08", "job", "failed", "")
    pictures.accuracy_over_time([training, failed, an_evaluation("2021-10", 0.4, 1)], 0.85)
    assert ticks(drawn()) == ["2021-10"]
