"""The process of a job, as far as it goes without TFX."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from adaptation.platforms.base import JobRequest, JobState
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(write_settings(tmp_path / "adapt.toml", ["cat", "dog"]))


def test_job_ignores_folders_named_like_its_packages(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("pipeline", "models", "adaptation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    help_text = subprocess.run([*workspace.config.command, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert (help_text.returncode, help_text.stderr) == (0, "")


def test_job_for_an_unknown_pipeline_fails_with_the_reason(workspace: Workspace) -> None:
    job = workspace.jobs.create(JobRequest("some-job", "cooking"))
    messages = list(workspace.jobs.follow(job.id))
    job = workspace.jobs.get(job.id)
    assert messages == []
    assert (job.state, job.message.split(":")[0]) == (JobState.FAILED, "InvalidJob")


def test_job_with_invalid_settings_fails_with_the_reason(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "adapt.toml").write_text("[labels]\nnames = 3\n")
    job = workspace.jobs.create(JobRequest("some-job", "training"))
    list(workspace.jobs.follow(job.id))
    state = json.loads(Path(job.link).with_name("state.json").read_text())
    assert state["state"] == "FAILED"
    assert "labels.names" in state["message"]
