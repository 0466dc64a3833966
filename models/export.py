"""Export: the SavedModel of a trained model, encoded images in, labels out, and the files that a warm start needs.

Written with Keras's `ExportArchive`, because the session loader, which TensorFlow Serving and TFX's own inference use,
does not find the variables of a Keras 3 model that was saved any other way.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf

from adaptation.data.labels import changed_label
from adaptation.errors import AdaptationError
from adaptation.io import storage
from models import data
from models.recipe import load_recipe
from models.spec import NO_WEIGHTS, TrainingSpec

SERVING = "serving_default"
EVALUATION = "evaluate"
_EXTRAS = "assets.extra"
_WEIGHTS = "model.weights.h5"
_SPEC = "spec.json"
_HISTORY = "history.json"
_CONTENTS = 2**52


def export(
    model: keras.Model,
    spec: TrainingSpec,
    folder: str,
    transformed: data.Transformation | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Write the SavedModel, with the weights, the spec and the curves of the training in its `assets.extra`.

    Args:
      model: The model.
      spec: The spec that it was trained with.
      folder: Target of the export.
      transformed: Preprocessing of the images before it; decoding alone by default.
      curves: Loss and metrics of each epoch by name, for `history.json`.

    Its signatures:
      serving_default: `image_bytes` (string [batch]) to `label` (string [batch]), `confidence` (float32 [batch]),
        `content` (int64 [batch], 52 bits that JSON holds exactly): the same for the same bytes, to find duplicates;
        and `probabilities` (float64 [batch, classes], rounded to 4 decimals, in the order of the spec's labels).
      evaluate: `examples` (string [batch], serialized tf.train.Example) to `probabilities` (float32 [batch, classes]).

    Failure: an unfinished folder is left; exporting again replaces its content.
    """
    # Without `track`, which would write every weight a second time; the endpoints bring the ones that they use.
    archive = keras.export.ExportArchive()
    if isinstance(transformed, tf.Module):
        archive.track(transformed)  # it may have tables, which an endpoint does not bring
    probabilities = _probabilities(model, spec, transformed)
    archive.add_endpoint(SERVING, _serving(probabilities, spec), [tf.TensorSpec([None], tf.string, name="image_bytes")])
    archive.add_endpoint(EVALUATION, _evaluation(probabilities), [tf.TensorSpec([None], tf.string, name="examples")])
    archive.write_out(folder, verbose=False)
    _write_extras(model, spec, storage.join(folder, _EXTRAS))
    with tf.io.gfile.GFile(history_uri(folder), "wb") as file:
        file.write(json.dumps(curves or {}, indent=1).encode())


def history_uri(folder: str) -> str:
    """Return the URI of a training's curves in the folder of its export."""
    return storage.join(folder, _EXTRAS, _HISTORY)


def load_champion(model: keras.Model, spec: TrainingSpec) -> None:
    """Give the model the weights of the export in `spec.warm_start`.

    The outputs of later appended classes keep their initial weights; all others are the champion's.

    Raises:
      AdaptationError: The export is missing; its recipe, image size, channels or layers differ; or its labels are not
        the first ones of `spec`.
    """
    champion = exported_spec(spec.warm_start)
    _check_compatible(champion, spec)
    if champion.labels == spec.labels:
        _load_weights(model, spec)
    else:
        known = load_recipe(spec.model).build_model(spec.but(labels=champion.labels, weights=NO_WEIGHTS))
        _load_weights(known, spec)
        _extend(known, model, spec)


def exported_spec(folder: str) -> TrainingSpec:
    """Return the spec of the model in an export's folder.

    Raises:
      AdaptationError: The export is missing.
    """
    uri = storage.join(folder, _EXTRAS, _SPEC)
    if not tf.io.gfile.exists(uri):
        raise AdaptationError(
            f"there is no model to start from in {folder} ({uri} is missing). Train from scratch once."
        )
    with tf.io.gfile.GFile(uri, "rb") as file:
        return TrainingSpec.from_json(file.read())


