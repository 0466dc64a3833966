"""What the doctor finds, on one machine and against Vertex AI's emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from adaptation.platforms.base import Upload
from adaptation.platforms.service import put_in_service
from emulators.vertex import VertexEmulator
from pipeline.cli import cli
from pipeline.doctor import findings
from pipeline.settings_file import write_settings
from pipeline.workspace import Workspace
from tests.vertex import a_config, an_upload, object_storage


@pytest.fixture
def local(tmp_path: Path) -> Workspace:
    return Workspace.open(write_settings(tmp_path / "adapt.toml", ["cat", "dog"]))


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    overrides = {"platform.kind": "vertex"}
    workspace = Workspace.open(write_settings(tmp_path / "adapt.toml", ["cat", "dog"], overrides))
    with object_storage(monkeypatch), VertexEmulator() as server:
        monkeypatch.setattr(Workspace, "config", a_config(server))
        yield workspace


def a_model(folder: Path, key: str) -> Upload:
    model = folder / key
    model.mkdir()
    (model / "saved_model.pb").write_text(key)
    return Upload(model=str(model), key=key, spans=(1,), metrics={}, source=key, run=key)


def test_an_empty_workspace_and_one_in_order_have_no_findings(local: Workspace, tmp_path: Path) -> None:
    assert findings(local) == []
    registry, endpoint = local.platform.registry, local.platform.endpoint
    put_in_service(registry, endpoint, registry.upload(a_model(tmp_path, "first")), "first")
    assert findings(local) == []


def test_a_deployment_that_was_cut_off_on_one_machine_is_named(local: Workspace, tmp_path: Path) -> None:
    registry, endpoint = local.platform.registry, local.platform.endpoint
    put_in_service(registry, endpoint, registry.upload(a_model(tmp_path, "first")), "first")
    endpoint.deploy(registry.upload(a_model(tmp_path, "second")))
    assert findings(local) == [
        'version 2 is served, but version 1 is the champion. Run "adapt train", or "adapt rollback".'
    ]


def test_the_command_tells_them_and_its_exit_code_does_too(local: Workspace, tmp_path: Path) -> None:
    in_order = CliRunner().invoke(cli, ["doctor", "-w", str(tmp_path)])
    assert (in_order.exit_code, in_order.output) == (0, "all is in order\n")
    local.platform.endpoint.deploy(local.platform.registry.upload(a_model(tmp_path, "first")))
    found = CliRunner().invoke(cli, ["doctor", "-w", str(tmp_path)])
    assert found.exit_code == 1
    assert "version 1 is served, but no version is the champion" in found.output


def test_a_deployment_that_was_cut_off_on_vertex_ai_is_named(cloud: Workspace) -> None:
    registry, endpoint = cloud.platform.registry, cloud.platform.endpoint
    put_in_service(registry, endpoint, registry.upload(an_upload("first")), "first")
    assert findings(cloud) == []
    endpoint.deploy(registry.upload(an_upload("second")))
    assert any("version 2 serves, but version 1 is the champion" in finding for finding in findings(cloud))
