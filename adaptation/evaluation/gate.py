"""The gate: is the challenger better? Deploy, refuse, or undecided until more labelled images have come.

A training run compares both models on the test images of its spans, `Comparison`, and ends in a `Deployment`. Four
rules on the counts of `paired` decide: better on the newest span, not worse on the older ones, no class lost, no span
below the floor. `judge` is a pure function of counts: the same comparisons give the same verdict, after a crash or a
repeat.

The error budget, in all and over any number of looks: a challenger that is not better on the newest span is deployed
with a probability of at most 5 %; one that has lost no class is refused for a class with at most 5 %, one that is below
the floor nowhere is refused for the floor with at most 5 %. Each is a union bound over exact tests or e-processes; see
`Budget`. Rule 2 alone rests on a large-sample method. Assumptions: those of `paired`; and neither model has trained on
the images, of which the further ones are a fair sample, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from adaptation import codec
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.paired import Pairs, log_bet, mcnemar, tango_lower_bound, total, upper_bound

LEVEL = 0.05
MARGIN = 0.02
FURTHER = 1000
POOLED = 600

Tests = Mapping[tuple[int, str], Pairs]
Further = Mapping[str, Pairs]


class Outcome(StrEnum):
    """What a rule or a verdict says. UNDECIDED: the challenger stays a candidate until more images are labelled."""

    DEPLOY = "deploy"
    REFUSE = "refuse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Rule:
    """What one rule says.

    Attributes:
      name: The rule.
      outcome: What follows from it alone.
      figures: What that rests on, as a sentence.
    """

    name: str
    outcome: Outcome
    figures: str


@dataclass(frozen=True)
class Verdict:
    """What follows from all rules.

    Attributes:
      outcome: Refuse if a rule refuses; else undecided if a rule is; else deploy.
      reason: The figures of the rules that decided it, as a sentence.
      rules: All rules that apply.
    """

    outcome: Outcome
    reason: str
    rules: tuple[Rule, ...]

    @classmethod
    def from_json(cls, data: bytes, source: str) -> Verdict:
        """Return the verdict in a file's content; one of 0.1.0 gave reasons and no rules.

        Raises:
          UnreadableState: It is neither; the message names the `source`.
        """
        try:
            return codec.decode(data, cls, source)
        except codec.UnreadableState:
            before = codec.decode(data, _VerdictOf010, source)
            return cls(Outcome.DEPLOY if before.blessed else Outcome.REFUSE, "; ".join(before.reasons), ())


@dataclass(frozen=True)
class _VerdictOf010:
    blessed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Counted:
    """Both models on the test images of one class in one span."""

    span: int
    label: str
    pairs: Pairs


@dataclass(frozen=True)
class Comparison:
    """Challenger and champion on the same test images, and what the challenger must reach: all that a verdict rests on.

    Attributes:
      champion: Number of the champion's version; 0 if there was none, and the counts say that it was wrong everywhere.
      counts: The counts of every span of the window and every class that occurs there, in this order.
      floor: The least accuracy on every span, 0 to 1.
      margin: How much worse the challenger may be on the older spans, 0 to 1.
    """

    champion: int
    counts: tuple[Counted, ...]
    floor: float = 0.0
    margin: float = MARGIN

    @classmethod
    def of(cls, champion: int, tests: Tests) -> Comparison:
        """Return the comparison with these counts."""
        return cls(champion, tuple(Counted(*key, pairs) for key, pairs in sorted(tests.items())))

    @property
    def tests(self) -> Tests:
        """The counts by number of span and name of class."""
        return {(one.span, one.label): one.pairs for one in self.counts}

    @property
    def by_span(self) -> Mapping[int, Pairs]:
        """The counts of each span."""
        return {span: _of_span(self.tests, span) for span in sorted({one.span for one in self.counts})}

    @property
    def by_label(self) -> Mapping[str, Pairs]:
        """The counts of each class."""
        return {label: _of_class(self.tests, label) for label in sorted({one.label for one in self.counts})}

    @property
    def recalls(self) -> Mapping[str, Recall]:
        """What the challenger predicted correctly on the test images, by class."""
        return {label: Recall(pairs.images, pairs.challenger) for label, pairs in self.by_label.items()}

    def judge(self, further: Sequence[Further] = ()) -> Verdict:
        """Return the verdict, see `judge`.

        Args:
          further: The counts on labelled images that came since, by name of class: one mapping for each look.
        """
        has_champion = self.champion > 0
        return judge(self.tests, further, has_champion=has_champion, floor=self.floor, margin=self.margin)


@dataclass(frozen=True)
class Deployment:
    """The end of a training run.

    Attributes:
      version: Number of the challenger's version.
      standing: What it is now: "champion", or the value of an `adaptation.platforms.base.Standing`.
      why: Why, in a sentence.
      verdict: The gate's.
      comparison: What that rests on.
    """

    version: int
    standing: str
    why: str
    verdict: Verdict
    comparison: Comparison

    @property
    def deployed(self) -> bool:
        """Whether it is the champion now."""
        return self.standing == "champion"

    @property
    def reason(self) -> str:
        """What happened and why, in a sentence."""
        verb = {"champion": "is the", "candidate": "is a", "waiting for approval": "is"}.get(self.standing, "was")
        return f"version {self.version} {verb} {self.standing}: {self.why}"


@dataclass(frozen=True)
class Budget:
    """How an error probability is divided among the looks at a growing number of images.

    Whatever the division, the probability that `proves` is ever true without a true difference is at most the sum of
    the parts (union bound): the first look is one exact McNemar test, the looks in between are an e-process that may be
    looked at at any time, and the last look, at a number of images that is fixed beforehand, is one exact test again.
    The e-process alone would do, but misses four of ten differences that the tests at both ends find.

    Attributes:
      first: Level of the exact test at the first look.
      ever: Level of the bet over all looks.
      last: Level of the exact test at the first look that has `FURTHER` images more than the first; 0 for none.
    """

    first: float
    ever: float
    last: float

    def proves(self, looks: Sequence[Pairs], parts: int = 1) -> bool:
        """Check whether the challenger has been shown to be better.

        Args:
          looks: The images that came with each look; those of the first, and what each later one added.
          parts: Number of questions that share the budget.
        """
        added = np.array([(one.champion_only, one.challenger_only, one.images) for one in looks])
        champion_only, challenger_only, images = added.cumsum(axis=0).T
        if np.any(log_bet(champion_only, challenger_only) >= math.log(parts / self.ever)):
            return True
        exact = {0: self.first}
        if self.last and (complete := np.flatnonzero(images - images[0] >= FURTHER)).size:
            exact[int(complete[0])] = self.last
        return any(mcnemar(champion_only[at], challenger_only[at]) <= level / parts for at, level in exact.items())


BETTER = Budget(first=0.01, ever=0.02, last=0.02)
WORSE_CLASS = Budget(first=0.04, ever=0.01, last=0.0)


def judge(
    tests: Tests, further: Sequence[Further] = (), *, has_champion: bool, floor: float, margin: float = MARGIN
) -> Verdict:
    """Decide on a challenger, from all comparisons that were recorded of it and the champion.

    Undecided is the newest span alone: each further labelled image counts for it and for the classes, up to 1,000; a
    challenger that is not shown to be better by then is dropped. The older spans and the floor are judged on the test
    splits, which do not grow.

    Args:
      tests: The counts on the test splits, by number of span and name of class: every span of the window.
      further: The counts on labelled images that came since and that neither model has seen, by name of class: one
        mapping for each comparison, with what that one added.
      has_champion: Whether there is a champion; if not, the counts say that it was wrong everywhere.
      floor: The least accuracy on every span, 0 to 1.
      margin: How much worse the challenger may be on the older spans, 0 to 1.

    Returns:
      The verdict. Without any test image of the newest span it is to refuse.
    """
    if not total(tests.values()).images:
        figures = "there is no test image to judge the challenger by. Give its spans a test split."
        return _verdict([Rule("newest span", Outcome.REFUSE, figures)])
    rules = [_classes(tests, further), _floor(tests, floor, has_champion)]
    return _verdict([_newest(tests, further), *_older(tests, margin), *rules] if has_champion else rules)


def _verdict(rules: Sequence[Rule]) -> Verdict:
    said = {rule.outcome for rule in rules}
    outcome = next(one for one in (Outcome.REFUSE, Outcome.UNDECIDED, Outcome.DEPLOY) if one in said)
    return Verdict(outcome, "; ".join(rule.figures for rule in rules if rule.outcome is outcome), tuple(rules))


def _newest(tests: Tests, further: Sequence[Further]) -> Rule:
    newest = max(span for span, _ in tests)
    looks = [_of_span(tests, newest), *(total(look.values()) for look in further)]
    more = total(looks[1:]).images
    where = f"span-{newest}" + (f" and {more} further labelled images" if more else "")
    if BETTER.proves(looks):
        outcome, said = Outcome.DEPLOY, "the challenger is better"
    elif BETTER.proves([look.swapped for look in looks]):
        outcome, said = Outcome.REFUSE, "the challenger is worse"
    elif more >= FURTHER:
        outcome, said = Outcome.REFUSE, "the challenger is still not shown to be better, and is dropped"
    else:
        outcome = Outcome.UNDECIDED
        said = f"up to {FURTHER - more} further labelled images decide (evidence {_progress(looks)} % of what it takes)"
    return Rule("newest span", outcome, f"{said}: on {where}, {_compared(total(looks))}")


def _progress(looks: Sequence[Pairs]) -> int:
    pairs = total(looks)
    share = float(log_bet(pairs.champion_only, pairs.challenger_only)) / -math.log(BETTER.ever)
    return round(100 * min(0.99, max(0.0, share)))


def _older(tests: Tests, margin: float) -> list[Rule]:
    """Return the rule, if there are older spans.

    Below `POOLED` images too few equal challengers can be shown to be no worse: the plain difference decides.
    """
    newest = max(span for span, _ in tests)
    older = total(pairs for (span, _), pairs in tests.items() if span < newest)
    if not older.images:
        return []
    shown = tango_lower_bound(older, LEVEL) > -margin
    passed = shown or (older.images < POOLED and older.difference >= -margin)
    how = "is shown not to be" if shown else "is not plainly" if passed else "is not shown not to be"
    few = "" if shown or older.images >= POOLED else f" (fewer than {POOLED} images: the plain difference decides)"
    figures = f"on the older spans the challenger {how} worse by more than {margin:g}{few}: {_compared(older)}"
    return [Rule("older spans", _passed(passed), figures)]


def _classes(tests: Tests, further: Sequence[Further]) -> Rule:
    names = sorted({label for _, label in tests}.union(*further))
    looks = {name: [_of_class(tests, name), *(look.get(name, Pairs()) for look in further)] for name in names}
    worse = [
        f"{name}: {_compared(total(looks[name]))}"
        for name in names
        if WORSE_CLASS.proves([look.swapped for look in looks[name]], len(names))
    ]
    figures = f"the challenger is worse on {len(worse) or 'none'} of {len(names)} classes"
    return Rule("classes", _passed(not worse), figures + "".join(f"; {one}" for one in worse))


def _floor(tests: Tests, floor: float, has_champion: bool) -> Rule:
    """Return the rule: each span has a share of the level by its images, so that it goes where it can show most."""
    spans = sorted({span for span, _ in tests})
    counts = {span: _of_span(tests, span) for span in spans}
    levels = {span: LEVEL * counts[span].images / total(tests.values()).images for span in spans}
    bounds = {span: upper_bound(counts[span].challenger, counts[span].images, levels[span]) for span in spans}
    below = [
        f"on span-{span} {counts[span].challenger} of {counts[span].images} are right, at most {bounds[span]:.4f}"
        for span in spans
        if bounds[span] < floor and not (has_champion and counts[span].champion < floor * counts[span].images)
    ]
    figures = f"the challenger is below the floor of {floor:g} on {len(below) or 'none'} of {len(spans)} spans"
    return Rule("floor", _passed(not below), figures + "".join(f"; {one}" for one in below))


def _passed(passed: bool) -> Outcome:
    return Outcome.DEPLOY if passed else Outcome.REFUSE


def _of_span(tests: Tests, wanted: int) -> Pairs:
    return total(pairs for (span, _), pairs in tests.items() if span == wanted)


def _of_class(tests: Tests, wanted: str) -> Pairs:
    return total(pairs for (_, label), pairs in tests.items() if label == wanted)


def _compared(pairs: Pairs) -> str:
    return (
        f"of {pairs.images} images {pairs.challenger_only} are right only with the challenger, {pairs.champion_only} "
        f"only with the champion; difference {pairs.difference:+.4f}, at least {tango_lower_bound(pairs, LEVEL):+.4f} "
        "(95 %, one look)"
    )
