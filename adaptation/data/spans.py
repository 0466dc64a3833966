"""Spans: the numbered, immutable portions of training data, `<data root>/span-<N>/{train,test}/*.tfrecord`.

A span with a `manifest.json` is published and never changes afterwards. This module has the values (`Span`, `Shard`,
`Manifest`) and the store that claims numbers, publishes and verifies. `span_preparation` turns images into shards;
`windows` chooses the spans of a training job.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from adaptation import codec
from adaptation.data import tfrecords
from adaptation.data.batches import Snapshot
from adaptation.data.labels import Skipped
from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.io.journal import Journal

SPLITS = ("train", "test")
_NAME = re.compile(r"span-([1-9][0-9]*)")
_SHARD = re.compile(rf"({'|'.join(SPLITS)})/shard-[0-9]+-of-[0-9]+-[0-9a-f]{{8}}\.tfrecord")
_MANIFEST = "manifest.json"
_SNAPSHOT = "snapshot.json"
_RESTORE = "Restore it, or the span, from its source."


class InvalidSpan(AdaptationError, ValueError):
    """An unusable span: its name, its number, its split or its data."""


class SpanNotPublished(AdaptationError, LookupError):
    """A span without a manifest."""


class CorruptSpan(AdaptationError, ValueError):
    """A published span whose files do not match its manifest."""


@dataclass(frozen=True, order=True)
class Span:
    """A span's number: 1, 2, 3 ...

    >>> Span.parse("span-9") < Span.parse("span-10")
    True
    """

    number: int

    @classmethod
    def parse(cls, text: str) -> Span:
        """Return the span that `span-N`, or `N` alone, names.

        Raises:
          InvalidSpan: The text is neither.
        """
        match = _NAME.fullmatch(text if text.startswith("span-") else f"span-{text}")
        if not match:
            raise InvalidSpan(f"{text!r} is no span. Name one like span-3.")
        return cls(int(match[1]))

    def __str__(self) -> str:
        return f"span-{self.number}"


@dataclass(frozen=True, order=True)
class Shard:
    """A file of a span: path below the span's folder, size in bytes, CRC-32C (8 hex digits), number of images."""

    path: str
    size: int
    crc32c: str
    images: int

    @classmethod
    def of(cls, split: str, place: str, content: bytes, images: int) -> Shard:
        """Return the shard with this content. Its name holds the checksum, so that other content never replaces it."""
        crc = tfrecords.crc32c(content)
        return cls(f"{split}/shard-{place}-{crc}.tfrecord", len(content), crc, images)

    @property
    def split(self) -> str:
        """`train` or `test`."""
        return self.path.split("/")[0]


