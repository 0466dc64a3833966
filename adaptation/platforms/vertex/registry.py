"""The model registry: one Vertex AI model, its versions, and the alias `champion` on one of them.

What a version was made from is kept as JSON in its description. Each promotion leaves a second alias, `champion-1`,
`champion-2` ..., on the version that was promoted, set by the request that moves `champion`: together they are the
history that a roll-back goes back in, and it cannot differ from what is in service.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from adaptation import codec
from adaptation.io import storage
from adaptation.platforms.base import CHAMPION, ModelVersion, NoSuchModel, Promotion, Upload, predecessor_in
from adaptation.platforms.vertex.client import Json, VertexClient

SAVED_MODEL = "saved_model.pb"
_PROMOTION = re.compile(rf"{CHAMPION}-([1-9][0-9]*)")
_NUMBER = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True)
class _Description:
    """What a version's description says, as JSON. `promotions` has the reason of each, by its number."""

    key: str = ""
    spans: tuple[int, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    run: str = ""
    code: str = ""
    promotions: Mapping[str, str] = field(default_factory=dict)


class VertexRegistry:
    """The versions of one model."""

    def __init__(self, client: VertexClient) -> None:
        self._client, self._config = client, client.config
        self._id = self._config.model or self._config.name
        self._found: str | None = None

    def upload(self, upload: Upload) -> ModelVersion:
        """Makes a new version; the same key again returns the version that is there.

        The version refers to the files at `upload.model`, which must stay as they are.

        Failure: repeat it; a version that was made is found by its key. Of two uploads of one key at the same time the
        later one takes its version back.

        Raises:
          NoSuchModel: `upload.model` holds no SavedModel.
          OperationFailed: Vertex AI could not take the model in.
        """
        _check_model(upload.model)
        number = self._client.once(lambda: self._send(upload), lambda: self._arrived(upload.key))
        first = self._with_key(upload.key) or self.find(str(number))
        if first.number != number:
            self._remove(number)
        return first

    def versions(self) -> list[ModelVersion]:
        """All versions, oldest first."""
        return sorted(map(_version, self._listed()), key=lambda version: version.number)

    def find(self, model: str = CHAMPION) -> ModelVersion:
        """The version that `champion` or a number names.

        Raises:
          NoSuchModel: There is none.
          Ambiguous: Several models have the display name.
        """
        parent = self._model() if model == CHAMPION or _NUMBER.fullmatch(model) else None
        found = self._client.find(f"{parent}@{model}") if parent else None
        if found is None:
            raise NoSuchModel(self._missing(model))
        return _version(found)

    def champion(self) -> ModelVersion | None:
        """The version in service, or None before the first."""
        parent = self._model()
        found = self._client.find(f"{parent}@{CHAMPION}") if parent else None
        return _version(found) if found else None

    def promote(self, version: ModelVersion, reason: str) -> None:
        """Makes the version the champion; does nothing where it is. The reason is kept in its description.

        Failure: repeat it. The alias moves last, in one request with the history's.

        Raises:
          NoSuchModel: It is not in this registry.
        """
        number = self.find(str(version.number)).number
        champion = self.champion()
        if champion and champion.number == number:
            return
        count = max(self._promotions(), default=0) + 1
        self._keep_reason(number, count, reason)
        self._client.once(lambda: self._move_alias(number, count), lambda: self._promotions().get(count))

    def promotions(self) -> list[Promotion]:
        """Which version became the champion, the first first. Vertex AI does not keep when."""
        listed = {int(found["versionId"]): _described(found).promotions for found in self._listed()}
        return [
            Promotion(number, listed[number].get(str(count), ""), "") for count, number in self._promotions().items()
        ]

    def predecessor(self) -> ModelVersion:
        """The version that was champion before the one in service, see `base.predecessor_in`.

        Raises:
          NoSuchModel: No version was champion before this one.
        """
        number = predecessor_in(self._history())
        if number is None:
            raise NoSuchModel('no version was in service before this one. See "adapt models list" for what there is.')
        return self.find(str(number))

    def resource(self, number: int) -> str:
        """Resource name of a version, with its number.

        Raises:
          NoSuchModel: There is no model.
        """
        parent = self._model()
        if parent is None:
            raise NoSuchModel(self._missing(str(number)))
        return f"{parent}@{number}"

    def _model(self) -> str | None:
        """Resource name of the model, looked up until there is one; None where there is none yet."""
        if not self._found and (model := self._client.named("models", self._id)):
            self._found = _unversioned(model["name"])
        return self._found

    def _listed(self) -> list[Json]:
        parent = self._model()
        return list(self._client.list(f"{parent}:listVersions", "models")) if parent else []

    def _with_key(self, key: str) -> ModelVersion | None:
        return next((version for version in self.versions() if version.key == key), None)

    def _arrived(self, key: str) -> int | None:
        """Number of the version of that key, once every upload that is under way has ended."""
        self._client.settle(self._model() or f"{self._config.parent}/models/{self._id}")
        version = self._with_key(key)
        return version.number if version else None

    def _send(self, upload: Upload) -> int:
        """Uploads a version; the first makes the model, under an id that no second first one can take."""
        parent = self._model()
        place = {"parentModel": parent} if parent else {"modelId": self._id}
        body = {**place, "model": self._body(upload), **self._config.identity}
        response = self._client.wait(self._client.send(f"{self._config.parent}/models:upload", body))
        return int(response["modelVersionId"])

    def _body(self, upload: Upload) -> Json:
        return {
            "displayName": self._id,
            "artifactUri": upload.model,
            "versionDescription": _text(_description(upload)),
            "containerSpec": self._container(),
            "labels": self._config.all_labels,
            **self._config.encryption,
        }

    def _container(self) -> Json:
        container = self._config.container
        fields = {
            "imageUri": container.image,
            "predictRoute": container.predict_route,
            "healthRoute": container.health_route,
            "ports": [{"containerPort": container.port}] if container.port else [],
            "args": list(container.arguments),
        }
        return {name: value for name, value in fields.items() if value}

    def _remove(self, number: int) -> None:
        self._client.wait(self._client.change("DELETE", f"{self.resource(number)}:deleteVersion"))

    def _keep_reason(self, number: int, count: int, reason: str) -> None:
        name = self.resource(number)
        described = _described(self._client.get(name))
        described = replace(described, promotions={**described.promotions, str(count): reason})
        body = {"name": name, "versionDescription": _text(described)}
        self._client.change("PATCH", name, body, updateMask="versionDescription")

    def _move_alias(self, number: int, count: int) -> int:
        aliases = {"versionAliases": [CHAMPION, f"{CHAMPION}-{count}"]}
        self._client.send(f"{self.resource(number)}:mergeVersionAliases", aliases)
        return number

    def _promotions(self) -> dict[int, int]:
        """The version that each promotion, by its number, made the champion."""
        found = [
            (int(match[1]), int(listed["versionId"]))
            for listed in self._listed()
            for alias in listed.get("versionAliases", [])
            if (match := _PROMOTION.fullmatch(alias))
        ]
        return dict(sorted(found))

    def _history(self) -> list[int]:
        """The champions, the one in service last, also where somebody else has moved the alias."""
        history, champion = list(self._promotions().values()), self.champion()
        return [*history, champion.number] if champion else history

    def _missing(self, model: str) -> str:
        known = ", ".join(str(version.number) for version in self.versions()) or "none"
        if model == CHAMPION:
            return f"no version of {self._id} is the champion yet (versions: {known}). Submit a training first."
        return f"{self._id} has no version {model!r} (versions: {known}). Name one of them, or {CHAMPION!r}."


def _check_model(model: str) -> None:
    if not storage.exists(storage.join(model, SAVED_MODEL)):
        raise NoSuchModel(f"{model} holds no SavedModel ({SAVED_MODEL} is missing). Name a folder that was exported.")


def _description(upload: Upload) -> _Description:
    return _Description(upload.key, upload.spans, upload.metrics, upload.source, upload.run, upload.code)


def _text(described: _Description) -> str:
    return codec.encode(described, indent=0).decode()


def _version(found: Json) -> ModelVersion:
    """A version as the service tells it. One that somebody else made has no description of ours."""
    described = _described(found)
    uri = str(found.get("artifactUri", ""))
    return ModelVersion(
        number=int(found["versionId"]),
        uri=uri,
        key=described.key,
        spans=described.spans,
        metrics=described.metrics,
        source=described.source or uri,
        run=described.run,
        created=str(found.get("versionCreateTime", "")),
        code=described.code,
    )


def _described(found: Json) -> _Description:
    try:
        return codec.decode(found.get("versionDescription", ""), _Description, str(found["name"]))
    except codec.UnreadableState:
        return _Description()


def _unversioned(name: str) -> str:
    return name.partition("@")[0]
