"""What is trained, and how: one immutable value that travels to the Trainer as JSON.

Nothing here imports TensorFlow, so that the settings can be read and checked quickly. The models themselves are in the
modules of their names.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from adaptation.errors import AdaptationError

NO_WEIGHTS = "none"
IMAGENET = "imagenet"
AUTO = "auto"
PRECISIONS = (AUTO, "float32", "mixed")
XLA = (AUTO, "on", "off")


class InvalidSpec(AdaptationError, ValueError):
    """A training specification with a value that cannot be."""


@dataclass(frozen=True)
class Defaults:
    """What a model is trained with where the settings leave it out; `smallest` is the least image size it takes."""

    image_size: int = 32
    channels: int = 3
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    weights: str = NO_WEIGHTS
    smallest: int = 8


DEFAULTS: Mapping[str, Defaults] = {
    "digits": Defaults(image_size=16, channels=1, epochs=15, batch_size=32, learning_rate=3e-3),
    "cifar": Defaults(image_size=32, channels=3, epochs=15, batch_size=64, learning_rate=6e-3),
    "resnet50": Defaults(
        image_size=224, channels=3, epochs=3, batch_size=32, learning_rate=1e-4, weights=IMAGENET, smallest=32
    ),
}


@dataclass(frozen=True)
class TrainingSpec:
    """What is trained, and how.

    Attributes:
      model: `digits`, `cifar`, `resnet50`, or the path of an importable module with `build_model`.
      labels: The names of the classes; a record's label is an index into them.
      image_size: Height and width, in pixels, that every image is resized to.
      channels: 1 (grey) or 3 (colour); images of the other kind are converted.
      epochs: How many times the training split is gone through.
      batch_size: Images a step.
      learning_rate: The rate at the start; it falls to zero along a cosine.
      seed: The same seed on the same records and the same machine gives the same model.
      warm_start: Folder of the champion's SavedModel to go on from; empty to start from scratch.
      weights: What a pretrained model starts from: `imagenet`, `none`, or a weights file.
      precision: What is computed with while training: `float32`, `mixed` (float16, and float32 where that would lose),
        or `auto`: `mixed` on a GPU that is made for it. What is exported always computes with float32.
      xla: Whether XLA compiles the training step: `on`, `off`, or `auto`, which is Keras's choice: on a GPU.
      cache_megabytes: Decoded images are kept in memory if all of a split take no more.
      prefetch: Batches that are made ready ahead of the step; 0 lets TensorFlow find out how many it takes.

    Raises:
      InvalidSpec: A value cannot be.
    """

    model: str
    labels: tuple[str, ...]
    image_size: int
    channels: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int = 0
    warm_start: str = ""
    weights: str = NO_WEIGHTS
    precision: str = AUTO
    xla: str = AUTO
    cache_megabytes: int = 1024
    prefetch: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        _check_model(self.model)
        _check_labels(self.labels)
        _check_image(self)
        for name in ("epochs", "batch_size"):
            _check_whole(name, getattr(self, name), least=1)
        for name in ("seed", "cache_megabytes", "prefetch"):
            _check_whole(name, getattr(self, name), least=0)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("xla", self.xla, XLA)
        _check_learning_rate(self.learning_rate)
        _check_weights(self)

    @classmethod
    def for_model(cls, model: str, labels: Iterable[str], **overrides: Any) -> TrainingSpec:
        """The model's defaults, with what `overrides` says otherwise; None stands for the default.

        >>> TrainingSpec.for_model("digits", "0123456789", epochs=3, batch_size=None).batch_size
        32
        """
        defaults = asdict(DEFAULTS.get(model, Defaults()))
        del defaults["smallest"]
        chosen = {name: value for name, value in overrides.items() if value is not None}
        return cls._of({**defaults, **chosen, "model": model, "labels": tuple(labels)})

    @property
    def module(self) -> str:
        """Import path of the module that has `build_model`."""
        return f"models.{self.model}" if self.model in DEFAULTS else self.model

    def to_json(self) -> str:
        """The specification as text; `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> TrainingSpec:
        """The specification that `to_json` wrote.

        Raises:
          InvalidSpec: It is not one.
        """
        try:
            value = json.loads(text)
        except ValueError as error:
            raise InvalidSpec(f"{text!r} is no JSON ({error}). Pass what TrainingSpec.to_json() returns.") from None
        if not isinstance(value, dict):
            raise InvalidSpec(f"{text!r} is no JSON object. Pass what TrainingSpec.to_json() returns.")
        return cls._of(value)

    @classmethod
    def _of(cls, value: Mapping[str, Any]) -> TrainingSpec:
        known = [field.name for field in fields(cls)]
        for name in value:
            _require(name in known, f"{name!r} is no part of a training specification{_nearest(name, known)}.")
        try:
            return cls(**value)
        except TypeError as error:
            raise InvalidSpec(f"the training specification is not complete ({error}). Give all of {known}.") from None


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidSpec(message)


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{found[0]}"?' if found else f" (known: {', '.join(known)})"


def _check_model(model: str) -> None:
    known = model in DEFAULTS or (isinstance(model, str) and _may_be_importable(model))
    _require(
        known, f"no model is called {model!r}{_nearest(str(model), DEFAULTS)}; or give an importable module's path."
    )


def _may_be_importable(path: str) -> bool:
    """Whether the path's first package is there. What is inside is not looked for: that would import it."""
    parts = path.split(".")
    return all(part.isidentifier() for part in parts) and importlib.util.find_spec(parts[0]) is not None


def _check_labels(labels: Sequence[str]) -> None:
    named = all(isinstance(label, str) and label for label in labels)
    _require(len(labels) >= 2 and named, f"labels are {labels!r}. Give at least two names, none of them empty.")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    _require(not twice, f"labels name {', '.join(twice)} more than once. Give each class one name.")


def _check_image(spec: TrainingSpec) -> None:
    _check_whole("image_size", spec.image_size, least=DEFAULTS.get(spec.model, Defaults()).smallest)
    _require(spec.channels in (1, 3), f"channels is {spec.channels!r}. Give 1 (grey) or 3 (colour).")


def _check_whole(name: str, value: object, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _require(whole, f"{name} is {value!r}. Give a whole number, at least {least}.")


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    _require(value in choices, f"{name} is {value!r}. Give one of {', '.join(choices)}.")


def _check_learning_rate(rate: object) -> None:
    number = isinstance(rate, (int, float)) and not isinstance(rate, bool) and math.isfinite(rate) and rate > 0
    _require(number, f"learning_rate is {rate!r}. Give a number above 0, like 0.001.")


def _check_weights(spec: TrainingSpec) -> None:
    _require(
        isinstance(spec.weights, str) and spec.weights != "", 'weights is empty. Give "imagenet", "none" or a file.'
    )
    scratch_only = spec.model in DEFAULTS and DEFAULTS[spec.model].weights == NO_WEIGHTS
    _require(
        not (scratch_only and spec.weights != NO_WEIGHTS),
        f'{spec.model} has no pretrained weights, but weights is {spec.weights!r}. Say "none", or take model resnet50.',
    )
