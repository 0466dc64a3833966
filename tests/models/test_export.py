from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from adaptation.errors import AdaptationError
from models import data, trainer
from models.export import export, exported_spec, load_champion
from models.recipe import training_spec
from models.spec import TrainingSpec

Spec = Callable[..., TrainingSpec]
LABELS = ("ant", "bee", "cow", "dog")


def images(encoded: Callable[..., bytes]) -> list[bytes]:
    """Return grey and colour images, PNG and JPEG, of the models' size and of another."""
    rng = np.random.default_rng(0)
    shapes = [(32, 32), (32, 32, 3), (40, 24), (40, 24, 3)]
    return [encoded(rng.integers(0, 256, shape, np.uint8), kind) for shape in shapes for kind in ("PNG", "JPEG")]


def example(image: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    return tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()


def run_in_a_session(folder: Path, signature: str, **inputs: list[bytes]) -> dict[str, np.ndarray]:
    """Call a signature as TensorFlow Serving does, and check that its inputs have the names given."""
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        found = loaded.signature_def[signature]
        fed = {found.inputs[name].name: value for name, value in inputs.items()}
        assert set(found.inputs) == set(inputs)
        return session.run({name: output.name for name, output in found.outputs.items()}, fed)


def predictions(model: keras.Model, spec: TrainingSpec, encoded_images: list[bytes]) -> np.ndarray:
    pixels = np.stack([data.decode(tf.constant(image), spec) for image in encoded_images])
    return model.predict(pixels.astype(np.float32), verbose=0)


@pytest.fixture(scope="module", params=["digits-1", "digits-3", "cifar-3", "resnet50-3"])
def exported(request, tmp_path_factory) -> tuple[keras.Model, TrainingSpec, Path]:
    """Export a model with random weights."""
    name, channels = request.param.split("-")
    spec = training_spec(name, LABELS, image_size=32, channels=int(channels), weights="none")
    keras.utils.set_random_seed(1)
    model = trainer.initial_model(spec)
    folder = tmp_path_factory.mktemp(request.param) / "model"
    export(model, spec, str(folder))
    return model, spec, folder


def test_session_loader_serves_labels_of_encoded_images(exported, encoded):
    model, spec, folder = exported
    batch = images(encoded)
    served = run_in_a_session(folder, "serving_default", image_bytes=batch)
    expected = predictions(model, spec, batch)
    assert set(served) == {"label", "confidence", "content", "probabilities"}
    assert np.array_equal(served["probabilities"], np.round(served["probabilities"], 4))
    assert np.allclose(served["probabilities"], expected, atol=2e-4)
    assert [label.decode() for label in served["label"]] == [LABELS[k] for k in expected.argmax(1)]
    assert served["confidence"].dtype == np.float32
    assert np.allclose(served["confidence"], expected.max(1), atol=1e-4)


def test_session_loader_evaluates_serialized_examples(exported, encoded):
    model, spec, folder = exported
    batch = images(encoded)
    evaluated = run_in_a_session(folder, "evaluate", examples=[example(image) for image in batch])
    assert set(evaluated) == {"probabilities"}
    assert np.allclose(evaluated["probabilities"], predictions(model, spec, batch), atol=1e-4)


def test_export_contains_its_training_spec(exported):
    _, spec, folder = exported
    assert exported_spec(str(folder)) == spec


def test_exporting_again_replaces_the_export(tmp_path, small_spec: Spec):
    for labels in (("a", "b"), ("c", "d")):
        spec = small_spec(labels=labels)
        export(trainer.initial_model(spec), spec, str(tmp_path))
    assert exported_spec(str(tmp_path)).labels == ("c", "d")


@pytest.fixture(scope="module")
def champion(tmp_path_factory, small_spec: Spec) -> tuple[keras.Model, str]:
    folder = str(tmp_path_factory.mktemp("champion") / "model")
    keras.utils.set_random_seed(2)
    model = trainer.initial_model(small_spec())
    export(model, small_spec(), folder)
    return model, folder


def test_warm_start_begins_with_the_champions_weights(champion, small_spec: Spec):
    model, folder = champion
    keras.utils.set_random_seed(3)
    started = trainer.initial_model(small_spec(warm_start=folder, epochs=9, learning_rate=0.5, seed=8)).get_weights()
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(started, model.get_weights(), strict=True))
    scratch = trainer.initial_model(small_spec()).get_weights()
    assert not all(np.array_equal(ours, theirs) for ours, theirs in zip(scratch, model.get_weights(), strict=True))


