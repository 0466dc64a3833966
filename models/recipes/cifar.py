"""A compact residual network for small colour photographs, like CIFAR-10: minutes of training on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.recipe import Recipe
from models.spec import NO_WEIGHTS, Knobs, TrainingSpec

if TYPE_CHECKING:
    import keras
    from keras import layers

_STEM = 24
_STAGES = (24, 48, 96)


class Cifar(Recipe):
    """A compact residual network."""

    defaults = Knobs(image_size=32, channels=3, epochs=15, batch_size=64, learning_rate=6e-3, weights=NO_WEIGHTS)
    pretrained = False

    def build_model(self, spec: TrainingSpec) -> keras.Model:
        """Return the network, see `Recipe.build_model`; each image is mirrored and cropped while training."""
        import keras
        from keras import layers

        images = keras.Input((spec.image_size, spec.image_size, spec.channels), name="images")
        features = layers.Rescaling(1 / 127.5, offset=-1)(_augmented(images, spec.image_size))
        features = layers.ReLU()(_normalized(_convolution(_STEM)(features)))
        for filters in _STAGES:
            features = _residual(features, filters, stride=2)
        features = layers.GlobalAveragePooling2D()(features)
        return keras.Model(
            images, layers.Dense(len(spec.labels), activation="softmax", dtype="float32")(features), name="cifar"
        )


recipe = Cifar()


def _augmented(images: keras.KerasTensor, size: int) -> keras.KerasTensor:
    """Mirror each image at random and crop it out of itself with an eighth of padding."""
    from keras import layers

    mirrored = layers.RandomFlip("horizontal")(images)
    padded = layers.ZeroPadding2D(size // 8)(mirrored)
    return layers.RandomCrop(size, size)(padded)


def _residual(features: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    from keras import layers

    shortcut = _normalized(_convolution(filters, 1, stride)(features))
    features = layers.ReLU()(_normalized(_convolution(filters, 3, stride)(features)))
    features = _normalized(_convolution(filters)(features))
    return layers.ReLU()(layers.Add()([features, shortcut]))


def _convolution(filters: int, width: int = 3, stride: int = 1) -> layers.Layer:
    from keras import layers

    return layers.Conv2D(filters, width, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal")


def _normalized(features: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    return layers.BatchNormalization(momentum=0.9)(features)
