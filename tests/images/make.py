"""Makes the corpus beside it: one small image file of each kind that a camera, a web site or a broken disk produces.

`python -m tests.images.make` writes the files anew. The same picture is in all of them: a gradient, with red in its
upper left corner.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

FOLDER = Path(__file__).parent
WIDTH, HEIGHT = 24, 16
Chunk = tuple[bytes, bytes]
SIGNATURE = b"\x89PNG\r\n\x1a\n"
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def scene() -> np.ndarray:
    """Return the picture (uint8 [16, 24, 3])."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x * 6, y * 9, 200 - x * 4 - y * 3], axis=-1).astype(np.uint8)
    pixels[:6, :10] = (230, 20, 30)
    return pixels


def write_all() -> None:
    """Write the files of all kinds."""
    for name, data in [*jpeg_kinds(), *jpeg_faults(), *png_kinds(), *png_faults(), *other_kinds()]:
        (FOLDER / name).write_bytes(data)


def saved(kind: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    """Return the picture as Pillow encodes it."""
    file = io.BytesIO()
    Image.fromarray(scene()).convert(mode).save(file, kind, **options)
    return file.getvalue()


def jpeg_kinds() -> Iterator[tuple[str, bytes]]:
    """Yield the JPEG files that are whole."""
    yield "jpeg-grey.jpg", saved(mode="L")
    yield "jpeg-colour.jpg", saved()
    yield "jpeg-colour-444.jpg", saved(subsampling=0, quality=95)
    yield "jpeg-cmyk-subsampled.jpg", saved(mode="CMYK", subsampling=1)  # in a way that TurboJPEG does not know
    yield "jpeg-progressive.jpg", saved(progressive=True)
    yield "jpeg-restart-markers.jpg", saved(restart_marker_blocks=1)
    yield "jpeg-comment.jpg", saved(comment=b"made with care")
    yield "jpeg-icc.jpg", saved(icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    yield "jpeg-cmyk.jpg", saved(mode="CMYK")
    yield "jpeg-cmyk-no-adobe.jpg", without_segment(saved(mode="CMYK"), 0xEE)
    yield "jpeg-ycck.jpg", ycck()
    yield "jpeg-rgb-adobe.jpg", saved(keep_rgb=True)
    for orientation in range(1, 9):
        yield f"jpeg-exif-{orientation}.jpg", saved(exif=exif(orientation))
    yield "jpeg-exif-little-endian.jpg", saved(exif=exif(6, "<"))
    yield "jpeg-exif-after-icc.jpg", after_icc(saved(exif=exif(6)))
    yield "jpeg-exif-grey.jpg", saved(mode="L", exif=exif(6))
    yield "jpeg-mpo.jpg", multi_picture()
    yield "jpeg-trailing-bytes.jpg", saved() + b"\0" * 50 + b"appended by a phone"


def jpeg_faults() -> Iterator[tuple[str, bytes]]:
    """Yield the JPEG files that are damaged, or of a kind that no decoder here reads."""
    whole = saved(quality=90)
    yield "jpeg-truncated.jpg", whole[: len(whole) - 120]
    yield "jpeg-no-end.jpg", whole[:-2]
    yield "jpeg-header-only.jpg", whole[: whole.index(b"\xff\xda")]
    yield "jpeg-damaged-data.jpg", flipped(whole)
    yield "jpeg-zero-size.jpg", resized(whole, 0, 0)
    yield "jpeg-huge-size.jpg", resized(whole, 65_000, 65_000)
    yield "jpeg-arithmetic.jpg", reframed(whole, 0xC9)
    yield "jpeg-lossless.jpg", reframed(whole, 0xC3)
    yield "jpeg-12-bit.jpg", reframed(whole, 0xC1, bits=12)
    yield "jpeg-cmyk-in-jfif.jpg", jfif(without_segment(saved(mode="CMYK"), 0xEE))


def png_kinds() -> Iterator[tuple[str, bytes]]:
    """Yield the PNG files that are whole."""
    for depth in (1, 2, 4, 8, 16):
        yield f"png-grey-{depth}.png", png(0, depth)
    for depth in (1, 2, 4, 8):
        yield f"png-palette-{depth}.png", png(3, depth)
    for depth in (8, 16):
        yield f"png-colour-{depth}.png", png(2, depth)
        yield f"png-grey-alpha-{depth}.png", png(4, depth)
        yield f"png-colour-alpha-{depth}.png", png(6, depth)
    for colour, name in enumerate(["grey", "", "colour", "palette", "grey-alpha", "", "colour-alpha"]):
        if name:
            yield f"png-interlaced-{name}.png", png(colour, 8, interlaced=True)
    yield "png-palette-transparency.png", png(3, 4, [(b"tRNS", bytes(range(0, 240, 15)))])
    yield "png-grey-transparent-colour.png", png(0, 8, [(b"tRNS", b"\0\x60")])
    yield "png-grey-2-transparent-colour.png", png(0, 2, [(b"tRNS", b"\0\x01")])
    yield "png-colour-transparent-colour.png", png(2, 8, [(b"tRNS", struct.pack(">HHH", 230, 20, 30))])
    yield "png-gamma.png", png(2, 8, [(b"gAMA", struct.pack(">I", 100_000))])
    yield "png-shape-in-alpha.png", shape_in_alpha()
    yield "png-exif-6.png", png(2, 8, [(b"eXIf", exif(6)[6:])])
    yield "png-animated.png", animated()
    yield "png-trailing-bytes.png", png(2, 8) + b"appended"
    yield "png-wrong-crc-of-a-text.png", with_wrong_crc(png(2, 8, [(b"tEXt", b"Title\0scene")]), b"tEXt")
    yield "png-many-idat.png", in_pieces(png(2, 8))


def png_faults() -> Iterator[tuple[str, bytes]]:
    """Yield the PNG files that are damaged, or of a kind that is not taken."""
    whole = png(2, 8)
    yield "png-truncated.png", whole[: len(whole) // 2]
    yield "png-no-end.png", whole[:-12]
    yield "png-wrong-crc-of-pixels.png", with_wrong_crc(whole, b"IDAT")
    yield "png-wrong-crc-of-header.png", with_wrong_crc(whole, b"IHDR")
    yield "png-too-few-pixels.png", png(2, 8, rows=b"\0" * 100)
    yield "png-damaged-pixels.png", joined([*chunks_of(whole)[:1], (b"IDAT", b"no deflate stream"), (b"IEND", b"")])
    yield "png-zero-size.png", joined([(b"IHDR", header(0, 0, 8, 2)), *chunks_of(whole)[1:]])
    yield "png-huge-size.png", joined([(b"IHDR", header(60_000, 60_000, 8, 2)), *chunks_of(whole)[1:]])
    yield "png-no-palette.png", joined([one for one in chunks_of(png(3, 8)) if one[0] != b"PLTE"])
    yield "png-unknown-chunk.png", png(2, 8, [(b"ABCD", b"critical")])
    yield "png-apple-cgbi.png", joined([(b"CgBI", b"\x50\0\x20\x02"), *chunks_of(whole)])
    yield "png-colour-16-transparent-colour.png", png(2, 16, [(b"tRNS", struct.pack(">HHH", 1, 2, 3))])


def other_kinds() -> Iterator[tuple[str, bytes]]:
    """Yield files that have the name of a JPEG or PNG, and are something else."""
    yield "empty.jpg", b""
    yield "text.jpg", b"404 Not Found"
    yield "gif.jpg", saved("GIF")
    yield "bmp.jpg", saved("BMP")
    yield "webp.jpg", saved("WEBP")
    yield "tiff.jpg", saved("TIFF")
    yield "heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    yield "jpeg.png", saved()


def exif(orientation: int, order: str = ">") -> bytes:
    """Return the content of an EXIF segment: a maker before the orientation and a software after it."""
    start = b"MM\0*" if order == ">" else b"II*\0"
    entries = [(0x010F, 2, 4, b"ACM\0"), (0x0112, 3, 1, struct.pack(order + "HH", orientation, 0))]
    directory = b"".join(struct.pack(order + "HHI", *one[:3]) + one[3] for one in entries)
    return b"Exif\0\0" + start + struct.pack(order + "IH", 8, len(entries)) + directory + bytes(4)


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def without_segment(data: bytes, marker: int) -> bytes:
    """Return the JPEG without its first segment of a kind."""
    start = data.index(bytes([0xFF, marker]))
    (length,) = struct.unpack_from(">H", data, start + 2)
    return data[:start] + data[start + 2 + length :]


def jfif(data: bytes) -> bytes:
    """Return the JPEG with a JFIF header."""
    return data[:2] + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + data[2:]


def after_icc(data: bytes) -> bytes:
    """Return the JPEG with a segment of a colour profile before its EXIF."""
    place = data.index(b"\xff\xe1")
    return data[:place] + segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(500)) + data[place:]


def ycck() -> bytes:
    """Return a CMYK JPEG whose Adobe segment says YCCK."""
    data = saved(mode="CMYK")
    place = data.index(b"Adobe") + 11
    return data[:place] + b"\2" + data[place + 1 :]


def multi_picture() -> bytes:
    """Return two pictures in one file, as phones with two lenses write them (CIPA DC-007)."""
    file = io.BytesIO()
    first = Image.fromarray(scene())
    first.save(file, "MPO", save_all=True, append_images=[first.rotate(180)])
    return file.getvalue()


def flipped(data: bytes) -> bytes:
    """Return the JPEG with a bit of its picture flipped."""
    place = data.index(b"\xff\xda") + 60
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def resized(data: bytes, width: int, height: int) -> bytes:
    """Return the JPEG with another size in its header."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def reframed(data: bytes, marker: int, bits: int = 8) -> bytes:
    """Return the JPEG with a header that says another process, or another number of bits."""
    place = data.index(b"\xff\xc0")
    return data[:place] + bytes([0xFF, marker]) + data[place + 2 : place + 4] + bytes([bits]) + data[place + 5 :]


def header(width: int, height: int, depth: int, colour: int, interlaced: bool = False) -> bytes:
    """Return the content of IHDR."""
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def png(
    colour: int, depth: int, extra: list[Chunk] | None = None, interlaced: bool = False, rows: bytes | None = None
) -> bytes:
    """Return the picture as a PNG; `extra` chunks come before the pixels."""
    samples = _samples(colour, depth)
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [samples]
    filtered = b"".join(b"\0" + _packed(row, depth) for part in parts if part.size for row in part)
    palette = [(b"PLTE", _palette(depth))] if colour == 3 else []
    start = (b"IHDR", header(WIDTH, HEIGHT, depth, colour, interlaced))
    return joined([start, *palette, *(extra or []), (b"IDAT", zlib.compress(rows or filtered)), (b"IEND", b"")])


def joined(chunks: list[Chunk]) -> bytes:
    """Return a PNG of these chunks."""
    return SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def chunks_of(data: bytes) -> list[Chunk]:
    """Return the chunks of a PNG."""
    found, place = [], len(SIGNATURE)
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def with_wrong_crc(data: bytes, kind: bytes) -> bytes:
    """Return the PNG with a wrong checksum of a chunk."""
    start = data.index(kind)
    (length,) = struct.unpack_from(">I", data, start - 4)
    end = start + 4 + length
    return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]


def in_pieces(data: bytes) -> bytes:
    """Return the PNG with its pixels in chunks of 20 bytes."""
    first, (_, pixels), last = chunks_of(data)
    pieces = [(b"IDAT", pixels[at : at + 20]) for at in range(0, len(pixels), 20)]
    return joined([first, *pieces, last])


def animated() -> bytes:
    """Return two frames; the first is the picture."""
    file = io.BytesIO()
    first = Image.fromarray(scene())
    first.save(file, "PNG", save_all=True, append_images=[first.rotate(180)], duration=100)
    return file.getvalue()


def shape_in_alpha() -> bytes:
    """Return a PNG that is black everywhere; the picture is a square in its alpha channel."""
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[4:12, 6:14, 3] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _samples(colour: int, depth: int) -> np.ndarray:
    """Return the samples of the picture (uint32 [16, 24, samples of a pixel])."""
    pixels = scene().astype(np.uint32)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grey, alpha = pixels.sum(axis=-1, keepdims=True) // 3, (255 - 15 * y - x // 3)[..., None].astype(np.uint32)
    layers = {
        0: grey,
        2: pixels,
        3: ((x + y) // 2)[..., None],
        4: np.dstack([grey, alpha]),
        6: np.dstack([pixels, alpha]),
    }
    if colour == 3:
        return layers[3].astype(np.uint32) % 2**depth
    return np.minimum(layers[colour] * 257 + 3, 2**16 - 1) if depth == 16 else layers[colour] >> (8 - depth)


def _packed(row: np.ndarray, depth: int) -> bytes:
    if depth >= 8:
        return row.astype(np.uint8 if depth == 8 else ">u2").tobytes()
    bits = (row.astype(np.int64).reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(-1).astype(np.uint8)).tobytes()


def _palette(depth: int) -> bytes:
    count = min(2**depth, 40)
    return bytes(
        value
        for number in range(count)
        for value in (number * 255 // count, 255 - number * 200 // count, number * 7 % 256)
    )


if __name__ == "__main__":
    write_all()
