"""Preparation: a snapshot of images becomes a published span.

`begin` claims the number, `chunks` cuts the snapshot, `write_chunk` makes one chunk staged shards, `repeated` finds
what several chunks have, `finish` publishes. Chunks are independent, so that any runner can spread them: `prepare` does
them here one after another; for others `stage` writes them to files, which a worker reads by number (see the
SpanPreparator component). Every worker and every repetition gives the same bytes. See `batches` for the images, `spans`
for published spans, `image_check` for usable images.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

from adaptation import codec
from adaptation.data.batches import Snapshot
from adaptation.data.decoding import LARGEST_FILE, VERSION
from adaptation.data.image_check import image_problem
from adaptation.data.labels import Labels, Skipped, UnknownLabel, changed_label, refuse_if_too_many
from adaptation.data.spans import SPLITS, InvalidSpan, Manifest, Shard, Span, SpanStore, count_labels, enumerate_spans
from adaptation.data.splits import Split, each_draw, keep_sides, other_spans
from adaptation.data.tfrecords import LabelledImage
from adaptation.io import process_pool, storage
from adaptation.progress import report

PART_IMAGES = 512
PART_BYTES = 8 * 2**20
PARTS_PER_WORKER = 8  # fewer are done before a worker has started
_PUBLISHING = "_staging/publishing.lock"
_WORK = "work.json"


class Listed(NamedTuple):
    """An image to be read: name, size in bytes, and label or the reason why it has none."""

    name: str
    size: int
    label: str
    problem: str = ""
    picked: bool = False


@dataclass(frozen=True)
class Chunk:
    """The images of one shard per split; the `number`-th of `count`."""

    number: int
    count: int
    images: tuple[Listed, ...]


class Accepted(NamedTuple):
    """An image of the span: name and label."""

    name: str
    label: str


Contents = Mapping[bytes, Accepted]  # images by content digest


@dataclass(frozen=True)
class ChunkReport:
    """The result of a chunk.

    Attributes:
      number: The chunk.
      shards: The staged shards; none for a split without images.
      counts: Images by split and label.
      skipped: The unusable images, with reasons.
      duplicates: The usable images that are left out: they have the content of another, or were picked for the test.
      draws: What stands for the accepted images' contents in the split, 8 bytes each (see `splits.Split.draw`).
    """

    number: int
    shards: tuple[Shard, ...]
    counts: Mapping[str, Mapping[str, int]]
    skipped: tuple[Skipped, ...]
    duplicates: tuple[Skipped, ...]
    draws: bytes


@dataclass(frozen=True)
class Work:
    """What the writer of a chunk needs beside it: of the size of the settings, whatever the number of images.

    Attributes:
      data_root: Folder or URI of the spans.
      span: The claimed number.
      root: Folder or URI of the images.
      labels: The label names.
      split: The train/test split. Its `moved` draws, of images that are in other spans as well, are the exception.
    """

    data_root: str
    span: int
    root: str
    labels: tuple[str, ...]
    split: Split


@dataclass(frozen=True)
class Preparation:
    """A span being prepared.

    Attributes:
      data_root: Folder or URI of the spans.
      span: The claimed number.
      snapshot: The images.
      labels: The source of their labels.
      split: The train/test split; content that other spans have is on the same side in this one.
      max_skipped: Share of images that may be unusable.
      run: The pipeline run.
      others: The published spans whose sides the split keeps.
      picked: Names of images that somebody picked: they may train a model, and are left out of the test split.
    """

    data_root: str
    span: Span
    snapshot: Snapshot = field(repr=False)
    labels: Labels
    split: Split
    max_skipped: float
    run: str
    others: tuple[Span, ...] = ()
    picked: frozenset[str] = frozenset()

    @property
    def work(self) -> Work:
        """What the writers of the chunks need."""
        return Work(self.data_root, self.span.number, self.snapshot.root, self.labels.names, self.split)


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
    cut = chunks(preparation, shard_bytes)
    written = [write_chunk(preparation.work, chunk, processes=True) for chunk in cut]
    twins = repeated((report.number, contents) for report, contents in written)
    reports = [
        write_chunk(preparation.work, chunk, twins[chunk.number], processes=True)[0] if chunk.number in twins else first
        for chunk, (first, _) in zip(cut, written, strict=True)
    ]
    return finish(preparation, reports)


def begin(
    store: SpanStore,
    snapshot: Snapshot,
    labels: Labels,
    split: Split,
    max_skipped: float,
    run: str,
    key: str = "",
    picked: frozenset[str] = frozenset(),
) -> Preparation:
    """Claim the span's number, for the snapshot or for `key`; the same one gets the same number again."""
    refuse_changed_labels(store, labels.names)
    labels = labels.in_batch(snapshot.root, snapshot.names)
    span = store.claim(key or snapshot.key)
    others = other_spans(store, span)
    kept = split if store.is_published(span) else keep_sides(store, others, split)
    return Preparation(store.root, span, snapshot, labels, kept, max_skipped, run, others, picked)


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


