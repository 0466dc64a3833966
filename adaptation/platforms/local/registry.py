"""The registry as a folder: immutable numbered versions, and a journal of which of them was champion when.

    registry/versions/<N>/model/...      the SavedModel
             versions/<N>/version.json   what it was made from
             versions/<N>/pairs.json     how it compared with the champion
             versions/<N>/reference.json what it predicts on its test splits
             champion/0001.json ...      the last record names the champion
             standings/0001.json ...     what was decided about the others
             keys/<digest of the key>    number of the version that was made from the key
             keys/complete               every version is among them
             newest                      number of the newest version, or of the one before it
             _staging/...                a version that is being put in
             lock                        held while a version is put in

Serving the champion is the endpoint's job.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from adaptation import codec
from adaptation.io import storage
from adaptation.io.journal import Journal, Record
from adaptation.io.locks import locked
from adaptation.platforms.base import (
    CHAMPION,
    ModelVersion,
    NoSuchModel,
    Promotion,
    Standing,
    StandingRecord,
    Upload,
    candidates_in,
    check_saved_model,
    predecessor_in,
    standings_of,
)

MODEL, VERSION = "model", "version.json"
FILES = {"comparison": "pairs.json", "reference": "reference.json"}  # that are copied, by the field that names them


@dataclass(frozen=True, kw_only=True)
class _Described(Upload):
    """The content of a version's file: what was uploaded, its number and its time."""

    number: int
    created: str


STATE_FILES: Mapping[str, Any] = {
    f"versions/*/{VERSION}": _Described,
    f"{CHAMPION}/*.json": Promotion,
    "standings/*.json": StandingRecord,
}


