"""The page in a real browser: every figure is its source's, and anybody can read it on any device."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from playwright.sync_api import Browser

from pipeline.cli.main import cli
from tests.worlds.browser import opened
from tests.worlds.report import EVIL, HOSTILE, Story
from tests.worlds.report_sources import read_sources

WIDTHS = [1280, 390, 320]
SCHEMES = ["light", "dark"]
LEAST_CONTRAST = 4.5

MARKED = """() => [...document.querySelectorAll("[data-fact]")].map(
  (one) => [one.dataset.fact, one.textContent.trim().replace(/\\s+/g, " ")])"""
UNMARKED_DIGITS = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (/\\d/.test(node.data) && !parent.closest("[data-fact], [data-tick], desc")) found.push(node.data.trim());
  }
  return found;
}"""
# Paints the grounds of an element's ancestors over one another, then its text: what is seen, however it is written.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const paint = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.data.trim() || element.closest("title, desc")) continue;
    const grounds = ["white"];
    for (let one = element; one; one = one.parentElement) grounds.splice(1, 0, getComputedStyle(one).backgroundColor);
    if (element.closest("text") && element.closest("svg").querySelector(".band"))
      grounds.push(...(element.closest("[data-band]") ? [getComputedStyle(document.querySelector(".band")).fill] : []));
    const style = getComputedStyle(element);
    const ink = element.closest("text") ? style.fill : style.color;
    const ground = light(paint(...grounds)), text = light(paint(...grounds, ink));
    found.push([(Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05), node.data.trim()]);
  }
  return found;
}"""
OVERFLOWS = "(all) => all.map((one) => getComputedStyle(one).overflowX)"
OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter(
  (one) => !one.closest(".scroll, .hidden, svg") && one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.outerHTML.slice(0, 80))"""


def value_at(facts: Any, path: str) -> Any:
    for part in path.split("."):
        facts = facts[int(part)] if isinstance(facts, list) else facts[part]
    return facts


def is_shown_as(text: str, path: str, value: Any) -> bool:
    """Return whether a text is a value, rounded as a person reads it."""
    if value is None or value == "":
        return text == "–"
    if isinstance(value, int):
        return text == f"{value:,}"
    if isinstance(value, float):
        seconds = re.fullmatch(r"([0-9,.]+) s", text)
        number = seconds[1] if seconds else text
        digits = len(number.partition(".")[2])
        return (
            bool(seconds) == path.endswith("seconds")
            and abs(float(number.replace(",", "")) - value) <= 0.51 / 10**digits
        )
    return text in (value, value[:16].replace("T", " "))


def test_figures_and_texts_are_those_of_their_sources(browser: Browser, page: Path, story: Story) -> None:
    sources = read_sources(story)
    with opened(browser, page) as shown:
        marked = shown.ask(MARKED)
    wrong = [
        (path, text, value_at(sources, path))
        for path, text in marked
        if path != "created" and not is_shown_as(text, path, value_at(sources, path))
    ]
    assert wrong == []
    assert len({path for path, _ in marked}) > 200


def test_figures_all_name_their_source(browser: Browser, page: Path) -> None:
    with opened(browser, page) as shown:
        found = shown.ask(UNMARKED_DIGITS)
    assert [text for text in found if re.search(r"\d", text.replace("95 % interval", ""))] == []


def test_page_has_all_parts_of_the_story(browser: Browser, page: Path) -> None:
    with opened(browser, page) as shown:
        marked = {path for path, _ in shown.ask(MARKED)}
    for part in ("events.6.outcome", "spans.1.labels.2.test", "evaluation.matrix.2.2", "evaluation.mistakes.2.name"):
        assert part in marked
    for part in ("comparison.labels.2.newest.champion", "lineage.code", "skipped.1.examples.1.reason"):
        assert part in marked
    assert {"runs.4.tasks.1.seconds", "news.1.message", "energy.kwh", "energy.jobs.5.grams"} <= marked


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_fits_every_screen(browser: Browser, page: Path, tmp_path: Path, width: int, scheme: str) -> None:
    with opened(browser, page, width, color_scheme=scheme) as shown:
        assert shown.ask("document.documentElement.scrollWidth <= innerWidth")
        assert shown.ask(OVERFLOWING) == []
        shown.page.screenshot(path=tmp_path / "page.png", full_page=True)
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.width == width and picture.height > 2000
        assert len(picture.convert("RGB").getcolors(2**24)) > 100


