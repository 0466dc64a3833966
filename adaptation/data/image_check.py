"""Image checks: is an image usable, JPEG or PNG that decodes completely?

Most files are JPEG and quickly found sound. For an image of a few hundred pixels, Pillow's own classes take two thirds
of the time, to collect what nobody here needs. So this module reads the header itself and passes the rest to Pillow's
decoder, libjpeg. It reads every bit of the picture and computes one pixel of 8 x 8: damage shows while reading, not in
the pixels. Anything unusual is left to Pillow; the fast path refuses nothing.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import NamedTuple

from PIL import _imaging
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

LARGEST_FILE = 64 * 2**20
LARGEST_IMAGE = 100_000_000
_READERS = {b"\xff\xd8\xff": JpegImageFile, b"\x89PNG\r\n\x1a\n": PngImageFile}
_SCALE = 8
_SEGMENT = struct.Struct(">HH")
_FRAME = struct.Struct(">BHHB")
_START_OF_SCAN = b"\xff\xda"
_START_MARKER, _APP0 = 0xFFDA, 0xFFE0
_FRAMES = (0xFFC0, 0xFFC1, 0xFFC2)  # sequential and progressive, Huffman-coded
_PLAIN = (0xFFC4, 0xFFDB, 0xFFDD, 0xFFE0, 0xFFFE)  # tables, restart interval, JFIF, comment
_SHORTEST_JFIF = 16
_LONGEST_HEADER = 4_096
_MODES = {1: "L", 3: "RGB"}


class _Frame(NamedTuple):
    mode: str
    width: int
    height: int


def image_problem(data: bytes) -> str | None:
    """Return the reason why an image is unusable, or None. Usable means JPEG or PNG that decodes completely.

    The reason is for people, and always the same for the same data: it becomes part of the span's digest.
    """
    if not data:
        return "is empty"
    if is_whole(data, LARGEST_IMAGE):
        return None
    reader = next((_READERS[start] for start in _READERS if data.startswith(start)), None)
    if reader is None:
        return "is no JPEG or PNG image"
    try:
        with reader(io.BytesIO(data)) as image:
            if image.width * image.height > LARGEST_IMAGE:
                return f"is too large ({image.width} x {image.height} pixels)"
            image.load()
    except MemoryError:
        raise
    except Exception:  # Pillow does not document its errors for damaged files; their words differ between versions
        return "cannot be decoded: it is damaged or cut off"
    return None


def is_whole(data: bytes, most_pixels: int) -> bool:
    """Return True if the data is a JPEG file of an everyday kind that decodes to its end.

    Args:
      data: The file's content.
      most_pixels: Larger images are not decoded.

    Returns:
      True only if Pillow would decode the file, too. False does not mean that the file is damaged.
    """
    try:
        frame = _frame(_header(data))
        return frame is not None and 0 < frame.width * frame.height <= most_pixels and _decodes(data, frame)
    except MemoryError:
        raise
    except Exception:  # the header ends too early, or the decoder of this Pillow version differs
        return False


def _header(data: bytes) -> bytes:
    """Return everything before the picture, and the marker with which that begins."""
    return data[: data.index(_START_OF_SCAN, 0, _LONGEST_HEADER) + _SEGMENT.size]


@lru_cache(maxsize=256)  # cameras write the same header again and again
def _frame(header: bytes) -> _Frame | None:
    """Return what a header says about the picture, or None if it has anything unusual."""
    frame, place = None, 2
    while True:
        marker, length = _SEGMENT.unpack_from(header, place)
        if marker == _START_MARKER:
            return frame
        if marker in _FRAMES and frame is None:
            bits, height, width, layers = _FRAME.unpack_from(header, place + _SEGMENT.size)
            if bits != 8 or length != 8 + 3 * layers:
                return None
            frame = _Frame(_MODES[layers], width, height)
        elif marker not in _PLAIN or (marker == _APP0 and length < _SHORTEST_JFIF):
            return None
        place += 2 + length


def _decodes(data: bytes, frame: _Frame) -> bool:
    size = (-(-frame.width // _SCALE), -(-frame.height // _SCALE))
    decoder = _imaging.jpeg_decoder(frame.mode, frame.mode, "", _SCALE, 0)
    try:
        decoder.setimage(_imaging.new(frame.mode, size), (0, 0, *size))
        at_its_end, without_error = -1, 0
        return bool(decoder.decode(data) == (at_its_end, without_error))
    finally:
        decoder.cleanup()
