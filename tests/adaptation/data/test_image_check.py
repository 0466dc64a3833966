"""Image check: the quick check accepts common JPEG files and never one that Pillow would refuse."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from adaptation.data import image_check
from adaptation.data.image_check import image_problem
from tests.worlds.images import image

MANY = 10**8
KINDS = ({}, {"progressive": True}, {"quality": 95, "subsampling": 0}, {"optimize": True}, {"restart_marker_blocks": 2})
SIZES = ((1, 1), (7, 9), (64, 40), (300, 200))
DAMAGED_FILES = 4_000


def encoded(mode: str = "RGB", size: tuple[int, int] = (32, 32), **options: object) -> bytes:
    return image("noise", "JPEG", size, mode, **options)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return the file cut off, with a bit flipped, a byte of its header replaced, or some bytes left out."""
    place = chance.randrange(len(data))
    match chance.randrange(4):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
        case 2:
            place %= 640
            return data[:place] + chance.randbytes(1) + data[place + 1 :]
        case _:
            return data[:place] + data[place + chance.randrange(1, 30) :]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind) or "plain")
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_common_jpeg_files_are_recognised_as_whole(mode: str, kind: dict[str, object], size: tuple[int, int]) -> None:
    assert image_check.is_whole(encoded(mode, size, **kind), MANY)


def test_uncommon_files_are_left_to_pillow() -> None:
    assert not image_check.is_whole(encoded("CMYK"), MANY)
    assert not image_check.is_whole(encoded(exif=Image.Exif().tobytes() + b"Exif"), MANY)
    assert not image_check.is_whole(b"\xff\xd8\xff", MANY)
    assert not image_check.is_whole(b"\x89PNG\r\n\x1a\n" + bytes(100), MANY)
    assert image_problem(encoded("CMYK")) is None


def test_header_of_unusual_length_is_left_to_pillow() -> None:
    data = encoded(comment=bytes(5_000))
    assert not image_check.is_whole(data, MANY)
    assert image_problem(data) is None


def test_header_that_pillow_refuses_is_not_accepted() -> None:
    """The decoder accepts a short segment APP0; Pillow requires the version of JFIF in it."""
    whole = encoded()
    short = whole[:2] + b"\xff\xe0\x00\x07JFIF\x00" + whole[whole.index(b"\xff\xdb") :]
    assert image_problem(short)
    assert not image_check.is_whole(short, MANY)


def test_image_of_too_many_pixels_is_left_to_pillow() -> None:
    assert image_check.is_whole(encoded(size=(10, 10)), 100)
    assert not image_check.is_whole(encoded(size=(10, 10)), 99)


def test_file_cut_off_anywhere_is_not_whole() -> None:
    data = encoded()
    end = data.rindex(b"\xff\xd9")
    assert not any(image_check.is_whole(data[:length], MANY) for length in range(end - 8))


def test_damaged_file_that_pillow_refuses_is_never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    sources = [encoded(mode, size, **kind) for mode in ("L", "RGB") for size in SIZES for kind in KINDS]
    files = [damaged(chance.choice(sources), chance) for _ in range(DAMAGED_FILES)]
    taken = [file for file in files if image_check.is_whole(file, MANY)]
    monkeypatch.setattr(image_check, "is_whole", lambda data, most_pixels: False)
    assert [file for file in taken if image_problem(file)] == []
    assert len(taken) > DAMAGED_FILES / 10  # damage that no decoder can see
