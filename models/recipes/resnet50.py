"""ResNet50 of Keras Applications, fine-tuned: its own preprocessing, the pretrained trunk, a new head."""

from __future__ import annotations

import keras
from keras import layers
from keras.applications.resnet50 import ResNet50, preprocess_input

from adaptation.errors import AdaptationError
from models.spec import IMAGENET, NO_WEIGHTS, TrainingSpec


class UnusableWeights(AdaptationError, OSError):
    """Weights that could not be loaded into ResNet50."""


def build_model(spec: TrainingSpec) -> keras.Model:
    """A model of images (float32 [batch, size, size, channels], 0..255): probabilities (float32 [batch, classes]).

    Raises:
      UnusableWeights: The specification's weights are missing or not ResNet50's.
    """
    images = keras.Input((spec.image_size, spec.image_size, spec.channels), name="images")
    features = preprocess_input(_coloured(_augmented(images)))
    features = layers.Dropout(0.3)(_trunk(spec)(features, training=_statistics(spec)))
    return keras.Model(
        images, layers.Dense(len(spec.labels), activation="softmax", dtype="float32")(features), name="resnet50_tuned"
    )


def _augmented(images: keras.KerasTensor) -> keras.KerasTensor:
    mirrored = layers.RandomFlip("horizontal")(images)
    return layers.RandomTranslation(0.08, 0.08, fill_mode="nearest")(mirrored)


def _coloured(images: keras.KerasTensor) -> keras.KerasTensor:
    return images if images.shape[-1] == 3 else layers.Concatenate()([images] * 3)


def _statistics(spec: TrainingSpec) -> bool | None:
    """Pretrained, batch normalization keeps the statistics that belong to its weights; from scratch it learns them."""
    return None if spec.weights == NO_WEIGHTS else False


def _trunk(spec: TrainingSpec) -> keras.Model:
    size = (spec.image_size, spec.image_size, 3)
    weights = None if spec.weights == NO_WEIGHTS else spec.weights
    try:
        return ResNet50(include_top=False, weights=weights, input_shape=size, pooling="avg")
    except Exception as error:  # a missing file, another network's weights, a failed download: Keras has no common type
        raise UnusableWeights(
            f"ResNet50 cannot start from weights {spec.weights!r} ({str(error).strip().splitlines()[0]}). "
            f'Give a weights file of ResNet50 without its top (.h5), "{NO_WEIGHTS}", or, '
            f'where there is a network, "{IMAGENET}".'
        ) from error
