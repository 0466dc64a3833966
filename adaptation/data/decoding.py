r"""Decoding: what the bytes of a JPEG or PNG show, as `models.decoding` decodes them in training and in serving.

The pixels are upright (EXIF's orientation is applied), transparent parts are over white, 16 bits become the upper 8.
Where the bytes have to be read for that, both modules use the same patterns, which are declared here: in the syntax of
RE2, of which `\C` (any byte) is the only part that Python's `re` has not. TensorFlow's decoders are libjpeg-turbo and
libpng; here they are libjpeg-turbo in simplejpeg, Pillow, and the rules by which libpng refuses a file. The tests hold
the two modules together, over `tests/images` and over damaged files.
"""

from __future__ import annotations

import io
import re
from functools import cache

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from adaptation.data import png

VERSION = 1  # grows when something is refused that was taken before
LARGEST_FILE = 64 * 2**20
LARGEST_IMAGE = 100_000_000
LONGEST_SIDE = 1_000_000  # libpng's limit; a JPEG's side is 65,535 at most
TOLERANCE = 4  # of 255, between these pixels and TensorFlow's: rounding of colours, of the DCT, of transparency

JPEG, PNG = b"\xff\xd8\xff", png.SIGNATURE

# Neither orientation nor transparency: a JPEG with tables right after its JFIF header; a grey or colour PNG with pixels
# right after its header.
ORDINARY_BYTES = 41
ORDINARY = r"\C{4}\x00\x10JFIF\x00\C{11}\x00\C\x00\C*|\CPNG\r\n\x1a\n\C{17}[\x00\x02]\C{11}IDAT"

# PNG, up to its pixels: an alpha channel, or a chunk tRNS of 0 to 511 bytes.
# (source: w3.org/TR/png-3, 11.2.1 and 11.3.1.1)
PIXELS = b"IDAT"
TRANSPARENT = r"\C{25}[\x04\x06]\C*|\C*\x00\x00[\x00\x01]\CtRNS\C*"
KEYED_16 = r"\C{24}\x10[\x00\x02]\C*\x00\x00[\x00\x01]\CtRNS\C*"

# EXIF: what follows one of these marks, within so many bytes; the tag 0x0112 in the first directory.
# (source: CIPA DC-008, 4.5 and 4.6; TIFF 6.0, section 2)
EXIF_HEAD, EXIF_BYTES = 2**16, 400
EXIF_MARKS = {JPEG: b"Exif\x00\x00", PNG: b"eXIf"}
ORIENTATION = (
    r"(?:II\*\x00\x08\x00\x00\x00\C\C(?:\C{12}){0,30}?\x12\x01\x03\x00\x01\x00\x00\x00([\x01-\x08])\x00"
    r"|MM\x00\*\x00\x00\x00\x08\C\C(?:\C{12}){0,30}?\x01\x12\x00\x03\x00\x00\x00\x01\x00([\x01-\x08]))\C*"
)
# Rows and columns exchanged, then these axes reversed (0: rows, 1: columns), by orientation - 1.
TURNS: tuple[tuple[bool, tuple[int, ...]], ...] = (
    (False, ()),
    (False, (1,)),
    (False, (0, 1)),
    (False, (0,)),
    (True, ()),
    (True, (1,)),
    (True, (0, 1)),
    (True, (0,)),
)

_CMYK = ("CMYK", "YCCK")
_WITH_ALPHA = ("LA", "PA", "RGBA")
_UNKNOWN_TO_TURBO = (ValueError, KeyError)  # damage; a form of JPEG
_NO_END = "Premature end"  # of libjpeg's messages
_DAMAGED = "cannot be decoded: it is damaged or cut off"
_APPLE = "cannot be decoded: it is Apple's form of PNG (CgBI)"


class Undecodable(Exception):
    """The reason why an image cannot be decoded. It is always the same for the same data."""


def decode(data: bytes, edge: int = 0) -> Image.Image:
    """Return the image (mode RGB) that a JPEG or PNG shows.

    Args:
      data: The file's content.
      edge: A large JPEG is decoded at a half, a quarter ... of its size, as long as both sides have so many pixels; 0
        decodes it as it is.

    Raises:
      Undecodable: The image is damaged, or of a kind that is not taken.
    """
    return _upright(_jpeg(data, edge) if _is_jpeg(data) else _over_white(data), data)


def check(data: bytes) -> None:
    """Decode as little as shows that `decode` can do it.

    Raises:
      Undecodable: As for `decode`.
    """
    if _is_jpeg(data):
        _check_jpeg(data)
    else:
        _check_png(data)


def _is_jpeg(data: bytes) -> bool:
    """Return True for a JPEG, False for a PNG."""
    if not data:
        raise Undecodable("is empty")
    if not data.startswith((JPEG, PNG)):
        raise Undecodable("is no JPEG or PNG image")
    return data.startswith(JPEG)


def _check_jpeg(data: bytes) -> None:
    """Read every bit of the picture and compute one pixel of 8 x 8: damage shows while reading, not in the pixels."""
    try:
        _libjpeg(data, 1, "GRAY")
    except _UNKNOWN_TO_TURBO as error:
        _pillow(data, error)