def _probabilities(
    model: keras.Model, spec: TrainingSpec, transformed: data.Transformation | None
) -> data.Transformation:
    def predict(images: tf.Tensor) -> tf.Tensor:
        return model(transformed(images) if transformed else data.decode_batch(images, spec), training=False)

    return predict


def _serving(predict: data.Transformation, spec: TrainingSpec) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = predict(image_bytes)
        label = tf.gather(tf.constant(spec.labels), tf.argmax(probabilities, axis=1))
        content = tf.strings.to_hash_bucket_fast(image_bytes, _CONTENTS)
        confidence = tf.reduce_max(probabilities, axis=1)
        return {"label": label, "confidence": confidence, "content": content, "probabilities": _short(probabilities)}

    return serve


def _short(probabilities: tf.Tensor) -> tf.Tensor:
    """Round to 4 decimals, as float64, which JSON writes with these alone.

    By way of the text: TensorFlow turns a division by a constant into a product, which is not the nearest number.
    """
    return tf.strings.to_number(tf.strings.as_string(probabilities, precision=4), tf.float64)


def _evaluation(predict: data.Transformation) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    def evaluate(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": predict(data.images_of(examples))}

    return evaluate


def _write_extras(model: keras.Model, spec: TrainingSpec, folder: str) -> None:
    tf.io.gfile.makedirs(folder)
    with tempfile.TemporaryDirectory() as scratch:
        local = str(Path(scratch) / _WEIGHTS)
        model.save_weights(local)
        tf.io.gfile.copy(local, storage.join(folder, _WEIGHTS), overwrite=True)
    with tf.io.gfile.GFile(storage.join(folder, _SPEC), "wb") as file:
        file.write(spec.to_json().encode())


def _check_compatible(champion: TrainingSpec, spec: TrainingSpec) -> None:
    for name in ("model", "image_size", "channels"):
        theirs, ours = getattr(champion, name), getattr(spec, name)
        if theirs != ours:
            raise _incompatible(spec, f"its {name} is {theirs!r}, the settings say {ours!r}")
    if change := changed_label(spec.labels, champion.labels):
        raise _incompatible(spec, f"the settings do not name the labels as it does: {change}")


def _load_weights(model: keras.Model, spec: TrainingSpec) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        local = str(Path(scratch) / _WEIGHTS)
        tf.io.gfile.copy(storage.join(spec.warm_start, _EXTRAS, _WEIGHTS), local)
        _load_all(model, local, spec)


def _load_all(model: keras.Model, file: str, spec: TrainingSpec) -> None:
    """Load all of the weights: Keras by itself silently skips those that the model has no place for."""
    stored = _count_weights(file)
    if stored != len(model.weights):
        raise _incompatible(spec, f"it has {stored} weights, the layers of {spec.model} have {len(model.weights)}")
    try:
        model.load_weights(file)
    except ValueError as error:
        raise _incompatible(spec, f"its layers are not those of {spec.model} ({str(error).splitlines()[0]})") from error


def _extend(known: keras.Model, model: keras.Model, spec: TrainingSpec) -> None:
    """Give the model the weights of the same one with fewer classes, the last axis of its outputs' weights."""
    if len(known.weights) != len(model.weights):
        raise _incompatible(spec, f"with more classes the layers of {spec.model} have another number of weights")
    for theirs, ours in zip(known.weights, model.weights, strict=True):
        if theirs.shape == ours.shape:
            ours.assign(theirs)
        elif theirs.shape[:-1] == ours.shape[:-1]:
            appended = np.array(ours)[..., theirs.shape[-1] :]
            ours.assign(np.concatenate([np.array(theirs), appended], axis=-1))
        else:
            raise _incompatible(spec, f"with more classes {spec.model} changes more than its outputs ({ours.path})")


def _count_weights(file: str) -> int:
    found: list[str] = []
    with h5py.File(file) as weights:
        weights.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return len(found)


def _incompatible(spec: TrainingSpec, why: str) -> AdaptationError:
    return AdaptationError(
        f"cannot go on from the champion in {spec.warm_start}: {why}. Train from scratch (no warm start), "
        "or set it as the champion has it."
    )
