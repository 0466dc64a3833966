"""Batches: the months of collected images, `<collection root>/YYYY-MM/`.

Work on a batch uses a `Snapshot`, the list of its images at one moment. Images that arrive later are neither evaluated
nor archived with it, and count for the next evaluation. The content of images is checked elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import PurePosixPath

from adaptation import codec
from adaptation.data.passed_over import PassedOver, Sieve, is_stranger
from adaptation.errors import AdaptationError
from adaptation.io import storage

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_ARCHIVED = "_old"
_EVALUATED = "_evaluated"
_DONE = "_archived"
_AFTER_ALL_MONTHS = "9999-13"
_YEARS_BACK = (0, 1, 10, 100)
_UNFIT = {"Cc", "Cs", "Zl", "Zp"}


class InvalidBatch(AdaptationError, ValueError):
    """A text that does not name a batch."""


class NoBatch(AdaptationError, LookupError):
    """A batch that does not exist or has no images."""


@dataclass(frozen=True, order=True)
class Batch:
    """A calendar month of collected images; batches are ordered by time.

    >>> Batch.parse("2021-09") < Batch.parse("2021-10")
    True
    """

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Batch:
        """Return the batch that `YYYY-MM` names.

        Raises:
          InvalidBatch: The text is no valid month: 2021-00, 2021-13, 2021-1, 2021-10_old ...
        """
        match = _MONTH.fullmatch(text)
        if not match:
            raise InvalidBatch(f"{text!r} is no month. Name a batch like 2021-10 (a year, then 01 to 12).")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


@dataclass(frozen=True)
class Snapshot:
    """The images of a folder at one moment.

    Attributes:
      batch: Name of the batch, `YYYY-MM`, or another name for images from elsewhere.
      root: URI of the folder.
      images: The image files, sorted by name; names are relative to `root`.
      passed_over: What else is below the folder, counted; it does not belong to the snapshot's identity.
    """

    batch: str
    root: str
    images: tuple[storage.File, ...]
    passed_over: PassedOver = field(default=PassedOver(), compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names relative to the root."""
        return tuple(image.name for image in self.images)

    @property
    def uris(self) -> tuple[str, ...]:
        """The images' URIs."""
        return tuple(storage.join(self.root, image.name) for image in self.images)

    @property
    def digest(self) -> str:
        """Digest of the file list (64 hex digits): the same names and sizes give the same digest."""
        lines = "".join(f"{image.name}\t{image.size}\n" for image in self.images)
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def key(self) -> str:
        """The key that claims a span number for this snapshot: batch name and digest."""
        return f"{self.batch}:{self.digest}"

    def only(self, names: Iterable[str]) -> Snapshot:
        """Return the snapshot of the images of these names."""
        wanted = frozenset(names)
        return Snapshot(self.batch, self.root, tuple(image for image in self.images if image.name in wanted))

    def without(self, images: Collection[storage.File]) -> Snapshot:
        """Return the snapshot of the other images.

        Raises:
          NoBatch: No other image is left.
        """
        others = tuple(image for image in self.images if image not in images)
        if not others:
            raise NoBatch(f"all {len(self.images)} images of {self.batch} are in spans. Add new images to evaluate.")
        return replace(self, images=others)


def snapshot_folder(root: str, batch: str, follow: bool = False) -> Snapshot:
    """Return the images below a folder, at any depth; all else is counted.

    Args:
      root: The folder.
      batch: Name of the snapshot.
      follow: Whether to enter linked folders. A collection's are not: archiving would move images out of them.

    Raises:
      NoBatch: The folder has no images.
    """
    root, sieve = storage.absolute(root), Sieve()
    with storage.collector_at_rest():
        images = tuple(sorted(_sifted(root, sieve, follow), key=itemgetter(0)))
    if not images:
        endings, rest = ", ".join(IMAGE_ENDINGS), f"; {sieve.passed_over}" if sieve.passed_over else ""
        raise NoBatch(f"{root} has no images ({endings}){rest}. Put some there, or name another folder.")
    return Snapshot(batch, root, images, sieve.passed_over)


def is_image(name: str) -> bool:
    """Return True if a file's name is an image's: by its ending, in any letter case.

    False for hidden files and those of other programs (`@eaDir/`), for names with an empty part (`a//b.jpg`), which no
    disk could hold, and for names that do not fit a text file with one name a line: with a line break or another
    control character, or no valid text.
    """
    is_named_so = name.lower().endswith(IMAGE_ENDINGS) and not _has_odd_part(name) and _is_one_line(name)
    return is_named_so and not is_stranger(name)


