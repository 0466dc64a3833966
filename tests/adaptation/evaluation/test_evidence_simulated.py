"""The evidence's and the mix's error rates, simulated: the whole 95 % interval of each is within its reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adaptation.evaluation.evidence import HORIZON
from adaptation.evaluation.mix import Cause
from benchmarks import simulations as sim
from benchmarks.judgement import EVIDENCE, MIX, Estimate, Row
from benchmarks.simulations import Months

QUICK = [row for row in EVIDENCE if "3,000" not in row.name or "+0 points, a = 0.2" in row.name]


@pytest.mark.parametrize("row", QUICK, ids=[row.name for row in QUICK])
def test_simulated_rate_meets_its_bound(row: Row) -> None:
    estimate = row.ours(row.streams)
    assert row.holds(estimate), estimate


@pytest.mark.parametrize("false_alarms", [0.05, 0.2, 0.5])
def test_bound_of_36_over_a_holds_for_a_model_exactly_at_the_threshold(false_alarms: float) -> None:
    estimate = Estimate.rate(sim.retrained(Months(300, 0.9, false_alarms=false_alarms), 1000))
    assert estimate.high <= 100 * false_alarms


def test_model_one_point_below_the_threshold_exceeds_the_bound() -> None:
    """This shows that the test above can fail: beyond the boundary, alarms are true ones and occur."""
    estimate = Estimate.rate(sim.retrained(Months(1000, 0.89), 300))
    assert estimate.low > 20


def test_any_size_of_block_keeps_the_guarantee() -> None:
    months = Months(1000, 0.9)
    generator, limit = np.random.default_rng(7), math.log(HORIZON / months.false_alarms)
    detector, alarmed = sim.Detector.start(0.9, (1000,)), np.zeros(1000, bool)
    for _ in range(HORIZON):
        detector = detector.begin_batch()
        for _ in range(10):
            sizes = generator.integers(0, 200, 1000)
            detector = detector.add(sizes, generator.binomial(sizes, 0.9))
            alarmed |= detector.log_evidence >= limit
    assert Estimate.rate(alarmed).high <= 20


def test_looking_only_after_the_first_wrong_images_keeps_the_guarantee() -> None:
    """Blocks end just after a wrong image: the choice of when to look has no effect."""
    generator, limit = np.random.default_rng(8), math.log(HORIZON / 0.2)
    detector, alarmed = sim.Detector.start(0.9, (1000,)), np.zeros(1000, bool)
    for _ in range(HORIZON):
        detector = detector.begin_batch()
        for _ in range(30):
            sizes = generator.geometric(0.1, 1000)
            detector = detector.add(sizes, sizes - 1)
            alarmed |= detector.log_evidence >= limit
    assert Estimate.rate(alarmed).high <= 20


def test_classes_that_differ_and_arrive_one_by_one_break_the_bound() -> None:
    """The caveat of the documentation: recalls of 0.80 to 0.98, one class per look."""
    estimate = Estimate.rate(sim.retrained(Months(1000, 0.93), 500, sim.class_by_class(sim.UNLIKE)))
    assert estimate.low > 50


def test_loss_of_10_points_in_all_classes_is_seldom_taken_for_a_mix() -> None:
    causes = sim.causes(300, MIX, (0.1,) * 10, 300)
    assert Estimate.rate([cause is Cause.MIX for cause in causes]).high <= 10
