"""Look: does a batch seem different from the champion's test images, before anybody has labelled anything?

Two tests on what the champion predicts: W1, is it less confident; W2, does it predict the classes in other numbers.
A look warns and asks for labels. It decides nothing and proves nothing: what the images show can change its meaning
unseen, and harmless changes are seen, too. How often it is right is measured in `benchmarks/look.py`; records of looks
are kept by `look_records`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from adaptation.evaluation.look_records import Look, Outcome, unknown
from adaptation.evaluation.mix import Recall

LEVEL = 0.01
MIN_IMAGES = 30
REVIEW = 50
BINS = 1000
PARTS = 10_000
_SHOWN_BINS = 20
_LEAST_EXPECTED = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """What a model predicts for some images, summed up without their true labels.

    Attributes:
      predicted: Number of images by predicted class.
      confidences: How many images have a confidence in each of `BINS` equal parts of 0 to 1; images of a model that
        gives no confidence are in none.
      probabilities: Sum of the images' probabilities by output of the model, in parts of `PARTS`: whole numbers, so
        that a sum does not depend on the order. Empty if the model gives none.
    """

    predicted: Mapping[str, int] = field(default_factory=dict)
    confidences: tuple[int, ...] = (0,) * BINS
    probabilities: tuple[int, ...] = ()

    @classmethod
    def of(cls, predicted: Mapping[str, int], confidences: npt.ArrayLike, probabilities: npt.ArrayLike = ()) -> Profile:
        """Return the profile of some images.

        Args:
          predicted: Number of images by predicted class.
          confidences: float64 [images], 0 to 1; NaN for no confidence.
          probabilities: float64 [images, classes], finite; empty if the model gives none.
        """
        given = np.asarray(confidences, float)
        places = np.clip(given[np.isfinite(given)] * BINS, 0, BINS - 1).astype(int)
        parts = np.rint(np.asarray(probabilities, float) * PARTS).astype(int)
        return cls(
            dict(sorted(predicted.items())),
            tuple(np.bincount(places, minlength=BINS).tolist()),
            tuple(parts.sum(axis=0).tolist()) if parts.size else (),
        )

    @classmethod
    def sum(cls, parts: Iterable[Profile]) -> Profile:
        """Return the profile of all parts' images; the parts' order does not matter.

        Probabilities of other numbers of classes are of several models: they have no sum.
        """
        every = [cls(), *parts]
        predicted: Counter[str] = Counter()
        for part in every:
            predicted.update(part.predicted)
        return cls(
            dict(sorted(predicted.items())),
            tuple(np.sum([part.confidences for part in every], axis=0, dtype=int).tolist()),
            _sum([part.probabilities for part in every if part.probabilities]),
        )

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.predicted.values())

    @property
    def rated(self) -> int:
        """Number of images with a confidence."""
        return sum(self.confidences)

    @property
    def mean(self) -> float:
        """Mean confidence, exact to half a part; there must be one."""
        return float(np.average(_MIDDLES, weights=self.confidences))

    @property
    def variance(self) -> float:
        """Variance of the confidence; never 0, because a part has a width."""
        return float(np.average((_MIDDLES - self.mean) ** 2, weights=self.confidences)) + 1 / (12 * BINS**2)


def _sum(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*rows, strict=True))) if len(set(map(len, rows))) == 1 else ()


_MIDDLES: Floats = (np.arange(BINS) + 0.5) / BINS


@dataclass(frozen=True)
class Reference:
    """What a version predicts on the test images of its spans, and how much of it is right.

    Attributes:
      profile: The predictions.
      recalls: The counts by true class.
    """

    profile: Profile
    recalls: Mapping[str, Recall]

    @property
    def accuracy(self) -> float:
        """Share of the test images that is predicted correctly; there must be one."""
        images = sum(one.images for one in self.recalls.values())
        return sum(one.correct for one in self.recalls.values()) / images


def look(reference: Reference, batch: Profile, name: str) -> Look:
    """Compare a batch with the reference of the champion that predicted it.

    W1 is a one-sided two-sample z test of the mean confidence, W2 a chi-square test of both tables of predicted
    classes, where classes too rare for it are taken together. Each warns at 1 %: of batches that are as the test
    images, at most 2 % are looked at in vain (large-sample tests; a fair sample, image by image: bursts of one camera
    warn more often). Sources: Rabanser et al., "Failing Loudly", 2019, which these two are the simplest of.

    Args:
      reference: Of the version that predicted the batch.
      batch: What it predicted.
      name: Name of the batch, for the reason.

    Returns:
      The look; UNKNOWN if the batch or the reference has fewer than 30 images.
    """
    known = min(batch.images, reference.profile.images)
    if known < MIN_IMAGES:
        whose = f"{name} has" if batch.images == known else "the reference has"
        return unknown(f"{whose} {known} predicted images, too few to compare: it takes {MIN_IMAGES}", batch.images)
    classes = _classes(reference.profile, batch)
    classes_p = _chi_square(classes)
    rated = min(batch.rated, reference.profile.rated) >= MIN_IMAGES
    confidence_p = _fall(reference.profile, batch) if rated else None
    signs = _signs(reference.profile, batch, confidence_p, classes_p)
    return Look(
        outcome=Outcome.LOOK if signs else Outcome.CALM,
        reason=_warning(name, signs) if signs else _calm(name, reference.profile, batch, confidence_p, classes_p),
        images=batch.images,
        confidence=batch.mean if rated else None,
        reference_confidence=reference.profile.mean if rated else None,
        confidence_p=confidence_p,
        classes_p=classes_p,
        confidence_divergence=_divergence(*map(_coarse, (reference.profile, batch))) if rated else None,
        classes_divergence=_divergence(*classes),
        estimate=_estimate(reference, batch) if rated else None,
        probabilities_divergence=_probabilities_divergence(reference.profile, batch),
    )


def _classes(reference: Profile, batch: Profile) -> Floats:
    """Return the numbers of predicted images, float64 [2, classes]: of the reference, of the batch."""
    names = sorted({*reference.predicted, *batch.predicted})
    return np.array([[profile.predicted.get(name, 0) for name in names] for profile in (reference, batch)], float)


def _fall(reference: Profile, batch: Profile) -> float:
    from scipy.special import ndtr

    apart = reference.variance / reference.rated + batch.variance / batch.rated
    together = Profile.sum([reference, batch]).variance * (1 / reference.rated + 1 / batch.rated)
    # A small reference of a very confident model has met few of its unsure images: alone it takes itself for too exact.
    return float(ndtr((batch.mean - reference.mean) / math.sqrt(max(apart, together))))


def _chi_square(counts: Floats) -> float:
    from scipy.stats import chi2

    counts = _without_rare(counts)
    total = counts.sum(axis=0)
    expected = counts.sum(axis=1, keepdims=True) * total / total.sum()
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.shape[1] - 1)) if len(total) > 1 else 1.0


def _without_rare(counts: Floats) -> Floats:
    """Take rare classes together, from the rarest, until at least 5 images of each column are expected in each row."""
    total = counts.sum(axis=0)
    share = counts.sum(axis=1).min() / counts.sum()
    groups: list[Floats] = []
    open_group = np.zeros(2)
    for index in np.argsort(total, kind="stable"):
        open_group = open_group + counts[:, index]
        if open_group.sum() * share >= _LEAST_EXPECTED:
            groups.append(open_group)
            open_group = np.zeros(2)
    if groups:
        groups[-1] = groups[-1] + open_group
    return np.array(groups or [open_group]).T


def _coarse(profile: Profile) -> Floats:
    shown: Floats = np.array(profile.confidences, float).reshape(_SHOWN_BINS, -1).sum(axis=1)
    return shown


def _divergence(one: Floats, other: Floats) -> float:
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(one, other, base=2) ** 2)


def _probabilities_divergence(reference: Profile, batch: Profile) -> float | None:
    one, other = (np.array(profile.probabilities, float) for profile in (reference, batch))
    return _divergence(one, other) if one.shape == other.shape and one.any() and other.any() else None


def _estimate(reference: Reference, batch: Profile) -> float:
    return min(1.0, max(0.0, reference.accuracy - (reference.profile.mean - batch.mean)))


def _signs(reference: Profile, batch: Profile, confidence_p: float | None, classes_p: float) -> Sequence[str]:
    """Return what the tests that warn have found."""
    signs = []
    if confidence_p is not None and confidence_p <= LEVEL:
        signs.append(
            f"the mean confidence has fallen from {reference.mean:.2f} to {batch.mean:.2f} ({_p(confidence_p)})"
        )
    if classes_p <= LEVEL:
        signs.append(f"the classes are predicted in other shares ({_p(classes_p)})")
    return signs


def _warning(name: str, signs: Sequence[str]) -> str:
    command = f"adapt review export --batch {name} --budget {REVIEW}"
    return f'{name} seems different: {" and ".join(signs)}; have {REVIEW} of its images reviewed: "{command}"'


def _calm(name: str, reference: Profile, batch: Profile, confidence_p: float | None, classes_p: float) -> str:
    confidence = (
        "no confidences to compare"
        if confidence_p is None
        else f"mean confidence {batch.mean:.2f}, there {reference.mean:.2f} ({_p(confidence_p)})"
    )
    return f"{name} seems like the test images: {confidence}; shares of the predicted classes alike ({_p(classes_p)})"


def _p(value: float) -> str:
    return f"p {value:.2g}" if value >= 1e-6 else "p below 0.000001"
