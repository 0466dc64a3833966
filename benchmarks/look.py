"""The look, on CIFAR-10: how often it warns of batches that are unchanged, harmlessly changed, and harmfully changed.

A small model is trained once on nine of the ten classes; the tenth is the unknown one. Batches of 300 test images are
drawn, unchanged, corrupted in nine ways and five severities, with a shifted mix of classes, and with images of the
unknown class; each is looked at with a reference of 1,000 other test images. What is called is the code that warns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image

from adaptation.evaluation.look import Profile, Reference, look
from adaptation.evaluation.look_records import Look, Outcome
from adaptation.evaluation.mix import Recall
from benchmarks.corruptions import KINDS, SEVERITIES, Images, corrupted
from benchmarks.images import CLASSES, collected, source
from benchmarks.judgement import Estimate, at_least
from benchmarks.runner import Bench, Figure, Reach, at_most
from models.recipe import training_spec
from models.trainer import fit, initial_model

UNKNOWN = "truck"
KNOWN = tuple(name for name in CLASSES if name != UNKNOWN)
EPOCHS = 7
BATCH, REFERENCE, STREAMS = 300, 1000, 500
TESTS = 6_000
CORRUPTED = 2000
GROUPS = (
    "clean",
    "a fall below 2 points",
    "a fall of 2 to 10 points",
    "a fall of 10 to 20 points",
    "a fall over 20 points",
)
REACHES: dict[str, Reach] = {
    GROUPS[0]: at_most(3),
    GROUPS[1]: at_most(15),
    GROUPS[3]: at_least(98),
    GROUPS[4]: at_least(99),
}

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """Predicted images to draw batches from: int64 [images] classes, float64 [images] confidences, bool if right."""

    chosen: Ints
    confidences: Floats
    right: npt.NDArray[np.bool_]

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> Pool:
        return Pool(self.chosen[rows], self.confidences[rows], self.right[rows])

    @property
    def profile(self) -> Profile:
        """Their profile."""
        numbers = np.bincount(self.chosen, minlength=len(KNOWN)).tolist()
        return Profile.of(dict(zip(KNOWN, numbers, strict=True)), self.confidences)

    @property
    def reference(self) -> Reference:
        """The reference that they make as test images."""
        return Reference(self.profile, {"all": Recall(len(self.right), int(self.right.sum()))})


@dataclass(frozen=True)
class Condition:
    """What batches were drawn from, and what the looks at them said.

    Attributes:
      name: What was changed.
      fall: Fall of the accuracy, in points.
      looks: The looks.
    """

    name: str
    fall: float
    looks: Sequence[Look]

    @property
    def warned(self) -> list[bool]:
        """Whether each look warned."""
        return [one.outcome is Outcome.LOOK for one in self.looks]

    @property
    def estimate(self) -> float:
        """The mean of DoC's estimates of the accuracy, in percent."""
        return float(np.mean([100 * (one.estimate or 0) for one in self.looks]))


@contextmanager
def bench(folder: Path, train: int = 15_000, epochs: int = EPOCHS) -> Iterator[Bench]:
    """Train, predict, look; the table of all conditions is the remark."""
    conditions: list[Condition] = []

    def figures() -> list[Figure]:
        conditions.extend(measure(folder, train, epochs))
        return [_figure(group, conditions) for group in GROUPS]

    yield Bench((), lambda: f"{source(train)}\n{table(conditions)}", figures)


def measure(folder: Path, train: int, epochs: int, streams: int = STREAMS) -> Iterator[Condition]:
    """Train on so many images, and yield what the looks at each kind of batch said."""
    images, labels = _load(folder, train + TESTS)
    known = np.flatnonzero(labels < len(KNOWN))
    training, tests = known[TESTS:], known[:TESTS]
    model = _trained(images[training], labels[training], epochs)
    clean = _predicted(model, images[tests], labels[tests])
    unknown = _predicted(model, images[labels == len(KNOWN)][:CORRUPTED], labels[labels == len(KNOWN)][:CORRUPTED])
    own = 100 * float(clean.right.mean())
    rows, rest = np.arange(CORRUPTED), clean[slice(CORRUPTED, None)]
    generator = np.random.default_rng(7)

    def condition(name: str, pool: Pool, weights: Floats | None = None) -> Condition:
        shares = None if weights is None else weights / weights.sum()
        accuracy = 100 * float(np.average(pool.right, weights=weights))
        looks = [
            look(_draw(rest, REFERENCE, generator).reference, _draw(pool, BATCH, generator, shares).profile, name)
            for _ in range(streams)
        ]
        return Condition(name, own - accuracy, looks)

    yield Condition("clean", 0.0, [_clean(clean, generator) for _ in range(streams)])
    for kind in KINDS:
        for severity in SEVERITIES:
            changed = corrupted(images[tests[rows]], kind, severity)
            yield condition(f"{kind} {severity}", _predicted(model, changed, labels[tests[rows]]))
    for times in (2, 4):
        weights = np.where(labels[tests[rows]] < 3, float(times), 1.0)
        yield condition(f"three classes {times} times as often", clean[rows], weights)
    for share in (0.1, 0.2, 0.5):
        weights = np.repeat([1 - share, share], [CORRUPTED, len(unknown.right)])
        mixed = Pool(*(np.concatenate(pair) for pair in zip(_arrays(clean[rows]), _arrays(unknown), strict=True)))
        weights = weights / np.repeat([CORRUPTED, len(unknown.right)], [CORRUPTED, len(unknown.right)])
        yield condition(f"unknown class in {share:.0%}", mixed, weights)


