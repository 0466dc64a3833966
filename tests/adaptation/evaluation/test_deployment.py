"""A deployment says how a training run ended, in a sentence."""

from __future__ import annotations

from adaptation.evaluation.deployment import Deployment
from adaptation.evaluation.gate import Score, judge

BLESSED = judge({1: Score(0.97, 100)}, {}, floor=0.9)
REFUSED = judge({1: Score(0.5, 100)}, {}, floor=0.9)


def test_a_version_in_service_is_told_with_the_gates_reason() -> None:
    deployment = Deployment(3, BLESSED)
    assert deployment.deployed
    assert deployment.reason.startswith("version 3 is the champion: every span is at or above 0.9000")


def test_a_refused_challenger_is_told_with_the_gates_reason() -> None:
    deployment = Deployment(0, REFUSED)
    assert not deployment.deployed
    assert deployment.reason == (
        "the challenger was refused: on span-1 the challenger reaches 0.5000, below the floor of 0.9000"
    )


def test_a_deployment_survives_being_written() -> None:
    for deployment in (Deployment(3, BLESSED), Deployment(0, REFUSED)):
        assert Deployment.from_json(deployment.to_json()) == deployment
