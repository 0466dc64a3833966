"""Labelling: which images of a batch have a label, and which of them count.

Labels come with the images or from people. Of a batch that people label only in part, the drawn images count; those
that somebody picked may train a model, and never enter a figure, an interval or the evidence. Where labels come from is
in `labels`, what people gave and which images were drawn in `reviews`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from adaptation.data.batches import Batch, Snapshot, collection_of
from adaptation.data.labels import Labels, TooManySkipped
from adaptation.data.reviews import Reviews, with_reviews

OPEN = 0.05
_WITH_IMAGES = ("prefix", "folder", "pattern")


@dataclass(frozen=True)
class Labelling:
    """Which images of a snapshot have labels, and which of these count.

    Attributes:
      labels: The labels, those of reviewed images included.
      drawn: Names of the images that count, in the order of the draw; None: all images of the snapshot.
      waiting: Whether too few images have a label: the snapshot waits for a review.
      seen: Number of the batch's imports and draws that were considered.
    """

    labels: Labels
    drawn: tuple[str, ...] | None = None
    waiting: bool = False
    seen: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether further labels can add to it."""
        return self.waiting or self.drawn is not None

    def part(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot of the images to train on: of a batch that was drawn from, those with a label."""
        return snapshot if self.drawn is None else snapshot.only(filter(self.labels.knows, snapshot.names))

    def picked(self, snapshot: Snapshot) -> frozenset[str]:
        """Return the names of the labelled images that do not count."""
        return frozenset(self.part(snapshot).names) - frozenset(self.drawn or snapshot.names)

    def counting(self, snapshot: Snapshot) -> int:
        """Return the number of images of the snapshot that count and have a label."""
        if self.waiting:
            return 0
        return sum(map(self.labels.knows, snapshot.names if self.drawn is None else self.drawn))


def labelling(labels: Labels, snapshot: Snapshot, max_skipped: float) -> Labelling:
    """Return which images of a snapshot count, by their labels and by the batch's draws.

    All count if nearly all have a label, or if labels come with the images: then one without a label is skipped. Else
    those of the largest draw count of which nearly all have a label. Nearly all: at least 95 %, and more if
    `max_skipped` is smaller. A part that people labelled without a draw is no sample, whatever `max_skipped` says.

    Args:
      labels: The source of the labels, without the reviewed ones.
      snapshot: The images.
      max_skipped: Share of the images that may be skipped, 0 to 1.

    Raises:
      TooManySkipped: A table has labels of a part of the images that was not drawn.
    """
    collection = collection_of(snapshot)
    if collection is None:
        return Labelling(with_reviews(labels, snapshot))
    reviews, batch = Reviews(collection), Batch.parse(snapshot.batch)
    seen = reviews.count(batch)  # before they are read: what is imported meanwhile is considered again
    known = with_reviews(labels, snapshot)
    if not seen and labels.source in _WITH_IMAGES:
        return Labelling(known)
    without = {name for name in snapshot.names if not known.knows(name)}
    if _nearly_all(snapshot.names, without, max_skipped):
        return Labelling(known, seen=seen)
    own = _own(known)
    lacking = sum(not own.knows(name) for name in snapshot.names)
    if labels.source in _WITH_IMAGES and lacking <= max_skipped * len(snapshot.names):
        return Labelling(own, seen=seen)
    for one in sorted(reviews.draws(batch), key=lambda made: made.last, reverse=True):
        drawn = one.of(snapshot.names)
        if drawn and _nearly_all(drawn, without, max_skipped):
            return Labelling(known, tuple(drawn), seen=seen)
    if labels.source == "file":
        raise TooManySkipped(_no_sample(snapshot, labels.file, len(without)))
    return Labelling(known, waiting=True, seen=seen) if labels.source == "review" else Labelling(own, seen=seen)


def _nearly_all(names: Sequence[str], without: Collection[str], max_skipped: float) -> bool:
    return sum(name in without for name in names) <= min(max_skipped, OPEN) * len(names)


def _no_sample(snapshot: Snapshot, file: str, without: int) -> str:
    images = len(snapshot.images)
    return (
        f"{images - without} of {images} images of {snapshot.batch} have a label in {file}. A part that was not drawn "
        f'is no sample. Label the others, or label a draw: "adapt review export --batch {snapshot.batch} --budget 50".'
    )


def _own(known: Labels) -> Labels:
    """Return the labels that came with the images, corrected by reviews, but not those that only a review gave."""
    own = replace(known, reviewed={})
    return replace(known, reviewed={name: label for name, label in known.reviewed.items() if own.knows(name)})
