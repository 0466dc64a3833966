"""The training spec: one immutable value that travels to the Trainer as JSON.

Each training setting is declared here, once, with its limits and its explanation: a recipe's defaults, the section
[model] of the settings and the spec share the declaration. Nothing here imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from adaptation.errors import AdaptationError

NO_WEIGHTS = "none"
IMAGENET = "imagenet"
AUTO = "auto"
_BY_RECIPE: Any = None  # the default in the settings alone; a spec has a value


class InvalidSpec(AdaptationError, ValueError):
    """A training spec with a value that is not allowed."""


def _grey_or_colour(channels: int) -> int:
    if channels not in (1, 3):
        raise ValueError("should be 1 (grey) or 3 (colour)")
    return channels


def _named_once(labels: tuple[str, ...]) -> tuple[str, ...]:
    if not all(label.strip() for label in labels):
        raise ValueError("should have no empty name")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"should have each name once; twice or more: {', '.join(twice)}")
    return labels


LabelNames = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_named_once)]


class Knobs(BaseModel):
    """The training settings. Omitted ones have the recipe's value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image_size: int = Field(_BY_RECIPE, gt=0, description="width and height in pixels")
    channels: Annotated[int, AfterValidator(_grey_or_colour)] = Field(
        _BY_RECIPE, description="1 grey, 3 colour", json_schema_extra={"enum": [1, 3]}
    )
    epochs: int = Field(_BY_RECIPE, gt=0, description="passes over the training data")
    batch_size: int = Field(_BY_RECIPE, gt=0, description="images in a training step")
    learning_rate: float = Field(_BY_RECIPE, gt=0, description="size of a training step; falls to 0 along a cosine")
    weights: str = Field(
        _BY_RECIPE, min_length=1, description="what a pretrained model starts from: none, imagenet, or a file"
    )
    seed: int = Field(0, ge=0, description="of all that is random in training")
    precision: Literal["auto", "float32", "mixed"] = Field(
        "auto", description="mixed: float16 where it does no harm, faster on a GPU; auto: on a GPU that is made for it"
    )
    xla: Literal["auto", "on", "off"] = Field("auto", description="whether XLA compiles the step; auto: on a GPU")
    cache_megabytes: int = Field(1024, ge=0, description="decoded images stay in memory if they take no more; 0: never")
    prefetch: int = Field(0, ge=0, description="batches made ready ahead; 0: as many as it takes")
    tensorboard: bool = Field(False, description="whether each training writes event files for TensorBoard")


class TrainingSpec(Knobs):
    """The spec of a training: the training settings with a value for each, recipe, labels and start.

    `models.recipe.training_spec` makes one from a recipe's defaults. The export always computes with float32, whatever
    `precision` says.

    Attributes:
      model: Name of the recipe: of a built-in one, of an entry point, or a module's.
      labels: The names of the classes; a record's label is an index into them.
      options: The recipe's own settings by name.
      warm_start: Folder of the champion's SavedModel to continue from; empty to start from scratch.
    """

    model_config = ConfigDict(strict=True)

    model: str
    labels: LabelNames
    options: Mapping[str, Any] = {}
    warm_start: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the spec with these values.

        Raises:
          InvalidSpec: A value is missing, unknown or not allowed; the message lists all.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidSpec(explained(error, list(cls.model_fields))) from None

    def but(self, **changes: Any) -> Self:
        """Return the same spec with some values changed; raises as `of`."""
        return self.of({**self.model_dump(), **changes})

    def to_json(self) -> str:
        """Return the spec as text; `from_json` reads it."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the spec that `to_json` wrote, in this version or in an earlier one.

        Raises:
          InvalidSpec: The text is not a spec.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidSpec(f"{explained(error, list(cls.model_fields))} Pass what to_json() returns.") from None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in Knobs.model_fields if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
        return self


def explained(error: ValidationError, known: Iterable[str]) -> str:
    """Return the faults of some values, each with its name, and the nearest known name for an unknown one."""
    return "; ".join(_problem(one, list(known)) for one in error.errors()) + "."


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "..."?` for the known name next to a misspelt one, else a list of all.

    >>> nearest("epoch", ["epochs", "seed"])
    '; did you mean "epochs"?'
    """
    names = list(known)
    found = get_close_matches(name, names, n=1)
    return f'; did you mean "{found[0]}"?' if found else f" (known: {', '.join(names) or 'none'})"


def _problem(error: ErrorDetails, known: list[str]) -> str:
    name = ".".join(map(str, error["loc"]))
    what = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"there is no {name!r}{nearest(name, known)}"
    if error["type"] in ("missing", "missing_argument"):
        return f"{name!r} is missing"
    return f"{name} is {error['input']!r}: {what}" if name else what
