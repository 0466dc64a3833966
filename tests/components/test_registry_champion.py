"""ChampionGen: the registry alone defines the champion, locally and on Vertex AI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import Model
from tfx.utils import path_utils

from adaptation.io import storage
from adaptation.platforms.base import NoSuchModel, Platform, Upload
from adaptation.platforms.config import PlatformConfig
from adaptation.platforms.connect import LocalConfig, connect
from adaptation.platforms.rollout import put_in_service, roll_back
from components.registry_champion import ChampionGen_Executor
from emulators.vertex import VertexEmulator
from tests.worlds.vertex import ROOT, a_config, object_storage


@dataclass(frozen=True)
class Deployment:
    """A platform, and a folder for models and artifacts."""

    config: PlatformConfig
    files: str

    @property
    def platform(self) -> Platform:
        return connect(self.config.to_json())

    def serve(self, key: str) -> None:
        """Deploy a version whose model has two files."""
        folder = storage.join(self.files, "models", key)
        for name in ("saved_model.pb", "variables/variables.index"):
            storage.write(storage.join(folder, name), f"{key} {name}".encode())
        version = self.platform.registry.upload(Upload(folder, key, (1,), {}, "", ""))
        put_in_service(self.platform.registry, self.platform.endpoint, version, "because")

    def champion(self) -> Model:
        """Run ChampionGen and return its model."""
        model = Model()
        model.uri = storage.join(self.files, "artifact")
        ChampionGen_Executor._FUNCTION(model=model, platform=self.config.to_json(), run="run-1")
        return model


@pytest.fixture(params=["local", "vertex"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    if request.param == "local":
        yield Deployment(LocalConfig(str(tmp_path), ()), str(tmp_path))
        return
    with object_storage(monkeypatch), VertexEmulator() as server:
        yield Deployment(a_config(server), ROOT)


def files(model: Model) -> dict[str, bytes]:
    folder = path_utils.serving_model_dir(model.uri)
    return {file.name: storage.read(storage.join(folder, file.name)) for file in storage.files_below(folder)}


def test_model_has_no_files_before_the_first_champion(deployment: Deployment) -> None:
    model = deployment.champion()
    assert model.get_int_custom_property("version") == 0
    assert files(model) == {}


def test_model_is_the_champion_also_after_a_roll_back(deployment: Deployment) -> None:
    deployment.serve("first"), deployment.serve("second")
    roll_back(deployment.platform.registry, deployment.platform.endpoint)
    for _ in range(2):
        model = deployment.champion()
        assert model.get_int_custom_property("version") == 1
        assert files(model) == {
            "saved_model.pb": b"first saved_model.pb",
            "variables/variables.index": b"first variables/variables.index",
        }


def test_files_of_an_earlier_champion_in_the_same_place_are_replaced(deployment: Deployment) -> None:
    deployment.serve("first")
    deployment.champion()
    deployment.serve("second")
    assert files(deployment.champion())["saved_model.pb"] == b"second saved_model.pb"


def test_champion_without_its_files_is_an_error(deployment: Deployment) -> None:
    deployment.serve("first")
    storage.remove(storage.join(deployment.platform.registry.find().uri, "saved_model.pb"))
    with pytest.raises(NoSuchModel, match=r'version 1 is the champion, but .* holds no SavedModel .*"adapt rollback"'):
        deployment.champion()
