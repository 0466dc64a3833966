"""ResNet50 of Keras Applications, fine-tuned: its own preprocessing, the pretrained trunk, a new head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptation.errors import AdaptationError
from models.recipe import Recipe
from models.spec import IMAGENET, NO_WEIGHTS, Knobs, TrainingSpec

if TYPE_CHECKING:
    import keras


class ResNet50(Recipe):
    """ResNet50, fine-tuned."""

    defaults = Knobs(image_size=224, channels=3, epochs=3, batch_size=32, learning_rate=1e-4, weights=IMAGENET)
    smallest = 32

    def build_model(self, spec: TrainingSpec) -> keras.Model:
        """Return the network, see `Recipe.build_model`.

        Raises:
          AdaptationError: The spec's weights are missing or not ResNet50's.
        """
        import keras
        from keras import layers
        from keras.applications.resnet50 import preprocess_input

        images = keras.Input((spec.image_size, spec.image_size, spec.channels), name="images")
        features = preprocess_input(_coloured(_augmented(images)))
        features = layers.Dropout(0.3)(_trunk(spec)(features, training=_statistics(spec)))
        head = layers.Dense(len(spec.labels), activation="softmax", dtype="float32")
        return keras.Model(images, head(features), name="resnet50_tuned")


recipe = ResNet50()


def _augmented(images: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    mirrored = layers.RandomFlip("horizontal")(images)
    return layers.RandomTranslation(0.08, 0.08, fill_mode="nearest")(mirrored)


def _coloured(images: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    return images if images.shape[-1] == 3 else layers.Concatenate()([images] * 3)


def _statistics(spec: TrainingSpec) -> bool | None:
    """Return whether batch normalization learns: pretrained, it keeps the statistics that belong to its weights."""
    return None if spec.weights == NO_WEIGHTS else False


def _trunk(spec: TrainingSpec) -> keras.Model:
    from keras.applications import resnet50

    size = (spec.image_size, spec.image_size, 3)
    weights = None if spec.weights == NO_WEIGHTS else spec.weights
    try:
        return resnet50.ResNet50(include_top=False, weights=weights, input_shape=size, pooling="avg")
    except Exception as error:  # a missing file, another network's weights, a failed download: Keras has no common type
        raise AdaptationError(
            f"ResNet50 cannot start from weights {spec.weights!r} ({str(error).strip().splitlines()[0]}). "
            f'Give a weights file of ResNet50 without its top (.h5), "{NO_WEIGHTS}", or, '
            f'with a network, "{IMAGENET}".'
        ) from error
