"""One workspace with a story and one browser for all tests of the report; a test that breaks something restores it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from pipeline.report.collect import collect
from pipeline.report.content import Facts
from pipeline.report.page import write_page
from tests.worlds.browser import chromium
from tests.worlds.report import Story, make_story
from tests.worlds.workspace import use_fake_jobs, use_real_jobs


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The workspace with the story."""
    use_fake_jobs()
    story = make_story(tmp_path_factory.mktemp("report") / "zoo")
    use_real_jobs()
    yield story


@pytest.fixture(scope="session")
def facts(story: Story) -> Facts:
    """The facts collected while nothing is broken."""
    return collect(story.workspace)


@pytest.fixture(scope="session")
def page(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the facts."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    write_page(facts, str(file))
    return file


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser."""
    with chromium() as running:
        yield running
