from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptation.errors import AdaptationError
from models import data, trainer
from models.recipe import training_spec
from models.spec import TrainingSpec

Spec = Callable[..., TrainingSpec]


def fn_args(train: str, evaluation: str, folder: Path, spec: TrainingSpec) -> SimpleNamespace:
    """Return what TFX's Trainer passes, as far as it is used."""
    custom_config = {"spec": spec.to_json()}
    return SimpleNamespace(
        train_files=[train],
        eval_files=[evaluation],
        serving_model_dir=str(folder),
        base_model=None,
        model_run_dir=str(folder / "run"),
        transform_graph_path=None,
        hyperparameters=None,
        custom_config=custom_config,
    )


def accuracy(folder: Path, rows: list[tuple[bytes, int]], labels: tuple[str, ...]) -> float:
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    served = serve(image_bytes=tf.constant([image for image, _ in rows]))["label"].numpy()
    return float(np.mean([label.decode() == labels[index] for label, (_, index) in zip(served, rows, strict=True)]))


@pytest.fixture
def tiny_spec(small_spec: Spec, tiny_network: str) -> Spec:
    """Return a maker of specs of a custom model."""
    return functools.partial(small_spec, tiny_network, channels=1)


@pytest.fixture
def pattern(tmp_path, write_records, two_classes) -> str:
    return write_records(tmp_path / "records" / "a.tfrecord", two_classes)


def test_digits_reach_their_accuracy_and_report_every_epoch(tmp_path, write_records, digits, caplog):
    train, test = digits
    spec = training_spec("digits", [f"digit-{number}" for number in range(10)])
    patterns = (write_records(tmp_path / "train" / "a", train), write_records(tmp_path / "test" / "a", test))
    with caplog.at_level(logging.INFO, logger="adaptation.progress"):
        trainer.run_fn(fn_args(*patterns, tmp_path / "model", spec))
    assert accuracy(tmp_path / "model", test, spec.labels) >= 0.97
    messages = [record.getMessage() for record in caplog.records if record.name == "adaptation.progress"]
    assert messages[0] == "training digits on 800 images (200 to evaluate)"
    assert messages[-1].startswith(f"epoch {spec.epochs}/{spec.epochs}, accuracy 0.9")
    assert len(messages) == 1 + spec.epochs


def test_same_seed_gives_the_same_model_and_another_seed_another(tmp_path, pattern, tiny_spec: Spec):
    def weights(name: str, seed: int) -> bytes:
        trainer.run_fn(fn_args(pattern, pattern, tmp_path / name, tiny_spec(epochs=2, seed=seed)))
        trained = trainer.initial_model(tiny_spec(warm_start=str(tmp_path / name)))
        return b"".join(array.tobytes() for array in trained.get_weights())

    first = weights("first", seed=5)
    assert weights("again", seed=5) == first
    assert weights("other", seed=6) != first


def test_warm_start_uses_the_base_model_that_tfx_passes(tmp_path, pattern, tiny_spec: Spec):
    first = fn_args(pattern, pattern, tmp_path / "champion", tiny_spec(epochs=20, learning_rate=0.05))
    first.base_model = str(tmp_path / "no champion yet")
    trainer.run_fn(first)
    args = fn_args(pattern, pattern, tmp_path / "challenger", tiny_spec(learning_rate=1e-9, seed=9))
    args.base_model = str(tmp_path / "champion")
    trainer.run_fn(args)
    champion, challenger = (stored_weights(tmp_path / name) for name in ("champion", "challenger"))
    assert all(np.allclose(theirs, ours, atol=1e-6) for theirs, ours in zip(champion, challenger, strict=True))


