"""The images that are measured with: CIFAR-10's where they are beside the project, else generated ones of their size.

They are written as JPEG files, `<class>/<number>.jpg`, which is also how the archives hold them. The archives are no
part of the project, and neither are the images.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "cifar10-train.tar.gz"
ARCHIVED = 50_000
SIZE = 32
GENERATED = "generated images"


def source(count: int = ARCHIVED, archive: Path = ARCHIVE) -> str:
    """What so many images are, for the table."""
    return "CIFAR-10" if archive.exists() and count <= ARCHIVED else GENERATED


def write_images(folder: Path, count: int, archive: Path = ARCHIVE) -> None:
    """Writes so many different images, as many of each class as of the others where the count allows it."""
    for name, data in islice(_archived(archive, count) if source(count, archive) != GENERATED else _generated(), count):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def collected(folder: Path, count: int) -> list[tuple[str, bytes]]:
    """So many images by name."""
    write_images(folder, count)
    return [(str(file.relative_to(folder)), file.read_bytes()) for file in sorted(folder.rglob("*.jpg"))]


def photograph(seed: int, size: int) -> bytes:
    """A JPEG of smooth shapes with some noise; the same seed gives the same one."""
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


def _archived(archive: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """The first images of each class: in the archive, one class comes after the other."""
    of_each = -(-count // len(CLASSES))
    taken = dict.fromkeys(CLASSES, 0)
    with tarfile.open(archive) as files:
        for member in files:
            label = Path(member.name).parent.name
            if member.isfile() and taken[label] < of_each:
                taken[label] += 1
                content = files.extractfile(member)
                assert content is not None
                yield str(Path(label, Path(member.name).name)), content.read()
