"""Kubeflow emulator: what it accepts and what it refuses, like the backend."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from emulators.kubeflow import KubeflowEmulator


@pytest.fixture
def server() -> Iterator[KubeflowEmulator]:
    with KubeflowEmulator() as server:
        yield server


def a_run(server: KubeflowEmulator) -> dict[str, Any]:
    experiment = call(server, "experiments", {"display_name": "Default"}).json()
    return {
        "experiment_id": experiment["experiment_id"],
        "display_name": "run-1",
        "pipeline_spec": {
            "schemaVersion": "2.1.0",
            "pipelineInfo": {"name": "ships"},
            "root": {"inputDefinitions": {"parameters": {"window": {"parameterType": "STRING"}}}},
        },
        "runtime_config": {"parameters": {"window": "all"}, "pipeline_root": "gs://bucket/out"},
    }


def call(server: KubeflowEmulator, collection: str, body: object) -> requests.Response:
    return requests.post(f"{server.url}/apis/v2beta1/{collection}", json=body, timeout=60)


def test_run_is_kept_under_its_own_id(server: KubeflowEmulator) -> None:
    run = a_run(server)
    first, second = (call(server, "runs", run).json()["run_id"] for _ in range(2))
    assert [kept["run_id"] for kept in server.runs] == [first, second]
    assert first != second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.update(experiment_id="none"), "no experiment"),
        (lambda run: run["pipeline_spec"].update(displayName="ships"), 'no field named "displayName"'),
        (lambda run: run["pipeline_spec"].update(schemaVersion="2.0.0"), "2.0.0"),
        (lambda run: run["runtime_config"].update(parameters={}), "are declared"),
        (lambda run: run["runtime_config"]["parameters"].update(other="1"), "'other'"),
    ],
)
def test_run_that_the_backend_would_refuse_is_refused(
    server: KubeflowEmulator, change: Callable[[Any], None], message: str
) -> None:
    run = copy.deepcopy(a_run(server))
    change(run)
    answer = call(server, "runs", run)
    assert answer.status_code == 400
    assert message in answer.json()["message"]
    assert server.runs == []


def test_unknown_method_is_not_found(server: KubeflowEmulator) -> None:
    assert call(server, "pipelines", {}).status_code == 404