def table(conditions: Sequence[Condition]) -> str:
    """Return a Markdown table of all conditions."""
    rows = [
        f"| {one.name} | {one.fall:+.1f} | {100 * np.mean(one.warned):.0f} % | {_accuracy(one, conditions):.0f} % "
        f"| {one.estimate:.0f} % |"
        for one in conditions
    ]
    return "\n".join(["| change | fall, points | looked at | accuracy | DoC says |", "|---|---|---|---|---|", *rows])


def _accuracy(one: Condition, conditions: Sequence[Condition]) -> float:
    """Return the true accuracy in percent: of clean batches DoC is right by its making."""
    return conditions[0].estimate - one.fall


def _figure(group: str, conditions: Sequence[Condition]) -> Figure:
    warned = [each for one in conditions if _group(one) == group for each in one.warned]
    reach = REACHES.get(group)
    if not warned:
        return Figure(f"looked at: {group}, %", "-", None, 0.0, str(reach or "-"), None, "no such change")
    rate = Estimate.rate(warned)
    verdicts = {reach.holds(rate.low), reach.holds(rate.high)} if reach else {None}
    ok = verdicts.pop() if len(verdicts) == 1 else None
    return Figure(
        f"looked at: {group}, %", "-", round(rate.value, 2), round((rate.high - rate.low) / 2, 2), str(reach or "-"), ok
    )


def _group(one: Condition) -> str:
    """Return the group of a corruption or of an unknown class; a change of mix is none of them."""
    if one.name == "clean":
        return GROUPS[0]
    if "classes" in one.name:
        return ""
    return GROUPS[1 + sum(one.fall >= points for points in (2, 10, 20))]


def _clean(clean: Pool, generator: np.random.Generator) -> Look:
    """Look at an unchanged batch with a reference that was drawn together with it."""
    rows = generator.choice(len(clean.right), REFERENCE + BATCH, replace=False)
    return look(clean[rows[:REFERENCE]].reference, clean[rows[REFERENCE:]].profile, "clean")


def _draw(pool: Pool, images: int, generator: np.random.Generator, shares: Floats | None = None) -> Pool:
    return pool[generator.choice(len(pool.right), images, replace=False, p=shares)]


def _arrays(pool: Pool) -> tuple[npt.NDArray[np.generic], ...]:
    return pool.chosen, pool.confidences, pool.right


def _load(folder: Path, count: int) -> tuple[Images, Ints]:
    """Return images and labels in a random order; the unknown class has the last label."""
    found = collected(folder, count)
    order = np.random.default_rng(3).permutation(len(found))
    files = [found[row] for row in order]
    images = np.stack([_pixels(data) for _, data in files])
    labels = np.array([(*KNOWN, UNKNOWN).index(name.partition("/")[0]) for name, _ in files])
    return images, labels


def _pixels(data: bytes) -> Images:

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.uint8)


def _trained(images: Images, labels: Ints, epochs: int) -> keras.Model:
    import tensorflow as tf

    spec = training_spec("cifar", KNOWN, epochs=epochs)
    keras.utils.set_random_seed(spec.seed)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=1).batch(spec.batch_size)
    model = initial_model(spec)
    fit(model, batches, batches.take(1), spec)
    return model


def _predicted(model: keras.Model, images: Images, labels: Ints) -> Pool:
    probabilities = model.predict(images.astype(np.float32), batch_size=500, verbose=0)
    chosen = probabilities.argmax(axis=1).astype(np.int64)
    return Pool(chosen, probabilities.max(axis=1).astype(float), chosen == labels)
