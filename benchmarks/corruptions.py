"""Nine corruptions of small colour images in five severities, like those of Hendrycks and Dietterich (2019)."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Images = npt.NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)


def corrupted(images: Images, kind: str, severity: int) -> Images:
    """Return the images (uint8 [images, size, size, 3]) with a corruption of `KINDS`, at a severity of 1 to 5."""
    change, values = KINDS[kind]
    return change(images, values[severity - 1])


def _bytes(values: npt.NDArray[np.floating[Any]]) -> Images:
    rounded: Images = values.round().clip(0, 255).astype(np.uint8)
    return rounded


def _noise(images: Images, deviation: float) -> Images:
    return _bytes(images + np.random.default_rng(1).normal(0, deviation, images.shape))


def _brightness(images: Images, more: float) -> Images:
    return _bytes(images + more)


def _contrast(images: Images, factor: float) -> Images:
    middle = images.mean(axis=(1, 2, 3), keepdims=True)
    return _bytes(middle + (images - middle) * factor)


def _haze(images: Images, thickness: float) -> Images:
    return _bytes(images * (1 - thickness) + 220 * thickness)


def _colour_cast(images: Images, strength: float) -> Images:
    return _bytes(images * np.array([1 + strength, 1, 1 - strength]))


def _each(change: Callable[[Image.Image, float], Image.Image], images: Images, value: float) -> Images:
    return np.stack([np.asarray(change(Image.fromarray(image), value), np.uint8) for image in images])


def _blur(image: Image.Image, radius: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


def _pixelate(image: Image.Image, share: float) -> Image.Image:
    small = image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def _jpeg(image: Image.Image, quality: float) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(quality))
    return Image.open(file).convert("RGB")


def _rotation(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, Image.Resampling.BILINEAR)


KINDS: dict[str, tuple[Callable[[Images, float], Images], tuple[float, ...]]] = {
    "noise": (_noise, (5, 10, 18, 28, 40)),
    "blur": (partial(_each, _blur), (0.3, 0.5, 0.8, 1.2, 2.0)),
    "brightness": (_brightness, (15, 35, 55, 80, 110)),
    "contrast": (_contrast, (0.8, 0.6, 0.4, 0.25, 0.12)),
    "pixelate": (partial(_each, _pixelate), (0.9, 0.75, 0.6, 0.5, 0.35)),
    "JPEG": (partial(_each, _jpeg), (70, 45, 25, 15, 7)),
    "haze": (_haze, (0.15, 0.3, 0.5, 0.7, 0.85)),
    "rotation": (partial(_each, _rotation), (4, 8, 15, 25, 45)),
    "colour cast": (_colour_cast, (0.1, 0.25, 0.4, 0.6, 0.9)),
}
