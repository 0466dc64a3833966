"""Preparation: a snapshot of images becomes a published span.

`begin` claims the number and cuts the snapshot into chunks, `write_chunk` turns one chunk into staged shards, `finish`
publishes. Chunks are independent, so that any runner can spread them: `prepare` does them here one after another, the
SpanPreparator component passes them to Beam. Every worker and every repetition gives the same bytes. See `batches` for
the images, `spans` for published spans, `image_check` for usable images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

from adaptation.data.batches import Snapshot
from adaptation.data.image_check import LARGEST_FILE, image_problem
from adaptation.data.labels import Labels, Skipped, UnknownLabel, changed_label, refuse_if_too_many
from adaptation.data.spans import SPLITS, InvalidSpan, Manifest, Shard, Span, SpanStore, count_labels, enumerate_spans
from adaptation.data.splits import Split, keep_sides, other_spans
from adaptation.data.tfrecords import LabelledImage
from adaptation.io import process_pool, storage
from adaptation.progress import report

PART_IMAGES = 512
PART_BYTES = 8 * 2**20
PARTS_PER_WORKER = 8  # fewer are done before a worker has started
_PUBLISHING = "_staging/publishing.lock"


@dataclass(frozen=True)
class Chunk:
    """The images of one shard per split; the `number`-th of `count`."""

    number: int
    count: int
    images: tuple[storage.File, ...]


class Accepted(NamedTuple):
    """An image of the span: name and label."""

    name: str
    label: str


@dataclass(frozen=True)
class ChunkReport:
    """The result of a chunk.

    Attributes:
      chunk: The chunk.
      shards: The staged shards; none for a split without images.
      counts: Images by split and label.
      contents: The accepted images by content digest.
      skipped: The unusable images, with reasons.
      duplicates: The images that have the content of another.
    """

    chunk: Chunk
    shards: tuple[Shard, ...]
    counts: Mapping[str, Mapping[str, int]]
    contents: Mapping[bytes, Accepted]
    skipped: tuple[Skipped, ...]
    duplicates: tuple[Skipped, ...]


@dataclass(frozen=True)
class Preparation:
    """A span being prepared: everything that a chunk's worker needs, in a form that can be sent to it.

    Attributes:
      data_root: Folder or URI of the spans.
      span: The claimed number.
      snapshot: The images.
      labels: The source of their labels.
      split: The train/test split; content that other spans have is on the same side in this one.
      max_skipped: Share of images that may be unusable.
      run: The pipeline run.
      others: The published spans whose sides the split keeps.
    """

    data_root: str
    span: Span
    snapshot: Snapshot = field(repr=False)
    labels: Labels
    split: Split
    max_skipped: float
    run: str
    others: tuple[Span, ...] = ()


def prepare(
    store: SpanStore,
    snapshot: Snapshot,
    labels: Labels,
    split: Split = Split(),  # noqa: B008 (immutable)
    *,
    shard_bytes: int = 128 * 2**20,
    max_skipped: float = 0.05,
    run: str = "",
    key: str = "",
) -> Manifest:
    """Prepare and publish a span from a snapshot, in this process.

    The number is claimed for the snapshot or, if given, for `key`: another snapshot under the same key gets the same
    number, as long as nothing is published under it.

    Returns:
      The manifest; the existing one if the same snapshot was prepared before.

    Failure: cut off at any point, no span or the whole one is visible; the next call with the same snapshot finishes.

    Raises:
      TooManySkipped: More than `max_skipped` of the images have no known label or cannot be decoded.
      InvalidSpan: A split would be empty, `labels` does not begin with the newest span's label names, or a span that
        was published meanwhile has images of this one on the other side.
    """
    preparation = begin(store, snapshot, labels, split, max_skipped, run, key)
    if published := find_published(store, preparation.span):
        return published
    reports = (write_chunk(preparation, chunk) for chunk in chunks(snapshot, shard_bytes))
    return finish(preparation, reports)


def begin(
    store: SpanStore, snapshot: Snapshot, labels: Labels, split: Split, max_skipped: float, run: str, key: str = ""
) -> Preparation:
    """Claim the span's number, for the snapshot or for `key`; the same one gets the same number again."""
    refuse_changed_labels(store, labels.names)
    labels = labels.in_batch(snapshot.root, snapshot.names)
    span = store.claim(key or snapshot.key)
    others = other_spans(store, span)
    kept = split if store.is_published(span) else keep_sides(store, others, split)
    return Preparation(store.root, span, snapshot, labels, kept, max_skipped, run, others)


def find_published(store: SpanStore, span: Span) -> Manifest | None:
    """Return the manifest if the span is published already, and remove what earlier attempts left of it."""
    if not store.is_published(span):
        return None
    manifest = store.manifest(span)
    store.sweep(manifest)
    return manifest


