"""The endpoint as a folder that TensorFlow Serving watches: `<folder>/<N>/saved_model.pb` for the version served.

TensorFlow Serving loads each numbered folder that appears and unloads those that disappear; it looks at no other names.
The caller decides which version to serve.
"""

from __future__ import annotations

import os
import uuid

from adaptation.io import storage
from adaptation.io.locks import locked
from adaptation.platforms.base import ModelVersion


class LocalEndpoint:
    """The folder that a model server of this machine watches."""

    def __init__(self, folder: str) -> None:
        self.folder = storage.absolute(folder)

    def deploy(self, version: ModelVersion) -> None:
        """Serve this version, then no other; repeating it is safe.

        Failure: every visible version is complete. Cut off, the old version still serves, perhaps beside the new one;
        repeating it ends with the new one alone.
        """
        os.makedirs(self.folder, exist_ok=True)
        with locked(storage.join(self.folder, ".lock")):
            self._clear_leftovers()
            if version.number not in self.serving():
                self._put(version)
            for number in self.serving():
                if number != version.number:
                    self._take_out(number)

    def serving(self) -> list[int]:
        """Return the numbers of the serving versions, in their order."""
        return sorted(int(name) for name in storage.folders(self.folder) if name.isdecimal())

    def _put(self, version: ModelVersion) -> None:
        staging = self._hidden()
        for file in storage.files_below(version.uri):
            storage.link(storage.join(version.uri, file.name), storage.join(staging, file.name))
        os.rename(staging, self._served(version.number))

    def _take_out(self, number: int) -> None:
        hidden = self._hidden()  # renamed first: a half-deleted version must never be visible
        os.rename(self._served(number), hidden)
        storage.remove_folder(hidden)

    def _clear_leftovers(self) -> None:
        for name in storage.folders(self.folder):
            if name.startswith(storage.TEMPORARY):
                storage.remove_folder(storage.join(self.folder, name))

    def _served(self, number: int) -> str:
        return storage.join(self.folder, str(number))

    def _hidden(self) -> str:
        return storage.join(self.folder, f"{storage.TEMPORARY}{uuid.uuid4().hex}")