class LocalRegistry:
    """One model's versions in a folder of this machine."""

    def __init__(self, folder: str) -> None:
        self.folder = storage.absolute(folder)
        self._versions = storage.join(self.folder, "versions")
        self._keys = storage.join(self.folder, "keys")
        self._complete = storage.join(self._keys, "complete")
        self._staging = storage.join(self.folder, "_staging")
        self._newest_file = storage.join(self.folder, "newest")
        self._champions = Journal(storage.join(self.folder, CHAMPION), Promotion)
        self._standings = Journal(storage.join(self.folder, "standings"), StandingRecord)

    def upload(self, upload: Upload) -> ModelVersion:
        """Make a new version with a copy of the model; for the same key again, return the existing version.

        Failure: the version exists whole or not at all. What a killed upload left is removed by the next one.

        Raises:
          NoSuchModel: `upload.model` holds no SavedModel.
        """
        check_saved_model(upload.model)
        os.makedirs(self._versions, exist_ok=True)
        with locked(storage.join(self.folder, "lock")):
            return self._with_key(upload.key) or self._add(upload)

    def versions(self) -> list[ModelVersion]:
        """Return all versions, oldest first."""
        return [self._read(number) for number in self._numbers()]

    def find(self, model: str = CHAMPION) -> ModelVersion:
        """Return the version that `champion` or a number names.

        Raises:
          NoSuchModel: There is none.
        """
        name = self._champion_number() if model == CHAMPION else model
        if not name.isdecimal() or not storage.exists(storage.join(self._versions, name)):
            raise NoSuchModel(_missing(model, name, ", ".join(map(str, self._numbers()))))
        return self._read(int(name))

    def champion(self) -> ModelVersion | None:
        """Return the serving version, or None before the first."""
        return self.find() if self._champions.last() else None

    def promote(self, version: ModelVersion, reason: str) -> None:
        """Make the version the champion; do nothing if it is.

        Raises:
          NoSuchModel: It is not in this registry.
        """
        number = self.find(str(version.number)).number
        self._champions.update(lambda last: _promotion(number, reason, last))

    def promotions(self) -> list[Promotion]:
        """Return the promotions, the first first."""
        return [replace(record.value, number=record.number) for record in self._champions.records()]

    def predecessor(self) -> ModelVersion:
        """Return the champion before the serving version, see `base.predecessor_in`.

        Raises:
          NoSuchModel: No version was champion before this one.
        """
        number = predecessor_in(promotion.version for promotion in self.promotions())
        if number is None:
            raise NoSuchModel('no version was serving before this one. See "adapt models list" for what there is.')
        return self.find(str(number))

    def mark(self, version: ModelVersion, standing: Standing, reason: str) -> None:
        """Record the standing of a version; does nothing if that is its standing already, or if it is the champion.

        Failure: repeat it. Of two candidates the newer one is the candidate until the older one is marked as dropped.

        Raises:
          NoSuchModel: It is not in this registry.
        """
        number = self.find(str(version.number)).number
        if str(number) == self._champion_number():
            return
        self._record(number, standing, reason)
        if standing is Standing.CANDIDATE:
            for other in candidates_in(standings_of(self)):
                if other != number:
                    self._record(other, Standing.DROPPED, f"version {number} is the candidate instead")

    def standings(self) -> list[StandingRecord]:
        """Return all standings that were recorded, the newest last."""
        return [record.value for record in self._standings.records()]

    def candidate(self) -> ModelVersion | None:
        """Return the newest version whose standing is `candidate`, or None."""
        candidates = candidates_in(standings_of(self))
        return self._read(candidates[-1]) if candidates else None

    def _record(self, number: int, standing: Standing, reason: str) -> None:
        def next_record(_: Record[StandingRecord] | None) -> StandingRecord | None:
            current, promotion = standings_of(self).get(number), self._champions.last()
            if current and (current.standing, current.reason) == (standing, reason):
                return None
            return StandingRecord(number, standing, reason, _now(), promotion.number if promotion else 0)

        self._standings.update(next_record)

    def _numbers(self) -> list[int]:
        return sorted(int(name) for name in storage.folders(self._versions) if name.isdecimal())

    def _champion_number(self) -> str:
        last = self._champions.last()
        return str(last.value.version) if last else ""

    def _with_key(self, key: str) -> ModelVersion | None:
        """Return the version made from a key; an index entry whose upload was cut off names no version of that key."""
        entry = self._key(key)
        if not storage.exists(self._complete) or (storage.exists(entry) and _noted(entry) is None):
            self._index_all()
        number = _noted(entry)
        if number is None or not storage.exists(storage.join(self._versions, str(number))):
            return None
        version = self._read(number)
        return version if version.key == key else None

    def _index_all(self) -> None:
        for earlier in self.versions():
            self._index(earlier.key, earlier.number)
        storage.write(self._complete, b"")

    def _index(self, key: str, number: int) -> None:
        storage.write(self._key(key), str(number).encode())

    def _key(self, key: str) -> str:
        return storage.join(self._keys, hashlib.sha256(key.encode()).hexdigest())

    def _add(self, upload: Upload) -> ModelVersion:
        """Add the version; the caller holds the lock."""
        storage.remove_folder(self._staging)  # what a killed upload left
        champion = int(self._champion_number() or 0)  # whose folder may be missing: its number is not used again
        number = max(self._newest(), champion) + 1
        staging = storage.join(self._staging, str(number))
        shutil.copytree(upload.model, storage.join(staging, MODEL), copy_function=_copy_to_disk)
        for field, name in FILES.items():
            if uri := getattr(upload, field):
                storage.create(storage.join(staging, name), storage.read(uri))
        described = _Described(**vars(upload), number=number, created=_now())
        storage.create(storage.join(staging, VERSION), codec.encode(described))
        self._index(upload.key, number)
        os.rename(staging, storage.join(self._versions, str(number)))
        storage.write(self._newest_file, str(number).encode())
        return self._read(number)

    def _newest(self) -> int:
        """Return the newest version's number without listing all; 0 if there is none."""
        number = _noted(self._newest_file)
        if number is None:
            number = max(self._numbers(), default=0)
        while storage.exists(storage.join(self._versions, str(number + 1))):  # an upload was killed before it was noted
            number += 1
        return number

    def _read(self, number: int) -> ModelVersion:
        folder = storage.join(self._versions, str(number))
        described = codec.read(storage.join(folder, VERSION), _Described)
        fields = {name: value for name, value in vars(described).items() if name not in ("model", *FILES)}
        fields |= {field: storage.join(folder, name) for field, name in FILES.items() if getattr(described, field)}
        return ModelVersion(uri=storage.join(folder, MODEL), **fields)


def _noted(file: str) -> int | None:
    """Return the number that a file of the index holds, or None: the versions themselves say what is so."""
    try:
        return int(storage.read(file))
    except (FileNotFoundError, ValueError):
        return None


def _promotion(number: int, reason: str, last: Record[Promotion] | None) -> Promotion | None:
    if last and last.value.version == number:
        return None
    return Promotion(number, reason, _now(), last.number + 1 if last else 1)


def _missing(model: str, name: str, known: str) -> str:
    if model == CHAMPION and name:
        return (
            f"version {name} is the champion, but its folder is missing (versions: {known or 'none'}). Restore "
            f'registry/versions/{name} from a copy, or roll back with "adapt rollback".'
        )
    if model == CHAMPION:
        return f'no version is the champion yet (versions: {known or "none"}). Run "adapt train" first.'
    return f"there is no model version {model!r} (versions: {known or 'none'}). Name one of them, or {CHAMPION!r}."


def _copy_to_disk(source: str, target: str) -> None:
    with open(source, "rb") as original, open(target, "xb") as copy:
        shutil.copyfileobj(original, copy)
        copy.flush()
        os.fsync(copy.fileno())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
