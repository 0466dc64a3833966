"""PNG files as libpng reads them, and with it TensorFlow: the rules by which it refuses one.

Pillow has others: it takes a file without its end, with a wrong checksum of its pixels or with too few of them, and
refuses one for a wrong checksum of its date. (source of the form: w3.org/TR/png-3; of what is refused: libpng 1.6,
pngread.c and pngrutil.c)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR, PALETTE = 0, 2, 3
_OPENING = struct.Struct(">I4s")
_CRC = struct.Struct(">I")
_HEADER = struct.Struct(">IIBBBBB")
_LARGEST = 2**31 - 1  # of a chunk and of a side
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_KEY_SIZES = {GREY: (2,), COLOUR: (6,), PALETTE: range(1, 257)}  # of tRNS
_NOT_CRITICAL = 0x20  # a small first letter
_LAST_FILTER = 4
_ALL = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class BrokenPng(ValueError):
    """The reason why libpng refuses a file."""


class Header(NamedTuple):
    """The chunk IHDR."""

    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filters: int
    interlaced: int


@dataclass(frozen=True)
class Png:
    """The parts of a file that the pixels need.

    Attributes:
      header: The chunk IHDR.
      palette: The chunk PLTE; empty if the colours have none.
      transparency: The chunk tRNS; empty if there is none.
      pixels: The deflated rows: the chunks IDAT.
    """

    header: Header
    palette: bytes
    transparency: bytes
    pixels: bytes

    @classmethod
    def parse(cls, data: bytes) -> Png:
        """Return the parts of a file, whose pixels are not looked at.

        Raises:
          BrokenPng: libpng refuses the file.
        """
        chunks = list(_chunks(data))
        header = _header(*chunks[0])
        kept = [chunk for chunk in chunks[1:] if _is_kept(chunk[0], header)]
        _check_order([kind for kind, _ in kept], header)
        parts = {name: b"".join(part for kind, part in kept if kind == name) for name in (b"PLTE", b"tRNS", b"IDAT")}
        if b"tRNS" in dict(kept) and len(parts[b"tRNS"]) not in _KEY_SIZES[header.colour]:
            raise BrokenPng("tRNS is not of its size")
        return cls(header, *parts.values())

    def rows(self) -> bytes:
        """Return the filtered rows of pixels.

        Raises:
          BrokenPng: They are damaged, or not as many as the header says.
        """
        passes = list(_passes(self.header))
        size = sum(height * row for height, row in passes)
        try:
            stream = zlib.decompressobj()
            rows, more = stream.decompress(self.pixels, size), stream.decompress(stream.unconsumed_tail, 1)
        except zlib.error as error:
            raise BrokenPng(f"the pixels are damaged ({error})") from error
        if len(rows) < size or more or not stream.eof:
            raise BrokenPng("there are fewer pixels, or more, than the header says")
        _check_filters(rows, passes)
        return rows

    def plain(self) -> bytes:
        """Return a file of these parts alone, which every reader reads alike.

        Raises:
          BrokenPng: As for `rows`.
        """
        parts = ((b"PLTE", self.palette), (b"tRNS", self.transparency), (b"IDAT", zlib.compress(self.rows(), 0)))
        chunks = [(b"IHDR", _HEADER.pack(*self.header)), *(part for part in parts if part[1]), (b"IEND", b"")]
        return SIGNATURE + b"".join(_written(*chunk) for chunk in chunks)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk up to IEND, without those that have a wrong checksum and are not needed."""
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if len(data) < place + _OPENING.size + _CRC.size:
            raise BrokenPng("it ends without IEND")
        length, kind = _OPENING.unpack_from(data, place)
        end = place + _OPENING.size + length
        if length > _LARGEST or not kind.isalpha() or len(data) < end + _CRC.size:
            raise BrokenPng(f"it breaks off in {kind!r}")
        content = data[place + _OPENING.size : end]
        if _CRC.unpack_from(data, end) == (zlib.crc32(content, zlib.crc32(kind)),):
            yield kind, content
        elif kind == b"tRNS" or not kind[0] & _NOT_CRITICAL:
            raise BrokenPng(f"{kind!r} has a wrong checksum")
        place = end + _CRC.size


def _header(kind: bytes, content: bytes) -> Header:
    if kind != b"IHDR" or len(content) != _HEADER.size:
        raise BrokenPng("it does not begin with IHDR")
    header = Header(*_HEADER.unpack(content))
    methods = (header.compression, header.filters, header.interlaced >> 1)
    if header.depth not in _DEPTHS.get(header.colour, ()) or any(methods):
        raise BrokenPng("its header is wrong")
    if not 0 < header.width <= _LARGEST or not 0 < header.height <= _LARGEST:
        raise BrokenPng("its size is wrong")
    return header


def _is_kept(kind: bytes, header: Header) -> bool:
    if kind == b"PLTE":
        return header.colour == PALETTE
    if kind == b"tRNS":
        return header.colour in _KEY_SIZES
    return not kind[0] & _NOT_CRITICAL


def _check_order(kinds: list[bytes], header: Header) -> None:
    """Refuse what is not the palette where one is needed, perhaps transparency, pixels, the end."""
    before = kinds[: kinds.index(b"IDAT")] if b"IDAT" in kinds else []
    expected = [b"PLTE"] if header.colour == PALETTE else []
    if before not in (expected, [*expected, b"tRNS"]) or set(kinds[len(before) :]) != {b"IDAT", b"IEND"}:
        raise BrokenPng("a chunk is missing, unknown, or not in its place")


def _passes(header: Header) -> Iterator[tuple[int, int]]:
    """Yield rows, and bytes of a row, of each of the passes in which the pixels are stored."""
    for x, y, dx, dy in _ADAM7 if header.interlaced else _ALL:
        width, height = -(-(header.width - x) // dx), -(-(header.height - y) // dy)
        if width > 0 and height > 0:
            yield height, 1 + (width * _SAMPLES[header.colour] * header.depth + 7) // 8


def _check_filters(rows: bytes, passes: list[tuple[int, int]]) -> None:
    start = 0
    for height, row in passes:
        end = start + height * row
        if max(rows[start:end:row]) > _LAST_FILTER:
            raise BrokenPng("a row of pixels is damaged")
        start = end


def _written(kind: bytes, content: bytes) -> bytes:
    return _OPENING.pack(len(content), kind) + content + _CRC.pack(zlib.crc32(content, zlib.crc32(kind)))
