"""Images, and folders of them: the only place where tests make any."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from adaptation.io import storage


def encoded(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Encode a picture, or pixels of uint8; `options` are those of Pillow's encoder."""
    file = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, kind, **options)
    return file.getvalue()


def image(seed: object, kind: str = "PNG", size: tuple[int, int] = (4, 4), mode: str = "RGB", **options: Any) -> bytes:
    """Return an encoded image of noise; its bytes depend on the seed alone."""
    noise = random.Random(str(seed)).randbytes(len(mode) * size[0] * size[1])
    return encoded(Image.frombytes(mode, size, noise), kind, **options)


def grey(brightness: int, size: tuple[int, int] = (4, 4), number: int = 0) -> bytes:
    """Return a PNG of one brightness; unless `number` is 0, it moves the one pixel that differs."""
    picture = Image.new("L", size, brightness)
    if number:
        picture.putpixel((number % size[0], number // size[0]), 255 - brightness)
    return encoded(picture)


def drawn(colour: tuple[int, int, int], number: int) -> bytes:
    """Return a PNG in a colour, with a disc and its number on it, which differs for each number."""
    picture = Image.new("RGB", (40, 40), colour)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((number % 17, number % 13, number % 17 + 18, number % 13 + 18), fill=(number % 251, 220, 200))
    draw.text((2, 26), str(number), fill=(255, 255, 255))
    return encoded(picture)


def collect(folder: str | Path, names: Iterable[str]) -> None:
    """Put a different image under each name, JPEG or PNG by its ending."""
    for name in names:
        kind = "JPEG" if name.lower().endswith((".jpg", ".jpeg")) else "PNG"
        write(storage.join(str(folder), name), image(name, kind))


def write(file: str | Path, data: bytes) -> None:
    """Write a file and its folders; on disk directly, so that little time passes between two files."""
    if "://" in str(file):
        storage.write(str(file), data)
        return
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_bytes(data)


def contents(folder: str | Path) -> dict[str, bytes]:
    """Return every file below a folder by name, except locks, which have no content."""
    root = str(folder)
    if "://" in root:
        return {file.name: storage.read(storage.join(root, file.name)) for file in storage.files_below(root)}
    files = [file for file in Path(root).rglob("*") if file.is_file() and file.suffix != ".lock"]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}
