"""The site of the documents: it builds without a warning, is complete, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from pipeline.cli.main import cli
from pipeline.workspace.settings import Settings
from tests.docs.documents import PROJECT

PACKAGES = ("adaptation", "components", "models", "pipeline")
LOADED = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)|<link[^>]*\shref=\"([^\"]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def page(site: Path, name: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", (site / name).read_text()))


def test_site_has_every_document_in_its_navigation(site: Path) -> None:
    linked = set(re.findall(r'href="([^"#]+)"', (site / "index.html").read_text()))
    assert {path.with_suffix(".html").name for path in PROJECT.glob("docs/*.md")} <= linked | {"index.html"}


def test_site_shows_every_command(site: Path) -> None:
    shown = page(site, "command-line.html")
    assert [name for name in cli.commands if f"Usage: adapt {name}" not in shown] == []
    assert "Usage: adapt spans list" in shown


def test_site_shows_every_section_of_the_settings(site: Path) -> None:
    shown = page(site, "settings.html")
    assert [name for name, field in Settings.model_fields.items() if f"[{name}]" not in shown and name != "name"] == []
    assert "accuracy that the model must reach" in shown


def test_site_describes_every_module(site: Path) -> None:
    shown = "".join(path.read_text() for path in site.glob("api/*.html"))
    files = [path for room in PACKAGES for path in (PROJECT / room).rglob("[!_]*.py")]
    modules = [str(path.relative_to(PROJECT).with_suffix("")).replace("/", ".") for path in files]
    assert [name for name in modules if f'id="{name}"' not in shown] == []
    assert 'id="adaptation.data.windows.Window.parse"' in shown


def test_examples_in_docstrings_are_shown_as_code(site: Path) -> None:
    pages = [path.read_text() for path in site.glob("api/*.html")]
    assert all("<blockquote>" not in text for text in pages)
    assert any('class="gp">&gt;&gt;&gt;' in text for text in pages)


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = [found for path in site.rglob("*.html") for pair in LOADED.findall(path.read_text()) for found in pair]
    assert loaded
    assert [place for place in loaded if "//" in place] == []
