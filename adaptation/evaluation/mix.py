"""Mix or skill: has the accuracy fallen because the classes come in other numbers, or because the model does worse?

A month's accuracy is the sum of w_c r_c over the classes, with w_c the class's share of the month and r_c its recall.
What the champion's own recalls (on its test splits) give with the month's shares is the expected accuracy: the fall to
it is the mix's, the rest the skill's (label shift against everything else; Lipton et al. 2018). Whether the skill has
fallen is tested on the counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

LEVEL = 0.05


class Cause(StrEnum):
    """What has changed. MIX: the mix of classes and not the skill. SKILL: the skill, perhaps besides the mix."""

    NONE = "none"
    MIX = "mix"
    SKILL = "skill"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Recall:
    """Images of a class, and how many of them were predicted as such."""

    images: int = 0
    correct: int = 0


@dataclass(frozen=True)
class Shift:
    """A fall of the accuracy, split; accuracies and parts of the fall in 0 to 1, a part below 0 being a rise.

    Attributes:
      own: The champion's accuracy on its test splits.
      expected: What its recalls there give with the month's mix.
      measured: The month's accuracy.
      fallen: The classes whose recall is significantly below their own.
      cause: What has changed.
      reason: The same as a sentence, with the figures.
    """

    own: float
    expected: float
    measured: float
    fallen: tuple[str, ...]
    cause: Cause
    reason: str

    @property
    def mix(self) -> float:
        """The part of the fall that the mix of classes explains."""
        return self.own - self.expected

    @property
    def skill(self) -> float:
        """The part that it does not: the recalls have changed."""
        return self.expected - self.measured


def split(own: Mapping[str, Recall], month: Mapping[str, Recall]) -> Shift:
    """Split the fall of a month's accuracy below the champion's own into the mix's part and the skill's.

    The cause is MIX only if the mix explains at least half of the fall, no class is significantly below its own recall
    (Fisher's exact test, one-sided, at 2.5 % divided by the classes) and neither are all classes together
    (Cochran-Mantel-Haenszel, one-sided, at 2.5 %). With recalls unchanged a mix is thus taken for a loss of skill in at
    most 5 % of months (union bound; the second test is a large-sample one). The other error is not bounded: a small
    loss of skill in a month of few images goes unseen, so that a mix is an explanation and no proof.

    A class without images in the test splits has no recall of its own; the champion's accuracy stands for it.

    Args:
      own: The champion's counts on its test splits, by class; at least one image.
      month: The counts of the month's labelled images, by class; at least one image.
    """
    own_images, month_images = (sum(one.images for one in counts.values()) for counts in (own, month))
    accuracy = sum(one.correct for one in own.values()) / own_images
    measured = sum(one.correct for one in month.values()) / month_images
    whole = Recall(own_images, sum(one.correct for one in own.values()))
    pairs = {name: (_of(own, name, whole), counts) for name, counts in sorted(month.items()) if counts.images}
    expected = sum(counts.images * mine.correct / mine.images for mine, counts in pairs.values()) / month_images
    fallen = tuple(name for name, pair in pairs.items() if _fisher(*pair) <= LEVEL / 2 / len(pairs))
    together = _mantel_haenszel(list(pairs.values())) > NormalDist().inv_cdf(1 - LEVEL / 2)
    cause = _cause(accuracy - measured, accuracy - expected, bool(fallen) or together)
    return Shift(accuracy, expected, measured, fallen, cause, _reason(accuracy, expected, measured, fallen, cause))


def _of(own: Mapping[str, Recall], name: str, whole: Recall) -> Recall:
    found = own.get(name, Recall())
    return found if found.images else whole


def _cause(fall: float, mix: float, skill_has_fallen: bool) -> Cause:
    if skill_has_fallen:
        return Cause.SKILL
    if fall <= 0:
        return Cause.NONE
    return Cause.MIX if mix >= fall / 2 else Cause.UNCLEAR


def _fisher(own: Recall, month: Recall) -> float:
    """Return the one-sided p value of "the month's recall is below its own": exact, given all counts' sums."""
    from scipy.stats import hypergeom

    images, correct = own.images + month.images, own.correct + month.correct
    return float(hypergeom.cdf(month.correct, images, correct, month.images))


def _mantel_haenszel(pairs: Sequence[tuple[Recall, Recall]]) -> float:
    """Return the standard normal statistic of "the recalls are below their own", over all classes."""
    missing = variance = 0.0
    for own, month in pairs:
        images, correct = own.images + month.images, own.correct + month.correct
        missing += month.images * correct / images - month.correct
        variance += correct * (images - correct) * own.images * month.images / (images**2 * (images - 1))
    return missing / math.sqrt(variance) if variance else 0.0


def _reason(own: float, expected: float, measured: float, fallen: Sequence[str], cause: Cause) -> str:
    figures = (
        f"accuracy {measured:.4f}, on the test splits {own:.4f}, and {expected:.4f} with its recalls there and this "
        f"mix of classes: {own - expected:+.4f} of the fall is the mix, {expected - measured:+.4f} the skill"
    )
    said = {
        Cause.NONE: "the accuracy has not fallen",
        Cause.MIX: "the mix of classes has changed, not the model's skill",
        Cause.SKILL: f"the model's skill has fallen ({', '.join(fallen) or 'over all classes together'})",
        Cause.UNCLEAR: "neither the mix of classes nor a loss of skill explains the fall yet",
    }
    return f"{said[cause]}: {figures}"
