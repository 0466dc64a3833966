"""Splits: the side of a span, train or test, of each image.

The content decides, so that a repeated image is on the same side: among spans of the same seed and ratio by its draw
alone, in a span of another ratio by looking into the earlier spans. `span_preparation` makes the spans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from adaptation.data.spans import SPLITS, Manifest, Span, SpanStore
from adaptation.data.tfrecords import LabelledImage, unframe
from adaptation.io import storage

_TEST_IMAGES = 100
_DRAWS = "_draws"
_BYTES = 8
_OTHER = dict(zip(SPLITS, reversed(SPLITS), strict=True))


@dataclass(frozen=True)
class Split:
    """The train/test split by content: the same image lands on the same side in every span.

    Attributes:
      seed: Another seed gives another split.
      ratio: Share of the test split, between 0 and 1.
      moved: Draws of the images that another span has on the other side; they follow that span.
    """

    seed: int = 0
    ratio: float = 0.2
    moved: frozenset[bytes] = frozenset()

    def side(self, content: bytes) -> str:
        """Return `train` or `test` for an image's content digest."""
        return self.side_of(self.draw(content))

    def draw(self, content: bytes) -> bytes:
        """Return the number that decides (8 bytes, most significant first); it also stands for the content."""
        return hashlib.sha256(f"{self.seed}:".encode() + content).digest()[:_BYTES]

    def side_of(self, draw: bytes) -> str:
        """Return `train` or `test` for an image's draw."""
        return _OTHER[self.drawn(draw)] if draw in self.moved else self.drawn(draw)

    def drawn(self, draw: bytes) -> str:
        """Return the side that a draw alone gives."""
        return "test" if int.from_bytes(draw) < self.ratio * 2**64 else "train"


def each_draw(draws: bytes) -> Iterator[bytes]:
    """Yield the draws of which these bytes are made."""
    return (draws[start : start + _BYTES] for start in range(0, len(draws), _BYTES))


def test_share(images: int, least: float) -> float:
    """Return the share of a new span's images in its test split: more than `least` to reach 100, up to a half."""
    return max(least, min(0.5, _TEST_IMAGES / images)) if images else least


def other_spans(store: SpanStore, span: Span) -> tuple[Span, ...]:
    """Return the published spans without this one."""
    return tuple(other for other in store.spans() if other != span)


def keep_sides(store: SpanStore, spans: Iterable[Span], split: Split) -> Split:
    """Return the split under which no image of the published spans changes sides.

    An image that has been trained on stays in train, even if another span has tested on it.

    Args:
      store: The spans.
      spans: The published ones, without the one to split.
      split: The split by the draws of that one's images.

    Failure: the draws of each span with another split are read from its shards once, and kept below
    `<data root>/_draws/`; missing ones are read again.
    """
    draw = split.seed, split.ratio
    unlike = [manifest for manifest in store.manifests(spans) if (manifest.seed, manifest.ratio) != draw]
    train, test = (_draws(store, unlike, split, side) for side in SPLITS)
    moved = {draw for draw in train if split.drawn(draw) == "test"}
    return replace(split, moved=frozenset(moved | {draw for draw in test - train if split.drawn(draw) == "train"}))


def _draws(store: SpanStore, manifests: Iterable[Manifest], split: Split, side: str) -> set[bytes]:
    return {draw for manifest in manifests for draw in each_draw(_kept(store, manifest, split, side))}


def _kept(store: SpanStore, manifest: Manifest, split: Split, side: str) -> bytes:
    uri = storage.join(store.root, _DRAWS, f"span-{manifest.span}-{manifest.digest[:16]}-{split.seed}-{side}")
    try:
        return storage.read(uri)
    except FileNotFoundError:
        draws = b"".join(sorted(map(split.draw, _contents(store, manifest, side))))
        storage.write(uri, draws)
        return draws


def _contents(store: SpanStore, manifest: Manifest, side: str) -> Iterator[bytes]:
    """Yield the digests of the images' contents, shard by shard: each takes as much memory as its size."""
    for shard in manifest.shards:
        if shard.split == side:
            uri = store.shard_uri(Span(manifest.span), shard)
            for record in unframe(storage.read(uri), uri):
                yield hashlib.sha256(LabelledImage.parse(record).image).digest()
