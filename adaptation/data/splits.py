"""Splits: on which side of a span, train or test, an image is.

The content decides, so that an image that comes again is on the same side: in a span of the same seed and ratio by its
draw alone, in one of another ratio because the earlier spans are asked. How a span is made is in `span_preparation`.
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
      moved: Draws of the images that are on the side that their draw does not say, because another span has them there.
    """

    seed: int = 0
    ratio: float = 0.2
    moved: frozenset[bytes] = frozenset()

    def side(self, content: bytes) -> str:
        """`train` or `test`, from an image's content digest."""
        draw = self.draw(content)
        return _OTHER[self.drawn(draw)] if draw in self.moved else self.drawn(draw)

    def draw(self, content: bytes) -> bytes:
        """Return the number that decides (8 bytes, the most significant first); it stands for the content, too."""
        return hashlib.sha256(f"{self.seed}:".encode() + content).digest()[:_BYTES]

    def drawn(self, draw: bytes) -> str:
        """Return the side that a draw alone gives."""
        return "test" if int.from_bytes(draw) < self.ratio * 2**64 else "train"


def test_share(images: int, least: float) -> float:
    """Return the share of a new span's images in its test split: more than `least` to reach 100, up to a half."""
    return max(least, min(0.5, _TEST_IMAGES / images)) if images else least


def keep_sides(store: SpanStore, span: Span, split: Split) -> Split:
    """Return the split under which no image of the other published spans changes sides.

    An image that has been trained on stays in train, also where another span has tested on it. Spans that are prepared
    at the same time do not see each other.

    Args:
      store: The spans.
      span: The one that is to be split.
      split: What its images' draws say.

    Failure: the draws of each span that was split otherwise are read from its shards once, and kept below
    `<data root>/_draws/`; what is missing there is read again.
    """
    others = (store.manifest(other) for other in store.spans() if other != span)
    unlike = [manifest for manifest in others if (manifest.seed, manifest.ratio) != (split.seed, split.ratio)]
    train, test = (_draws(store, unlike, split, side) for side in SPLITS)
    moved = {draw for draw in train if split.drawn(draw) == "test"}
    return replace(split, moved=frozenset(moved | {draw for draw in test - train if split.drawn(draw) == "train"}))


def _draws(store: SpanStore, manifests: Iterable[Manifest], split: Split, side: str) -> set[bytes]:
    return {
        kept[start : start + _BYTES]
        for manifest in manifests
        for kept in [_kept(store, manifest, split, side)]
        for start in range(0, len(kept), _BYTES)
    }


def _kept(store: SpanStore, manifest: Manifest, split: Split, side: str) -> bytes:
    uri = storage.join(store.root, _DRAWS, f"span-{manifest.span}-{manifest.digest[:16]}-{split.seed}-{side}")
    try:
        return storage.read(uri)
    except FileNotFoundError:
        draws = b"".join(sorted(map(split.draw, _contents(store, manifest, side))))
        storage.write(uri, draws)
        return draws


def _contents(store: SpanStore, manifest: Manifest, side: str) -> Iterator[bytes]:
    """Return the digests of the images' contents, one shard after another: each takes as much memory as it is large."""
    for shard in manifest.shards:
        if shard.split == side:
            uri = store.shard_uri(Span(manifest.span), shard)
            for record in unframe(storage.read(uri), uri):
                yield hashlib.sha256(LabelledImage.parse(record).image).digest()
