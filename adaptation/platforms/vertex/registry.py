"""The model registry: one Vertex AI model, its versions, and the alias `champion` on one of them.

What a version was made from is kept as JSON in its description. Each promotion leaves a second alias, `champion-1`,
`champion-2` ..., on the version that was promoted, set by the request that moves `champion`: together they are the
history that a roll-back goes back in, and it cannot differ from what is serving. Standings are kept in the
description as well; the candidate has the alias `candidate`, for those who look at the model in the console.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from adaptation import codec
from adaptation.evaluation.mix import Recall
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
from adaptation.platforms.vertex.client import Json, VertexClient
from adaptation.platforms.vertex.config import LABEL

_PROMOTION = re.compile(rf"{CHAMPION}-([1-9][0-9]*)")
_NUMBER = re.compile(r"[1-9][0-9]*")
_CANDIDATE = "candidate"


@dataclass(frozen=True)
class _Description:
    """What a version's description says, as JSON: of its promotions, by their numbers, the reasons and the times."""

    key: str = ""
    spans: tuple[int, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    run: str = ""
    code: str = ""
    champion: int | None = None
    recalls: Mapping[str, Recall] = field(default_factory=dict)
    comparison: str = ""
    reference: str = ""
    promotions: Mapping[str, str] = field(default_factory=dict)
    promoted: Mapping[str, str] = field(default_factory=dict)
    standings: tuple[StandingRecord, ...] = ()


class VertexRegistry:
    """The versions of one model."""

    def __init__(self, client: VertexClient) -> None:
        self._client, self._config = client, client.config
        self._id = self._config.model or self._config.name
        self._found: str | None = None

    def upload(self, upload: Upload) -> ModelVersion:
        """Make a new version; for the same key again, return the existing version.

        The version refers to the files at `upload.model`, which must stay as they are.

        Failure: repeat it; a version that was made is found by its key. Of two uploads of one key at the same time the
        later one takes its version back.

        Raises:
          NoSuchModel: `upload.model` holds no SavedModel.
          OperationFailed: Vertex AI could not take the model in.
        """
        check_saved_model(upload.model)
        number = self._client.once(lambda: self._send(upload), lambda: self._arrived(upload.key))
        first = self._with_key(upload.key) or self.find(str(number))
        if first.number != number:
            self._remove(number)
        return first

    def versions(self) -> list[ModelVersion]:
        """Return all versions, oldest first."""
        return sorted(map(_version, self._listed()), key=lambda version: version.number)

    def find(self, model: str = CHAMPION) -> ModelVersion:
        """Return the version that `champion` or a number names.

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
        """Return the serving version, or None before the first.

        Raises:
          NoSuchModel: Versions were serving, but none has the alias any more.
        """
        parent = self._model()
        found = self._client.find(f"{parent}@{CHAMPION}") if parent else None
        if found is None and (earlier := self._promotions()):
            numbers = ", ".join(map(str, sorted(set(earlier.values()))))
            raise NoSuchModel(
                f"no version of {self._id} has the alias {CHAMPION!r} any more (versions {numbers} had it). "
                "Give it to the version that the next one has to beat."
            )
        return _version(found) if found else None

    def promote(self, version: ModelVersion, reason: str) -> None:
        """Make the version the champion; do nothing if it is. The reason is kept in its description.

        Failure: repeat it. The alias moves last, in one request with the history's.

        Raises:
          NoSuchModel: It is not in this registry.
        """
        number = self.find(str(version.number)).number
        if number in _with_alias(self._listed(), CHAMPION):
            return
        count = max(self._promotions(), default=0) + 1
        self._keep_reason(number, count, reason)
        self._client.once(lambda: self._move_alias(number, count), lambda: self._promotions().get(count))

    def promotions(self) -> list[Promotion]:
        """Return which version became the champion when, the first first; an alias moved by hand counts as the last."""
        listed = self._listed()
        described = {int(found["versionId"]): _described(found) for found in listed}
        promotions = [_promotion(described[number], number, count) for count, number in _promoted(listed).items()]
        last = promotions[-1] if promotions else Promotion(0, "", "")
        by_hand = [number for number in _with_alias(listed, CHAMPION) if number != last.version]
        return promotions + [
            Promotion(number, "the alias was moved by hand", "", last.number + 1) for number in by_hand
        ]

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
        if number in _with_alias(self._listed(), CHAMPION):
            return
        self._record(number, standing, reason)
        if standing is Standing.CANDIDATE:
            for other in candidates_in(standings_of(self)):
                if other != number:
                    self._record(other, Standing.DROPPED, f"version {number} is the candidate instead")

    def standings(self) -> list[StandingRecord]:
        """Return all standings that were recorded, the newest last."""
        records = [record for found in self._listed() for record in _described(found).standings]
        return sorted(records, key=lambda record: (record.promotions, record.time))

    def candidate(self) -> ModelVersion | None:
        """Return the newest version whose standing is `candidate`, or None."""
        candidates = candidates_in(standings_of(self))
        return self.find(str(candidates[-1])) if candidates else None

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
        """Return the resource name of the model, looked up until there is one; None if there is none yet.

        Raises:
          NoSuchModel: This deployment has a model, by another name.
        """
        if not self._found:
            if (model := self._client.named("models", self._id)) is None:
                self._refuse_other_name()
                return None
            self._found = _unversioned(model["name"])
        return self._found

    def _refuse_other_name(self) -> None:
        """Refuse to begin without a champion if another model has its files below this deployment's root."""
        labelled = self._client.list(f"{self._config.parent}/models", "models", filter=f"labels.{LABEL}:*")
        ours = f"{self._config.root.rstrip('/')}/"
        others = [model for model in labelled if str(model.get("artifactUri", "")).startswith(ours)]
        names = sorted({str(model["displayName"]) for model in others} - {self._id})  # ours may just have been made
        if names:
            raise NoSuchModel(
                f"there is no model {self._id}, but the files of {' and '.join(names)} are below {ours}: the deployment"
                f" had that name. Set it again, or set vertex.model and vertex.endpoint to {names[-1]!r}, which keeps "
                "the champion. For a new deployment set another vertex.root."
            )

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
        operation = self._client.send(f"{self._config.parent}/models:upload", body)
        response = self._client.wait(operation, "modelVersionId")
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
        def with_reason(described: _Description) -> _Description:
            promotions = {**described.promotions, str(count): reason}
            promoted = {**described.promoted, str(count): _now()}
            return replace(described, promotions=promotions, promoted=promoted)

        self._describe(number, with_reason)

    def _describe(self, number: int, change: Callable[[_Description], _Description]) -> None:
        """Change a version's description; repeated on the new one if another writer was faster, see `Model.etag`."""
        name = self.resource(number)

        def write() -> Json:
            found = self._client.get(name)
            described = change(before := _described(found))
            if described == before:
                return found
            body = {"name": name, "versionDescription": _text(described), "etag": found.get("etag", "")}
            return self._client.change("PATCH", name, body, updateMask="versionDescription")

        self._client.once(write, lambda: None)

    def _move_alias(self, number: int, count: int) -> int:
        name = self.resource(number)
        ended = [f"-{_CANDIDATE}"] if _CANDIDATE in self._client.get(name).get("versionAliases", []) else []
        self._client.send(f"{name}:mergeVersionAliases", {"versionAliases": [CHAMPION, f"{CHAMPION}-{count}", *ended]})
        return number

    def _promotions(self) -> dict[int, int]:
        """Return the version that each promotion, by its number, made the champion."""
        return _promoted(self._listed())

    def _record(self, number: int, standing: Standing, reason: str) -> None:
        """Keep the standing in the version's description, then give or take the alias `candidate`."""
        promotions = self._promotions()
        promoted = max((at for at, version in promotions.items() if version == number), default=0)

        def with_standing(described: _Description) -> _Description:
            last = described.standings[-1] if described.standings else None
            if last and last.promotions >= promoted and (last.standing, last.reason) == (standing, reason):
                return described
            time = max([_now(), *(record.time for record in described.standings)])
            record = StandingRecord(number, standing, reason, time, max(promotions, default=0))
            return replace(described, standings=(*described.standings, record))

        self._describe(number, with_standing)
        is_candidate = standing is Standing.CANDIDATE
        if is_candidate != (_CANDIDATE in self._client.get(self.resource(number)).get("versionAliases", [])):
            alias = _CANDIDATE if is_candidate else f"-{_CANDIDATE}"
            self._client.change("POST", f"{self.resource(number)}:mergeVersionAliases", {"versionAliases": [alias]})

    def _missing(self, model: str) -> str:
        known = ", ".join(str(version.number) for version in self.versions()) or "none"
        if model == CHAMPION:
            return f"no version of {self._id} is the champion yet (versions: {known}). Submit a training first."
        return f"{self._id} has no version {model!r} (versions: {known}). Name one of them, or {CHAMPION!r}."


def _description(upload: Upload) -> _Description:
    fields = {name: value for name, value in vars(upload).items() if name != "model"}
    return _Description(**fields)


def _text(described: _Description) -> str:
    return codec.encode(described, indent=0).decode()


def _version(found: Json) -> ModelVersion:
    """Return a version as the service returns it. One made by other software has no description of ours."""
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
        champion=described.champion,
        recalls=described.recalls,
        comparison=described.comparison,
        reference=described.reference,
    )


def _promoted(listed: list[Json]) -> dict[int, int]:
    """Return the version that each promotion, by its number, made the champion."""
    found = [
        (int(match[1]), int(version["versionId"]))
        for version in listed
        for alias in version.get("versionAliases", [])
        if (match := _PROMOTION.fullmatch(alias))
    ]
    return dict(sorted(found))


def _promotion(described: _Description, number: int, count: int) -> Promotion:
    reason, time = (kept.get(str(count), "") for kept in (described.promotions, described.promoted))
    return Promotion(number, reason, time, count)


def _with_alias(listed: list[Json], alias: str) -> list[int]:
    return [int(found["versionId"]) for found in listed if alias in found.get("versionAliases", [])]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _described(found: Json) -> _Description:
    try:
        return codec.decode(found.get("versionDescription", ""), _Description, str(found["name"]))
    except codec.UnreadableState:
        return _Description()


def _unversioned(name: str) -> str:
    return name.partition("@")[0]
