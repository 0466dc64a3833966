"""Pictures: images of spans and batches, scaled down and inlined. The number of images read is bounded."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import PurePosixPath

import fsspec

from adaptation.data.batches import Snapshot
from adaptation.data.decoding import LARGEST_FILE, Undecodable, decode
from adaptation.data.spans import Manifest, Shard, Span, SpanStore
from adaptation.data.tfrecords import CorruptRecords, LabelledImage, unframe
from adaptation.io import storage
from pipeline.report.content import Picture

SAMPLES = 12
SHARDS = 4
HEAD = 2**20
LONGEST_SIDE = 96
NAMESAKES = 8


def samples(store: SpanStore, manifest: Manifest) -> tuple[Picture, ...]:
    """Return some of a span's images, of as many labels as possible, from the beginnings of a few files."""
    chosen = list(itertools.islice(_in_turn(store, manifest), SAMPLES))
    chosen.sort(key=lambda record: record.label)
    found = (picture(record.image, record.id, manifest.labels[record.label]) for record in chosen)
    return tuple(one for one in found if one)


def collected(snapshot: Snapshot, name: str, label: str) -> Picture | None:
    """Return an image of a batch from the collection or the archive; None if it no longer exists."""
    size = next((image.size for image in snapshot.images if image.name == name), None)
    if size is None or size > LARGEST_FILE:
        return None
    for uri in _places(snapshot, name):
        with contextlib.suppress(FileNotFoundError):
            data = storage.read(uri)
            if len(data) == size:  # else another image that has come under the same name
                return picture(data, name, label)
    return None


def picture(data: bytes, name: str, label: str) -> Picture | None:
    """Return an encoded image as a model sees it, scaled down; None if it cannot be decoded."""
    try:
        small = decode(data, 2 * LONGEST_SIDE)
    except Undecodable:
        return None
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=80)
    return Picture(name, label, f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}")


def _in_turn(store: SpanStore, manifest: Manifest) -> Iterator[LabelledImage]:
    """Yield the records that were read: one of each label, then the next of each ..."""
    by_label: dict[int, list[LabelledImage]] = {}
    for shard in _spread(manifest.shards):
        for record in _head(store.shard_uri(Span(manifest.span), shard), shard.size):
            if 0 <= record.label < len(manifest.labels):
                by_label.setdefault(record.label, []).append(record)
    rounds = itertools.zip_longest(*(by_label[label] for label in sorted(by_label)))
    return (record for one in rounds for record in one if record)


def _spread(shards: tuple[Shard, ...]) -> tuple[Shard, ...]:
    """Return a few of the shards, evenly over all: neighbours hold images of neighbouring names."""
    return shards[:: max(1, -(-len(shards) // SHARDS))]


def _head(uri: str, size: int) -> list[LabelledImage]:
    """Return the records at the beginning of a file, up to the first truncated or broken one."""
    with fsspec.open(uri, "rb") as file:
        content = file.read(min(size, HEAD))
    records: list[LabelledImage] = []
    with contextlib.suppress(CorruptRecords):
        records.extend(map(LabelledImage.parse, unframe(content, uri)))
    return records


def _places(snapshot: Snapshot, name: str) -> Iterator[str]:
    """Yield where the image may be: in its batch, in the archive, or there under the number that it got."""
    yield storage.join(snapshot.root, name)
    archive = f"{snapshot.root}_old"
    yield storage.join(archive, name)
    path = PurePosixPath(name)
    for number in range(2, NAMESAKES + 2):
        yield storage.join(archive, str(path.with_name(f"{path.stem}~{number}{path.suffix}")))
