"""Batch prediction on this machine: files in, result lines out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from adaptation.platforms.base import Upload
from adaptation.platforms.connect import LocalConfig, connect
from adaptation.platforms.local.predictor import BATCH_IMAGES
from benchmarks.images import CLASSES, some_images, source
from benchmarks.runner import Baseline, Bench, Subject, at_least, timed
from models import data
from models.export import export
from models.recipe import training_spec
from models.trainer import initial_model

SPEC = training_spec("cifar", CLASSES)


@contextmanager
def bench(folder: Path, images: int = 20_000) -> Iterator[Bench]:
    """Predict so many images with the CIFAR model, untrained."""
    files = some_images(folder / "images", images).uris
    file_list = folder / "files.txt"
    file_list.write_text("\n".join(files))
    a_few = folder / "a_few.txt"  # to load and to trace the model, on both sides, before measuring
    a_few.write_text("\n".join(files[:BATCH_IMAGES]))
    model = initial_model(SPEC)
    registry = _registry(folder, model)
    predictor = connect(LocalConfig(registry, ())).predictor
    batches = decoded(files)
    predictor.predict(str(a_few), str(folder / "warm-up"))
    called(model, batches[:1])
    subject = Subject(
        "batch prediction, local",
        timed(lambda: predictor.predict(str(file_list), str(folder / "predictions"))),
        (Baseline("floor: the model over decoded arrays", timed(lambda: called(model, batches)), at_least(0.8)),),
        rounds=2,
        warm_up=False,
    )
    yield Bench((subject,), f"{images:,} files of {source(images)}")


def decoded(files: Sequence[str]) -> list[np.ndarray]:
    """Return images as the model's input, in batches like the predictor's."""
    decode = tf.function(lambda images: data.decode_batch(images, SPEC), reduce_retracing=True)
    batches = (files[start : start + BATCH_IMAGES] for start in range(0, len(files), BATCH_IMAGES))
    return [decode(tf.constant([Path(file).read_bytes() for file in batch])).numpy() for batch in batches]


def called(model: tf.keras.Model, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run the floor: the probabilities of images that are in memory, ready for the model."""
    function = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return [function(tf.constant(batch)).numpy() for batch in batches]


def _registry(folder: Path, model: tf.keras.Model) -> str:
    """Return the root of a platform whose champion is the model."""
    export(model, SPEC, str(folder / "export"))
    root = str(folder / "platform")
    registry = connect(LocalConfig(root, ())).registry
    registry.promote(registry.upload(Upload(str(folder / "export"), "bench", (1,), {}, "bench", "bench")), "bench")
    return root
