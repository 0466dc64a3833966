"""The program that `test_bounded_memory` starts with limited memory: large batches in a few megabytes.

Every image here is a small JPEG with a megabyte of padding behind its end, which decoders ignore: so a batch
is large, but quick to process.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
from pathlib import Path
from typing import Any

from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.span_preparation import Preparation, chunks, prepare, stage
from adaptation.data.spans import Span, SpanStore
from adaptation.data.splits import Split
from adaptation.evaluation.accuracy import evaluate
from adaptation.io.storage import File
from adaptation.platforms.base import Upload
from adaptation.platforms.local import LocalPredictor, LocalRegistry, predictor
from tests.worlds.images import image
from tests.worlds.spans import LABELS, NAMES

MEGABYTE = 2**20


def main(work: str, folder: str, count: str) -> None:
    """Run the work on so many images."""
    threading.stack_size(MEGABYTE // 4)  # the kernel would count eight megabytes for each thread
    {"cut": cut, "prepare": prepared, "predict": predicted, "evaluate": evaluated}[work](Path(folder), int(count))


def cut(folder: Path, count: int) -> None:
    """List so many images, then cut and stage them as SpanPreparator does before Beam starts: 1 GiB for 2,000,000."""
    limit_memory(1024)
    snapshot = Snapshot("2021-10", "gs://b", tuple(File(f"{NAMES[n % 2]}_{n:07d}.jpg", 30_000) for n in range(count)))
    preparation = Preparation(str(folder), Span(1), snapshot, LABELS, Split(), 0.0, "")
    stage(preparation, chunks(preparation, 128 * MEGABYTE))


def prepared(folder: Path, count: int) -> None:
    """Publish a span in shards of 4 MB."""
    snapshot = snapshot_folder(_images(folder / "images", count), "2021-10")
    limit_memory(64)
    prepare(SpanStore(str(folder / "data")), snapshot, LABELS, Split(ratio=0.5), shard_bytes=4 * MEGABYTE)


def predicted(folder: Path, count: int) -> None:
    """Predict in batches of 4 MB, after a first one that loads what TensorFlow needs."""
    predictor.BATCH_BYTES = 4 * MEGABYTE
    registry = LocalRegistry(str(folder / "registry"))
    registry.promote(registry.upload(Upload(_model(folder / "model"), "first", (1,), {}, "", "")), "first")
    files = [str(file) for file in sorted(Path(_images(folder / "images", count)).iterdir())]
    _predict(registry, folder, files[:10])
    limit_memory(128)
    _predict(registry, folder, files)


def evaluated(folder: Path, count: int) -> None:
    """Evaluate results whose lines are a kilobyte and a half each."""
    names = [f"{NAMES[number % 2]}_{number:06d}.jpg" for number in range(count)]
    with (folder / "prediction.results-00000-of-00001").open("w") as results:
        for name in names:
            prediction = {"label": name.split("_")[0], "confidence": 0.5, "of_no_interest": "x" * 1500}
            results.write(json.dumps({"instance": f"gs://b/{name}", "prediction": prediction}) + "\n")
    snapshot = Snapshot("2021-10", "gs://b", tuple(File(name, 1) for name in names))
    limit_memory(288)
    assert evaluate(snapshot, str(folder), LABELS, 0.0).accuracy == 1.0


def limit_memory(megabytes: int) -> None:
    """Limit this process to so much more private memory than it has now, as the kernel counts it."""
    status = Path("/proc/self/status").read_text()
    (used,) = (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + megabytes * MEGABYTE,) * 2)


def _predict(registry: LocalRegistry, folder: Path, files: list[str]) -> None:
    (folder / "files.txt").write_text("\n".join(files))
    (results,) = Path(LocalPredictor(registry).predict(str(folder / "files.txt"), str(folder / "out"))).glob(
        "*results*"
    )
    assert len(results.read_text().splitlines()) == len(files)


def _model(folder: Path) -> str:
    """Save a model that predicts a cat for any bytes."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: Any) -> dict[str, Any]:
        return {"label": tf.fill(tf.shape(image_bytes), "cat"), "confidence": tf.ones(tf.shape(image_bytes))}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return str(folder)


def _images(folder: Path, count: int) -> str:
    folder.mkdir()
    for number in range(count):
        (folder / f"{NAMES[number % 2]}_{number:04d}.jpg").write_bytes(image(number, "JPEG") + bytes(MEGABYTE))
    return str(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
