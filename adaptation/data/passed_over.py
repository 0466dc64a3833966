"""What a listing of images does not take: counted by kind, with examples, so that nothing vanishes without a word.

Only names are looked at, by the rules of `batches.is_image`. Images that are listed and turn out unusable are
`Skipped`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from adaptation.io import storage

_EXAMPLES, _KINDS = 3, 40
_FOLDERS = r"@eaDir|@__thumb|@Recycle|#recycle|#snapshot|\$RECYCLE\.BIN|System Volume Information|__MACOSX|lost\+found"
_FILES = ("thumbs.db", "desktop.ini", ".ds_store")
_STRANGER = re.compile(rf"(?:^|/)(?:({_FOLDERS}|\.ipynb_checkpoints)/|(\._)[^/]*$)", re.IGNORECASE)
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}$")
_OTHER_ENDING, _UNREADABLE, _HIDDEN = "other", "unreadable name", "hidden"
_WORDS = {
    _UNREADABLE: "with a name that is no text of one line",
    _HIDDEN: "hidden",
    storage.LINKED_FOLDER: "linked folders, not entered",
    storage.LOOP: "links to a folder around them",
    storage.NOT_A_FILE: "links to nothing, or no files",
}


@dataclass(frozen=True)
class PassedOver:
    """The files and folders that were not taken; prints as a part of a sentence, "" if there are none.

    >>> print(PassedOver({".webp": 30, ".heic": 7, "@eaDir": 2}, {".webp": ("cat/1.webp",)}))
    passed over: 37 files that are no JPEG or PNG: 30 .webp (cat/1.webp), 7 .heic; 2 of @eaDir

    Attributes:
      counts: Their number by kind; a kind like `.webp` is the ending of files that are no images.
      examples: Some names of each kind; those that are no readable text are escaped.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        kinds = sorted(self.counts, key=lambda kind: (-self.counts[kind], kind))
        endings = list(filter(_is_ending, kinds))
        parts = [self._of(kind) for kind in kinds if kind not in endings]
        if endings:
            count = sum(self.counts[kind] for kind in endings)
            parts.insert(0, f"{count} files that are no JPEG or PNG: {', '.join(map(self._of, endings))}")
        return f"passed over: {'; '.join(parts)}" if parts else ""

    def _of(self, kind: str) -> str:
        words = kind if _is_ending(kind) else _WORDS.get(kind, f"of {kind}")
        names = self.examples.get(kind, ())
        return f"{self.counts[kind]} {words}" + (f" ({', '.join(names)})" if names else "")


class Sieve:
    """Counts what is passed over; it keeps no more than a few names of each kind."""

    def __init__(self) -> None:
        self._counts, self._examples = Counter[str](), dict[str, list[str]]()

    def add(self, name: str, kind: str = "") -> None:
        """Count a name; without a kind, that of a file by its name."""
        kind = kind or self._kind(name)
        self._counts[kind] += 1
        if len(examples := self._examples.setdefault(kind, [])) < _EXAMPLES:
            examples.append(name if _is_plain(name) else ascii(name))

    @property
    def passed_over(self) -> PassedOver:
        """What was counted so far."""
        return PassedOver(dict(self._counts), {kind: tuple(sorted(names)) for kind, names in self._examples.items()})

    def _kind(self, name: str) -> str:
        if stranger := _stranger(name):
            return stranger
        if not _is_plain(name) or "//" in name or name.startswith("/"):
            return _UNREADABLE
        if name.startswith(".") or "/." in name:
            return _HIDDEN
        match = _ENDING.search(name)
        ending = match[0].lower() if match else _OTHER_ENDING
        known = ending in self._counts or len(self._counts) < _KINDS
        return ending if known else _OTHER_ENDING


def is_stranger(name: str) -> bool:
    """Return True if another program than a camera wrote a file for itself: Synology, macOS, Windows, Jupyter."""
    return ("/" in name or name.startswith("._")) and _STRANGER.search(name) is not None


def _is_ending(kind: str) -> bool:
    return kind == _OTHER_ENDING or _ENDING.fullmatch(kind) is not None


def _stranger(name: str) -> str:
    if match := _STRANGER.search(name):
        return match[1] or "._*"
    file = storage.basename(name)
    return file if file.lower() in _FILES else ""


def _is_plain(name: str) -> bool:
    return name.isprintable() or all(unicodedata.category(one) not in ("Cc", "Cs", "Zl", "Zp") for one in name)