def test_warm_start_from_an_export_of_version_0_1_0(champion, small_spec: Spec, tmp_path):
    model, folder = champion
    shutil.copytree(folder, tmp_path / "old")
    file = tmp_path / "old" / "assets.extra" / "spec.json"
    values = json.loads(file.read_text())
    file.write_text(
        json.dumps({name: value for name, value in values.items() if name not in ("options", "tensorboard")})
    )
    started = trainer.initial_model(small_spec(warm_start=str(tmp_path / "old"))).get_weights()
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(started, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "cifar"}, "its model is 'digits', the settings say 'cifar'"),
        ({"image_size": 16}, "its image_size is 8, the settings say 16"),
        ({"channels": 3}, "its channels is 1, the settings say 3"),
        ({"labels": ("one", "zero")}, "labels as it does: label 0 was 'zero' and is 'one'"),
        ({"labels": ("one", "zero", "two")}, "labels as it does: label 0 was 'zero' and is 'one'"),
    ],
)
def test_incompatible_champion_is_refused(champion, small_spec: Spec, change, words):
    spec = small_spec(warm_start=champion[1], **change)
    with pytest.raises(AdaptationError, match=words):
        trainer.initial_model(spec)


def test_warm_start_with_an_appended_class_keeps_the_predictions(champion, small_spec: Spec):
    before, folder = champion
    keras.utils.set_random_seed(3)
    model = trainer.initial_model(small_spec(labels=("zero", "one", "two"), warm_start=folder))
    images = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 1)).astype("float32")
    probabilities = model.predict(images, verbose=0)
    assert probabilities.shape == (5, 3)
    known = probabilities[:, :2] / probabilities[:, :2].sum(axis=1, keepdims=True)
    assert np.allclose(known, before.predict(images, verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("layers.Dense(len(spec.labels))(layers.Dense(len(spec.labels))(features))", "changes more than its outputs"),
        ("layers.Concatenate()([layers.Dense(1)(features) for _ in spec.labels])", "another number of weights"),
    ],
    ids=["hidden layer", "more layers"],
)
def test_model_whose_inner_layers_depend_on_the_classes_is_refused(
    tmp_path, monkeypatch, small_spec: Spec, layer: str, words: str
):
    (tmp_path / "odd_network.py").write_text(
        "import keras\nfrom keras import layers\n\n\ndef build_model(spec):\n"
        "    images = keras.Input((spec.image_size, spec.image_size, spec.channels))\n"
        "    features = layers.Flatten()(images)\n"
        f"    return keras.Model(images, layers.Softmax()({layer}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_network", raising=False)
    spec = small_spec("odd_network")
    export(trainer.initial_model(spec), spec, str(tmp_path / "model"))
    with pytest.raises(AdaptationError, match=words):
        trainer.initial_model(spec.but(labels=("zero", "one", "two"), warm_start=str(tmp_path / "model")))


@pytest.mark.parametrize("hidden", [(), (2, 2), (7,)], ids=["fewer layers", "more layers", "wider layers"])
def test_champion_with_other_layers_is_refused(tmp_path, small_spec: Spec, hidden):
    def perceptron(*widths: int) -> keras.Model:
        sizes = [layers.Dense(width) for width in (*widths, 2)]
        return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), *sizes])

    export(perceptron(2), small_spec(), str(tmp_path))
    with pytest.raises(AdaptationError, match="layers"):
        load_champion(perceptron(*hidden), small_spec(warm_start=str(tmp_path)))


def test_missing_champion_is_named(tmp_path, small_spec: Spec):
    with pytest.raises(AdaptationError, match="nowhere"):
        trainer.initial_model(small_spec(warm_start=str(tmp_path / "nowhere")))
