"""Models, their versions and aliases."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.cloud import aiplatform_v1 as v1

from emulators.vertex.messages import (
    Json,
    Place,
    Refusal,
    check_room,
    mask,
    not_found,
    now,
    page,
    parse,
    precondition,
    remove,
)
from emulators.vertex.operations import Operations

DEFAULT = "default"
_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_OF_THE_MODEL = ("displayName", "description")


@dataclass
class _Model:
    """The fields that all versions share, and the versions by number. A number is never used again."""

    shared: Json
    versions: dict[int, Json] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))


class Models:
    """The models of a place.

    Args:
      place: Their project and location.
      operations: The operations that change them.
      is_deployed: Returns True if an endpoint has a version: `models/ships`, number.
    """

    def __init__(self, place: Place, operations: Operations, is_deployed: Callable[[str, int], bool]) -> None:
        self._place, self._operations, self._is_deployed = place, operations, is_deployed
        self._all: dict[str, _Model] = {}
        self._ids = itertools.count(1000)

    def upload(self, body: Json) -> Json:
        """Start the upload of a new model, or of a new version of one."""
        request = parse(body, v1.UploadModelRequest, "model.displayName", "model.containerSpec.imageUri")
        model, parent = request["model"], request.get("parentModel", "")
        _check_uploaded(model)
        name = self._place.local(parent) if parent else f"models/{self._new_id(request)}"
        if parent:
            self._model(name)

        def effect() -> Json:
            return self._add(name, model, new=not parent)

        return self._operations.start(name, "UploadModel", effect)

    def get(self, name: str) -> Json:
        """Return a model's default version, or the version of the number or alias behind an @."""
        return self.version(name)

    def version(self, name: str) -> Json:
        """Return the version of `models/ships`, `models/ships@3` or `models/ships@champion`."""
        name, _, wanted = name.partition("@")
        model = self._model(name)
        for number, version in model.versions.items():
            if str(number) == (wanted or None) or (wanted or DEFAULT) in version["versionAliases"]:
                return _as_read(model, version)
        raise not_found(f"Model version {name}@{wanted}")

    def list(self, query: dict[str, str]) -> Json:
        """Return the models, each by its default version."""
        return page(map(self.version, self._all), "models", query)

    def list_versions(self, name: str, query: dict[str, str]) -> Json:
        """Return the versions of a model."""
        model = self._model(name)
        return page((_as_read(model, version) for version in model.versions.values()), "models", query)

    def patch(self, name: str, body: Json, query: dict[str, str]) -> Json:
        """Change the fields in `updateMask`, of the model or of the version behind the @; only if an etag matches."""
        changes, fields = parse(body, v1.Model), mask(query)
        if changes.get("etag") and changes["etag"] != self.version(name.removesuffix("@-"))["etag"]:
            raise Refusal(409, f"{name} has changed since it was read: the etag does not match.", status="ABORTED")
        name, _, wanted = name.partition("@")
        model = self._model(name)
        if wanted in ("", "-"):
            _check_fields(fields, {*_OF_THE_MODEL, "labels"})
            target = model.shared
        else:
            _check_fields(fields, {"versionDescription", "labels"})
            target = model.versions[int(self.version(f"{name}@{wanted}")["versionId"])]
        target.update({key: changes.get(key, "") for key in fields})
        target["versionUpdateTime" if wanted else "updateTime"] = now()
        return self.version(f"{name}@{wanted}" if wanted not in ("", "-") else name)

    def merge_aliases(self, name: str, body: Json) -> Json:
        """Give a version aliases, taking them from others; `-alias` removes one."""
        aliases = parse({**body, "name": name}, v1.MergeVersionAliasesRequest, "versionAliases")["versionAliases"]
        target = self.version(name)
        for alias in aliases:
            if not _ALIAS.fullmatch(alias.removeprefix("-")):
                raise Refusal(400, f"Invalid version alias: {alias!r}.", field="versionAliases")
            if alias == f"-{DEFAULT}":
                raise precondition("The default alias cannot be removed, only moved to another version.")
        self._move_aliases(self._model(name.partition("@")[0]), int(target["versionId"]), aliases)
        return self.version(name)

    def delete(self, name: str) -> Json:
        """Start the deletion of a model with all its versions."""
        for number in self._model(name).versions:
            self._check_not_deployed(name, number)
        return self._operations.start(name, "Delete", lambda: remove(self._all, name))

    def delete_version(self, name: str) -> Json:
        """Start the deletion of a version."""
        version, model = self.version(name), self._model(name.partition("@")[0])
        number = int(version["versionId"])
        self._check_not_deployed(name.partition("@")[0], number)
        if DEFAULT in version["versionAliases"]:
            raise precondition(f"Version {number} has the default alias. Move it to another version first.")
        return self._operations.start(name.partition("@")[0], "Delete", lambda: remove(model.versions, number))

    def _model(self, name: str) -> _Model:
        if name not in self._all:
            raise not_found(f"Model {self._place.name}/{name}")
        return self._all[name]

    def _new_id(self, request: Json) -> str:
        check_room(self._all)
        wanted = request.get("modelId") or f"{next(self._ids)}"
        if request.get("modelId") and not _ID.fullmatch(wanted):
            raise Refusal(400, f"Invalid model id: {wanted!r}.", field="modelId")
        if f"models/{wanted}" in self._all:
            raise Refusal(409, f"Model {wanted} already exists.")
        return wanted

    def _add(self, name: str, uploaded: Json, *, new: bool) -> Json:
        if new and name in self._all:
            raise Refusal(409, f"Model {name} already exists.")
        if new:
            shared = {key: uploaded[key] for key in _OF_THE_MODEL if key in uploaded}
            self._all[name] = _Model({**shared, "name": f"{self._place.name}/{name}", "createTime": now()})
        model = self._model(name)
        check_room(model.versions)
        number = next(model.numbers)
        version = {key: value for key, value in uploaded.items() if key not in (*_OF_THE_MODEL, "name")}
        version.update(versionId=str(number), versionAliases=[], versionCreateTime=now())
        version["supportedDeploymentResourcesTypes"] = ["DEDICATED_RESOURCES"]
        model.versions[number] = version
        aliases = uploaded.get("versionAliases", [])
        self._move_aliases(model, number, aliases if number > 1 else [*aliases, DEFAULT])
        return {"model": model.shared["name"], "modelVersionId": str(number)}

    def _move_aliases(self, model: _Model, number: int, aliases: Sequence[str]) -> None:
        wanted = {alias for alias in aliases if not alias.startswith("-")}
        removed = {alias.removeprefix("-") for alias in aliases if alias.startswith("-")}
        for other, version in model.versions.items():
            kept = set(version["versionAliases"]) - wanted
            version["versionAliases"] = sorted(kept if other != number else (kept | wanted) - removed)

    def _check_not_deployed(self, name: str, number: int) -> None:
        if self._is_deployed(name, number):
            raise precondition(f"{name}@{number} is deployed. Undeploy it first.")


def _as_read(model: _Model, version: Json) -> Json:
    found = {**model.shared, **version}
    return {**found, "etag": hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]}


def _check_uploaded(model: Json) -> None:
    if not model.get("artifactUri", "gs://").startswith("gs://"):
        raise Refusal(400, f"Invalid artifact URI: {model['artifactUri']!r}.", field="model.artifactUri")
    for alias in model.get("versionAliases", []):
        if not _ALIAS.fullmatch(alias):
            raise Refusal(400, f"Invalid version alias: {alias!r}.", field="model.versionAliases")


def _check_fields(fields: list[str], allowed: set[str]) -> None:
    if unknown := set(fields) - allowed:
        raise precondition(f"These fields cannot be updated here: {', '.join(sorted(unknown))}.")