def chunks(preparation: Preparation, shard_bytes: int) -> list[Chunk]:
    """Cut a snapshot into chunks of about `shard_bytes`, which depend only on the file list.

    The images are ordered by a hash of their names, so that each chunk holds a fair sample of all classes.
    """
    with storage.collector_at_rest():
        images = [_listed(preparation, image) for image in preparation.snapshot.images]
        images.sort(key=lambda image: hashlib.sha256(image.name.encode()).digest())
    cuts: list[list[Listed]] = [[]]
    filled = 0
    for image in images:
        if filled >= shard_bytes:
            cuts.append([])
            filled = 0
        cuts[-1].append(image)
        filled += image.size
    return [Chunk(number, len(cuts), tuple(images)) for number, images in enumerate(cuts)]


def stage(preparation: Preparation, cut: Sequence[Chunk]) -> str:
    """Write the chunks, and what their writers need, to files; return the URI of their folder.

    Publishing the span removes it. Its name is a digest of its content: an attempt that begins with other settings, or
    beside other spans, writes another folder, so that no two of them mix.
    """
    work, files = codec.encode(preparation.work), [codec.encode(chunk, indent=0) for chunk in cut]
    digests = b"".join(hashlib.sha256(data).digest() for data in (work, *files))
    folder = SpanStore(preparation.data_root).work_folder(preparation.span, hashlib.sha256(digests).hexdigest()[:16])
    storage.write(storage.join(folder, _WORK), work)
    storage.in_parallel(lambda one: storage.write(_chunk_uri(folder, one[0]), one[1]), list(enumerate(files)))
    return folder


def read_work(folder: str) -> Work:
    """Return what `stage` wrote for all writers."""
    return codec.read(storage.join(folder, _WORK), Work)


def read_chunk(folder: str, number: int) -> Chunk:
    """Return a chunk that `stage` wrote."""
    return codec.read(_chunk_uri(folder, number), Chunk)


def write_report(folder: str, chunk_report: ChunkReport) -> None:
    """Write a chunk's result beside it."""
    storage.write(_report_uri(folder, chunk_report.number), codec.encode(chunk_report, indent=0))


def read_reports(folder: str, count: int) -> list[ChunkReport]:
    """Return the results of all chunks."""
    return storage.in_parallel(lambda number: codec.read(_report_uri(folder, number), ChunkReport), range(count))


