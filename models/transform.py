"""Preprocessing with TFX Transform: a graph holds what a recipe's `preprocessing_fn` learns from the training data.

The graph runs in front of the model in training, in the evaluation and in serving.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from models import data
from models.recipe import load_recipe
from models.spec import TrainingSpec
from models.user_code import install

IMAGE = data.IMAGE


def preprocessing_fn(inputs: Mapping[str, tf.Tensor], custom_config: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Apply the recipe's `preprocessing_fn` to decoded images; TFX's Transform calls this function.

    Args:
      inputs: The raw features, of which `image` (string [batch, 1]) is used.
      custom_config: As the Trainer's: `spec` and `code`.

    Returns:
      `image`, in the form of the model's input.
    """
    install(custom_config["code"])
    spec = TrainingSpec.from_json(custom_config["spec"])
    images = data.decode_batch(tf.reshape(inputs[IMAGE], [-1]), spec)
    return {IMAGE: load_recipe(spec.model).preprocessing_fn({IMAGE: images}, spec)[IMAGE]}


class Transformed(tf.Module):  # type: ignore[misc]
    """The graph of Transform, from encoded images (string [batch]) to the model's input.

    Args:
      uri: Folder of the TransformGraph artifact.
    """

    def __init__(self, uri: str) -> None:
        import tensorflow_transform as tft

        super().__init__()
        # The layer, not transform_raw_features: that one loads the graph anew in every function that calls it.
        self._layer = tft.TFTransformOutput(uri).transform_features_layer()

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Return the model's input."""
        return self._layer({IMAGE: images[:, tf.newaxis]})[IMAGE]