def collection_of(snapshot: Snapshot) -> BatchStore | None:
    """Return the store that a snapshot is a batch of, or None if its images come from elsewhere."""
    parent, _, name = snapshot.root.rpartition("/")
    return BatchStore(parent) if name == snapshot.batch and _MONTH.fullmatch(name) else None


class BatchStore:
    """The batches below a collection root."""

    def __init__(self, root: str) -> None:
        self.root = storage.absolute(root)

    def batches(self) -> list[Batch]:
        """Return the valid batches, oldest first."""
        return self._between("", _AFTER_ALL_MONTHS)

    def newest(self) -> Batch:
        """Return the newest batch, found as `latest` finds it.

        Raises:
          NoBatch: There is no batch.
        """
        batches = self.latest(1)
        if not batches:
            raise NoBatch(f"{self.root} has no batch. Put images into a folder named after their month, like 2021-10.")
        return batches[0]

    def latest(self, count: int) -> list[Batch]:
        """Return the latest batches, newest first; fewer if there are no more.

        The search starts with this month, then covers the year before, the nine years before that, and so on: older
        batches cost nothing once enough are found. On object storage each step costs a page for every 1,000 folders
        and files that lie directly in the root and whose names fall into its time, whatever the folders hold.
        """
        found: list[Batch] = []
        end = _AFTER_ALL_MONTHS
        for start in _steps_back(datetime.now(UTC)):
            found += reversed(self._between(start, end))
            if len(found) >= count:
                break
            end = start
        return found[:count]

    def batch_of(self, uri: str) -> Batch | None:
        """Return the batch of an image by its URI alone, or None if the URI is no image of these batches."""
        month, _, name = uri.removeprefix(f"{self.root}/").partition("/")
        is_ours = uri.startswith(f"{self.root}/") and _MONTH.fullmatch(month) and is_image(name)
        return Batch.parse(month) if is_ours else None

    def snapshot(self, batch: Batch) -> Snapshot:
        """Return the current images of the batch.

        Raises:
          NoBatch: The batch does not exist or has no images.
        """
        if not storage.exists(self.folder(batch)):
            raise NoBatch(f"{batch} is not in {self.root} (there: {_enumerate(self.batches())}).")
        return snapshot_folder(self.folder(batch), str(batch))

    def images(self, batch: Batch) -> tuple[storage.File, ...]:
        """Return the current images of the batch; none if it is missing or empty."""
        return _images_below(self.folder(batch))

    def passed_over(self, batch: Batch) -> PassedOver:
        """Return what else is in the batch's folder, counted."""
        sieve = Sieve()
        for _ in _sifted(self.folder(batch), sieve, follow=False):
            pass
        return sieve.passed_over

    def iter_images(self, batch: Batch) -> Iterator[storage.File]:
        """Yield the images of the batch, in any order, listed on demand: stopping early saves pages.

        Images that arrive or are moved away meanwhile may be included or not.
        """
        return filter(_is_image_file, storage.iter_files_below(self.folder(batch)))

    def archived(self, batch: Batch) -> tuple[storage.File, ...]:
        """Return the images that were archived from the batch."""
        return _images_below(self._archive(batch))

    def mark_evaluated(self, snapshot: Snapshot) -> None:
        """Record that the snapshot's images have been evaluated; they no longer count as new."""
        self._write_mark(Batch.parse(snapshot.batch), snapshot.images)

    def evaluated(self, batch: Batch) -> frozenset[storage.File]:
        """Return the batch's evaluated images, archived ones included. Only the evaluation records are read.

        A later image with the name of an evaluated one, but another size, is not included.
        """
        folder = self._marks(batch)
        uris = [storage.join(folder, file.name) for file in storage.files(folder)]
        marks = storage.in_parallel(lambda uri: codec.read(uri, list[storage.File]), uris)
        return frozenset(itertools.chain.from_iterable(marks))

    def archive(self, snapshot: Snapshot) -> int:
        """Move exactly the snapshot's images to `YYYY-MM_old/`, once; return how many were still to be moved.

        A snapshot is archived once: images requeued later stay. An image never overwrites another: if the archive has a
        different one of that name, the newcomer gets a number (`ship_1~2.jpg`). An image whose size has changed since
        the snapshot stays: it is not the one that was used.

        Failure: no image is lost; a retry moves the rest, and leaves none at both places.
        """
        batch, wanted = Batch.parse(snapshot.batch), set(snapshot.images)
        with self._moving(batch):
            if self.is_archived(batch, snapshot.digest):
                return 0
            names = [image.name for image in self.images(batch) if image in wanted]
            _move_all(self.folder(batch), self._archive(batch), names)
            storage.write(self._archived_mark(batch, snapshot.digest), b"")
        return len(names)

    def is_archived(self, batch: Batch, digest: str) -> bool:
        """Return True if the snapshot of that digest was archived."""
        return storage.exists(self._archived_mark(batch, digest))

    def requeue(self, batch: Batch) -> int:
        """Move the archived images back, merged with newer ones; return how many.

        They stay evaluated: an image that is in a span is not evaluated again, and never gets into another.

        On one machine this waits for a running archiving. On object storage, requeue only when none is running.

        Raises:
          NoBatch: The batch has no archived images.

        Failure: as for `archive`.
        """
        with self._moving(batch):
            images = self.archived(batch)
            if not images:
                raise NoBatch(f'nothing of {batch} is archived in {self.root}. Run "adapt batches list".')
            _move_all(self._archive(batch), self.folder(batch), [image.name for image in images])
        return len(images)

    def folder(self, batch: Batch) -> str:
        """Return the URI of the batch's folder."""
        return storage.join(self.root, str(batch))

    def _between(self, start: str, end: str) -> list[Batch]:
        return sorted(Batch.parse(name) for name in storage.folders(self.root, start, end) if _MONTH.fullmatch(name))

    def _archive(self, batch: Batch) -> str:
        return self.folder(batch) + _ARCHIVED

    def _archived_mark(self, batch: Batch, digest: str) -> str:
        return storage.join(self.root, _DONE, str(batch), digest)

    def _marks(self, batch: Batch) -> str:
        return storage.join(self.root, _EVALUATED, str(batch))

    def _moving(self, batch: Batch) -> contextlib.AbstractContextManager[None]:
        """Lock the batch: two opposite moves of the same images would each keep the other's copy."""
        return storage.locked(storage.join(self.root, _DONE, f"{batch}.lock"))

    def _write_mark(self, batch: Batch, images: Iterable[storage.File]) -> str:
        data = codec.encode(sorted(images), indent=0)
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.json"
        storage.write(storage.join(self._marks(batch), name), data)
        return name


