"""Preparing a span on disk: JPEG files become published shards, with checks, hashes, split, CRCs and manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptation.data.batches import Snapshot
from adaptation.data.labels import Labels
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import Manifest, SpanStore
from benchmarks.images import CLASSES, some_images, source
from benchmarks.runner import Baseline, Bench, Subject, at_least, timed

LABELS = Labels(CLASSES, "folder")


@contextmanager
def bench(folder: Path, images: int = 50_000) -> Iterator[Bench]:
    """Prepare so many images."""
    snapshot, data, out = some_images(folder / "images", images), folder / "data", folder / "out"
    original(snapshot.uris[:1], out)  # it imports TensorFlow, which is not measured
    subject = Subject(
        "span preparation, disk",
        timed(lambda: prepared(snapshot, str(data)), before=lambda: shutil.rmtree(data, ignore_errors=True)),
        (
            Baseline("original", timed(lambda: original(snapshot.uris, out)), at_least(4)),
            Baseline("floor: the bytes concatenated", timed(lambda: concatenated(snapshot.uris, out)), at_least(0.4)),
        ),
        rounds=2,
        warm_up=False,
    )
    yield Bench((subject,), f"{images:,} files of {source(images)}")


def prepared(snapshot: Snapshot, data_root: str) -> Manifest:
    """Run our way."""
    return prepare(SpanStore(data_root), snapshot, LABELS)


def original(files: Sequence[str], out: Path, read: Callable[[str], Any] | None = None) -> None:
    """Decode one image after the other by TensorFlow's eager operations for its shape, and write one file.

    Args:
      files: The images.
      out: The file to write.
      read: Reads a file as a string tensor; TensorFlow's own operation by default.
    """
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(out)) as writer:
        for file in files:
            image = (read or tf.io.read_file)(file)
            height, width, depth = tf.io.decode_jpeg(image).shape
            features = {
                "height": _whole_number(height),
                "width": _whole_number(width),
                "depth": _whole_number(depth),
                "label": _whole_number(CLASSES.index(file.split("/")[-2])),
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.numpy()])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def concatenated(files: Sequence[str], out: Path) -> None:
    """Run the floor: every byte read and written once."""
    with out.open("wb") as whole:
        for name in files:
            with open(name, "rb") as file:
                whole.write(file.read())


def _whole_number(value: int) -> Any:
    import tensorflow as tf

    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
