"""The classes of a folder of images, by the images' names alone, and the doubts that a person must settle."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptation.data.batches import Snapshot
from adaptation.data.label_tables import InvalidLabels, nfc
from adaptation.data.labels import Labels, UnknownLabel, pattern_fault
from adaptation.io import storage

_PREFIX = re.compile(r"(.+?)_\d|(.+)_")
_CAMERAS = frozenset(
    ("CIMG", "DJI", "DSC", "DSCF", "DSCN", "GOPR", "IMG", "IMGP", "MVIMG", "PANO", "PXL", "SAM", "SNAP", "VID", "WP")
)
_OTHER_READINGS = {  # patterns for labels.pattern, and what a person calls them
    r"(?P<label>[^/]+)_[^/_]*$": 'all before the last "_"',
    r"_(?P<label>[^\W\d_]+)\.\w+$": 'the word after the last "_"',
}
_NAMES_SHOWN = 10


@dataclass(frozen=True)
class Classes:
    """The classes that the names of images give, and their source: `folder`, `prefix` or `pattern`."""

    names: tuple[str, ...]
    source: str


def find_classes(snapshot: Snapshot, pattern: str = "", class_folder: str = "") -> Classes:
    """Return the classes of a folder's images: by folders if most of them lie in one, else by prefixes.

    Args:
      snapshot: The images.
      pattern: A regular expression that finds the class in a name instead, see `Labels.pattern`.
      class_folder: `first` or `last`, see `Labels.class_folder`.

    Raises:
      InvalidLabels: There are fewer than two; folders lie in folders, and `class_folder` does not say which of them is
        the class; or the prefixes are those that cameras give.
    """
    names = snapshot.names
    if pattern:
        return _two_or_more(snapshot, "pattern", _by_pattern(names, pattern))
    if sum("/" in name for name in names) * 2 > len(names):
        return _two_or_more(snapshot, "folder", _by_folder(snapshot, class_folder))
    counts = Counter(map(_prefix_of, names))
    if cameras := sorted(name for name in counts if name.upper() in _CAMERAS):
        example = next(name for name in names if _prefix_of(name) == cameras[0])
        raise InvalidLabels(
            f"{example} in {snapshot.root} is named by a camera: {', '.join(cameras)} is no class. Say where the class "
            f"is, with --pattern, or put the images of each into a folder of its name.{_offers(names, counts)}"
        )
    return _two_or_more(snapshot, "prefix", counts)


def describe_classes(snapshot: Snapshot, labels: Labels) -> list[str]:
    """Return what was read from the names, in lines: each class with its count and an example, then cautions."""
    examples: dict[str, list[str]] = defaultdict(list)
    for name in snapshot.names:
        examples[_label(labels, name)].append(name)
    lines = [f"  {label or '(no class)'}: {len(found)}, as {found[0]}" for label, found in sorted(examples.items())]
    shown = lines[:_NAMES_SHOWN] + ([f"  ... {len(lines) - _NAMES_SHOWN} more"] if len(lines) > _NAMES_SHOWN else [])
    if labels.source == "prefix" and (offers := _offers(snapshot.names, Counter(map(_prefix_of, snapshot.names)))):
        shown.append(
            f"Caution: the names can be read in another way. If it is meant, start again in another folder:{offers}"
        )
    if snapshot.passed_over:
        shown.append(str(snapshot.passed_over))
    return shown


def _two_or_more(snapshot: Snapshot, source: str, counts: Mapping[str, int]) -> Classes:
    names = tuple(sorted(counts.keys() - {""}))
    if len(names) < 2:
        offers = _offers(snapshot.names, counts) if source == "prefix" else ""
        raise InvalidLabels(
            f"the names of the images in {snapshot.root} give {f'one class, {names[0]}' if names else 'no class'}. "
            "There must be at least two: put the images of each into a folder of its name, or name them ship_1.jpg."
            f"{offers}" + (f" Not looked at: {snapshot.passed_over}." if snapshot.passed_over else "")
        )
    return Classes(names, source)


def _by_pattern(names: Sequence[str], pattern: str) -> Counter[str]:
    if fault := pattern_fault(pattern):
        raise InvalidLabels(f"the pattern {pattern!r} {fault}.")
    search = re.compile(pattern).search
    return Counter((match["label"] or "") if (match := search(nfc(name))) else "" for name in names)


def _by_folder(snapshot: Snapshot, class_folder: str) -> Counter[str]:
    folders = [nfc(name).split("/")[:-1] for name in snapshot.names]
    if not class_folder and (deeper := [number for number, one in enumerate(folders) if len(one) > 1]):
        raise _question(snapshot, folders, deeper[0])
    place = 0 if class_folder == "first" else -1
    return Counter(one[place] if one else "" for one in folders)


def _question(snapshot: Snapshot, folders: Sequence[Sequence[str]], example: int) -> InvalidLabels:
    first, last = (Counter(one[place] for one in folders if one) for place in (0, -1))
    return InvalidLabels(
        f"in {snapshot.root}, folders lie in folders: is the class of {snapshot.names[example]} "
        f"{folders[example][0]} or {folders[example][-1]}? Say it with --class-folder, or labels.class_folder in the "
        f'settings: "first" gives {_listed(first)}; "last" gives {_listed(last)}.'
    )


def _prefix_of(name: str) -> str:
    match = _PREFIX.match(nfc(storage.basename(name)).rpartition(".")[0])
    return (match[1] or match[2]) if match else ""


def _offers(names: Sequence[str], counts: Mapping[str, int]) -> str:
    """Return the other ways to read the names that give a class for each, of some images; each on a line."""
    lines = []
    for pattern, words in _OTHER_READINGS.items():
        found = _by_pattern(names, pattern)
        if found.keys() != counts.keys() and "" not in found and 2 <= len(found) <= len(names) / 2:
            lines.append(f"\n  {words}: {_listed(found)}: --pattern '{pattern}'")
    return "".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} ({counts[name]})" for name in sorted(counts)[:_NAMES_SHOWN])
    return f"{len(counts)} class{'es' if len(counts) != 1 else ''}: {shown}" + (
        ", ..." if len(counts) > _NAMES_SHOWN else ""
    )


def _label(labels: Labels, name: str) -> str:
    try:
        return labels.of(name)
    except UnknownLabel:
        return ""
