"""A headless Chromium, which has access only to the files that it opens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Opened:
    """An opened page, with its requests and its lines in the console."""

    page: Page
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def ask(self, script: str, *arguments: Any) -> Any:
        """Return the result of a script in the page."""
        return self.page.evaluate(script, *arguments)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert program, 'there is no Chromium on the PATH. Run "scripts/browser", which installs it or says how.'
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, width: int = 1280, **options: Any) -> Iterator[Opened]:
    """Open a file in a page; `options` are playwright's, such as `color_scheme` and `java_script_enabled`."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    shown = Opened(context.new_page())
    shown.page.on("request", lambda request: shown.requests.append(request.url))
    shown.page.on("console", lambda message: shown.console.append(message.text))
    shown.page.on("pageerror", lambda error: shown.console.append(str(error)))
    shown.page.goto(file.as_uri(), wait_until="load")
    yield shown
    context.close()
