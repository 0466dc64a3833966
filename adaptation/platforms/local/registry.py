"""The registry as a folder: immutable numbered versions, and a journal of which of them was champion when.

    registry/versions/<N>/model/...      the SavedModel
             versions/<N>/version.json   what it was made from
             champion/0001.json ...      the last record names the champion
             lock                        held while a version is put in

What serves the champion is the endpoint's matter.
"""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from adaptation import codec
from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.io.locks import locked
from adaptation.platforms.base import CHAMPION, ModelVersion, NoSuchModel, Promotion, Upload, predecessor_in

MODEL, VERSION = "model", "version.json"
SAVED_MODEL = "saved_model.pb"


@dataclass(frozen=True, kw_only=True)
class _Described(Upload):
    """What a version's file says: what was uploaded, and what became of it."""

    number: int
    created: str


class LocalRegistry:
    """One model's versions in a folder of this machine."""

    def __init__(self, folder: str) -> None:
        self.folder = storage.absolute(folder)
        self._versions = storage.join(self.folder, "versions")
        self._champions = Journal(storage.join(self.folder, CHAMPION), Promotion)

    def upload(self, upload: Upload) -> ModelVersion:
        """Makes a new version with a copy of the model; the same key again returns the version that is there.

        Failure: the version is there whole or not at all. What a killed upload left is cleared away by the next one.

        Raises:
          NoSuchModel: `upload.model` holds no SavedModel.
        """
        _check_model(upload.model)
        os.makedirs(self._versions, exist_ok=True)
        with locked(storage.join(self.folder, "lock")):
            return self._with_key(upload.key) or self._add(upload)

    def versions(self) -> list[ModelVersion]:
        """All versions, oldest first."""
        numbers = sorted(int(name) for name in storage.folders(self._versions) if name.isdecimal())
        return [self._read(number) for number in numbers]

    def find(self, model: str = CHAMPION) -> ModelVersion:
        """The version that `champion` or a number names.

        Raises:
          NoSuchModel: There is none.
        """
        known = {str(version.number): version for version in self.versions()}
        name = self._champion_number() if model == CHAMPION else model
        if name not in known:
            raise NoSuchModel(_missing(model, ", ".join(known)))
        return known[name]

    def champion(self) -> ModelVersion | None:
        """The version in service, or None before the first."""
        return self.find() if self._champions.last() else None

    def promote(self, version: ModelVersion, reason: str) -> None:
        """Makes the version the champion; does nothing where it is.

        Raises:
          NoSuchModel: It is not in this registry.
        """
        number = self.find(str(version.number)).number
        promotion = Promotion(number, reason, _now())
        self._champions.update(lambda last: None if last and last.value.version == number else promotion)

    def promotions(self) -> list[Promotion]:
        """Which version became the champion when, the first first."""
        return [record.value for record in self._champions.records()]

    def predecessor(self) -> ModelVersion:
        """The version that was champion before the one in service, see `base.predecessor_in`.

        Raises:
          NoSuchModel: No version was champion before this one.
        """
        number = predecessor_in(promotion.version for promotion in self.promotions())
        if number is None:
            raise NoSuchModel('no version was in service before this one. See "adapt models list" for what there is.')
        return self.find(str(number))

    def _champion_number(self) -> str:
        last = self._champions.last()
        return str(last.value.version) if last else ""

    def _with_key(self, key: str) -> ModelVersion | None:
        return next((version for version in self.versions() if version.key == key), None)

    def _add(self, upload: Upload) -> ModelVersion:
        """Puts the version in; only who holds the lock may."""
        self._clear_leftovers()
        number = max((version.number for version in self.versions()), default=0) + 1
        staging = storage.join(self._versions, f"{storage.TEMPORARY}{uuid.uuid4().hex}")
        shutil.copytree(upload.model, storage.join(staging, MODEL), copy_function=_copy_to_disk)
        described = _Described(**vars(upload), number=number, created=_now())
        storage.create(storage.join(staging, VERSION), codec.encode(described))
        os.rename(staging, storage.join(self._versions, str(number)))
        return self._read(number)

    def _clear_leftovers(self) -> None:
        for name in storage.folders(self._versions):
            if name.startswith(storage.TEMPORARY):
                storage.remove_folder(storage.join(self._versions, name))

    def _read(self, number: int) -> ModelVersion:
        folder = storage.join(self._versions, str(number))
        described = codec.read(storage.join(folder, VERSION), _Described)
        fields = {name: value for name, value in vars(described).items() if name != "model"}
        return ModelVersion(uri=storage.join(folder, MODEL), **fields)


def _check_model(model: str) -> None:
    if not os.path.isfile(os.path.join(model, SAVED_MODEL)):
        raise NoSuchModel(f"{model} holds no SavedModel ({SAVED_MODEL} is missing). Name a folder that was exported.")


def _missing(model: str, known: str) -> str:
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
