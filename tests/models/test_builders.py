"""Built-in models before any training."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from adaptation.errors import AdaptationError
from models.recipe import built_in_recipes, load_recipe, training_spec

LABELS = ("a", "b", "c")
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
SMALL = {"image_size": 32, "weights": "none"}


@pytest.fixture(scope="module")
def trunk_weights(tmp_path_factory) -> str:
    """Write a weights file of ResNet50 without its top, as users provide it."""
    file = str(tmp_path_factory.mktemp("trunk") / "trunk.weights.h5")
    keras.applications.ResNet50(include_top=False, weights=None).save_weights(file)
    return file


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", built_in_recipes())
def test_model_gives_probabilities_and_is_random_only_in_training(name, channels):
    model = load_recipe(name).build_model(training_spec(name, LABELS, channels=channels, **SMALL))
    images = IMAGES[..., :channels]
    probabilities = model(images, training=False).numpy()
    assert probabilities.shape == (4, 3)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert np.array_equal(probabilities, model(images, training=False).numpy())
    assert not np.allclose(model(images, training=True), model(images, training=True))


def test_residual_network_is_compact():
    assert 100_000 < load_recipe("cifar").build_model(training_spec("cifar", LABELS)).count_params() < 300_000


def test_resnet50_starts_from_a_weights_file(trunk_weights):
    spec = training_spec("resnet50", LABELS, image_size=32, weights=trunk_weights)
    trunk = keras.applications.ResNet50(include_top=False, weights=trunk_weights)
    tuned = next(layer for layer in load_recipe("resnet50").build_model(spec).layers if isinstance(layer, keras.Model))
    assert all(
        np.array_equal(ours, theirs) for ours, theirs in zip(tuned.get_weights(), trunk.get_weights(), strict=True)
    )


@pytest.mark.parametrize("name", ["missing.weights.h5", "other.weights.h5"])
def test_weights_of_another_model_are_refused_by_name(tmp_path, name):
    load_recipe("digits").build_model(training_spec("digits", LABELS)).save_weights(tmp_path / "other.weights.h5")
    spec = training_spec("resnet50", LABELS, image_size=32, weights=str(tmp_path / name))
    with pytest.raises(AdaptationError, match=name):
        load_recipe("resnet50").build_model(spec)
