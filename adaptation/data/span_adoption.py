"""Adoption: verifies and signs a span folder from elsewhere, for example a TFDS export.

It rewrites the records in this project's form, with the span's number and an id; the images' bytes stay unchanged. The
original files are kept under `<data root>/_adopted/span-<N>/`. `span_preparation` makes spans of loose images.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from adaptation import codec
from adaptation.data.decoding import VERSION
from adaptation.data.image_check import image_problem
from adaptation.data.labels import Skipped
from adaptation.data.span_preparation import find_published, refuse_changed_labels
from adaptation.data.spans import SPLITS, InvalidSpan, Manifest, Shard, Span, SpanStore, adoption_key
from adaptation.data.tfrecords import CorruptRecords, LabelledImage, parse_features, unframe
from adaptation.io import storage

_KEPT = "_adopted"
_OUTSIDE = "no file of records in train/ or test/; it is kept with the originals"
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class _Source:
    """A file of the folder: its name relative to it, its original URI, and the URI where it is kept."""

    name: str
    came: str
    kept: str

    @property
    def split(self) -> str:
        return self.name.split("/")[0]

    @property
    def has_records(self) -> bool:
        return self.split in SPLITS and not storage.basename(self.name).startswith(".")

    @property
    def is_moved(self) -> bool:
        return not storage.exists(self.came)


@dataclass(frozen=True)
class _Draft:
    """A staged shard and the labels of its images."""

    shard: Shard
    labels: Counter[str]


def adopt(store: SpanStore, span: Span, labels: tuple[str, ...], run: str = "") -> Manifest:
    """Publish the folder `span-<N>`, which has `train/` and `test/` with TFRecords of Examples but no manifest.

    Each Example has `image` (encoded JPEG or PNG) and `label` (int64, an index into `labels`); an existing `id` is
    kept. Nothing is moved before every record has been read.

    Returns:
      The manifest; the existing one if the span is published already.

    Failure: cut off at any point, nothing is visible or the whole span is; adopting again finishes.

    Raises:
      InvalidSpan: A split has no images, a record is not as above, a batch is being prepared under the number, or
        `labels` does not begin with the newest span's label names.
      CorruptRecords: A file was cut off or changed.
    """
    if published := find_published(store, span):
        return published
    refuse_changed_labels(store, labels)
    sources = _sources(store, span)
    files = [source for source in sources if source.has_records]
    drafts = [
        _stage(store, span, labels, file, f"{number:05d}-of-{len(files):05d}") for number, file in enumerate(files)
    ]
    others = tuple(Skipped(one.name, _OUTSIDE) for one in sources if not one.has_records)
    manifest = _manifest(store, span, labels, [draft for draft in drafts if draft.shard.images], run, others)
    store.reserve(span, manifest.key)
    _keep(store, span, sources)
    published = store.publish(manifest)
    storage.remove(_list_uri(store, span))
    return published


def _sources(store: SpanStore, span: Span) -> list[_Source]:
    """Return the folder's files; after a cut-off adoption those that it listed: its shards are in the folder too."""
    folder, kept = store.folder(span), storage.join(store.root, _KEPT, str(span))
    listed = _listed(store, span)
    names = [file.name for file in storage.files_below(folder)] if listed is None else listed
    sources = [_Source(name, storage.join(folder, name), storage.join(kept, name)) for name in names]
    for source in sources:
        if listed is None and storage.exists(source.kept):
            raise InvalidSpan(f"{source.kept} is kept from an earlier adoption. Move it elsewhere, then adopt again.")
    return sources


def _listed(store: SpanStore, span: Span) -> list[str] | None:
    try:
        return codec.read(_list_uri(store, span), list[str])
    except FileNotFoundError:
        return None


def _list_uri(store: SpanStore, span: Span) -> str:
    return storage.join(store.root, _KEPT, f"{span}.json")


def _stage(store: SpanStore, span: Span, labels: tuple[str, ...], file: _Source, place: str) -> _Draft:
    images = _read(span, file, labels)
    content = b"".join(image.to_record() for image in images)
    shard = Shard.of(file.split, place, content, len(images))
    if images:
        store.stage(span, shard, content)
    return _Draft(shard, Counter(labels[image.label] for image in images))


def _read(span: Span, file: _Source, labels: tuple[str, ...]) -> list[LabelledImage]:
    content = storage.read(file.kept if file.is_moved else file.came)
    if content.startswith(_GZIP):
        raise InvalidSpan(f"{file.came} is compressed. Decompress it with gunzip, then adopt again.")
    records = enumerate(unframe(content, file.came))
    return [_image(span, f"{file.name}#{number}", data, labels) for number, data in records]


def _image(span: Span, place: str, data: bytes, labels: tuple[str, ...]) -> LabelledImage:
    try:
        features = parse_features(data)
    except CorruptRecords as error:
        raise InvalidSpan(f"{place} is no tf.train.Example. Export Examples with image and label.") from error
    match features.get("image"), features.get("label"), features.get("id"):
        case [[bytes(image)], [int(label)], name]:
            pass
        case _:
            raise InvalidSpan(f"{place} has no single image (bytes) and label (int64). Export Examples with these.")
    if problem := image_problem(image):
        raise InvalidSpan(f"the image of {place} {problem}. Export JPEG or PNG bytes.")
    if not 0 <= label < len(labels):
        raise InvalidSpan(f"{place} has label {label}, but there are {len(labels)} label names. Set labels.names.")
    given = name[0].decode(errors="replace") if name and isinstance(name[0], bytes) else place
    return LabelledImage(image, label, given, span.number)


def _manifest(
    store: SpanStore, span: Span, labels: tuple[str, ...], drafts: list[_Draft], run: str, others: tuple[Skipped, ...]
) -> Manifest:
    counts = {split: Counter[str]() for split in SPLITS}
    for draft in drafts:
        counts[draft.shard.split].update(draft.labels)
    for split in SPLITS:
        if not counts[split]:
            raise InvalidSpan(
                f"{store.folder(span)} has no images in {split}/. A span has train/ and test/ with TFRecord files."
            )
    return Manifest(
        span=span.number,
        batch="adopted",
        key=adoption_key(span),
        counts={split: {name: counts[split][name] for name in labels} for split in SPLITS},
        shards=tuple(sorted(draft.shard for draft in drafts)),
        skipped=others,
        seed=0,
        ratio=0.0,
        labels=labels,
        run=run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        decoder=VERSION,
    )


def _keep(store: SpanStore, span: Span, sources: list[_Source]) -> None:
    """Move the files out of the folder, where the shards go next; their list is written first, see `_sources`."""
    storage.write(_list_uri(store, span), codec.encode([source.name for source in sources], indent=0))
    for source in sources:
        try:
            storage.move(source.came, source.kept)
        except FileExistsError:  # an earlier attempt was cut off within the move
            storage.remove(source.came)
        except FileNotFoundError:
            if not storage.exists(source.kept):
                raise
