"""A recipe: all that a data scientist may change about a model, in one class with a default for everything.

Your module has `recipe = Shop()`, an instance of a subclass of `Recipe`, or `build_model(spec)` alone.
Nothing here imports TensorFlow or TFX; a recipe's module is imported only where the recipe is used.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from adaptation.errors import AdaptationError
from models import recipes
from models.spec import AUTO, NO_WEIGHTS, InvalidSpec, Knobs, TrainingSpec, explained, nearest
from models.user_code import installed_folder

if TYPE_CHECKING:
    import keras
    from tensorflow_model_analysis import MetricConfig
    from tfx.dsl.components.base.base_node import BaseNode
    from tfx.types.channel import BaseChannel

ENTRY_POINTS = "continuous_adaptation.recipes"
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_FALLBACK = Knobs(image_size=32, channels=3, epochs=10, batch_size=64, learning_rate=1e-3, weights=NO_WEIGHTS)


class UnusableRecipe(AdaptationError, ImportError):
    """A recipe that does not exist, cannot be imported, or has no `build_model`."""


@dataclass(frozen=True)
class Channels:
    """The outputs of the training pipeline's components, for those that a recipe adds: TFX channels.

    Attributes:
      examples: The window's Examples: splits `train` and `eval`.
      statistics: ExampleStatistics.
      schema: Schema.
      transform_graph: TransformGraph; None without a `preprocessing_fn`.
      model: Model, the challenger.
      model_run: ModelRun: TensorBoard's event files, if any.
      evaluation: ModelEvaluation of the challenger.
      blessing: ModelBlessing: the gate's decision.
    """

    examples: BaseChannel
    statistics: BaseChannel
    schema: BaseChannel
    transform_graph: BaseChannel | None
    model: BaseChannel
    model_run: BaseChannel
    evaluation: BaseChannel
    blessing: BaseChannel


class Recipe:
    """How a model is made and trained. Override what should be different; only `build_model` has no default.

    Attributes:
      defaults: The training settings that suit the model; the others have defaults of their own.
      options: The recipe's own settings, `[model.options]` in the settings file: a frozen dataclass or a pydantic
        model, whose types and defaults are checked; None for no options.
      smallest: The least image size that the model takes.
      pretrained: True if `build_model` starts from `spec.weights`; else weights are refused.
      preprocessing_fn: A method `(inputs, spec)` that turns decoded images, `inputs["image"]` (float32 [batch, size,
        size, channels], 0..255), into `{"image": ...}` as the model takes it. It may use the analyzers of
        `tensorflow_transform`: TFX Transform runs it over the training data. None: no Transform.
      tuner: A method `(trial, spec, folder)` that returns a Keras Tuner which keeps its trials in `folder` and builds
        the model of each with `trial(name=value, ...)`, where a name is a training setting or an option. TFX Tuner
        runs it, and the Trainer takes the best values. None: no Tuner.
    """

    defaults: ClassVar[Knobs] = _FALLBACK
    options: ClassVar[type | None] = None
    smallest: ClassVar[int] = 8
    pretrained: ClassVar[bool] = True
    preprocessing_fn: Any = None
    tuner: Any = None

    def build_model(self, spec: TrainingSpec) -> keras.Model:
        """Return a new model.

        Returns:
          A model of images (float32 [batch, size, size, channels], 0..255, or the output of `preprocessing_fn`) that
          gives probabilities (float32 [batch, classes]).
        """
        raise UnusableRecipe(f"{type(self).__name__} has no build_model(spec). Define it.")

    def compile(self, model: keras.Model, spec: TrainingSpec, steps: int) -> None:
        """Compile the model in place: optimizer, loss and metrics.

        Args:
          model: What `build_model` returned, with an input of bytes before it.
          spec: The training spec.
          steps: Training steps of an epoch.
        """
        import keras

        rate = keras.optimizers.schedules.CosineDecay(spec.learning_rate, decay_steps=spec.epochs * steps)
        model.compile(
            keras.optimizers.Adam(rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile={"on": True, "off": False}.get(spec.xla, AUTO),
        )

    def callbacks(self, spec: TrainingSpec) -> Sequence[keras.callbacks.Callback]:
        """Return Keras callbacks for the training, beside the report of each epoch."""
        return ()

    def eval_metrics(self, spec: TrainingSpec) -> Sequence[MetricConfig]:
        """Return further metrics of TFMA for the evaluation; the gate records them and does not decide by them.

        The challenger gives `probabilities`, and the label is an index into the classes. Each config needs a name.
        """
        return ()

    def components(self, channels: Channels, spec: TrainingSpec) -> Sequence[BaseNode]:
        """Return further TFX components of the training pipeline."""
        return ()

    def options_in(self, spec: TrainingSpec) -> Any:
        """Return the spec's options as an instance of `options`."""
        return TypeAdapter(self.options or dict).validate_python(spec.options)

    def checked_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options by name: the given ones, and the defaults of the others.

        Raises:
          InvalidSpec: One is unknown or of another type; the message lists all.
        """
        adapter: TypeAdapter[Any] = TypeAdapter(self.options or dict)
        known = list(adapter.json_schema().get("properties", {}))
        unknown = [f"there is no option {name!r}{nearest(name, known)}" for name in given if name not in known]
        if unknown:
            raise InvalidSpec(f"model.options: {'; '.join(unknown)}. The options are those of the recipe's class.")
        try:
            return dict(adapter.dump_python(adapter.validate_python(dict(given)), mode="json"))
        except ValidationError as error:
            raise InvalidSpec(f"model.options: {explained(error, known)}") from None


def training_spec(model: str, labels: Iterable[str], **given: Any) -> TrainingSpec:
    """Return the spec of a training by a recipe: its defaults, replaced by the given values; None means the default.

    >>> training_spec("digits", "0123456789", epochs=3, batch_size=None).batch_size
    32

    Args:
      model: Name of the recipe.
      labels: Names of the classes.
      given: Other fields of `TrainingSpec` by name.

    Raises:
      UnusableRecipe: The recipe does not exist.
      InvalidSpec: A value is unknown or not allowed.
    """
    recipe = load_recipe(model)
    chosen = {name: value for name, value in given.items() if value is not None}
    options = recipe.checked_options(chosen.pop("options", {}))
    defaults = {**_FALLBACK.model_dump(exclude_unset=True), **recipe.defaults.model_dump(exclude_unset=True)}
    spec = TrainingSpec.of({**defaults, **chosen, "model": model, "labels": tuple(labels), "options": options})
    _check(spec, recipe)
    return spec


def changed(spec: TrainingSpec, values: Mapping[str, Any]) -> TrainingSpec:
    """Return the spec with other values of training settings and options by name, for example a tuner's.

    Raises:
      InvalidSpec: A name is neither, or a value is not allowed.
    """
    knobs = {name: value for name, value in values.items() if name in Knobs.model_fields}
    options = {**spec.options, **{name: value for name, value in values.items() if name not in knobs}}
    return spec.but(**knobs, options=load_recipe(spec.model).checked_options(options))


def load_recipe(name: str) -> Recipe:
    """Import a recipe.

    Args:
      name: Of a built-in recipe, of an entry point in the group `continuous_adaptation.recipes`, or of a module.

    Raises:
      UnusableRecipe: It does not exist, cannot be imported, or has no `build_model`.
    """
    return _recipe_in(_import(recipe_module(name), name), name)


def recipe_module(name: str) -> str:
    """Return the import path of a recipe's module; nothing is imported."""
    if name in built_in_recipes():
        return f"{recipes.__name__}.{name}"
    return {point.name: point.module for point in registered_recipes()}.get(name, name)


