"""Code version: it changes with any change of the sources, and with no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.code_version import PACKAGES, code_version, source_digest


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Write two modules of each package."""
    for package in PACKAGES:
        for name in ("__init__.py", "deep/module.py"):
            file = tmp_path / package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"NAME = {package!r}\n")
    return tmp_path


def test_code_version_has_the_version_and_a_digest() -> None:
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+\S*\+[0-9a-f]{12}", code_version())
    assert code_version().endswith(source_digest(Path(__file__).parents[2])[:12])


def test_code_version_does_not_depend_on_the_folder(sources: Path) -> None:
    before = source_digest(sources)
    assert source_digest(sources.rename(sources.with_name("elsewhere"))) == before


@pytest.mark.parametrize("package", PACKAGES)
def test_change_in_any_package_changes_the_code_version(sources: Path, package: str) -> None:
    before = source_digest(sources)
    (sources / package / "deep" / "module.py").write_text("NAME = 'other'\n")
    changed = source_digest(sources)
    (sources / package / "deep" / "module.py").rename(sources / package / "deep" / "renamed.py")
    assert len({before, changed, source_digest(sources)}) == 3


def test_files_other_than_sources_do_not_change_the_code_version(sources: Path) -> None:
    before = source_digest(sources)
    (sources / "models" / "__pycache__").mkdir()
    (sources / "models" / "__pycache__" / "module.pyc").write_bytes(b"compiled")
    (sources / "notes.py").write_text("no package")
    assert source_digest(sources) == before
