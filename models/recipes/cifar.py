"""A compact residual network for small colour photographs, like CIFAR-10: minutes of training on a CPU."""

from __future__ import annotations

import keras
from keras import layers

from models.spec import TrainingSpec

_STEM = 24
_STAGES = (24, 48, 96)


def build_model(spec: TrainingSpec) -> keras.Model:
    """A model of images (float32 [batch, size, size, channels], 0..255): probabilities (float32 [batch, classes])."""
    images = keras.Input((spec.image_size, spec.image_size, spec.channels), name="images")
    features = layers.Rescaling(1 / 127.5, offset=-1)(_augmented(images, spec.image_size))
    features = layers.ReLU()(_normalized(_convolution(_STEM)(features)))
    for filters in _STAGES:
        features = _residual(features, filters, stride=2)
    features = layers.GlobalAveragePooling2D()(features)
    return keras.Model(
        images, layers.Dense(len(spec.labels), activation="softmax", dtype="float32")(features), name="cifar"
    )


def _augmented(images: keras.KerasTensor, size: int) -> keras.KerasTensor:
    """Mirrors each image at random and crops it out of itself with an eighth of padding."""
    mirrored = layers.RandomFlip("horizontal")(images)
    padded = layers.ZeroPadding2D(size // 8)(mirrored)
    return layers.RandomCrop(size, size)(padded)


def _residual(features: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    shortcut = _normalized(_convolution(filters, 1, stride)(features))
    features = layers.ReLU()(_normalized(_convolution(filters, 3, stride)(features)))
    features = _normalized(_convolution(filters)(features))
    return layers.ReLU()(layers.Add()([features, shortcut]))


def _convolution(filters: int, width: int = 3, stride: int = 1) -> layers.Layer:
    return layers.Conv2D(filters, width, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal")


def _normalized(features: keras.KerasTensor) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.9)(features)
