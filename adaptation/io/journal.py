"""A journal: numbered records in a folder, each created once; the last one is current.

It is the one device by which concurrent or repeated work is told apart: to change what is current is to create the
record after the one that was read, which exactly one of any number of callers can do. That is a compare-and-swap with
its history kept, on a disk and on object storage alike. What the records say is their writers' matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adaptation.io import storage


@dataclass(frozen=True)
class Record:
    """A journal's record: its number (1, 2, 3 ...) and its value, a JSON object."""

    number: int
    value: Mapping[str, Any]


class Journal:
    """The records `0001.json`, `0002.json` ... of one folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def records(self) -> list[Record]:
        """All records in the order of their numbers."""
        return storage.in_parallel(self._read, self._numbers())

    def last(self) -> Record | None:
        """The current record; None where the journal is empty."""
        numbers = self._numbers()
        return self._read(numbers[-1]) if numbers else None

    def append(self, value: Mapping[str, Any], *, after: int) -> Record:
        """Makes `value` current, if the record numbered `after` still is (0: if there is none yet).

        Raises:
          FileExistsError: Another caller was first; nothing was written.
        """
        record = Record(after + 1, dict(value))
        storage.create(self._uri(record.number), json.dumps(record.value, indent=2, sort_keys=True).encode())
        return record

    def _numbers(self) -> list[int]:
        stems = (file.name.removesuffix(".json") for file in storage.files(self.folder) if file.name.endswith(".json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _read(self, number: int) -> Record:
        return Record(number, json.loads(storage.read(self._uri(number))))

    def _uri(self, number: int) -> str:
        return storage.join(self.folder, f"{number:04d}.json")