def stored_weights(folder: Path) -> list[np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    names = sorted(name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE"))
    return [reader.get_tensor(name) for name in names]


def test_warm_start_continues_from_the_champions_loss(tmp_path, pattern, tiny_spec: Spec):
    trainer.run_fn(fn_args(pattern, pattern, tmp_path / "champion", tiny_spec(epochs=20, learning_rate=0.05)))

    def loss(spec: TrainingSpec) -> float:
        model = trainer.trainable(trainer.initial_model(spec), spec, steps=1)
        batches = data.evaluation_batches(data.find_records([pattern], spec), spec)
        return float(model.evaluate(batches, verbose=0, return_dict=True)["loss"])

    assert loss(tiny_spec(warm_start=str(tmp_path / "champion"))) < 0.7 * loss(tiny_spec())


def test_event_file_has_the_metrics_of_each_epoch(tmp_path, pattern, tiny_spec: Spec):
    trainer.run_fn(fn_args(pattern, pattern, tmp_path / "model", tiny_spec(epochs=2, tensorboard=True)))
    (file,) = (tmp_path / "model" / "run").iterdir()
    first, *epochs = tf.compat.v1.train.summary_iterator(str(file))
    curves = json.loads((tmp_path / "model" / "assets.extra" / "history.json").read_text())
    assert first.file_version == "brain.Event:2"
    assert [event.step for event in epochs] == [1, 2]
    for event in epochs:
        figures = {one.tag: one.simple_value for one in event.summary.value}
        assert figures == pytest.approx({name: values[event.step - 1] for name, values in curves.items()})


def test_training_without_tensorboard_writes_no_events(tmp_path, pattern, tiny_spec: Spec):
    trainer.run_fn(fn_args(pattern, pattern, tmp_path / "model", tiny_spec()))
    assert not (tmp_path / "model" / "run").exists()


def test_tfx_steps_do_not_shorten_the_epochs(tmp_path, pattern, tiny_spec: Spec, caplog):
    args = fn_args(pattern, pattern, tmp_path / "model", tiny_spec(epochs=2))
    args.train_steps, args.eval_steps = 1, 1
    with caplog.at_level(logging.INFO, logger="adaptation.progress"):
        trainer.run_fn(args)
    epochs = [message for message in caplog.messages if message.startswith("epoch ")]
    assert len(epochs) == 2 and epochs[-1].startswith("epoch 2/2, ")


def test_export_has_every_weight_once_and_no_optimizer_state(tmp_path, pattern, tiny_spec: Spec):
    trainer.run_fn(fn_args(pattern, pattern, tmp_path, tiny_spec()))
    stored = tf.train.list_variables(str(tmp_path / "variables" / "variables"))
    assert sorted(shape for name, shape in stored if name.endswith("VARIABLE_VALUE")) == [[2], [64, 2]]
    with h5py.File(tmp_path / "assets.extra" / "model.weights.h5") as weights:
        assert "optimizer" not in weights


@pytest.mark.parametrize("empty", ["Split-train", "Split-eval"])
def test_empty_split_is_refused_before_anything_is_written(tmp_path, write_records, two_classes, small_spec, empty):
    for split in {"Split-train", "Split-eval"} - {empty}:
        write_records(tmp_path / split / "a.tfrecord", two_classes)
    args = fn_args(str(tmp_path / "Split-train/*"), str(tmp_path / "Split-eval/*"), tmp_path / "model", small_spec())
    with pytest.raises(AdaptationError, match=empty):
        trainer.run_fn(args)
    assert not (tmp_path / "model").exists()


def test_training_that_diverges_raises_and_exports_nothing(tmp_path, pattern, tiny_spec: Spec):
    args = fn_args(pattern, pattern, tmp_path / "model", tiny_spec(learning_rate=1e38, epochs=3))
    with pytest.raises(AdaptationError, match="learning_rate"):
        trainer.run_fn(args)
    assert not (tmp_path / "model").exists()


def test_mixed_precision_reaches_the_same_accuracy_and_serves_float32(tmp_path, pattern, two_classes, tiny_spec: Spec):
    def trained(precision: str) -> float:
        spec = tiny_spec(epochs=20, learning_rate=0.05, precision=precision)
        trainer.run_fn(fn_args(pattern, pattern, tmp_path / precision, spec))
        return accuracy(tmp_path / precision, two_classes, spec.labels)

    assert min(trained("mixed"), trained("float32")) >= 29 / 32
    assert {array.dtype for array in stored_weights(tmp_path / "mixed")} == {np.dtype("float32")}
    half, single = (served_operations(tmp_path / precision) for precision in ("mixed", "float32"))
    assert half == single


def served_operations(folder: Path) -> list[tuple[str, list[str]]]:
    """Return each operation of the served signature, with its output types."""
    graph = tf.saved_model.load(str(folder)).signatures["evaluate"].graph
    return [(one.type, [output.dtype.name for output in one.outputs]) for one in graph.get_operations()]


class Recorder(keras.Model):
    """A subclassed model that records the type of the images that it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.scores = keras.layers.Dense(2, activation="softmax")

    def call(self, images: tf.Tensor) -> tf.Tensor:
        self.seen.append(keras.backend.standardize_dtype(images.dtype))
        return self.scores(keras.ops.mean(images, axis=(1, 2)))


def test_model_is_always_called_with_float32(pattern, small_spec: Spec):
    batches, model = data.training_batches(data.find_records([pattern], small_spec()), small_spec()), Recorder()
    trainer.fit(model, batches, batches, small_spec())
    assert set(model.seen) == {"float32"}


@pytest.mark.parametrize("xla", ["on", "off"])
@pytest.mark.parametrize("precision", ["mixed", "float32"])
def test_training_on_bytes_equals_training_on_floats(pattern, tiny_spec: Spec, precision, xla):
    spec = tiny_spec(epochs=3, precision=precision, xla=xla)
    records = data.find_records([pattern], spec)

    def weights(fit: Callable[[keras.Model, tf.data.Dataset], object]) -> list[np.ndarray]:
        keras.utils.set_random_seed(4)
        with trainer.computing(precision):
            model = trainer.initial_model(spec)
            fit(model, data.training_batches(records, spec))
        return model.get_weights()

    def fit_floats(model: keras.Model, batches: tf.data.Dataset) -> None:
        """Train as Keras does on inputs of the declared type."""
        rate = keras.optimizers.schedules.CosineDecay(spec.learning_rate, spec.epochs * len(batches))
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", jit_compile=xla == "on")
        floats = batches.map(lambda images, labels: (tf.cast(images, tf.float32), labels))
        model.fit(floats, epochs=spec.epochs, shuffle=False, verbose=0)

    watched = data.evaluation_batches(records, spec)
    ours = weights(lambda model, batches: trainer.fit(model, batches, watched, spec))
    for one, theirs in zip(ours, weights(fit_floats), strict=True):
        assert one.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("precision", ["mixed", "float32"])
def test_precision_policy_is_restored_after_the_training(tmp_path, pattern, tiny_spec: Spec, precision):
    seen = []
    with trainer.computing(precision):
        seen += [layer.compute_dtype for layer in trainer.initial_model(tiny_spec()).layers if layer.weights]
    assert seen == [{"mixed": "float16", "float32": "float32"}[precision]]
    assert trainer.initial_model(tiny_spec()).layers[-1].compute_dtype == "float32"


@pytest.mark.parametrize("xla", ["on", "off"])
def test_xla_compiles_the_step_if_requested(tiny_spec: Spec, xla):
    spec = tiny_spec(xla=xla)
    assert trainer.trainable(trainer.initial_model(spec), spec, steps=1).jit_compile is (xla == "on")


@pytest.mark.parametrize("name, value", [("precision", "half"), ("xla", "yes"), ("prefetch", -1)])
def test_invalid_training_setting_is_refused(tiny_spec: Spec, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        tiny_spec(**{name: value})
