"""Batches with images, their snapshots, and spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from adaptation.data import tfrecords
from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.labels import Labels
from adaptation.data.spans import SPLITS, Manifest, Shard, Span, SpanStore, count_labels
from adaptation.data.tfrecords import LabelledImage
from adaptation.io import storage
from tests.worlds.images import collect

NAMES = ("cat", "ship")
LABELS = Labels(NAMES)


def numbered(count: int, first: int = 0) -> list[str]:
    """Return image names, of each label in turn: `cat_0000.png`, `ship_0001.png` ..."""
    return [f"{NAMES[number % 2]}_{number:04d}.png" for number in range(first, first + count)]


def collected(folder: str, count: int = 12, first: int = 0) -> Snapshot:
    """Put so many images into a folder and return its snapshot, named after it."""
    collect(folder, numbered(count, first))
    return snapshot_folder(folder, storage.basename(folder))


def published(store: SpanStore, key: str = "", images: int = 4, names: tuple[str, ...] = NAMES) -> Manifest:
    """Publish a span without preparation, of records that nobody decodes."""
    snapshot = Snapshot(key or f"batch-{len(store.spans())}", "/elsewhere", (storage.File("cat_1.png", 1),))
    span = store.claim(snapshot.key)
    manifest = unpublished(store, span, snapshot.key, images, names)
    return store.publish(manifest, snapshot)


def unpublished(store: SpanStore, span: Span, key: str, images: int = 4, names: tuple[str, ...] = NAMES) -> Manifest:
    """Stage a span's shards and return its manifest."""
    labels = [number % len(names) for number in range(images)]
    shards = []
    for split in SPLITS:
        made = [
            LabelledImage(f"{key}{split}{n}".encode(), label, f"{n}", span.number) for n, label in enumerate(labels)
        ]
        content = b"".join(one.to_record() for one in made)
        shards.append(Shard.of(split, "00000-of-00001", content, len(made)))
        store.stage(span, shards[-1], content)
    counts = {split: count_labels((names[label] for label in labels), names) for split in SPLITS}
    return Manifest(span.number, key.split(":")[0], key, counts, tuple(shards), (), 0, 0.2, names, "run", "2021-10-01")


def images_of(store: SpanStore, manifest: Manifest, split: str = "") -> list[LabelledImage]:
    """Return the records of a published span, of one split if it is named."""
    span = Span(manifest.span)
    uris = [store.shard_uri(span, shard) for shard in manifest.shards if not split or shard.split == split]
    return [LabelledImage.parse(data) for uri in uris for data in tfrecords.unframe(storage.read(uri), uri)]


def duplicates(values: Iterable[Any]) -> list[Any]:
    """Return the values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
