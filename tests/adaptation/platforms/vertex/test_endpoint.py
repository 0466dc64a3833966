"""Endpoint of Vertex AI: one version has all the traffic in the end, and one serves at any time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import requests

from adaptation.platforms.connect import connect
from adaptation.platforms.vertex.client import Ambiguous, OperationFailed, VertexChanged, VertexClient
from adaptation.platforms.vertex.config import Serving
from adaptation.platforms.vertex.endpoint import VertexEndpoint
from emulators.vertex import VertexEmulator
from tests.worlds.vertex import QUICK, Vertex, a_config, at_write


def test_version_is_deployed_with_all_settings(vertex: Vertex) -> None:
    config = replace(
        vertex.with_versions(1).config,
        serving=Serving("n1-standard-8", "NVIDIA_TESLA_T4", 1, 2, 4),
        service_account="runner@demo.iam.gserviceaccount.com",
    )
    connect(config).endpoint.deploy(vertex.version(1))
    (deployed,) = vertex.client.get(f"{config.parent}/endpoints/ships")["deployedModels"]
    assert deployed["dedicatedResources"] == {
        "machineSpec": {
            "machineType": "n1-standard-8",
            "acceleratorType": "NVIDIA_TESLA_T4",
            "acceleratorCount": 1,
        },
        "minReplicaCount": 2,
        "maxReplicaCount": 4,
    }
    assert deployed["serviceAccount"] == config.service_account


def test_old_version_serves_until_the_new_one_does(vertex: Vertex) -> None:
    vertex.with_versions(2).endpoint.deploy(vertex.version(1))
    seen = []

    class Watched(VertexClient):
        def _sent(self, *request: Any) -> Any:
            answer = super()._sent(*request)
            seen.append(vertex.split())
            return answer

    VertexEndpoint(Watched(vertex.config), vertex.registry).deploy(vertex.version(2))
    steps = [split for split, before in zip(seen, [None, *seen], strict=False) if split != before]
    assert steps == [{1: 100}, {1: 100, 2: 0}, {1: 0, 2: 100}, {2: 100}]


def test_failed_deployment_leaves_the_old_version_serving(vertex: Vertex) -> None:
    vertex.with_versions(2).endpoint.deploy(vertex.version(1))
    vertex.server.fail_operations(message="no machines left")
    with pytest.raises(OperationFailed, match="no machines left"):
        vertex.endpoint.deploy(vertex.version(2))
    assert vertex.split() == {1: 100}


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"drop": "before"}, {"drop": "after"}])
@pytest.mark.parametrize("request_", [r"POST .*/endpoints\?", ":deployModel", "PATCH", ":undeployModel"])
def test_deployment_happens_once_over_any_failure(vertex: Vertex, request_: str, fault: dict[str, Any]) -> None:
    vertex.with_versions(2)
    vertex.server.fail_next(request_, times=2, **fault)
    for number in (1, 2):
        vertex.endpoint.deploy(vertex.version(number))
        assert vertex.split() == {number: 100}
        assert vertex.deployed() == 1
    assert len(list(vertex.client.list(f"{vertex.config.parent}/endpoints", "endpoints"))) == 1


def test_deployment_whose_answer_was_lost_is_not_sent_again(vertex: Vertex) -> None:
    vertex.with_versions(1)
    vertex.server.fail_next(":deployModel", drop="after")
    vertex.endpoint.deploy(vertex.version(1))
    assert vertex.server.count(":deployModel") == 1


@pytest.mark.parametrize("exclusive", [False, True])
def test_concurrent_deployments_end_with_all_traffic_on_one_version(exclusive: bool) -> None:
    with VertexEmulator(operation_seconds=0.02, exclusive=exclusive) as server:
        vertex = Vertex(server, a_config(server, retries=replace(QUICK, attempts=12))).with_versions(3)
        for _ in range(4):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda number: vertex.endpoint.deploy(vertex.version(number)), (2, 3)))
            assert sorted(vertex.split().values()) == [100]
            assert vertex.deployed() == 1
            vertex.endpoint.deploy(vertex.version(1))


def test_concurrent_deployments_of_one_version_leave_it_once(vertex: Vertex) -> None:
    vertex.with_versions(1)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: vertex.endpoint.deploy(vertex.version(1)), range(3)))
    assert vertex.split() == {1: 100}
    assert vertex.deployed() == 1


ENDPOINT = "projects/demo/locations/us-central1/endpoints/ships"


def deploy_idle(vertex: Vertex, number: int) -> str:
    """Deploy a version without traffic. Return the deployed model's id."""
    return vertex.endpoint._send(ENDPOINT, number)


