"""Draws: which images of a batch are a fair sample of it. What people label them as is in `reviews`.

The images of a batch are put in the order of a hash of their names, which depends on nothing that they show. A draw is
the beginning of that order, up to one hash. A larger draw therefore contains each smaller one, and a draw means the
same for a part of the batch, or for a batch that has grown since: the images up to that hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adaptation.errors import AdaptationError


@dataclass(frozen=True)
class Draw:
    """A fair sample of a batch. Given its size, each subset of that size is as likely as any other.

    Attributes:
      batch: Name of the batch.
      budget: How many images were asked for.
      images: How many images there were to draw from.
      last: The hash that it goes up to; hexadecimal.
      time: ISO 8601, UTC.
    """

    batch: str
    budget: int
    images: int
    last: str
    time: str

    def of(self, names: Iterable[str]) -> list[str]:
        """Return the drawn ones among these names of images, in the order of the draw."""
        return in_order(name for name in names if rank(name) <= self.last)


def draw(batch: str, names: Sequence[str], budget: int, time: str) -> Draw:
    """Draw images of a batch; all of them if there are no more than the budget.

    >>> first = draw("2021-10", ["a.jpg", "b.jpg", "c.jpg"], 1, "2021-11-01T00:00:00+00:00")
    >>> first.of(["a.jpg", "b.jpg", "c.jpg"])
    ['a.jpg']

    Args:
      batch: Name of the batch.
      names: Names of its images, relative to it.
      budget: How many images people can label.
      time: When it is made: ISO 8601, UTC.

    Raises:
      AdaptationError: The budget is below 1, or there are no images.
    """
    drawn = in_order(names)[: max(budget, 0)]
    if not drawn:
        raise AdaptationError(f"{budget} of {len(names)} images of {batch} cannot be drawn. Draw at least one of some.")
    return Draw(batch, budget, len(names), rank(drawn[-1]), time)


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of images in the order in which they are drawn."""
    return sorted(names, key=rank)


def rank(name: str) -> str:
    """Return the hash that decides on an image's place in the order (64 hexadecimal digits)."""
    return hashlib.sha256(name.encode()).hexdigest()
