"""The function's folder: what is in it, that it is replaced as a whole, and that nothing else is ever replaced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import adaptation
import cloud_function
from adaptation.errors import AlreadyExists
from pipeline.cli.main import cli
from pipeline.function.build import build
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import InvalidSettings, load, write_settings
from pipeline.workspace.vertex_settings import vertex_config
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import contents

PROJECT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parents[1] / "golden" / "adapt.toml"


@pytest.fixture
def settings() -> Settings:
    return load(GOLDEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "work" / "function"


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["function", *arguments])


def environment(folder: Path) -> Mapping[str, str]:
    found = yaml.safe_load((folder / "env.yaml").read_text())
    assert isinstance(found, dict)
    return found


def sources(package: Path) -> dict[str, bytes]:
    return {f"{package.name}/{file.relative_to(package)}": file.read_bytes() for file in package.rglob("*.py")}


def contents_below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# Contents


def test_build_holds_only_the_function_the_domain_and_its_environment(settings: Settings, folder: Path) -> None:
    build(settings, folder)
    function_folder = Path(cloud_function.__file__).parent
    expected = sources(Path(adaptation.__file__).parent)
    expected |= {name: (function_folder / name).read_bytes() for name in ("main.py", "requirements.txt")}
    built = contents_below(folder)
    assert built.pop("env.yaml")
    assert built == expected


def test_build_holds_no_cache_of_this_machine(settings: Settings, folder: Path) -> None:
    assert (Path(adaptation.__file__).parent / "__pycache__").is_dir()
    build(settings, folder)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".py", ".txt", ".yaml"}


def test_environment_names_every_place(settings: Settings, folder: Path) -> None:
    build(settings, folder)
    found = environment(folder)
    assert found == {
        "COLLECTION_ROOT": "gs://shop/collection",
        "RECORDS_ROOT": Workspace(settings).triggers,
        "MIN_IMAGES": "100",
        "PLATFORM": vertex_config(settings).to_json(),
    }
    assert isinstance(found["MIN_IMAGES"], str)


def test_environment_names_the_receivers_that_the_function_reaches(tmp_path: Path, folder: Path) -> None:
    settings = load(GOLDEN)
    notify = settings.notify.model_copy(update={"webhooks": ("https://example.org/hook",), "command": ("page",)})
    build(settings.model_copy(update={"notify": notify}), folder)
    found = json.loads(environment(folder)["NOTIFY"])
    assert (found["webhooks"], found["command"]) == (["https://example.org/hook"], [])


def test_values_of_any_script_survive_the_environment_file(tmp_path: Path, folder: Path) -> None:
    root = 'gs://shop/it\'s "collected": été 😀 \u2028 \x7f #1'
    settings = load(GOLDEN)
    settings = settings.model_copy(update={"collection": settings.collection.model_copy(update={"root": root})})
    build(settings, folder)
    assert environment(folder)["COLLECTION_ROOT"] == root


def test_build_is_the_same_bytes_every_time(settings: Settings, folder: Path, tmp_path: Path) -> None:
    build(settings, folder)
    build(settings, tmp_path / "other")
    first = contents_below(folder)
    build(settings, folder)
    assert contents_below(folder) == first == contents_below(tmp_path / "other")


def test_build_from_an_installed_wheel_is_the_same(tmp_path: Path) -> None:
    copy, wheels, installed = tmp_path / "copy", tmp_path / "wheels", tmp_path / "installed"
    for name in ("adaptation", "cloud_function", "components", "models", "pipeline"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, copy)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-qq",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(wheels),
        str(copy),
    ]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True, capture_output=True, timeout=300)
    (wheel,) = wheels.iterdir()
    zipfile.ZipFile(wheel).extractall(installed)
    script = "import cloud_function, sys; from pipeline.cli.main import main; print(cloud_function.__file__); main()"
    command = [
        sys.executable,
        "-P",
        "-c",
        script,
        "function",
        "build",
        "-w",
        str(GOLDEN),
        "-o",
        str(tmp_path / "built"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))
    build(load(GOLDEN), tmp_path / "from-here")
    assert contents_below(tmp_path / "built") == contents_below(tmp_path / "from-here")


# The folder as a whole


def test_build_leaves_nothing_of_an_earlier_build(settings: Settings, folder: Path) -> None:
    build(settings, folder)
    (folder / "adaptation" / "gone.py").write_text("")
    (folder / "main.py").write_text("changed = True")
    build(settings, folder)
    assert not (folder / "adaptation" / "gone.py").exists()
    assert (folder / "main.py").read_text() != "changed = True"


@pytest.mark.parametrize("there", ["notes.txt", "main.py", "env.yaml"])
def test_folder_with_other_files_is_unchanged(settings: Settings, folder: Path, there: str) -> None:
    folder.mkdir(parents=True)
    (folder / there).write_text("MINE: 1\n")
    with pytest.raises(AlreadyExists, match="was not made by") as refused:
        build(settings, folder)
    assert str(folder) in str(refused.value)
    assert contents_below(folder.parent) == {f"function/{there}": b"MINE: 1\n"}


def test_file_in_place_of_the_folder_is_unchanged(settings: Settings, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("mine")
    with pytest.raises(FileExistsError):
        build(settings, folder)
    assert folder.read_text() == "mine"


def test_empty_folder_is_filled(settings: Settings, folder: Path) -> None:
    folder.mkdir(parents=True)
    build(settings, folder)
    assert (folder / "main.py").is_file()


@pytest.mark.parametrize("method", ["write_bytes", "rename"])
@pytest.mark.parametrize("at", [1, 2])
def test_interrupted_build_leaves_the_old_one_or_none_and_can_be_repeated(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, at: int
) -> None:
    build(settings, folder)
    (folder / "main.py").write_text("old = True")
    old = contents_below(folder)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        calls, whole = iter(range(1, 100)), getattr(Path, method)

        def cut_off(path: Path, *arguments: object) -> object:
            if next(calls) == at:
                raise KeyboardInterrupt
            return whole(path, *arguments)

        patched.setattr(Path, method, cut_off)
        build(settings, folder)
    assert os.listdir(folder.parent) == (["function"] if (method, at) != ("rename", 2) else [])
    assert not folder.exists() or contents_below(folder) == old
    build(settings, folder)
    assert (folder / "main.py").read_text() != "old = True"
    assert os.listdir(folder.parent) == ["function"]


# The command


def test_command_builds_beside_the_settings(tmp_path: Path) -> None:
    shutil.copy(GOLDEN, tmp_path)
    result = adapt("build", "-w", str(tmp_path))
    assert (result.exit_code, result.stdout.split(":")[0]) == (0, f"{tmp_path}/function")
    assert (tmp_path / "function" / "main.py").is_file()


def test_command_builds_in_the_given_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = adapt("build", "-w", str(GOLDEN), "-o", "below/here")
    assert (result.exit_code, result.stdout.split(":")[0]) == (0, "below/here")
    assert set(contents(tmp_path / "below" / "here")) >= {"main.py", "env.yaml"}


@pytest.mark.parametrize("command", ["build", "deploy"])
def test_local_workspace_is_refused_with_the_setting_to_change(tmp_path: Path, command: str) -> None:
    write_settings(tmp_path / "adapt.toml", ["bag", "hat"])
    result = adapt(command, "-w", str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'Set platform.kind = "vertex"' in result.stderr
    assert "adapt watch" in result.stderr
    assert os.listdir(tmp_path) == ["adapt.toml"]


def test_incomplete_settings_are_reported_all_at_once(tmp_path: Path, folder: Path) -> None:
    write_settings(tmp_path / "adapt.toml", ["bag", "hat"], {"platform.kind": "vertex"})
    with pytest.raises(InvalidSettings, match="vertex.project is missing") as refused:
        build(load(tmp_path / "adapt.toml"), folder)
    assert "collection.root" in str(refused.value)
    assert not folder.exists()
