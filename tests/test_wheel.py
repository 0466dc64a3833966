"""The wheel has all files of the packages, and the installed command does not need the sources.

That the whole loop runs from there is tested in `pipeline/test_loop`.
"""

from __future__ import annotations

import subprocess
import zipfile
from importlib import metadata
from pathlib import Path

from tests.wheel import CLONE, sources

NOT_FOR_USERS = {"cloud_function/requirements.in"}  # what its lock is made from


def adapt(command: Path, folder: Path, *arguments: str) -> str:
    """Run the command in a folder and return its output."""
    done = subprocess.run([command, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_has_every_file_of_the_packages(built_wheel: Path) -> None:
    with zipfile.ZipFile(built_wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == set(map(str, sources())) - NOT_FOR_USERS


def test_wheel_states_licence_and_authors(built_wheel: Path) -> None:
    (distribution,) = metadata.distributions(path=[str(built_wheel)])
    stated = distribution.metadata
    assert (stated["License-Expression"], stated["License-File"]) == ("Apache-2.0", "LICENSE")
    assert stated["Author"] == "The continuous-adaptation authors"
    assert "END OF TERMS AND CONDITIONS" in (distribution.read_text("licenses/LICENSE") or "")


def test_installed_command_runs_the_wheels_code(installed: Path, tmp_path: Path) -> None:
    assert adapt(installed, tmp_path, "--version").strip().endswith(metadata.version("continuous-adaptation"))
    code = "import adaptation, components, models, pipeline, sys; print(*(m.__file__ for m in (adaptation, pipeline)))"
    python = installed.with_name("python")
    places = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(Path(place).is_relative_to(installed.parents[1]) for place in places.split())
    assert str(CLONE) not in places


def test_doctor_accepts_an_installation_without_a_lock(installed: Path, tmp_path: Path) -> None:
    printed = adapt(installed, tmp_path, "doctor").splitlines()
    assert "ok       packages" in printed and "ok       python" in printed


def test_workspace_is_made_in_the_working_directory(installed: Path, tmp_path: Path) -> None:
    shown = adapt(installed, tmp_path, "init", "--limit", "50")
    assert (tmp_path / "adapt.toml").exists() and "span-1: 50 images" in shown
    assert adapt(installed, tmp_path, "spans", "verify") == "span-1: 50 images are as published\n"
