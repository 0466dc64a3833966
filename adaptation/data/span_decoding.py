"""Span decoding: the images of published spans that cannot be decoded.

A span never changes, and an earlier version checked its images by other rules. A manifest says by which ones; only the
images of older spans have to be decoded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from adaptation.data import decoding
from adaptation.data.image_check import image_problem
from adaptation.data.labels import Skipped
from adaptation.data.spans import Manifest, Span, SpanStore
from adaptation.data.tfrecords import LabelledImage, frame, unframe
from adaptation.io import process_pool, storage


def unusable_images(store: SpanStore, manifest: Manifest) -> Mapping[str, tuple[Skipped, ...]]:
    """Return the images that cannot be decoded, with reasons, by the URI of their shard; only shards with some.

    Raises:
      CorruptRecords: A shard was cut off or changed.
      OSError: A shard cannot be read.
    """
    uris = [store.shard_uri(Span(manifest.span), shard) for shard in manifest.shards]
    found = process_pool.share(_unusable_in, uris, len(uris) - 1)
    return {uri: images for uri, images in zip(uris, found, strict=True) if images}


def left_out(store: SpanStore, manifests: Iterable[Manifest]) -> Mapping[str, tuple[Skipped, ...]]:
    """Return the images that a training leaves out, as `unusable_images` does; spans of this version have none."""
    older = (manifest for manifest in manifests if manifest.decoder < decoding.VERSION)
    return {uri: images for manifest in older for uri, images in unusable_images(store, manifest).items()}


def usable_records(uri: str) -> bytes:
    """Return the content of a shard without the images that cannot be decoded."""
    records = unframe(storage.read(uri), uri)
    return b"".join(frame(record) for record in records if not image_problem(LabelledImage.parse(record).image))


def _unusable_in(uri: str) -> tuple[Skipped, ...]:
    images = (LabelledImage.parse(record) for record in unframe(storage.read(uri), uri))
    return tuple(Skipped(image.id, problem) for image in images if (problem := image_problem(image.image)))