@dataclass(frozen=True)
class Manifest:
    """The description of a published span.

    Attributes:
      span: Its number.
      batch: Name of the batch that it was made from.
      key: Key of its source: the batch and the digest of its file list.
      counts: Images by split and label.
      shards: Its files.
      skipped: Inputs that were left out, with reasons.
      seed: Seed of the train/test split.
      ratio: Share of the test split.
      labels: Label names; an image's label is an index into them.
      run: The pipeline run that made it; no part of the digest.
      created: ISO 8601, UTC; no part of the digest.
      decoder: `decoding.VERSION` of the check that the images passed; 0 in spans of earlier versions; no part of the
        digest.
    """

    span: int
    batch: str
    key: str
    counts: Mapping[str, Mapping[str, int]]
    shards: tuple[Shard, ...]
    skipped: tuple[Skipped, ...]
    seed: int
    ratio: float
    labels: tuple[str, ...]
    run: str
    created: str
    decoder: int = 0

    @property
    def digest(self) -> str:
        """Digest of the content (64 hex digits): the same input gives the same digest."""
        value = msgspec.to_builtins(self)
        content = {name: value[name] for name in value if name not in ("run", "created", "decoder")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def images(self) -> int:
        """Number of images in all splits."""
        return sum(shard.images for shard in self.shards)

    def images_in(self, split: str) -> int:
        """Return the number of images in one split."""
        return sum(shard.images for shard in self.shards if shard.split == split)

    def to_json(self) -> bytes:
        """Return the manifest as a file's content, with its digest."""
        return codec.encode(msgspec.to_builtins(self) | {"digest": self.digest})

    @classmethod
    def from_json(cls, data: bytes, source: str) -> Manifest:
        """Return the manifest that `to_json` wrote.

        Raises:
          UnreadableState: The data is something else; the message names the `source`.
          CorruptSpan: The manifest was changed afterwards.
        """
        manifest = codec.decode(data, cls, source, remedy=_RESTORE)
        if manifest.digest != codec.decode(data, _Signature, source, remedy=_RESTORE).digest:
            raise CorruptSpan(f"{source}: a manifest was changed after it was written. {_RESTORE}")
        return manifest


@dataclass(frozen=True)
class _Signature:
    """The fields of a manifest's file beside the manifest."""

    digest: str


@dataclass(frozen=True)
class _Claim:
    """A claimed span number: the record of the same number. `key` names the span's source."""

    key: str


STATE_FILES: Mapping[str, Any] = {
    "_claims/*.json": _Claim,
    "span-*/manifest.json": Manifest,
    "span-*/snapshot.json": Snapshot,
}


class SpanStore:
    """The spans below a data root."""

    def __init__(self, root: str) -> None:
        self.root = storage.absolute(root)
        self._claims = Journal(storage.join(self.root, "_claims"), _Claim)

    def spans(self) -> list[Span]:
        """Return the published spans in the order of their numbers."""
        there = self._folders()
        return list(itertools.compress(there, storage.in_parallel(self.is_published, there)))

    def unsigned(self) -> list[Span]:
        """Return unclaimed span folders without a manifest: data from elsewhere, to be adopted.

        Those whose adoption was cut off are included.
        """
        claims = {Span(claim.number): claim.value.key for claim in self._claims.records()}
        free = (span for span in self._folders() if claims.get(span, adoption_key(span)) == adoption_key(span))
        return sorted(set(free) - set(self.spans()))

    def manifest(self, span: Span) -> Manifest:
        """Return the manifest of a published span.

        Raises:
          SpanNotPublished: The span has no manifest.
          UnreadableState: The manifest cannot be read.
          CorruptSpan: It was changed, or is another span's.
        """
        uri = self._uri(span, _MANIFEST)
        try:
            manifest = Manifest.from_json(storage.read(uri), uri)
        except FileNotFoundError:
            raise SpanNotPublished(
                f"{span} is not published under {self.root} (published: {enumerate_spans(self.spans())}). "
                'Run "adapt spans list".'
            ) from None
        if manifest.span != span.number:
            raise CorruptSpan(f"{uri} is the manifest of span-{manifest.span}. Restore the span from its source.")
        return manifest

    def manifests(self, spans: Iterable[Span]) -> list[Manifest]:
        """Return the manifests of published spans; errors as for `manifest`."""
        return storage.in_parallel(self.manifest, spans)

    def snapshot(self, span: Span) -> Snapshot | None:
        """Return the images that a published span was made from, or None if it was adopted.

        Raises:
          UnreadableState: Their list cannot be read.
        """
        try:
            return codec.read(self._uri(span, _SNAPSHOT), Snapshot, remedy=_RESTORE)
        except FileNotFoundError:
            return None

    def images_of(self, batch: str) -> frozenset[storage.File]:
        """Return the batch's images that are in a published span, without those that a span skipped.

        Raises:
          CorruptSpan: The list of a span's images, or its manifest, cannot be read.
        """
        claims = [Span(claim.number) for claim in self._claims.records() if claim.value.key.startswith(f"{batch}:")]
        published = itertools.compress(claims, storage.in_parallel(self.is_published, claims))
        return frozenset(itertools.chain.from_iterable(map(self._images, published)))

    def claim(self, key: str) -> Span:
        """Return the span number of a key: its present one, else the next free one.

        Two keys never get the same number and one key never keeps two, however many callers ask at once.

        Failure: cut off at any point, the next call with the same key gets the same number.
        """
        while True:
            folders = self._folders()  # before the claims: a folder seen here has its claim, this key's too, among them
            claims = self._claims.records()
            for claim in claims:
                if claim.value.key == key:
                    return Span(claim.number)
            taken = [claim.number for claim in claims] + [span.number for span in folders]
            with contextlib.suppress(FileExistsError):
                self._claims.append(_Claim(key), after=max(taken, default=0))

    def reserve(self, span: Span, key: str) -> None:
        """Reserve the number of an existing folder, so that no other key can claim it.

        Raises:
          InvalidSpan: Another key has claimed it.
        """
        with contextlib.suppress(FileExistsError):
            self._claims.append(_Claim(key), after=span.number - 1)
        if any(claim.number == span.number and claim.value.key != key for claim in self._claims.records()):
            raise InvalidSpan(
                f"{span} is claimed for a batch whose preparation has not ended. Run that again to finish it."
            )

    def is_published(self, span: Span) -> bool:
        """Return True if the span has a manifest."""
        return storage.exists(self._uri(span, _MANIFEST))

    def work_folder(self, span: Span, name: str) -> str:
        """Return the URI of a folder for files of the span's preparation; publishing removes it."""
        return self._staged(span, f"_work-{name}")

    def stage(self, span: Span, shard: Shard, content: bytes) -> None:
        """Write a shard where it is not yet part of the span; do nothing once the span is published."""
        try:
            storage.write(self._staged(span, shard.path), content)
        except OSError:
            if not self.is_published(span):  # else a faster attempt has swept the folder away
                raise

    def publish(self, manifest: Manifest, snapshot: Snapshot | None = None) -> Manifest:
        """Move the staged shards into place; the manifest comes last and makes the whole span visible.

        Returns:
          The published manifest: this one, or that of a faster attempt with the same key.

        Failure: cut off at any point, nothing is visible or the whole span is; staging and publishing again finishes.
        """
        span = Span(manifest.span)
        storage.in_parallel(lambda shard: self._place(span, shard), manifest.shards)
        if snapshot is not None:
            storage.write(self._uri(span, _SNAPSHOT), codec.encode(snapshot, indent=0))
        with contextlib.suppress(FileExistsError):
            storage.create(self._uri(span, _MANIFEST), manifest.to_json())
        published = self.manifest(span)
        self.sweep(published)
        return published

    def sweep(self, manifest: Manifest) -> None:
        """Remove the shards of a published span that slower or cut-off attempts left behind."""
        span = Span(manifest.span)
        for path in self._unlisted(manifest):
            if _SHARD.fullmatch(path):
                storage.remove(self._uri(span, path))
        storage.remove_folder(self._staged(span))

    def verify(self, span: Span) -> Manifest:
        """Read every byte of a published span and compare it with the manifest.

        Raises:
          SpanNotPublished: The span has no manifest.
          CorruptSpan: A file is missing, changed or not listed, or its record counts differ.
        """
        manifest = self.manifest(span)
        if problems := self._problems(manifest):
            raise CorruptSpan(f"{span} does not match its manifest: {'; '.join(problems)}. Restore it from its source.")
        return manifest

    def shard_uri(self, span: Span, shard: Shard) -> str:
        """Return the URI of a published shard."""
        return self._uri(span, shard.path)

    def folder(self, span: Span) -> str:
        """Return the URI of the span's folder."""
        return storage.join(self.root, str(span))

    def _images(self, span: Span) -> list[storage.File]:
        snapshot, skipped = self.snapshot(span), {skip.name for skip in self.manifest(span).skipped}
        return [image for image in snapshot.images if image.name not in skipped] if snapshot else []

    def _folders(self) -> list[Span]:
        return sorted(Span.parse(name) for name in storage.folders(self.root) if _NAME.fullmatch(name))

    def _uri(self, span: Span, path: str) -> str:
        return storage.join(self.folder(span), path)

    def _staged(self, span: Span, path: str = "") -> str:
        return storage.join(self.root, "_staging", str(span), *([path] if path else []))

    def _place(self, span: Span, shard: Shard) -> None:
        staged = self._staged(span, shard.path)
        try:
            storage.move(staged, self._uri(span, shard.path))
        except FileExistsError:
            storage.remove(staged)
        except FileNotFoundError:
            if not storage.exists(self._uri(span, shard.path)) and not self.is_published(span):
                raise

    def _unlisted(self, manifest: Manifest) -> list[str]:
        listed = {shard.path for shard in manifest.shards} | {_MANIFEST, _SNAPSHOT}
        found = storage.files_below(self.folder(Span(manifest.span)))
        return [file.name for file in found if file.name not in listed]

    def _problems(self, manifest: Manifest) -> list[str]:
        span = Span(manifest.span)
        snapshot = self.snapshot(span)
        counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        problems = [f"{path} is not in the manifest" for path in self._unlisted(manifest)]
        if manifest.key != (snapshot.key if snapshot else adoption_key(span)):
            problems.append(f"{_SNAPSHOT} is not the list of the images that it was made from")
        for shard in manifest.shards:
            problems += self._check(manifest, shard, counts[shard.split])
        if not problems and any(
            _all_labels(counts[split], manifest.labels) != manifest.counts[split] for split in SPLITS
        ):
            problems.append("the images per label are not those counted")
        return problems

    def _check(self, manifest: Manifest, shard: Shard, counts: Counter[str]) -> list[str]:
        try:
            content = storage.read(self._uri(Span(manifest.span), shard.path))
        except FileNotFoundError:
            return [f"{shard.path} is missing"]
        if len(content) != shard.size or tfrecords.crc32c(content) != shard.crc32c:
            return [f"{shard.path} was changed"]
        try:
            labels = [tfrecords.LabelledImage.parse(data).label for data in tfrecords.unframe(content, shard.path)]
        except tfrecords.CorruptRecords as error:
            return [f"in {shard.path}, {error}"]
        if not all(0 <= label < len(manifest.labels) for label in labels):
            return [f"{shard.path} has a label without a name"]
        counts.update(manifest.labels[label] for label in labels)
        return [] if len(labels) == shard.images else [f"{shard.path} has {len(labels)} images, not {shard.images}"]


def adoption_key(span: Span) -> str:
    """Return the key that claims the number of an adopted span."""
    return f"adopted:{span}"


def enumerate_spans(spans: Iterable[Span]) -> str:
    """Return span numbers for people, consecutive ones as ranges.

    >>> enumerate_spans([Span(1), Span(2), Span(3), Span(9)])
    '1-3,9'
    """
    numbers = sorted({span.number for span in spans})
    runs = [
        [number for _, number in group]
        for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "none"


def count_labels(labels: Iterable[str], names: Iterable[str]) -> dict[str, int]:
    """Return the count of each label name, zeros included."""
    return _all_labels(Counter(labels), names)


def content_digest(manifests: Iterable[Manifest]) -> str:
    """Return the digest of the content of several spans (64 hex digits), whatever their order."""
    digests = [manifest.digest for manifest in sorted(manifests, key=lambda manifest: manifest.span)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _all_labels(counts: Counter[str], names: Iterable[str]) -> dict[str, int]:
    return {name: counts[name] for name in names}