def test_light_scheme_is_light_and_dark_scheme_is_dark(browser: Browser, page: Path) -> None:
    grounds = {}
    for scheme in SCHEMES:
        with opened(browser, page, color_scheme=scheme) as shown:
            ground = shown.ask("getComputedStyle(document.body).backgroundColor")
            grounds[scheme] = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert grounds["light"] > 220 and grounds["dark"] < 40


def test_page_sends_no_request_and_logs_nothing(browser: Browser, page: Path) -> None:
    with opened(browser, page) as shown:
        requests = [url for url in shown.requests if not url.startswith("data:")]
        assert (requests, shown.console) == ([page.as_uri()], [])
        assert shown.ask("document.querySelectorAll('script, link[rel=stylesheet], iframe, object').length") == 0
        assert shown.ask("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")


def test_page_without_scripts_has_the_same_text(browser: Browser, page: Path) -> None:
    texts = []
    for enabled in (True, False):
        with opened(browser, page, java_script_enabled=enabled) as shown:
            texts.append(shown.page.locator("body").inner_text())
    assert texts[0] == texts[1]
    assert "The story so far" in texts[0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_have_enough_contrast(browser: Browser, page: Path, scheme: str) -> None:
    with opened(browser, page, color_scheme=scheme) as shown:
        contrasts = shown.ask(CONTRASTS)
    assert len(contrasts) > 300
    assert [(round(ratio, 2), text) for ratio, text in contrasts if ratio < LEAST_CONTRAST] == []


def test_headings_are_in_order(browser: Browser, page: Path) -> None:
    with opened(browser, page) as shown:
        levels = shown.ask("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_page_is_readable_by_a_screen_reader(browser: Browser, page: Path) -> None:
    """Images have texts, tables have heads, charts a description, and the keyboard reaches what scrolls."""
    with opened(browser, page) as shown:
        count = shown.page.locator
        assert count("img").count() > 20
        assert shown.ask("[...document.images].filter((one) => !one.alt.includes(': ')).length") == 0
        assert count("table").count() > 8
        assert count("table:not(:has(caption))").count() == 0
        assert count("th:not([scope])").count() == 0
        assert count("tbody tr:not(:has(th[scope=row]))").count() == 0
        assert count(".scroll:not([tabindex='0'][role=region][aria-label])").count() == 0
        assert shown.ask("[...document.querySelectorAll('[id]')].map((one) => one.id).length") == shown.ask(
            "new Set([...document.querySelectorAll('[id]')].map((one) => one.id)).size"
        )
        assert shown.ask("document.documentElement.lang") == "en"
        chart = count("svg[role=img]")
        assert chart.get_attribute("aria-labelledby") == "chart-title chart-text"
        description = count("#chart-text").text_content() or ""
    assert "2021-10: accuracy 0.583, retrain." in description and "training 2: refused." in description


def test_svgs_without_a_description_are_hidden_from_screen_readers(browser: Browser, page: Path) -> None:
    with opened(browser, page) as shown:
        lone = "[...document.querySelectorAll('svg')].filter((one) => !one.closest('[aria-hidden=true], [role=img]'))"
        assert shown.ask(f"{lone}.length") == 0


def test_printed_page_cuts_nothing_off(browser: Browser, page: Path) -> None:
    with opened(browser, page, 720, color_scheme="dark") as shown:
        shown.page.emulate_media(media="print", color_scheme="dark")
        assert shown.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert shown.ask("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert set(shown.page.locator(".scroll").evaluate_all(OVERFLOWS)) == {"visible"}
        assert shown.ask("document.documentElement.scrollWidth <= innerWidth")
        assert shown.page.pdf()[:5] == b"%PDF-"


def test_names_of_files_and_labels_are_never_markup(browser: Browser, page: Path) -> None:
    assert EVIL not in page.read_text() and HOSTILE not in page.read_text()
    with opened(browser, page) as shown:
        text = shown.page.locator("body").inner_text()
        assert EVIL in text and HOSTILE in text
        assert shown.page.locator("i:not([style^='--share'])").count() == 0
        assert shown.page.locator("img[onerror]").count() == 0
        assert shown.ask("window.hacked") is None
        assert shown.page.locator("img").evaluate_all("(all, evil) => all.some((one) => one.alt.includes(evil))", EVIL)


def test_json_of_the_command_has_the_facts_of_the_page(browser: Browser, page: Path, story: Story) -> None:
    printed = CliRunner().invoke(cli, ["report", "--json", "-w", str(story.folder)])
    assert printed.exit_code == 0, printed.output
    facts = json.loads(printed.stdout)
    with opened(browser, page) as shown:
        marked = shown.ask(MARKED)
    assert [
        path for path, text in marked if path != "created" and not is_shown_as(text, path, value_at(facts, path))
    ] == []
