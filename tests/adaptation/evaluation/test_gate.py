"""The four rules, one by one, and what they amount to; error rates are in `test_gate_simulated`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adaptation import codec
from adaptation.evaluation.gate import (
    BETTER,
    Budget,
    Comparison,
    Deployment,
    Further,
    Outcome,
    Rule,
    Tests,
    Verdict,
    judge,
)
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.paired import Pairs

EQUAL = Pairs(both=180, champion_only=4, challenger_only=4, neither=12)
AHEAD = Pairs(both=60, champion_only=2, challenger_only=30, neither=8)
CLOSE = Pairs(both=80, champion_only=4, challenger_only=9, neither=7)


def decide(tests: Tests, further: list[Further] | None = None, floor: float = 0.5, champion: bool = True) -> Verdict:
    """The verdict."""
    return judge(tests, further or [], has_champion=champion, floor=floor)


def outcomes(verdict: Verdict) -> dict[str, Outcome]:
    """What each rule says."""
    return {rule.name: rule.outcome for rule in verdict.rules}


def test_challenger_that_is_better_and_nowhere_worse_is_deployed() -> None:
    verdict = decide({(1, "cat"): EQUAL, (2, "cat"): AHEAD})
    assert verdict.outcome is Outcome.DEPLOY
    assert outcomes(verdict) == dict.fromkeys(("newest span", "older spans", "classes", "floor"), Outcome.DEPLOY)
    assert verdict.reason.startswith(
        "the challenger is better: on span-2, of 100 images 30 are right only with the challenger, 2 only with the "
        "champion; difference +0.2800, at least +0.2013 (95 %, one look)"
    )


def test_challenger_that_may_be_better_stays_a_candidate() -> None:
    verdict = decide({(1, "cat"): CLOSE})
    assert verdict.outcome is Outcome.UNDECIDED
    assert "up to 1000 further labelled images decide" in verdict.reason


def test_further_images_decide() -> None:
    further = [{"cat": Pairs(80, 2, 12, 6)}, {"cat": Pairs(80, 2, 14, 4)}]
    assert decide({(1, "cat"): CLOSE}, further[:1]).outcome is Outcome.UNDECIDED
    assert decide({(1, "cat"): CLOSE}, further).outcome is Outcome.DEPLOY


def test_decision_stands_whatever_comes_after() -> None:
    worse_now = {"cat": Pairs(80, 12, 4, 4)}
    assert outcomes(decide({(1, "cat"): AHEAD}, [worse_now]))["newest span"] is Outcome.DEPLOY


def test_candidate_is_dropped_after_1000_further_images() -> None:
    same = {"cat": Pairs(80, 6, 7, 7)}
    almost = decide({(1, "cat"): CLOSE}, [same] * 9)
    assert almost.outcome is Outcome.UNDECIDED
    assert "up to 100 further" in almost.reason
    verdict = decide({(1, "cat"): CLOSE}, [same] * 10)
    assert verdict.outcome is Outcome.REFUSE
    assert "still not shown to be better, and is dropped" in verdict.reason


def test_last_look_is_an_exact_test_of_its_own() -> None:
    further = [{"cat": Pairs(80, 8, 12, 0)}] * 10
    assert decide({(1, "cat"): CLOSE}, further[:9]).outcome is Outcome.UNDECIDED
    assert decide({(1, "cat"): CLOSE}, further).outcome is Outcome.DEPLOY


def test_challenger_that_is_worse_is_refused_at_once() -> None:
    verdict = decide({(1, "cat"): AHEAD.swapped})
    assert verdict.outcome is Outcome.REFUSE
    assert "the challenger is worse: on span-1" in verdict.reason


def test_newest_span_is_the_one_with_the_highest_number() -> None:
    assert decide({(9, "cat"): EQUAL, (10, "cat"): AHEAD}).outcome is Outcome.DEPLOY
    assert decide({(9, "cat"): AHEAD, (10, "cat"): EQUAL}).outcome is Outcome.UNDECIDED


def test_worse_on_older_spans_is_refused() -> None:
    verdict = decide({(1, "cat"): Pairs(160, 20, 4, 16), (2, "cat"): AHEAD})
    assert verdict.outcome is Outcome.REFUSE
    assert verdict.reason.startswith("on the older spans the challenger is not shown not to be worse by more than 0.02")


@pytest.mark.parametrize(("factor", "outcome"), [(2, Outcome.DEPLOY), (3, Outcome.REFUSE)])
def test_plain_difference_decides_below_600_older_images(factor: int, outcome: Outcome) -> None:
    older = Pairs(180 * factor, 8 * factor, 4 * factor, 8 * factor)
    verdict = decide({(1, "cat"): older, (2, "cat"): AHEAD})
    assert outcomes(verdict)["older spans"] is outcome
    assert ("the plain difference decides" in verdict.rules[1].figures) is (factor == 2)


def test_margin_is_how_much_worse_it_may_be() -> None:
    tests = {(1, "cat"): Pairs(900, 40, 10, 50), (2, "cat"): AHEAD}
    assert judge(tests, has_champion=True, floor=0.5, margin=0.02).outcome is Outcome.REFUSE
    assert judge(tests, has_champion=True, floor=0.5, margin=0.05).outcome is Outcome.DEPLOY


def test_lost_class_is_refused_and_named() -> None:
    lost = Pairs(both=0, champion_only=15, challenger_only=0, neither=2)
    verdict = decide({(1, "cat"): EQUAL, (2, "cat"): AHEAD, (2, "dog"): lost, (2, "ship"): AHEAD})
    assert verdict.outcome is Outcome.REFUSE
    assert "worse on 1 of 3 classes; dog: of 17 images 0 are right only with the challenger, 15" in verdict.reason


def test_class_lost_on_further_images_is_refused() -> None:
    lost = {"dog": Pairs(both=0, champion_only=25, neither=2)}
    tests = {(1, "cat"): AHEAD, (1, "dog"): Pairs(1)}
    assert decide(tests).outcome is Outcome.DEPLOY
    assert outcomes(decide(tests, [lost]))["classes"] is Outcome.REFUSE


def test_new_class_has_no_champion_to_lose_to() -> None:
    assert decide({(1, "cat"): AHEAD, (1, "new"): Pairs(challenger_only=3, neither=20)}).outcome is not Outcome.REFUSE


def test_floor_refuses_only_what_is_surely_below_it() -> None:
    good = {(1, "cat"): AHEAD}
    assert decide(good, floor=0.93, champion=False).outcome is Outcome.DEPLOY
    verdict = decide(good, floor=0.97, champion=False)
    assert verdict.outcome is Outcome.REFUSE
    assert verdict.reason == (
        "the challenger is below the floor of 0.97 on 1 of 1 spans; on span-1 90 of 100 are right, at most 0.9447"
    )


def test_floor_levels_are_shared_by_the_spans_images() -> None:
    small = {(span, "cat"): Pairs(challenger_only=20) for span in range(2, 13)}
    large = {(1, "cat"): Pairs(challenger_only=135, neither=65)}
    assert decide(large | small, floor=0.75, champion=False).outcome is Outcome.REFUSE
    equal = {(span, "cat"): Pairs(challenger_only=200) for span in range(2, 13)}
    assert decide(large | equal, floor=0.75, champion=False).outcome is Outcome.DEPLOY


def test_floor_does_not_favour_a_champion_that_is_below_it_too() -> None:
    assert decide({(1, "cat"): AHEAD}, floor=0.97).outcome is Outcome.DEPLOY


def test_without_a_champion_the_floor_is_what_matters() -> None:
    first = {(1, "cat"): Pairs(challenger_only=95, neither=5)}
    verdict = decide(first, floor=0.9, champion=False)
    assert verdict.outcome is Outcome.DEPLOY
    assert set(outcomes(verdict)) == {"classes", "floor"}


def test_without_test_images_it_is_refused() -> None:
    assert decide({}).outcome is Outcome.REFUSE
    assert decide({(1, "cat"): Pairs()}).outcome is Outcome.REFUSE


def test_same_comparisons_give_the_same_verdict() -> None:
    further = [{"cat": CLOSE}, {"cat": EQUAL}]
    assert decide({(1, "cat"): CLOSE}, further) == decide({(1, "cat"): CLOSE}, list(further))


def test_budget_of_a_better_challenger_is_5_percent_in_all() -> None:
    assert BETTER.first + BETTER.ever + BETTER.last == pytest.approx(0.05)
    assert not Budget(0.01, 0.01, 0.0).proves([Pairs()])


def test_questions_that_share_a_budget_each_get_their_part() -> None:
    ever, exact = Budget(0.0, 0.02, 0.0), Budget(0.01, 1e-9, 0.0)
    seven, eight = [Pairs(challenger_only=7)], [Pairs(challenger_only=8)]
    assert exact.proves(seven) and not exact.proves(seven, 2) and exact.proves(eight, 2)
    few, many = [Pairs(challenger_only=9)], [Pairs(challenger_only=30)]
    assert ever.proves(few) and not ever.proves(few, 100) and ever.proves(many, 100)


def test_comparison_counts_by_span_and_by_class() -> None:
    comparison = Comparison.of(3, {(2, "dog"): AHEAD, (1, "cat"): EQUAL, (2, "cat"): CLOSE})
    assert comparison.by_span == {1: EQUAL, 2: AHEAD + CLOSE}
    assert comparison.by_label == {"cat": EQUAL + CLOSE, "dog": AHEAD}
    assert comparison.recalls == {"cat": Recall(300, 273), "dog": Recall(100, 90)}


def test_comparison_judges_by_its_own_floor_and_margin() -> None:
    tests = {(1, "cat"): Pairs(900, 40, 10, 50), (2, "cat"): AHEAD}
    kept = replace(Comparison.of(1, tests), margin=0.05)
    assert kept.judge().outcome is Outcome.DEPLOY
    assert replace(kept, margin=0.02).judge().outcome is Outcome.REFUSE
    assert replace(kept, champion=0, floor=0.99).judge().outcome is Outcome.REFUSE


def test_comparison_that_was_kept_decides_with_further_images() -> None:
    kept = codec.decode(codec.encode(Comparison.of(1, {(1, "cat"): CLOSE})), Comparison, "pairs.json")
    assert kept.judge().outcome is Outcome.UNDECIDED
    assert kept.judge([{"cat": Pairs(80, 2, 12, 6)}, {"cat": Pairs(80, 2, 14, 4)}]).outcome is Outcome.DEPLOY


def test_verdict_is_read_as_it_was_written() -> None:
    verdict = decide({(1, "cat"): EQUAL, (2, "cat"): AHEAD})
    assert Verdict.from_json(codec.encode(verdict), "verdict.json") == verdict
    with pytest.raises(codec.UnreadableState, match=r"verdict\.json"):
        Verdict.from_json(b"{}", "verdict.json")


@pytest.mark.parametrize(
    ("outcome", "standing", "said"),
    [
        (Outcome.DEPLOY, "champion", "version 3 is the champion: it is so"),
        (Outcome.DEPLOY, "waiting for approval", "version 3 is waiting for approval: it is so"),
        (Outcome.DEPLOY, "dropped", "version 3 was dropped: it is so"),
        (Outcome.REFUSE, "refused", "version 3 was refused: it is so"),
        (Outcome.UNDECIDED, "candidate", "version 3 is a candidate: it is so"),
    ],
)
def test_deployment_says_what_became_of_the_version(outcome: Outcome, standing: str, said: str) -> None:
    verdict = Verdict(outcome, "it is better", (Rule("floor", outcome, "it is better"),))
    deployment = Deployment(3, standing, "it is so", verdict, Comparison.of(1, {(1, "cat"): CLOSE}))
    assert (deployment.reason, deployment.deployed) == (said, standing == "champion")
    assert codec.decode(codec.encode(deployment), Deployment, "deployment.json") == deployment