def undeploy(vertex: Vertex, number: int) -> None:
    """Undeploy a version as another deployment does."""
    for deployed in requests.get(f"{vertex.server.url}/v1/{ENDPOINT}", timeout=60).json()["deployedModels"]:
        if deployed["modelVersionId"] == str(number):
            raw(vertex, "POST", ":undeployModel", {"deployedModelId": deployed["id"]})


def raw(vertex: Vertex, method: str, path: str, body: Any) -> None:
    requests.request(method, f"{vertex.server.url}/v1/{ENDPOINT}{path}", json=body, timeout=60).raise_for_status()


@pytest.fixture
def immediate() -> Iterator[Vertex]:
    """Run an emulated Vertex AI whose operations end at once; version 1 serves, 2 and 3 are uploaded."""
    with VertexEmulator() as server:
        vertex = Vertex(server, a_config(server)).with_versions(3)
        vertex.endpoint.deploy(vertex.version(1))
        yield vertex


@pytest.mark.parametrize("moment", [{"write": 1, "when": "after"}, {"write": 2, "when": "before"}])
def test_version_undeployed_before_it_serves_is_deployed_again(
    immediate: Vertex, monkeypatch: pytest.MonkeyPatch, moment: dict[str, Any]
) -> None:
    taken_out = {moment["when"]: lambda: undeploy(immediate, 2)}
    monkeypatch.setattr(VertexClient, "_sent", at_write(moment["write"], **taken_out))
    immediate.endpoint.deploy(immediate.version(2))
    assert immediate.split() == {2: 100}


def test_undeploying_the_old_version_never_empties_the_endpoint(
    immediate: Vertex, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = deploy_idle(immediate, 3)

    def other_deployment() -> None:
        raw(immediate, "PATCH", "?updateMask=trafficSplit", {"trafficSplit": {third: 100}})
        undeploy(immediate, 1)

    monkeypatch.setattr(VertexClient, "_sent", at_write(1, before=other_deployment))
    immediate.endpoint.deploy(immediate.version(1))
    assert immediate.split() == {3: 100}


def test_deployment_of_a_version_that_has_two_keeps_the_serving_one(immediate: Vertex) -> None:
    second = deploy_idle(immediate, 1)
    raw(immediate, "PATCH", "?updateMask=trafficSplit", {"trafficSplit": {second: 100}})
    immediate.endpoint.deploy(immediate.version(1))
    assert immediate.client.get(ENDPOINT)["trafficSplit"] == {second: 100}
    assert immediate.deployed() == 1


def test_endpoint_that_others_keep_changing_raises(vertex: Vertex) -> None:
    vertex.with_versions(1)
    vertex.server.fail_next("PATCH", times=100, status=409)
    with pytest.raises(VertexChanged):
        vertex.endpoint.deploy(vertex.version(1))
    assert vertex.server.count("PATCH") < 20


def test_display_name_of_two_endpoints_is_refused_and_both_are_named(vertex: Vertex) -> None:
    vertex.with_versions(1)
    for endpoint in ("one", "two"):
        body = {"displayName": "ships"}
        vertex.client.wait(vertex.client.send(f"{vertex.config.parent}/endpoints", body, endpointId=endpoint))
    with pytest.raises(Ambiguous, match="endpoints/one and .*endpoints/two"):
        vertex.endpoint.deploy(vertex.version(1))
