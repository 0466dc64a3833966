"""JSON encoding of this package's frozen dataclasses.

Every state file, and every text that carries a value from one process to another, goes through here. Unreadable data
raises one error, `UnreadableState`. The lines of other programs (labels, predictions) are read elsewhere.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from adaptation.errors import AdaptationError
from adaptation.io import storage

RESTORE = "Restore it from a copy; if there is none, move it away and repeat what wrote it."
_T = TypeVar("_T")


class UnreadableState(AdaptationError, ValueError):
    """A text that does not hold the expected value; the message names the file, the place in it and a remedy."""


def encode(value: Any, *, indent: int = 1) -> bytes:
    """Return a value as JSON. Equal values give equal bytes: fields are in the order of their declaration.

    Args:
      value: A dataclass, or anything made of dataclasses, mappings, sequences, texts and finite numbers.
      indent: Spaces a level; 0 writes one line, for values with very many parts.
    """
    return msgspec.json.format(msgspec.json.encode(value), indent=indent)


def decode(data: bytes | str, kind: type[_T], source: str, *, remedy: str = RESTORE) -> _T:
    """Return the value that `encode` wrote. Unknown fields are ignored.

    Args:
      data: The JSON.
      kind: The value's type: a dataclass, or a container of them such as `tuple[Shard, ...]`.
      source: Where the data comes from, for the message: the file's URI, or a parameter's name.
      remedy: What to do about unreadable data, as a sentence.

    Raises:
      UnreadableState: The data is not JSON, or not that of a `kind`.
    """
    try:
        with storage.collector_at_rest():  # a list of 200,000 files takes four times as long with it
            return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnreadableState(f"{source} cannot be read: {error}. {remedy}") from error


def check(value: Any, kind: type[object], source: str, *, remedy: str) -> None:
    """Check that JSON which was parsed already, from another program, has the fields of `kind`; errors as `decode`."""
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UnreadableState(f"{source} cannot be read: {error}. {remedy}") from error


def read(uri: str, kind: type[_T], *, remedy: str = RESTORE) -> _T:
    """Return the value in a file, see `decode`; a missing file is a FileNotFoundError."""
    return decode(storage.read(uri), kind, uri, remedy=remedy)
