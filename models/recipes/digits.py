"""A small convolutional network for scans of single characters, like scikit-learn's digits: seconds on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.recipe import Recipe
from models.spec import NO_WEIGHTS, Knobs, TrainingSpec

if TYPE_CHECKING:
    import keras

_FILTERS = (16, 32)


class Digits(Recipe):
    """A small convolutional network."""

    defaults = Knobs(image_size=16, channels=1, epochs=15, batch_size=32, learning_rate=3e-3, weights=NO_WEIGHTS)
    pretrained = False

    def build_model(self, spec: TrainingSpec) -> keras.Model:
        """Return the network, see `Recipe.build_model`; each image is turned and shifted a little while training."""
        import keras
        from keras import layers

        images = keras.Input((spec.image_size, spec.image_size, spec.channels), name="images")
        features = _augmented(layers.Rescaling(1 / 255)(images))
        for filters in _FILTERS:
            features = layers.MaxPooling2D()(_convolved(_convolved(features, filters), filters))
        features = layers.Dropout(0.3)(layers.Flatten()(features))
        return keras.Model(
            images, layers.Dense(len(spec.labels), activation="softmax", dtype="float32")(features), name="digits"
        )


recipe = Digits()


def _augmented(images: keras.KerasTensor) -> keras.KerasTensor:
    """Turn each image by up to 20 degrees and shift it by up to 8 %: no flips, a 6 is no 9."""
    from keras import layers

    turned = layers.RandomRotation(0.055, fill_mode="nearest")(images)
    return layers.RandomTranslation(0.08, 0.08, fill_mode="nearest")(turned)


def _convolved(features: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    from keras import layers

    features = layers.Conv2D(filters, 3, padding="same", use_bias=False)(features)
    # A few hundred steps are all the training there is: statistics that follow faster than the default's.
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(features))
