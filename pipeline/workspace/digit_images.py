"""scikit-learn's digits as image files: 1,797 real scans of handwriting, seen by one of two cameras."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from adaptation.io import storage

SIZE = 32
COUNT = 1797
Camera = Callable[[Image.Image, int], Image.Image]


def first_camera(scan: Image.Image, seed: int) -> Image.Image:
    """Return the scan as it is: white on black, upright and sharp."""
    del seed
    return scan


def changed_camera(scan: Image.Image, seed: int) -> Image.Image:
    """Return the same scan by another device: tilted, out of focus, overexposed and noisy.

    Args:
      scan: Greyscale, 32 x 32 pixels.
      seed: Seed of the noise.
    """
    blurred = scan.rotate(20, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))
    noise = np.random.default_rng(seed).normal(0, 15, (SIZE, SIZE))
    return Image.fromarray((np.asarray(blurred) * 0.55 + 60 + noise).clip(0, 255).astype(np.uint8))


def write_digits(folder: Path, indices: Sequence[int] = range(COUNT), camera: Camera = first_camera) -> None:
    """Write scans as PNG files named `<digit>_<index>.png`.

    Args:
      folder: Where to write them.
      indices: The scans to write, of 1,797.
      camera: Turns a greyscale scan of 32 x 32 pixels into the picture that is written.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index in indices:
        scan = Image.fromarray((digits.images[index] * 15.9).astype(np.uint8))
        picture = camera(scan.resize((SIZE, SIZE), Image.Resampling.BICUBIC), index)
        storage.write(str(folder / f"{digits.target[index]}_{index:04d}.png"), _png(picture))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