def _sifted(root: str, sieve: Sieve, follow: bool) -> Iterator[storage.File]:
    for file in storage.iter_files_below(root, sieve.add, follow):
        if is_image(file.name):
            yield file
        else:
            sieve.add(file.name)


def _images_below(folder: str) -> tuple[storage.File, ...]:
    return tuple(filter(_is_image_file, storage.files_below(folder)))


def _is_image_file(file: storage.File) -> bool:
    return is_image(file.name)


def _steps_back(now: datetime) -> Iterator[str]:
    """Yield the months at which the steps of the search begin, latest first; the first of all months at the end."""
    for years in _YEARS_BACK:
        if now.year >= years:
            yield f"{now.year - years:04d}-{now.month:02d}"
    yield ""


def _has_odd_part(name: str) -> bool:
    return name.startswith((".", "/")) or "/." in name or "//" in name


def _is_one_line(name: str) -> bool:
    return name.isprintable() or not any(unicodedata.category(character) in _UNFIT for character in name)


def _enumerate(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "none"


def _move_all(source: str, target: str, names: list[str]) -> None:
    storage.in_parallel(lambda name: _move_beside(source, target, name), names)


def _move_beside(source: str, target: str, name: str) -> None:
    """Move `source/name` below `target`, under a numbered name if another image has taken it."""
    image, path, number = storage.join(source, name), PurePosixPath(name), 1
    with contextlib.suppress(FileNotFoundError):  # another process has moved it
        while not _moved(image, storage.join(target, str(path))):
            number += 1
            path = path.with_name(f"{PurePosixPath(name).stem}~{number}{path.suffix}")


def _moved(source: str, target: str) -> bool:
    """Move the image so that only `target` has it; return False if another image is there."""
    try:
        storage.move(source, target)
    except FileExistsError:
        if storage.read(source) != storage.read(target):
            return False
        storage.remove(source)
    return True
