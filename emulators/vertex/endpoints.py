"""Endpoints, the models deployed to them, and their traffic."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Sequence
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
from emulators.vertex.models import Models
from emulators.vertex.operations import Operations

PredictHook = Callable[[str, Sequence[Any]], Sequence[Any]]
JUST_DEPLOYED = "0"
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
_CHANGEABLE = ("trafficSplit", "displayName", "description", "labels")


class Endpoints:
    """The endpoints of a place.

    Args:
      place: Their project and location.
      operations: The operations that change them.
      on_predict: Gets the resource name of a model version and the instances; returns the predictions. Its ValueError
        is the client's fault.
    """

    def __init__(self, place: Place, operations: Operations, on_predict: PredictHook | None) -> None:
        self._place, self._operations, self._on_predict = place, operations, on_predict
        self._all: dict[str, Json] = {}
        self._ids, self._deployed_ids, self._calls = itertools.count(2000), itertools.count(5000), itertools.count()

    def create(self, body: Json, query: dict[str, str]) -> Json:
        """Start the creation of an endpoint, under the id `endpointId` if given."""
        endpoint = parse(body, v1.Endpoint, "displayName")
        wanted = query.get("endpointId", "")
        if wanted and not _ID.fullmatch(wanted):
            raise Refusal(400, f"Invalid endpoint id: {wanted!r}.", field="endpointId")
        name = f"endpoints/{wanted or next(self._ids)}"
        self._check_new(name)
        endpoint = {**endpoint, "name": f"{self._place.name}/{name}", "createTime": now(), "etag": _etag()}

        def effect() -> Json:
            self._check_new(name)
            self._all[name] = endpoint
            return {"name": endpoint["name"]}

        return self._operations.start(name, "CreateEndpoint", effect)

    def get(self, name: str) -> Json:
        """Return the endpoint in its present state."""
        if name not in self._all:
            raise not_found(f"Endpoint {self._place.name}/{name}")
        return self._all[name]

    def list(self, query: dict[str, str]) -> Json:
        """Return the endpoints."""
        return page(self._all.values(), "endpoints", query)

    def patch(self, name: str, body: Json, query: dict[str, str]) -> Json:
        """Change the fields in `updateMask`; with an etag in the body only if the endpoint has not changed since."""
        endpoint, changes = self.get(name), parse(body, v1.Endpoint)
        fields = mask(query)
        if unknown := set(fields) - set(_CHANGEABLE):
            raise Refusal(400, f"These fields cannot be updated: {', '.join(sorted(unknown))}.", field="updateMask")
        if changes.get("etag", endpoint["etag"]) != endpoint["etag"]:
            raise Refusal(409, f"{name} has changed since it was read: the etag does not match.", status="ABORTED")
        if "trafficSplit" in fields:
            self._check_split(endpoint, changes.get("trafficSplit", {}))
        self._change(endpoint, **{key: changes.get(key, {}) for key in fields})
        return endpoint

    def delete(self, name: str) -> Json:
        """Start the deletion of an endpoint that has no deployed models."""
        if self.get(name).get("deployedModels"):
            raise precondition(f"{name} has deployed models. Undeploy them first.")
        return self._operations.start(name, "Delete", lambda: remove(self._all, name))

    def deploy(self, name: str, body: Json, models: Models) -> Json:
        """Start the deployment of a model version; each call makes one more deployed model."""
        endpoint = self.get(name)
        request = parse(
            body,
            v1.DeployModelRequest,
            "deployedModel.model",
            "deployedModel.dedicatedResources.machineSpec.machineType",
            "deployedModel.dedicatedResources.minReplicaCount",
        )
        deployed, split = request["deployedModel"], request.get("trafficSplit", {})
        version = models.version(self._place.local(deployed["model"]))
        deployed.update(
            id=deployed.get("id") or str(next(self._deployed_ids)),
            model=deployed["model"].partition("@")[0].replace(f"/{self._place.project}/", f"/{self._place.number}/"),
            modelVersionId=version["versionId"],
        )
        self._check_split(endpoint, split, deployed["id"], JUST_DEPLOYED)

        def effect() -> Json:
            moved = {deployed["id"] if key == JUST_DEPLOYED else key: share for key, share in split.items()}
            present = [*endpoint.get("deployedModels", []), {**deployed, "createTime": now()}]
            self._change(endpoint, deployedModels=present, **({"trafficSplit": moved} if moved else {}))
            return {"deployedModel": present[-1]}

        return self._operations.start(name, "DeployModel", effect)

    def undeploy(self, name: str, body: Json) -> Json:
        """Start undeploying a deployed model, which must have no traffic."""
        endpoint = self.get(name)
        request = parse(body, v1.UndeployModelRequest, "deployedModelId")
        removed, split = request["deployedModelId"], request.get("trafficSplit", {})
        if removed not in _ids(endpoint):
            raise not_found(f"Deployed model {removed} of {name}")
        self._check_split(endpoint, split)
        self._check_idle(endpoint, removed, split)

        def effect() -> Json:
            self._check_split(endpoint, split)
            self._check_idle(endpoint, removed, split)
            left = [deployed for deployed in endpoint.get("deployedModels", []) if deployed["id"] != removed]
            moved = (split or endpoint.get("trafficSplit", {})) if left else {}
            self._change(endpoint, deployedModels=left, trafficSplit=moved)
            return {}

        return self._operations.start(name, "UndeployModel", effect)

    def predict(self, name: str, body: Json) -> Callable[[], Json]:
        """Return a function that predicts with a deployed model chosen by the traffic split; it may take long."""
        endpoint, instances = self.get(name), parse(body, v1.PredictRequest, "instances")["instances"]
        shares = [key for key, share in sorted(endpoint.get("trafficSplit", {}).items()) for _ in range(share)]
        if not shares:
            raise precondition(f"{name} has no traffic split: no deployed model serves.")
        chosen = shares[next(self._calls) % len(shares)]
        deployed = next(deployed for deployed in endpoint["deployedModels"] if deployed["id"] == chosen)
        version = f"{deployed['model']}@{deployed['modelVersionId']}"
        served = {
            "deployedModelId": chosen,
            "model": deployed["model"],
            "modelVersionId": deployed["modelVersionId"],
        }
        return lambda: {"predictions": self._predictions(version, instances), **served}

    def is_deployed(self, model: str, number: int) -> bool:
        """Return True if any endpoint has the version."""
        wanted = (f"{self._place.name}/{model}", str(number))
        return any(
            (deployed["model"], deployed["modelVersionId"]) == wanted
            for endpoint in self._all.values()
            for deployed in endpoint.get("deployedModels", [])
        )

    def _predictions(self, version: str, instances: Sequence[Any]) -> Sequence[Any]:
        if self._on_predict is None:
            return [{} for _ in instances]
        try:
            return self._on_predict(version, instances)
        except ValueError as error:
            raise Refusal(400, str(error), field="instances") from error

    def _check_new(self, name: str) -> None:
        check_room(self._all)
        if name in self._all:
            raise Refusal(409, f"Endpoint {name} already exists.")

    def _check_split(self, endpoint: Json, split: dict[str, int], *more: str) -> None:
        if unknown := set(split) - _ids(endpoint) - set(more):
            raise Refusal(400, f"Traffic split names no deployed model: {sorted(unknown)}.", field="trafficSplit")
        if split and (sum(split.values()) != 100 or min(split.values()) < 0):
            raise Refusal(400, f"Traffic split must add up to 100: {split}.", field="trafficSplit")

    def _check_idle(self, endpoint: Json, deployed: str, split: dict[str, int]) -> None:
        last = _ids(endpoint) == {deployed}
        if not last and (split or endpoint.get("trafficSplit", {})).get(deployed):
            raise precondition(f"Deployed model {deployed} has traffic. Move it to another one first.")

    def _change(self, endpoint: Json, **changes: Any) -> None:
        endpoint.update(changes, etag=_etag(), updateTime=now())


def _ids(endpoint: Json) -> set[str]:
    return {deployed["id"] for deployed in endpoint.get("deployedModels", [])}


def _etag() -> str:
    return uuid.uuid4().hex
