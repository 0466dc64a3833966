"""`run_fn`, which TFX's Trainer calls: records in, a trained and exported model out.

The eval split is watched while training, never chosen by: no weights are picked and no training is ended for their
accuracy on it, so that what the gate measures there afterwards is honest. The learning rate falls to zero over the
epochs instead, which makes the last weights the ones to keep.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import keras
import tensorflow as tf

from adaptation.errors import AdaptationError
from adaptation.progress import report
from models import data
from models.export import export, load_champion
from models.spec import AUTO, TrainingSpec


class UnusableModel(AdaptationError, ImportError):
    """A module that cannot be imported, or has no `build_model`."""


class TrainingDiverged(AdaptationError, ArithmeticError):
    """A training whose loss is no number any more."""


class FnArgs(Protocol):
    """What is used here of `tfx.components.FnArgs`."""

    train_files: list[str]
    eval_files: list[str]
    serving_model_dir: str
    base_model: str | None
    custom_config: Mapping[str, Any]


def run_fn(fn_args: FnArgs) -> None:
    """Trains as `custom_config["spec"]`, a TrainingSpec's JSON, says, and exports to `serving_model_dir`.

    It goes on from `base_model`, the folder of a SavedModel that was exported here, where TFX passes one. The number of
    steps that TFX passes is not used: the epochs are the specification's.

    Raises:
      AdaptationError: The records, the model, its weights or the champion are unusable, or training diverged.

    Failure: nothing is exported unless the training is complete.
    """
    spec = TrainingSpec.from_json(fn_args.custom_config["spec"])
    if fn_args.base_model:
        spec = dataclasses.replace(spec, warm_start=fn_args.base_model)
    training = data.find_records(fn_args.train_files, spec)
    evaluation = data.find_records(fn_args.eval_files, spec)
    report(f"training {spec.model} on {training.count} images ({evaluation.count} to evaluate)")
    keras.utils.set_random_seed(spec.seed)
    with computing(spec.precision):
        model = initial_model(spec)
        fit(model, data.training_batches(training, spec), data.evaluation_batches(evaluation, spec), spec)
    export(_in_float32(model, spec), spec, fn_args.serving_model_dir)


@contextlib.contextmanager
def computing(precision: str) -> Iterator[None]:
    """Lets the layers that are made meanwhile compute so; Keras scales the loss by itself, so that float16 holds it."""
    before = keras.config.dtype_policy()
    mixed = precision == "mixed" or (precision == AUTO and _has_tensor_cores())
    keras.config.set_dtype_policy("mixed_float16" if mixed else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def initial_model(spec: TrainingSpec) -> keras.Model:
    """The model before its first step: built anew, then with the champion's weights where the specification says so."""
    model = _builder(spec)(spec)
    if spec.warm_start:
        load_champion(model, spec)
    return model


def fit(model: keras.Model, training: tf.data.Dataset, evaluation: tf.data.Dataset, spec: TrainingSpec) -> None:
    """Trains the model in place, reporting every epoch.

    Raises:
      TrainingDiverged: The loss became infinite or no number.
    """
    trained = trainable(model, spec, len(training))
    watchers = [_Progress(spec.epochs), keras.callbacks.TerminateOnNaN()]
    history = trained.fit(
        training, validation_data=evaluation, epochs=spec.epochs, callbacks=watchers, shuffle=False, verbose=0
    )
    _check_converged(history.history["loss"][-1], spec)


def trainable(model: keras.Model, spec: TrainingSpec, steps: int) -> keras.Model:
    """The model compiled as it is trained, on images of uint8; `steps` is how many an epoch has."""
    rate = keras.optimizers.schedules.CosineDecay(spec.learning_rate, decay_steps=spec.epochs * steps)
    # Compiled around the model, not into it: what is exported and saved has no optimizer's state in it. The cast is in
    # the step, so that a byte a pixel is all that is prefetched and copied to a GPU.
    images = keras.Input((spec.image_size, spec.image_size, spec.channels), dtype="uint8")
    trained = keras.Model(images, model(keras.ops.cast(images, "float32")))
    trained.compile(
        keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile={"on": True, "off": False}.get(spec.xla, AUTO),
    )
    return trained


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports every epoch's accuracies."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        logs = logs or {}
        accuracy, watched = logs.get("accuracy", math.nan), logs.get("val_accuracy", math.nan)
        report(f"epoch {epoch + 1}/{self._epochs}, accuracy {accuracy:.2f} (eval {watched:.2f})")


def _has_tensor_cores() -> bool:
    """Whether all GPUs are made for float16, as NVIDIA's are from compute capability 7.0 on; False where there is none.

    Source: NVIDIA, Training With Mixed Precision.
    """
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return bool(details) and all(one.get("compute_capability", (0, 0)) >= (7, 0) for one in details)


def _in_float32(model: keras.Model, spec: TrainingSpec) -> keras.Model:
    """The same model as it is served, which may be on a CPU; the weights are float32 whatever was computed with."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    served = _builder(spec)(spec)
    served.set_weights(model.get_weights())
    return served


def _builder(spec: TrainingSpec) -> Any:
    try:
        return importlib.import_module(spec.module).build_model
    except (ImportError, AttributeError) as error:
        raise UnusableModel(
            f"model {spec.model!r} cannot be used ({error}). Give the path of a module that has build_model(spec)."
        ) from error


def _check_converged(loss: float, spec: TrainingSpec) -> None:
    if not math.isfinite(loss):
        raise TrainingDiverged(f"the loss became {loss} at learning rate {spec.learning_rate}. Lower learning_rate.")