def write_chunk(
    work: Work, chunk: Chunk, seen: Contents | None = None, *, processes: bool = False
) -> tuple[ChunkReport, Contents]:
    """Read a chunk's images and stage its shards, one per split.

    Args:
      work: The span being prepared.
      chunk: Its images.
      seen: Images of earlier chunks by content digest; an image with such content is left out.
      processes: Whether this machine's idle processors may help: not on a worker that has others beside it.

    Returns:
      The chunk's result, and the accepted images by content digest.

    Failure: the next attempt replaces staged files; an image that was deleted or changed after the snapshot is skipped
    with a reason; any other failure to read is raised.
    """
    draft = _Draft(work, seen or {})
    parts = _parts(chunk)
    for examined in process_pool.share(_Examiner(work), parts, len(parts) // PARTS_PER_WORKER if processes else 0):
        draft.add(examined)
    shards = tuple(
        draft.stage(split, f"{chunk.number:05d}-of-{chunk.count:05d}") for split in SPLITS if draft.records[split]
    )
    report(f"prepared shard {chunk.number + 1} of {chunk.count}")
    counts = {split: count_labels(draft.labels[split], work.labels) for split in SPLITS}
    draws = b"".join(map(work.split.draw, draft.contents))
    found = ChunkReport(chunk.number, shards, counts, tuple(draft.skipped), tuple(draft.duplicates), draws)
    return found, draft.contents


def repeated(contents: Iterable[tuple[int, Contents]]) -> dict[int, Contents]:
    """Return by chunk which of its contents an earlier chunk has, with the earliest image of each.

    Args:
      contents: Chunks by number, with all their contents or, each alike, with those of one part of the digests.
    """
    first: dict[bytes, Accepted] = {}
    twins: dict[int, dict[bytes, Accepted]] = defaultdict(dict)
    for number, own in sorted(contents, key=lambda one: one[0]):
        for content, image in own.items():
            if (earliest := first.setdefault(content, image)) is not image:
                twins[number][content] = earliest
    return dict(twins)


def finish(preparation: Preparation, reports: Sequence[ChunkReport]) -> Manifest:
    """Publish the span from the reports of all its chunks, in any order; errors as for `prepare`.

    On one machine spans are published one after another, so that no image changes sides between two that are prepared
    at the same time. On object storage, two that are published within the same seconds do not see each other.
    """
    skipped = sorted(skipped for chunk in reports for skipped in chunk.skipped)
    refuse_if_too_many(skipped, len(preparation.snapshot.images), preparation.max_skipped)
    manifest = _manifest(preparation, reports, skipped)
    for split in SPLITS:
        if not manifest.images_in(split):
            raise InvalidSpan(
                f"{preparation.span} would have no {split} image: {manifest.images} of "
                f"{len(preparation.snapshot.images)} images are usable. Collect more, then run it again."
            )
    with storage.locked(storage.join(preparation.data_root, _PUBLISHING)):
        _refuse_changed_sides(preparation, reports)
        return SpanStore(preparation.data_root).publish(manifest, preparation.snapshot)


def _listed(preparation: Preparation, image: storage.File) -> Listed:
    try:
        label, picked = preparation.labels.of(image.name), image.name in preparation.picked
        return Listed(image.name, image.size, label, picked=picked)
    except UnknownLabel as error:
        return Listed(image.name, image.size, "", str(error))


def _chunk_uri(folder: str, number: int) -> str:
    return storage.join(folder, f"chunk-{number:05d}.json")


def _report_uri(folder: str, number: int) -> str:
    return storage.join(folder, f"report-{number:05d}.json")


# A usable image: name, label, side of the split, digest of its content, record. A plain tuple: very many travel between
# processes, and named ones would take twice as long.
_Usable = tuple[str, str, str, bytes, bytes]


class _LeftOut(Skipped):
    """A usable image that is left out."""


@dataclass(frozen=True)
class _Examiner:
    """Reads images and makes records of the usable ones: the work that can be done anywhere, in any order."""

    work: Work

    def __call__(self, images: Sequence[Listed]) -> list[_Usable | Skipped]:
        readable = [image for image in images if image.size <= LARGEST_FILE]
        folder = storage.join(self.work.root, "")
        contents = storage.read_many([folder + image.name for image in readable])
        large = (image for image in images if image.size > LARGEST_FILE)
        unread = [Skipped(image.name, f"is too large ({image.size} bytes)") for image in large]
        index = {label: number for number, label in enumerate(self.work.labels)}
        return unread + [self._examine(image, data, index) for image, data in zip(readable, contents, strict=True)]

    def _examine(self, image: Listed, data: bytes | OSError, index: Mapping[str, int]) -> _Usable | Skipped:
        try:
            usable = _checked(image, data)
        except _Unusable as error:
            return Skipped(image.name, str(error))
        content = hashlib.sha256(usable).digest()
        side = self.work.split.side(content)
        if image.picked and side == "test":
            return _LeftOut(image.name, "was picked, not drawn: it may train a model, and not test one")
        record = LabelledImage(usable, index[image.label], image.name, self.work.span).to_record()
        return image.name, image.label, side, content, record


class _Draft:
    """A chunk's records while they are being collected."""

    def __init__(self, work: Work, seen: Contents) -> None:
        self.work = work
        self.seen = seen
        self.records: dict[str, list[bytes]] = {split: [] for split in SPLITS}
        self.labels: dict[str, list[str]] = {split: [] for split in SPLITS}
        self.contents: dict[bytes, Accepted] = {}
        self.skipped: list[Skipped] = []
        self.duplicates: list[Skipped] = []

    def add(self, examined: Iterable[_Usable | Skipped]) -> None:
        """Take the usable images whose content none before has."""
        for one in examined:
            if isinstance(one, _LeftOut):
                self.duplicates.append(Skipped(one.name, one.reason))
            elif isinstance(one, Skipped):
                self.skipped.append(one)
            else:
                self._accept(one)

    def stage(self, split: str, place: str) -> Shard:
        """Write the split's shard."""
        content = b"".join(self.records[split])
        shard = Shard.of(split, place, content, len(self.records[split]))
        SpanStore(self.work.data_root).stage(Span(self.work.span), shard, content)
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


def _parts(chunk: Chunk) -> list[tuple[Listed, ...]]:
    """Return the chunk's images in small portions of work."""
    parts: list[list[Listed]] = [[]]
    filled = 0
    for image in chunk.images:
        if len(parts[-1]) == PART_IMAGES or filled >= PART_BYTES:
            parts.append([])
            filled = 0
        parts[-1].append(image)
        filled += image.size
    return [tuple(part) for part in parts]


def _checked(image: Listed, data: bytes | OSError) -> bytes:
    if isinstance(data, FileNotFoundError):
        raise _Unusable("was deleted after the snapshot was taken")
    if isinstance(data, OSError):
        raise data
    if len(data) != image.size:
        raise _Unusable("has changed since the snapshot was taken")
    if problem := image_problem(data) or image.problem:
        raise _Unusable(problem)
    return data


def _refuse_changed_sides(preparation: Preparation, reports: Iterable[ChunkReport]) -> None:
    """Refuse to publish if a span that was published since `begin` has an image of this one on the other side."""
    store, split = SpanStore(preparation.data_root), preparation.split
    if (others := other_spans(store, preparation.span)) == preparation.others:
        return
    kept = keep_sides(store, others, replace(split, moved=frozenset()))
    draws = (draw for chunk in reports for draw in each_draw(chunk.draws))
    if changed := sum(kept.side_of(draw) != split.side_of(draw) for draw in draws):
        new = enumerate_spans(set(others).difference(preparation.others))
        raise InvalidSpan(
            f"{preparation.span} has {changed} images on the other side of the train/test split than span-{new}, "
            "published meanwhile. Run it again; they follow it then."
        )


def _manifest(preparation: Preparation, reports: Sequence[ChunkReport], skipped: list[Skipped]) -> Manifest:
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
        decoder=VERSION,
    )


def _duplicate_reason(image: Accepted, first: Accepted) -> str:
    other_label = f", which is labelled {first.label}" if first.label != image.label else ""
    return f"has the same content as {first.name}{other_label}"
