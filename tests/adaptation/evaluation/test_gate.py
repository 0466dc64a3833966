"""Gate: a floor on every span, not worse than the champion on the newest one, and a reason for each decision."""

from __future__ import annotations

import math

import pytest

from adaptation import codec
from adaptation.evaluation.gate import Comparison, Deployment, Part, Score, Verdict, judge


def scores(**accuracies: float) -> dict[int, Score]:
    """Return scores: `scores(s1=0.9)` is an accuracy of 0.9 on span-1."""
    return {int(span[1:]): Score(accuracy, 100) for span, accuracy in accuracies.items()}


def test_first_challenger_above_the_floor_is_blessed() -> None:
    verdict = judge(scores(s1=0.97), {}, floor=0.9)
    assert verdict == Verdict(True, verdict.reasons, scores(s1=0.97), {})
    assert verdict.reasons == (
        "every span is at or above 0.9000; on span-1 the challenger reaches 0.9700, and there is no champion yet",
    )


def test_accuracy_equal_to_the_floor_is_enough() -> None:
    assert judge(scores(s1=0.9, s2=0.9), {}, floor=0.9).blessed


def test_spans_below_the_floor_are_refused_and_all_named() -> None:
    verdict = judge(scores(s10=0.8, s9=0.95, s2=0.899), {}, floor=0.9)
    assert not verdict.blessed
    assert verdict.reasons == (
        "on span-2 the challenger reaches 0.8990, below the floor of 0.9000",
        "on span-10 the challenger reaches 0.8000, below the floor of 0.9000",
    )


def test_challenger_that_is_worse_on_the_newest_span_is_refused() -> None:
    verdict = judge(scores(s9=0.99, s10=0.94), scores(s9=0.90, s10=0.95), floor=0.9)
    assert not verdict.blessed
    assert verdict.reasons == (
        "on the newest span, span-10, the challenger reaches 0.9400, worse than the champion's 0.9500",
    )


def test_challenger_may_be_worse_on_older_spans() -> None:
    verdict = judge(scores(s9=0.91, s10=0.96), scores(s9=0.99, s10=0.95), floor=0.9)
    assert verdict.blessed
    assert verdict.reasons == (
        "every span is at or above 0.9000; on span-10 the challenger reaches 0.9600, the champion 0.9500",
    )


def test_equal_challenger_is_not_worse() -> None:
    assert judge(scores(s1=0.95), scores(s1=0.95), floor=0.9).blessed


@pytest.mark.parametrize(("accuracy", "blessed"), [(0.96, True), (0.93, True), (0.9299, False)])
def test_tolerance_is_how_much_worse_the_challenger_may_be(accuracy: float, blessed: bool) -> None:
    assert judge(scores(s1=accuracy), scores(s1=0.95), floor=0.9, tolerance=0.02).blessed is blessed


def test_floor_and_champion_are_both_reasons() -> None:
    assert len(judge(scores(s1=0.5, s2=0.8), scores(s1=0.9, s2=0.9), floor=0.85).reasons) == 3


def test_challenger_without_scores_is_refused() -> None:
    for champion in ({}, scores(s1=0.5)):
        verdict = judge({}, champion, floor=0.0)
        assert verdict == Verdict(False, ("there is no test image to judge the challenger by",), {}, champion)


def test_nan_accuracy_never_passes() -> None:
    assert not judge(scores(s1=math.nan), {}, floor=0.0).blessed
    assert not judge(scores(s1=0.9), scores(s1=math.nan), floor=0.0).blessed


def test_champion_without_a_score_on_the_newest_span_is_an_error() -> None:
    verdict = judge(scores(s1=0.95, s2=0.95), scores(s1=0.9), floor=0.9)
    assert not verdict.blessed
    assert verdict.reasons == ("the champion has no score on the newest span, span-2, to compare with",)


def test_verdict_is_unchanged_by_encoding_and_decoding() -> None:
    verdict = judge(scores(s1=0.5, s10=0.8), scores(s10=0.9), floor=0.85)
    assert codec.decode(codec.encode(verdict), Verdict, "verdict.json") == verdict


def test_comparison_is_unchanged_by_json() -> None:
    parts = {
        Part(): Score(0.9, 10, {"top_3": 0.99}),
        Part(span=10): Score(0.8, 4),
        Part(label=0): Score(1.0, 3),
        Part(2, 0): Score(0.5, 2),
    }
    comparison = Comparison(parts, {Part(label=0): Score(0.25, 3)})
    assert Comparison.from_json(comparison.to_json(), "comparison.json") == comparison


BLESSED = judge({1: Score(0.97, 100)}, {}, floor=0.9)
REFUSED = judge({1: Score(0.5, 100)}, {}, floor=0.9)


def test_deployed_version_has_the_gates_reason() -> None:
    deployment = Deployment(3, BLESSED)
    assert deployment.deployed
    assert deployment.reason.startswith("version 3 is the champion: every span is at or above 0.9000")


def test_refused_challenger_has_the_gates_reason() -> None:
    deployment = Deployment(0, REFUSED)
    assert not deployment.deployed
    assert deployment.reason == (
        "the challenger was refused: on span-1 the challenger reaches 0.5000, below the floor of 0.9000"
    )


def test_deployment_is_unchanged_by_encoding_and_decoding() -> None:
    for deployment in (Deployment(3, BLESSED), Deployment(0, REFUSED)):
        assert codec.decode(codec.encode(deployment), Deployment, "deployment.json") == deployment
