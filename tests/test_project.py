"""Project files: the version and its change log, and the commands of hooks and workflows."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
MAKEFILE = (PROJECT / "Makefile").read_text()
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def read_yaml(name: str) -> Any:
    return yaml.safe_load((PROJECT / name).read_text())


def test_change_log_begins_with_the_version_of_pyproject() -> None:
    newest = re.search(r"^## ([\d.]+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == PYPROJECT["project"]["version"]


def test_licence_is_the_complete_apache_text() -> None:
    text = (PROJECT / "LICENSE").read_text()
    assert [f"\n   {number}. " in text for number in range(1, 10)] == [True] * 9
    assert "END OF TERMS AND CONDITIONS" in text


def test_hooks_start_only_tools_of_the_makefile() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    programs = {hook["entry"].split()[0] for hook in repository["hooks"]}
    assert {program.replace(".venv/", "$(VENV)/").replace("$(VENV)/bin", "$(BIN)") for program in programs} <= set(
        re.findall(r"^\t(\$\(BIN\)/\S+)", MAKEFILE, re.MULTILINE)
    )
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_hooks_are_valid_for_pre_commit() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    assert subprocess.run(command, cwd=PROJECT, check=False).returncode == 0


def test_workflows_start_only_commands_of_the_project() -> None:
    workflows = [read_yaml(str(path)) for path in sorted((PROJECT / ".github/workflows").glob("*.yml"))]
    steps = [step for workflow in workflows for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    assert ".ci/run" in commands
    for command in commands:
        program, *words = command.split()
        assert (PROJECT / program).exists() or program == "grep" or (program == "make" and set(words) <= set(targets))
