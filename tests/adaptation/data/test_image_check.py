"""Image check: whole files are taken, cut-off ones are not. `tests/images` has the kinds."""

from __future__ import annotations

import pytest

from adaptation.data.image_check import image_problem
from tests.worlds.images import image

KINDS = ({}, {"progressive": True}, {"quality": 95, "subsampling": 0}, {"optimize": True}, {"restart_marker_blocks": 2})


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (64, 40), (300, 200)])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind) or "plain")
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_whole_jpeg_files_are_taken(mode: str, kind: dict[str, object], size: tuple[int, int]) -> None:
    assert image_problem(image("noise", "JPEG", size, mode, **kind)) is None


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (64, 64)])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_whole_png_files_are_taken(mode: str, size: tuple[int, int]) -> None:
    assert image_problem(image("noise", "PNG", size, mode)) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_file_cut_off_anywhere_is_not_taken(kind: str) -> None:
    data = image("noise", kind, (32, 32))
    assert not any(image_problem(data[:length]) is None for length in range(len(data)))


def test_header_longer_than_usual_is_read() -> None:
    assert image_problem(image("noise", "JPEG", (32, 32), comment=bytes(5_000))) is None
