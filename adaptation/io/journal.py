"""A journal: numbered records in a folder, each created once; the last one is current.

It keeps concurrent and repeated work apart: to change the current state, a caller creates the record after the one that
it read, which exactly one of any number of callers can do. That is a compare-and-swap with its history kept, on a disk
and on object storage alike. The meaning of the records is their writers'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from adaptation import codec
from adaptation.io import storage

_T = TypeVar("_T")


@dataclass(frozen=True)
class Record(Generic[_T]):
    """A journal's record: its number (1, 2, 3 ...) and its value."""

    number: int
    value: _T


class Journal(Generic[_T]):
    """The records `0001.json`, `0002.json` ... of one folder, each a value of one kind.

    An unreadable record raises `UnreadableState` with the file's name.
    """

    def __init__(self, folder: str, kind: type[_T]) -> None:
        self.folder = folder
        self._kind = kind

    def records(self) -> list[Record[_T]]:
        """Return all records in the order of their numbers."""
        if storage.is_local(self.folder):  # threads would take longer than the disk
            return list(map(self._read, self._numbers()))
        return storage.in_parallel(self._read, self._numbers())

    def newest_first(self) -> Iterator[Record[_T]]:
        """Yield the records from the last to the first, each read when it is asked for."""
        yield from map(self._read, reversed(self._numbers()))

    def last(self) -> Record[_T] | None:
        """Return the current record, or None if the journal is empty."""
        numbers = self._numbers()
        return self._read(numbers[-1]) if numbers else None

    def append(self, value: _T, *, after: int) -> Record[_T]:
        """Make `value` current, if the record numbered `after` still is (0: if there is none yet).

        Raises:
          FileExistsError: Another caller was first; nothing was written.
        """
        storage.create(self._uri(after + 1), codec.encode(value))
        return Record(after + 1, value)

    def update(self, change: Callable[[Record[_T] | None], _T | None]) -> Record[_T] | None:
        """Make the successor of the current record current, however many callers do so at the same time.

        Args:
          change: Gets the current record, or None, and returns the next value; None leaves the journal unchanged. It is
            called again if another caller was first. What it reads of the journal is no older than its argument.

        Returns:
          The new record, or None if nothing changed.

        Failure: the record exists, complete, or it does not.
        """
        while True:
            last = self.last()
            value = change(last)
            if value is None:
                return None
            with contextlib.suppress(FileExistsError):  # another caller was first: try again after its record
                return self.append(value, after=last.number if last else 0)

    def _numbers(self) -> list[int]:
        stems = (file.name.removesuffix(".json") for file in storage.files(self.folder) if file.name.endswith(".json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _read(self, number: int) -> Record[_T]:
        return Record(number, codec.read(self._uri(number), self._kind))

    def _uri(self, number: int) -> str:
        return storage.join(self.folder, f"{number:04d}.json")