@cache
def built_in_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package: the modules of `models.recipes`."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(recipes.__path__)))


def registered_recipes() -> Sequence[EntryPoint]:
    """Return the entry points of installed distributions in the group `continuous_adaptation.recipes`."""
    return tuple(entry_points(group=ENTRY_POINTS))


def no_such_recipe(name: str, modules: Iterable[str] = ()) -> UnusableRecipe:
    """Return the error for a recipe that does not exist; `modules` are others that could be meant."""
    known = [*modules, *built_in_recipes(), *(point.name for point in registered_recipes())]
    return UnusableRecipe(f"no recipe is called {name!r}{nearest(name, known)}; or name the module that has yours.")


class _Plain(Recipe):
    """The recipe of a module that has only `build_model`."""

    def __init__(self, build_model: Callable[[TrainingSpec], keras.Model]) -> None:
        self._build_model = build_model

    def build_model(self, spec: TrainingSpec) -> keras.Model:
        return self._build_model(spec)


def _import(path: str, name: str) -> ModuleType:
    if not _MODULE.fullmatch(path):
        raise no_such_recipe(name)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and f"{path}.".startswith(f"{error.name}."):
            raise no_such_recipe(name) from error
        raise _broken(path, error) from error
    except Exception as error:
        raise _broken(path, error) from error


def _recipe_in(module: ModuleType, name: str) -> Recipe:
    recipe = getattr(module, "recipe", None)
    if isinstance(recipe, Recipe):
        return recipe
    if callable(build_model := getattr(module, "build_model", None)):
        return _Plain(build_model)
    raise UnusableRecipe(
        f"{name!r} is no recipe: {module.__name__} has neither `recipe = ...`, an instance of a models.recipe.Recipe, "
        "nor build_model(spec). Add one of them."
    )


def _broken(path: str, error: Exception) -> UnusableRecipe:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{error.filename}, line {error.lineno}" if isinstance(error, SyntaxError) else f"{last[0]}, line {last[1]}"
    if installed_folder():
        place = place.removeprefix(f"{installed_folder()}/")
    return UnusableRecipe(f"{path} cannot be imported: {type(error).__name__}: {error} ({place}). Correct it there.")


def _check(spec: TrainingSpec, recipe: Recipe) -> None:
    if spec.image_size < recipe.smallest:
        raise InvalidSpec(f"image_size is {spec.image_size}: {spec.model} takes at least {recipe.smallest}.")
    if spec.weights != NO_WEIGHTS and not recipe.pretrained:
        raise InvalidSpec(
            f"weights is {spec.weights!r}: {spec.model} has no pretrained weights. "
            f'Set "{NO_WEIGHTS}", or take resnet50.'
        )
