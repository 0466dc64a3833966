"""`run_fn`, which TFX's Trainer calls: records in, a trained and exported model out.

The eval split is watched while training, never chosen by: no weights are picked and no training is ended for their
accuracy on it, so that what the gate measures there afterwards is honest. The learning rate falls to zero over the
epochs instead, which makes the last weights the ones to keep.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import keras
import tensorflow as tf

from adaptation.errors import AdaptationError
from adaptation.platforms.base import SAVED_MODEL
from adaptation.progress import report
from models import data
from models.export import export, load_champion
from models.recipe import changed, load_recipe
from models.spec import AUTO, TrainingSpec
from models.transform import Transformed
from models.user_code import install


class FnArgs(Protocol):
    """The part of `tfx.components.FnArgs` that is used here."""

    train_files: list[str]
    eval_files: list[str]
    serving_model_dir: str
    base_model: str | None
    model_run_dir: str
    transform_graph_path: str | None
    hyperparameters: Mapping[str, Any] | None
    custom_config: Mapping[str, Any]


def run_fn(fn_args: FnArgs) -> None:
    """Trains as `custom_config["spec"]`, a TrainingSpec's JSON, says, and exports to `serving_model_dir`.

    `custom_config["code"]` is the wheel of a recipe of the user's own. The training goes on from `base_model`, the
    folder of a SavedModel that was exported here; before the first champion TFX passes a folder that has none. It goes
    on with the values of `hyperparameters`, which Tuner found, and on the images that the graph in
    `transform_graph_path` makes, which is then part of the export. The number of steps that TFX passes is not used: the
    epochs are the spec's.

    Raises:
      AdaptationError: The records, the model, its weights or the champion are unusable, or training diverged.

    Failure: nothing is exported unless the training is complete.
    """
    spec = requested_spec(fn_args)
    if fn_args.base_model and tf.io.gfile.exists(os.path.join(fn_args.base_model, SAVED_MODEL)):
        spec = spec.but(warm_start=fn_args.base_model)
    if fn_args.hyperparameters:
        spec = changed(spec, fn_args.hyperparameters["values"])
    keras.utils.set_random_seed(spec.seed)  # before the batches are made: their order depends on it
    training, evaluation, transformed = read_batches(fn_args, spec)
    with computing(spec.precision):
        model = initial_model(spec)
        curves = fit(model, training, evaluation, spec, fn_args.model_run_dir if spec.tensorboard else "")
    export(_in_float32(model, spec), spec, fn_args.serving_model_dir, transformed, curves)


def requested_spec(fn_args: FnArgs) -> TrainingSpec:
    """Return the spec that TFX passes, after its recipe's code was made importable."""
    install(fn_args.custom_config.get("code", ""))
    return TrainingSpec.from_json(fn_args.custom_config["spec"])


def read_batches(
    fn_args: FnArgs, spec: TrainingSpec
) -> tuple[tf.data.Dataset, tf.data.Dataset, data.Transformation | None]:
    """Return the batches of both splits, and the graph that made them of the images, if any."""
    training = data.find_records(fn_args.train_files, spec)
    evaluation = data.find_records(fn_args.eval_files, spec)
    report(f"training {spec.model} on {training.count} images ({evaluation.count} to evaluate)")
    transformed = Transformed(fn_args.transform_graph_path) if fn_args.transform_graph_path else None
    return (
        data.training_batches(training, spec, transformed),
        data.evaluation_batches(evaluation, spec, transformed),
        transformed,
    )


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
    """Return the model before its first step: built anew, then with the champion's weights if the spec says so."""
    model = load_recipe(spec.model).build_model(spec)
    if spec.warm_start:
        load_champion(model, spec)
    return model


def fit(
    model: keras.Model, training: tf.data.Dataset, evaluation: tf.data.Dataset, spec: TrainingSpec, events: str = ""
) -> dict[str, list[float]]:
    """Trains the model in place, reporting every epoch.

    Args:
      model: The model.
      training: What it learns from.
      evaluation: What it is watched on.
      spec: How it is trained.
      events: Folder of the event files that TensorBoard shows; none are written where it is left out.

    Returns:
      The curves: loss and metrics of each epoch by name.

    Raises:
      AdaptationError: The loss became infinite or no number.
    """
    trained = trainable(model, spec, len(training), training.element_spec[0])
    watchers = [_Progress(spec.epochs), keras.callbacks.TerminateOnNaN(), *load_recipe(spec.model).callbacks(spec)]
    if events:
        watchers.append(_Events(events))
    history = trained.fit(
        training, validation_data=evaluation, epochs=spec.epochs, callbacks=watchers, shuffle=False, verbose=0
    )
    _check_converged(history.history["loss"][-1], spec)
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def trainable(model: keras.Model, spec: TrainingSpec, steps: int, batch: tf.TensorSpec | None = None) -> keras.Model:
    """Return the model compiled as it is trained.

    Args:
      model: The model.
      spec: How it is trained.
      steps: Training steps of an epoch.
      batch: Shape and type of a batch of images; uint8 of the spec's size where it is left out.
    """
    # Compiled around the model, not into it: what is exported and saved has no optimizer's state in it. The cast is in
    # the step, so that a byte a pixel is all that is prefetched and copied to a GPU.
    shape = batch.shape[1:] if batch else (spec.image_size, spec.image_size, spec.channels)
    images = keras.Input(shape, dtype=batch.dtype.name if batch else "uint8")
    trained = keras.Model(images, model(keras.ops.cast(images, "float32")))
    load_recipe(spec.model).compile(trained, spec, steps)
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


class _Events(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes an event file with every epoch's figures, as TensorBoard reads it.

    Keras's own callback needs TensorBoard to be installed where the training runs (source of the form: event.proto and
    summary.proto of TensorFlow).
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        tf.io.gfile.makedirs(folder)
        self._writer = tf.io.TFRecordWriter(f"{folder}/events.out.tfevents.{time.time_ns() // 10**9}")
        self._write(file_version="brain.Event:2")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        figures = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in (logs or {}).items()]
        self._write(step=epoch + 1, summary=tf.compat.v1.Summary(value=figures))

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self._writer.close()

    def _write(self, **content: Any) -> None:
        self._writer.write(tf.compat.v1.Event(wall_time=time.time(), **content).SerializeToString())
        self._writer.flush()


def _has_tensor_cores() -> bool:
    """Return True if all GPUs are made for float16, as NVIDIA's from compute capability 7.0 on; False without any.

    Source: NVIDIA, Training With Mixed Precision.
    """
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return bool(details) and all(one.get("compute_capability", (0, 0)) >= (7, 0) for one in details)


def _in_float32(model: keras.Model, spec: TrainingSpec) -> keras.Model:
    """Return the same model as it is served, perhaps on a CPU; its weights are float32 whatever was computed with."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    served = load_recipe(spec.model).build_model(spec)
    served.set_weights(model.get_weights())
    return served


def _check_converged(loss: float, spec: TrainingSpec) -> None:
    if not math.isfinite(loss):
        raise AdaptationError(f"the loss became {loss} at learning rate {spec.learning_rate}. Lower learning_rate.")