def _check_png(data: bytes) -> None:
    try:
        _png(data).rows()
    except png.BrokenPng as error:
        raise Undecodable(_DAMAGED) from error


def _jpeg(data: bytes, edge: int) -> Image.Image:
    try:
        pixels = _libjpeg(data, edge)
    except _UNKNOWN_TO_TURBO as error:
        pixels = _forgiven(_pillow(data, error), data, edge)
    return Image.fromarray(_without_black(pixels, data) if pixels.shape[2] == 4 else pixels)


def _forgiven(image: JpegImageFile, data: bytes, edge: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of a damaged image; Pillow's only if it has a form that TurboJPEG does not know."""
    try:
        return _libjpeg(data, edge, strict=False)
    except _UNKNOWN_TO_TURBO:
        return 255 - np.asarray(image) if image.mode == "CMYK" else np.asarray(image.convert("RGB"))


def _libjpeg(data: bytes, edge: int, colours: str = "RGB", strict: bool = True) -> npt.NDArray[np.uint8]:
    """Return the pixels, colours or CMYK as it is in the file; if `strict`, any damage is an error."""
    height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=strict)
    _refuse_large(width, height)
    if space in _CMYK and _matches(ORDINARY, data[:ORDINARY_BYTES]):
        raise Undecodable("is CMYK, which a JFIF file cannot be")
    sides = {"min_height": min(edge, height), "min_width": min(edge, width)} if edge else {}
    kind = "CMYK" if space in _CMYK else colours
    options = {"fastdct": True, "fastupsample": colours == "GRAY", "strict": strict}
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, kind, **options, **sides)
    return pixels


def _pillow(data: bytes, damage: Exception) -> JpegImageFile:
    """Return the decoded image with damage that TensorFlow forgives, too: not an end that is missing."""
    if _NO_END in str(damage):
        raise Undecodable(_DAMAGED) from damage
    try:
        image = JpegImageFile(io.BytesIO(data))
        _refuse_large(*image.size)
        image.load()
    except (MemoryError, Undecodable):
        raise
    except Exception as error:  # Pillow does not document its errors for damaged files
        raise Undecodable(_DAMAGED) from error
    return image


def _without_black(cmyk: npt.NDArray[np.uint8], data: bytes) -> npt.NDArray[np.uint8]:
    """Return the colours of CMYK as TensorFlow computes them (source: tensorflow/core/lib/jpeg/jpeg_mem.cc)."""
    ink = cmyk.astype(np.uint16)
    light = ink if "adobe" in JpegImageFile(io.BytesIO(data)).info else 255 - ink  # Adobe stores it inverted
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)


def _over_white(data: bytes) -> Image.Image:
    try:
        parts = _png(data)
        image = PngImageFile(io.BytesIO(parts.plain()))
    except png.BrokenPng as error:
        raise Undecodable(_DAMAGED) from error
    image.load()
    if image.mode == "I;16":
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not (parts.transparency or image.mode in _WITH_ALPHA):
        return image.convert("RGB")
    if parts.header.colour == png.GREY:  # Pillow does not scale this value as it does the pixels
        image.info["transparency"] *= 255 // (2**parts.header.depth - 1)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def _png(data: bytes) -> png.Png:
    try:
        parts = png.Png.parse(data)
    except png.BrokenPng as error:
        raise Undecodable(_APPLE if data[12:16] == b"CgBI" else _DAMAGED) from error
    _refuse_large(parts.header.width, parts.header.height)
    if parts.transparency and parts.header.depth == 16:
        raise Undecodable("has a transparent colour of 16 bits: save it with an alpha channel")
    return parts


def _upright(image: Image.Image, data: bytes) -> Image.Image:
    exchanged, axes = TURNS[_orientation(data) - 1]
    if not (exchanged or axes):
        return image
    pixels = np.asarray(image)
    return Image.fromarray(np.ascontiguousarray(np.flip(pixels.swapaxes(0, 1) if exchanged else pixels, axes)))


def _orientation(data: bytes) -> int:
    """Return what EXIF says, 1 to 8 (source: CIPA DC-008, 4.6.5.1.1); 1 is upright."""
    if _matches(ORDINARY, data[:ORDINARY_BYTES]):
        return 1
    head = data[:EXIF_HEAD] if data.startswith(JPEG) else data.partition(PIXELS)[0]
    directory = head.partition(EXIF_MARKS[JPEG if data.startswith(JPEG) else PNG])[2][:EXIF_BYTES]
    found = _pattern(ORIENTATION).fullmatch(directory)
    return (found[1] or found[2])[0] if found else 1


def _refuse_large(width: int, height: int) -> None:
    if width * height > LARGEST_IMAGE or max(width, height) > LONGEST_SIDE:
        raise Undecodable(f"is too large ({width} x {height} pixels)")


def _matches(pattern: str, data: bytes) -> bool:
    return _pattern(pattern).fullmatch(data) is not None


@cache
def _pattern(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.replace(r"\C", ".").encode("latin-1"), re.DOTALL)
