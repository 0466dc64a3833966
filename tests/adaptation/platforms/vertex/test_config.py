"""The settings of a deployment on Vertex AI: their text, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from adaptation.platforms.connect import UnknownPlatform, connect
from adaptation.platforms.vertex.config import Container, InvalidConfig, Machine
from tests.worlds.vertex import Vertex, a_config


def test_configuration_connects_the_same_as_its_text(vertex: Vertex) -> None:
    config = a_config(
        vertex.server,
        container=Container("image", "/predict", "/health", 8080, ("--a",)),
        serving=Machine("n1-standard-8", 2, 4, "NVIDIA_TESLA_T4", 1),
        labels={"team": "vision"},
    )
    platform = connect(config.to_json())
    registry = platform.registry
    assert registry._client.config == config  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"name": "Ships"}, {"name": "-a"}, {"model": "a_b"}, {"endpoint": "1"}]
)
def test_names_that_vertex_ai_would_refuse_are_refused(vertex: Vertex, change: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match="cannot be used on Vertex AI"):
        replace(vertex.config, **change)


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"credentials": "none"}, {"container": {}}, {"serving": {"a": 1}}]
)
def test_text_with_unknown_keys_or_values_is_refused(vertex: Vertex, change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(vertex.config.to_json()), **change})
    with pytest.raises(UnknownPlatform):
        connect(text)


def test_connecting_sends_nothing(vertex: Vertex) -> None:
    connect(vertex.config)
    assert vertex.server.count("") == 0


def test_default_address_is_that_of_the_location(vertex: Vertex) -> None:
    assert replace(vertex.config, api_endpoint="").url == "https://us-central1-aiplatform.googleapis.com"
