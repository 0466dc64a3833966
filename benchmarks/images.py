"""The images to measure with: CIFAR-10's if they are beside the project, else generated ones of their size.

They are JPEG files, `<class>/<split>-<number>.jpg`; the archives hold them as `<split>/<class>/<number>.jpg`. A run of
many benchmarks writes them once, into a folder that it shares. They are no part of the project.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.io import storage

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_DATA = Path(__file__).parents[2] / "shared" / "data"
ARCHIVES = (_DATA / "cifar10-train.tar.gz", _DATA / "cifar10-test.tar.gz")
ARCHIVED = 60_000
SIZE = 32
GENERATED = "generated images"
_SHARED = "BENCH_IMAGES"


def source(count: int = ARCHIVED, archives: Sequence[Path] = ARCHIVES) -> str:
    """Return the source of so many images, for the table."""
    return "CIFAR-10" if all(map(Path.exists, archives)) and count <= ARCHIVED else GENERATED


def some_images(folder: Path, count: int) -> Snapshot:
    """Return so many different images, equally many of each class if the count allows it.

    They are in the folder of `shared_images`; without it, they are written into `folder`.
    """
    shared = os.environ.get(_SHARED)
    if not shared:
        write_images(folder, count)
    whole = snapshot_folder(shared or str(folder), "2021-10")
    of_each = [[image for image in whole.images if image.name.startswith(f"{label}/")] for label in CLASSES]
    in_turn = (image for images in zip_longest(*of_each) for image in images if image)
    return replace(whole, images=tuple(sorted(islice(in_turn, count))))


@contextmanager
def shared_images(count: int = ARCHIVED, archives: Sequence[Path] = ARCHIVES) -> Iterator[None]:
    """While the context lasts, share so many images between this process and those that it starts."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"writing {count:,} images", file=sys.stderr, flush=True)
        write_images(Path(folder), count, archives)
        os.environ[_SHARED] = folder
        try:
            yield
        finally:
            del os.environ[_SHARED]


def write_images(folder: Path, count: int, archives: Sequence[Path] = ARCHIVES) -> None:
    """Write so many different images into a folder."""
    found = _generated() if source(count, archives) == GENERATED else _archived(archives, count)
    for name, data in islice(found, count):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def collected(folder: Path, count: int) -> list[tuple[str, bytes]]:
    """Return so many images by name."""
    snapshot = some_images(folder, count)
    return [(name, storage.read(uri)) for name, uri in zip(snapshot.names, snapshot.uris, strict=True)]


def photograph(seed: int, size: int) -> bytes:
    """Return a JPEG of smooth shapes with some noise; the same seed gives the same one."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.int16)
    noisy = (smooth + generator.integers(-12, 13, (size, size, 3))).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def _generated() -> Iterator[tuple[str, bytes]]:
    number = 0
    while True:
        yield f"{CLASSES[number % len(CLASSES)]}/{number // len(CLASSES):05d}.jpg", photograph(number, SIZE)
        number += 1


def _archived(archives: Sequence[Path], count: int) -> Iterator[tuple[str, bytes]]:
    """Yield the first images of each class: in an archive, one class comes after the other."""
    of_each = -(-count // len(CLASSES))
    taken = dict.fromkeys(CLASSES, 0)
    for split, label, number, data in chain.from_iterable(map(_members, archives)):
        if taken[label] < of_each:
            taken[label] += 1
            yield f"{label}/{split}-{number}", data()


def _members(archive: Path) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    """Yield split, class, number and content of each file."""
    with tarfile.open(archive) as files:
        for member in filter(tarfile.TarInfo.isfile, files):
            content = files.extractfile(member)
            assert content is not None
            split, label, number = Path(member.name).parts
            yield split, label, number, content.read
