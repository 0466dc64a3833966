"""Fixtures for models/: encoded images, record files, small specs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from models.recipe import training_spec
from models.spec import TrainingSpec
from tests.worlds import images

Row = tuple[bytes, int]
TINY_NETWORK = """
import keras
from keras import layers


def build_model(spec):
    images = keras.Input((spec.image_size, spec.image_size, spec.channels))
    features = layers.Dropout(0.2)(layers.Flatten()(layers.Rescaling(1 / 255)(images)))
    return keras.Model(images, layers.Dense(len(spec.labels), activation="softmax")(features))
"""


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    return images.encoded


@pytest.fixture(scope="session")
def small_spec() -> Callable[..., TrainingSpec]:
    """Return a maker of digits specs that train in a moment; keywords change them."""

    def make(model: str = "digits", **overrides: object) -> TrainingSpec:
        chosen = {"epochs": 1, "batch_size": 8, "image_size": 8, **overrides}
        return training_spec(model, chosen.pop("labels", ("zero", "one")), **chosen)

    return make


@pytest.fixture(scope="session")
def tiny_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Write a custom model that trains in a moment. Return its import path."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "tiny_network.py").write_text(TINY_NETWORK)
    sys.path.insert(0, str(folder))
    yield "tiny_network"
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def write_records() -> Callable[[Path, Iterable[Row]], str]:
    """Return a writer of (encoded image, label) pairs as a record file, which returns the path as a pattern."""
    import tensorflow as tf

    def feature(value: bytes | int) -> tf.train.Feature:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    def write(file: Path, rows: Iterable[Row]) -> str:
        file.parent.mkdir(parents=True, exist_ok=True)
        options = tf.io.TFRecordOptions(compression_type="GZIP" if file.suffix == ".gz" else "")
        with tf.io.TFRecordWriter(str(file), options) as writer:
            for number, (image, label) in enumerate(rows):
                values = {"image": image, "label": label, "id": f"{number}.png".encode(), "span": 1}
                features = tf.train.Features(feature={name: feature(value) for name, value in values.items()})
                writer.write(tf.train.Example(features=features).SerializeToString())
        return str(file)

    return write


@pytest.fixture(scope="session")
def two_classes() -> list[Row]:
    """Return 16 dark images of class 0 and 16 bright ones of class 1, alternating, each different."""
    return [(images.grey(4 * k + 120 * (k % 2), (8, 8)), k % 2) for k in range(32)]


@pytest.fixture(scope="session")
def digits() -> tuple[list[Row], list[Row]]:
    """Return 1,000 of scikit-learn's scans as 32x32 grey PNG files: 800 to train on, 200 to test."""
    scans = load_digits()
    chosen = np.random.default_rng(7).permutation(len(scans.images))[:1000]
    rows = [(_scan(scans.images[index]), int(scans.target[index])) for index in chosen]
    return rows[:800], rows[800:]


def _scan(levels: np.ndarray) -> bytes:
    scan = Image.fromarray((levels * 255 / 16).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
    return images.encoded(scan)
