"""Your recipe, as "adapt init --recipe" writes it beside the settings. Change what should be different.

Every hook but `build_model` may be left out; docs/recipe/ has a page for each. `adapt doctor` checks the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.recipe import Recipe
from models.spec import Knobs, TrainingSpec

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Options:
    """Settings of your own: [model.options] in adapt.toml. Types are checked, and unknown names are refused."""

    filters: int = 16


class Own(Recipe):
    """A small convolutional network."""

    # The training settings, unless adapt.toml says otherwise.
    defaults = Knobs(image_size=32, channels=3, epochs=10, batch_size=64, learning_rate=1e-3)
    options = Options

    def build_model(self, spec: TrainingSpec) -> keras.Model:
        """Return a model of images (float32 [batch, size, size, channels], 0..255) that gives probabilities."""
        import keras  # here, so that the recipe is checked at once; TensorFlow takes seconds to load
        from keras import layers

        images = keras.Input((spec.image_size, spec.image_size, spec.channels))
        features = layers.RandomFlip("horizontal")(layers.Rescaling(1 / 255)(images))  # augmentation: in training only
        for factor in (1, 2, 4):
            features = layers.Conv2D(factor * self.options_in(spec).filters, 3, padding="same")(features)
            features = layers.ReLU()(layers.BatchNormalization()(features))
            features = layers.MaxPooling2D()(features)
        features = layers.GlobalAveragePooling2D()(features)
        # float32 whatever the precision: probabilities of half precision are too coarse to compare models by.
        return keras.Model(images, layers.Dense(len(spec.labels), activation="softmax", dtype="float32")(features))


recipe = Own()
