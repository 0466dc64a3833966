"""Image check: is an image usable, JPEG or PNG that decodes completely?

`decoding` is the judge. What it takes, training and serving decode to the same pixels.
"""

from __future__ import annotations

from adaptation.data.decoding import Undecodable, check


def image_problem(data: bytes) -> str | None:
    """Return the reason why an image is unusable, or None. Usable means JPEG or PNG that decodes completely.

    The reason is for people, and always the same for the same data: it becomes part of the span's digest.
    """
    try:
        check(data)
    except Undecodable as problem:
        return str(problem)
    return None
