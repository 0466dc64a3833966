"""Configuration of Vertex AI: its text, and what is refused."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from adaptation.errors import AdaptationError
from adaptation.platforms.connect import connect, parse
from adaptation.platforms.vertex.config import (
    Container,
    InvalidConfig,
    Prediction,
    Serving,
    VertexConfig,
    VertexSettings,
)
from tests.worlds.vertex import ROOT, Vertex, a_config


def test_configuration_connects_the_same_as_its_text(vertex: Vertex) -> None:
    config = a_config(
        vertex.server,
        container=Container("image", "/predict", "/health", 8080, ("--a",)),
        serving=Serving("n1-standard-8", "NVIDIA_TESLA_T4", 1, 2, 4),
        labels={"team": "vision"},
    )
    platform = connect(config.to_json())
    registry = platform.registry
    assert registry._client.config == config  # type: ignore[attr-defined]


def test_text_holds_only_what_differs_from_the_defaults() -> None:
    config = VertexConfig(name="ships", project="demo", root=ROOT, serving=Serving(min_replicas=2))
    differing = {"project": "demo", "root": ROOT, "serving": {"min_replicas": 2}, "name": "ships"}
    assert json.loads(config.to_json()) == {"platform": "vertex", **differing}
    assert parse(config.to_json()) == config


def test_config_has_every_value_of_the_settings() -> None:
    settings = VertexSettings(project="demo", root=ROOT, prediction=Prediction(replicas=3), labels={"team": "vision"})
    config = VertexConfig.of("ships", settings)
    assert {field.name: getattr(config, field.name) for field in fields(settings)} == vars(settings)


@pytest.mark.parametrize(("most", "sent"), [(0, 2), (5, 5)])
def test_endpoint_scales_only_with_max_replicas(most: int, sent: int) -> None:
    resources = Serving(min_replicas=2, max_replicas=most).resources
    assert (resources["minReplicaCount"], resources["maxReplicaCount"]) == (2, sent)


def test_prediction_is_sent_with_its_replicas_and_accelerators() -> None:
    assert Prediction("n1-standard-8", "NVIDIA_TESLA_T4", 2, 3).resources == {
        "machineSpec": {
            "machineType": "n1-standard-8",
            "acceleratorType": "NVIDIA_TESLA_T4",
            "acceleratorCount": 2,
        },
        "startingReplicaCount": 3,
        "maxReplicaCount": 3,
    }


@pytest.mark.parametrize("missing", ["project", "root"])
def test_text_without_what_has_no_default_is_refused(vertex: Vertex, missing: str) -> None:
    text = json.dumps({**json.loads(vertex.config.to_json()), missing: ""})
    with pytest.raises(AdaptationError, match=f"has no {missing}"):
        connect(text)


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"name": "Ships"}, {"name": "-a"}, {"model": "a_b"}, {"endpoint": "1"}]
)
def test_names_that_vertex_ai_would_refuse_are_refused(vertex: Vertex, change: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match="cannot be used on Vertex AI"):
        replace(vertex.config, **change)


@pytest.mark.parametrize(
    ("change", "name"), [({"patience": {"poll": 5}}, "patience"), ({"serving": {"type": "n1"}}, "serving.type")]
)
def test_text_with_a_name_of_another_version_is_refused(vertex: Vertex, change: dict[str, Any], name: str) -> None:
    text = json.dumps({**json.loads(vertex.config.to_json()), **change})
    with pytest.raises(AdaptationError, match=rf" has {name}, .*Publish it again"):
        connect(text)


@pytest.mark.parametrize(
    "change", [{"credentials": "none"}, {"name": None}, {"container": 3}, {"serving": {"min_replicas": "2"}}]
)
def test_text_with_a_value_of_another_type_is_refused(vertex: Vertex, change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(vertex.config.to_json()), **change})
    with pytest.raises(AdaptationError):
        connect(text)


def test_connecting_sends_nothing(vertex: Vertex) -> None:
    connect(vertex.config)
    assert vertex.server.count("") == 0


def test_default_address_is_that_of_the_location(vertex: Vertex) -> None:
    assert replace(vertex.config, api_endpoint="").url == "https://us-central1-aiplatform.googleapis.com"
