"""What the doctor finds of the folders of a workspace: of their file system, and of this user's permissions."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.doctor.checks import Severity
from pipeline.doctor.file_system import file_system_findings, permission_findings


def refused(code: int) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def test_disk_that_can_everything_has_no_findings_and_is_unchanged(tmp_path: Path) -> None:
    assert list(file_system_findings(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_disk_without_hard_links_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "link", refused(code))
    (finding,) = file_system_findings(tmp_path)
    assert finding.severity is Severity.WARNING
    assert f"{tmp_path}: {os.strerror(code)}. It has no hard links." in finding.text
    assert "one machine at a time" in finding.text


@pytest.mark.parametrize(
    ("module", "call", "code", "consequence"),
    [
        (fcntl, "flock", errno.ENOLCK, "Without locks"),
        (fcntl, "flock", errno.ENOSYS, "Without locks"),
        (os, "fsync", errno.ENOSPC, "Nothing can be written there"),
        (os, "replace", errno.EXDEV, "Files cannot be replaced there"),
    ],
)
def test_disk_that_lacks_what_a_workspace_needs_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, call: str, code: int, consequence: str
) -> None:
    monkeypatch.setattr(module, call, refused(code))
    findings = list(file_system_findings(tmp_path))
    assert {finding.severity for finding in findings} == {Severity.BROKEN}
    assert any(os.strerror(code) in finding.text and consequence in finding.text for finding in findings)


@pytest.mark.parametrize(
    ("denied", "text"), [(os.R_OK | os.X_OK, "cannot read"), (os.W_OK | os.X_OK, "cannot write to")]
)
def test_folder_without_the_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: int, text: str
) -> None:
    (tmp_path / "triggers" / "2021-10").mkdir(parents=True)
    closed, access = str(tmp_path / "triggers"), os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: not (str(path) == closed and mode == denied) and access(path, mode)
    )
    (finding,) = permission_findings(tmp_path)
    assert finding.severity is Severity.BROKEN
    assert f"{text} {closed}." in finding.text


def test_reader_of_a_whole_workspace_gets_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "triggers").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    (finding,) = permission_findings(tmp_path)
    assert finding.severity is Severity.WARNING and "can only read" in finding.text
    assert list(file_system_findings(tmp_path)) == []