def refuse_changed_labels(store: SpanStore, names: tuple[str, ...]) -> None:
    """Refuse label names that do not begin with the newest span's: spans are immutable, and no model could learn both.

    Raises:
      InvalidSpan: A name was moved, removed or changed.
    """
    for newest in store.manifests(store.spans()[-1:]):
        if change := changed_label(names, newest.labels):
            raise InvalidSpan(
                f"the settings do not name the labels as span-{newest.span} does: {change}. Set labels.names to "
                f"{', '.join(newest.labels)} and append new ones, or start another data root."
            )


def chunks(snapshot: Snapshot, shard_bytes: int) -> list[Chunk]:
    """Cut a snapshot into chunks of about `shard_bytes`, which depend only on the file list.

    The images are ordered by a hash of their names, so that each chunk holds a fair sample of all classes.
    """
    ordered = sorted(snapshot.images, key=lambda image: hashlib.sha256(image.name.encode()).digest())
    cuts: list[list[storage.File]] = [[]]
    filled = 0
    for image in ordered:
        if filled >= shard_bytes:
            cuts.append([])
            filled = 0
        cuts[-1].append(image)
        filled += image.size
    return [Chunk(number, len(cuts), tuple(images)) for number, images in enumerate(cuts)]


def write_chunk(preparation: Preparation, chunk: Chunk, seen: Mapping[bytes, Accepted] | None = None) -> ChunkReport:
    """Read a chunk's images and stage its shards, one per split.

    Args:
      preparation: The span being prepared.
      chunk: Its images.
      seen: Images of earlier chunks by content digest; an image with such content is left out.

    Failure: the next attempt replaces staged files; an image that was deleted or changed after the snapshot is skipped
    with a reason; any other failure to read is raised.
    """
    draft = _Draft(preparation, seen or {})
    parts = _parts(chunk)
    for examined in process_pool.share(_Examiner.of(preparation), parts, len(parts) // PARTS_PER_WORKER):
        draft.add(examined)
    shards = tuple(
        draft.stage(split, f"{chunk.number:05d}-of-{chunk.count:05d}") for split in SPLITS if draft.records[split]
    )
    report(f"prepared shard {chunk.number + 1} of {chunk.count}")
    counts = {split: count_labels(draft.labels[split], preparation.labels.names) for split in SPLITS}
    return ChunkReport(chunk, shards, counts, draft.contents, tuple(draft.skipped), tuple(draft.duplicates))


def finish(preparation: Preparation, reports: Iterable[ChunkReport]) -> Manifest:
    """Publish the span from the reports of all its chunks, in any order; errors as for `prepare`.

    On one machine spans are published one after another, so that no image changes sides between two that are prepared
    at the same time. On object storage, two that are published within the same seconds do not see each other.
    """
    found = list(_without_duplicates(preparation, reports))
    skipped = sorted(skipped for chunk in found for skipped in chunk.skipped)
    refuse_if_too_many(skipped, len(preparation.snapshot.images), preparation.max_skipped)
    manifest = _manifest(preparation, found, skipped)
    for split in SPLITS:
        if not manifest.images_in(split):
            raise InvalidSpan(
                f"{preparation.span} would have no {split} image: {manifest.images} of "
                f"{len(preparation.snapshot.images)} images are usable. Collect more, then run it again."
            )
    with storage.locked(storage.join(preparation.data_root, _PUBLISHING)):
        _refuse_changed_sides(preparation, found)
        return SpanStore(preparation.data_root).publish(manifest, preparation.snapshot)


# A usable image: name, label, side of the split, digest of its content, record. A plain tuple: very many travel between
# processes, and named ones would take twice as long.
_Usable = tuple[str, str, str, bytes, bytes]


@dataclass(frozen=True)
class _Examiner:
    """Reads images and makes records of the usable ones: the work that can be done anywhere, in any order."""

    root: str
    labels: Labels
    split: Split
    span: int

    @classmethod
    def of(cls, preparation: Preparation) -> _Examiner:
        return cls(preparation.snapshot.root, preparation.labels, preparation.split, preparation.span.number)

    def __call__(self, images: Sequence[storage.File]) -> list[_Usable | Skipped]:
        readable = [image for image in images if image.size <= LARGEST_FILE]
        folder = storage.join(self.root, "")
        contents = storage.read_many([folder + image.name for image in readable])
        large = (image for image in images if image.size > LARGEST_FILE)
        unread = [Skipped(image.name, f"is too large ({image.size} bytes)") for image in large]
        return unread + [self._examine(image, data) for image, data in zip(readable, contents, strict=True)]

    def _examine(self, image: storage.File, data: bytes | OSError) -> _Usable | Skipped:
        try:
            usable, label = _checked(image, data), self.labels.of(image.name)
        except (UnknownLabel, _Unusable) as error:
            return Skipped(image.name, str(error))
        content = hashlib.sha256(usable).digest()
        record = LabelledImage(usable, self.labels.index(label), image.name, self.span).to_record()
        return image.name, label, self.split.side(content), content, record


class _Draft:
    """A chunk's records while they are being collected."""

    def __init__(self, preparation: Preparation, seen: Mapping[bytes, Accepted]) -> None:
        self.preparation = preparation
        self.seen = seen
        self.records: dict[str, list[bytes]] = {split: [] for split in SPLITS}
        self.labels: dict[str, list[str]] = {split: [] for split in SPLITS}
        self.contents: dict[bytes, Accepted] = {}
        self.skipped: list[Skipped] = []
        self.duplicates: list[Skipped] = []

    def add(self, examined: Iterable[_Usable | Skipped]) -> None:
        """Take the usable images whose content none before has."""
        for one in examined:
            if isinstance(one, Skipped):
                self.skipped.append(one)
            else:
                self._accept(one)

    def stage(self, split: str, place: str) -> Shard:
        """Write the split's shard."""
        content = b"".join(self.records[split])
        shard = Shard.of(split, place, content, len(self.records[split]))
        SpanStore(self.preparation.data_root).stage(self.preparation.span, shard, content)
        return shard

    def _accept(self, image: _Usable) -> None:
        name, label, split, content, record = image
        accepted = Accepted(name, label)
        if first := self.seen.get(content) or self.contents.get(content):
            self.duplicates.append(Skipped(name, _duplicate_reason(accepted, first)))
            return
        self.records[split].append(record)
        self.labels[split].append(label)
        self.contents[content] = accepted


class _Unusable(Exception):
    """The reason for leaving an image out."""


def _parts(chunk: Chunk) -> list[tuple[storage.File, ...]]:
    """Return the chunk's images in small portions of work."""
    parts: list[list[storage.File]] = [[]]
    filled = 0
    for image in chunk.images:
        if len(parts[-1]) == PART_IMAGES or filled >= PART_BYTES:
            parts.append([])
            filled = 0
        parts[-1].append(image)
        filled += image.size
    return [tuple(part) for part in parts]


def _checked(image: storage.File, data: bytes | OSError) -> bytes:
    if isinstance(data, FileNotFoundError):
        raise _Unusable("was deleted after the snapshot was taken")
    if isinstance(data, OSError):
        raise data
    if len(data) != image.size:
        raise _Unusable("has changed since the snapshot was taken")
    if problem := image_problem(data):
        raise _Unusable(problem)
    return data


def _without_duplicates(preparation: Preparation, reports: Iterable[ChunkReport]) -> Iterator[ChunkReport]:
    """Yield the reports in order; a chunk that repeats an image of an earlier one is written again without it."""
    seen: dict[bytes, Accepted] = {}
    for chunk_report in sorted(reports, key=lambda one: one.chunk.number):
        if seen.keys() & chunk_report.contents.keys():
            chunk_report = write_chunk(preparation, chunk_report.chunk, seen)
        seen.update(chunk_report.contents)
        yield chunk_report


def _refuse_changed_sides(preparation: Preparation, reports: Iterable[ChunkReport]) -> None:
    """Refuse to publish if a span that was published since `begin` has an image of this one on the other side."""
    store, split = SpanStore(preparation.data_root), preparation.split
    if (others := other_spans(store, preparation.span)) == preparation.others:
        return
    kept = keep_sides(store, others, replace(split, moved=frozenset()))
    contents = (content for chunk in reports for content in chunk.contents)
    if changed := sum(kept.side(content) != split.side(content) for content in contents):
        new = enumerate_spans(set(others).difference(preparation.others))
        raise InvalidSpan(
            f"{preparation.span} has {changed} images on the other side of the train/test split than span-{new}, "
            "published meanwhile. Run it again; they follow it then."
        )


def _manifest(preparation: Preparation, reports: list[ChunkReport], skipped: list[Skipped]) -> Manifest:
    names = preparation.labels.names
    return Manifest(
        span=preparation.span.number,
        batch=preparation.snapshot.batch,
        key=preparation.snapshot.key,
        counts={
            split: {name: sum(chunk.counts[split][name] for chunk in reports) for name in names} for split in SPLITS
        },
        shards=tuple(sorted(shard for chunk in reports for shard in chunk.shards)),
        skipped=tuple(sorted([*skipped, *(twin for chunk in reports for twin in chunk.duplicates)])),
        seed=preparation.split.seed,
        ratio=preparation.split.ratio,
        labels=names,
        run=preparation.run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _duplicate_reason(image: Accepted, first: Accepted) -> str:
    other_label = f", which is labelled {first.label}" if first.label != image.label else ""
    return f"has the same content as {first.name}{other_label}"
