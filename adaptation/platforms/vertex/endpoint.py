"""The endpoint: serves one version of the model, and changes to another without a gap.

The new version is deployed without traffic, then gets all of it, and only then are versions without traffic undeployed.
Each step reads the present state, so that repeating a cut-off or concurrent deployment finishes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from adaptation.platforms.base import ModelVersion
from adaptation.platforms.vertex.client import (
    Json,
    OperationFailed,
    VertexChanged,
    VertexClient,
    VertexNotFound,
    VertexRefused,
)
from adaptation.platforms.vertex.registry import VertexRegistry
from adaptation.progress import report

ROUNDS = 6


class VertexEndpoint:
    """One endpoint of Vertex AI."""

    def __init__(self, client: VertexClient, registry: VertexRegistry) -> None:
        self._client, self._config, self._registry = client, client.config, registry
        self._id = self._config.endpoint or self._config.name

    def deploy(self, version: ModelVersion) -> None:
        """Serve this version, then no other; repeating it is safe.

        Of two versions deployed at the same time the one that gets the traffic last stays.

        Failure: until the new version serves, the old one does. Repeating this finds a version that was deployed
        without traffic, and does not deploy it again; until then `idle` names it.

        Raises:
          OperationFailed: Vertex AI could not deploy it.
          StillRunning: The deployment has timed out; it goes on.
          VertexChanged: Others kept changing the endpoint.
        """
        name = self._existing_or_new()["name"]
        self._in_rounds(name, lambda: self._serve(name, version.number))
        self._in_rounds(name, lambda: self._take_out_idle(name))

    def serving(self) -> list[int]:
        """Return the numbers of the versions with traffic, in their order."""
        endpoint = self._existing()
        return sorted({_number(deployed) for deployed in _deployed(endpoint) if _share(endpoint, deployed)})

    def idle(self) -> list[int]:
        """Return the numbers of the versions deployed without traffic; one deployed twice appears twice."""
        endpoint = self._existing()
        return sorted(_number(deployed) for deployed in _deployed(endpoint) if not _share(endpoint, deployed))

    def _existing(self) -> Json:
        """Return the endpoint, or {} if there is none."""
        return self._client.named("endpoints", self._id) or {}

    def _existing_or_new(self) -> Json:
        return self._existing() or self._client.once(self._create, self._created)

    def _create(self) -> Json:
        config = self._config
        body = {"displayName": self._id, "labels": config.all_labels, **config.encryption}
        operation = self._client.send(f"{config.parent}/endpoints", body, endpointId=self._id)
        return self._client.wait(operation)

    def _created(self) -> Json | None:
        name = f"{self._config.parent}/endpoints/{self._id}"
        self._client.settle(name)
        return self._client.find(name)

    def _in_rounds(self, name: str, step: Callable[[], None]) -> None:
        """Take a step on the endpoint; repeat it after any concurrent change has ended."""
        for left in reversed(range(ROUNDS)):
            try:
                return step()
            except (VertexChanged, VertexNotFound) as error:
                if not left:
                    raise
                report(f"the endpoint {self._id} is being changed; looking again ({error})")
                self._client.settle(name)

    def _serve(self, name: str, number: int) -> None:
        deployed = self._client.once(lambda: self._send(name, number), lambda: self._arrived(name, number))
        endpoint = self._client.get(name)
        if deployed not in [other["id"] for other in _deployed(endpoint)]:
            raise VertexChanged(f"version {number} was taken out of {name} before it served")
        if endpoint.get("trafficSplit") != {deployed: 100}:
            body = {"name": endpoint["name"], "trafficSplit": {deployed: 100}, "etag": endpoint.get("etag", "")}
            self._client.change("PATCH", name, body, updateMask="trafficSplit")

    def _arrived(self, name: str, number: int) -> str | None:
        self._client.settle(name)
        return self._of_version(name, number)

    def _of_version(self, name: str, number: int) -> str | None:
        """Return the id of the version's deployed model: the one with traffic, else the oldest."""
        endpoint = self._client.get(name)
        found = [deployed for deployed in _deployed(endpoint) if _number(deployed) == number]
        found.sort(key=lambda deployed: (-_share(endpoint, deployed), deployed.get("createTime", "")))
        return found[0]["id"] if found else None

    def _send(self, name: str, number: int) -> str:
        report(f"deploying version {number}")
        operation = self._client.send(f"{name}:deployModel", {"deployedModel": self._body(number)})
        return str(self._client.wait(operation, "deployedModel")["deployedModel"]["id"])

    def _body(self, number: int) -> Json:
        return {
            "model": self._registry.resource(number),
            "displayName": f"{self._id}-{number}",
            "dedicatedResources": self._config.serving.resources,
            **self._config.identity,
        }

    def _take_out_idle(self, name: str) -> None:
        endpoint = self._client.get(name)
        serving = {key: share for key, share in endpoint.get("trafficSplit", {}).items() if share}
        for deployed in _deployed(endpoint):
            if serving and deployed["id"] not in serving:
                self._undeploy(name, deployed["id"], serving)
                report(f"version {_number(deployed)} is no longer deployed")

    def _undeploy(self, name: str, deployed: str, serving: Mapping[str, int]) -> None:
        # The split names the model that must keep serving: if that one is being undeployed at the same time, the
        # service refuses. Without it the service removes the last deployed model, traffic or not.
        body = {"deployedModelId": deployed, "trafficSplit": serving}
        try:
            self._client.wait(self._client.change("POST", f"{name}:undeployModel", body))
        except (VertexRefused, OperationFailed) as error:
            raise VertexChanged(str(error)) from error


def _deployed(endpoint: Json) -> list[Json]:
    return list(endpoint.get("deployedModels", []))


def _share(endpoint: Json, deployed: Json) -> int:
    return int(endpoint.get("trafficSplit", {}).get(deployed["id"], 0))


def _number(deployed: Json) -> int:
    return int(deployed.get("modelVersionId") or deployed["model"].rpartition("@")[2])
