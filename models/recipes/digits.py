"""A small convolutional network for scans of single characters, like scikit-learn's digits: seconds on a CPU."""

from __future__ import annotations

import keras
from keras import layers

from models.spec import TrainingSpec

_FILTERS = (16, 32)


def build_model(spec: TrainingSpec) -> keras.Model:
    """A model of images (float32 [batch, size, size, channels], 0..255): probabilities (float32 [batch, classes])."""
    images = keras.Input((spec.image_size, spec.image_size, spec.channels), name="images")
    features = _augmented(layers.Rescaling(1 / 255)(images))
    for filters in _FILTERS:
        features = layers.MaxPooling2D()(_convolved(_convolved(features, filters), filters))
    features = layers.Dropout(0.3)(layers.Flatten()(features))
    return keras.Model(
        images, layers.Dense(len(spec.labels), activation="softmax", dtype="float32")(features), name="digits"
    )


def _augmented(images: keras.KerasTensor) -> keras.KerasTensor:
    """Turns each image by up to 20 degrees and shifts it by up to 8 %: no flips, a 6 is no 9."""
    turned = layers.RandomRotation(0.055, fill_mode="nearest")(images)
    return layers.RandomTranslation(0.08, 0.08, fill_mode="nearest")(turned)


def _convolved(features: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    features = layers.Conv2D(filters, 3, padding="same", use_bias=False)(features)
    # A few hundred steps are all the training there is: statistics that follow faster than the default's.
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(features))
