"""The page: the facts of a report as one HTML file that needs nothing else.

Each value is looked up by its path in the facts and is marked with it (`data-fact`), so that a program can compare the
page with its source.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adaptation.io import storage
from pipeline.report.chart import BAND, BOTTOM, TOP, StoryChart
from pipeline.report.content import Facts

_MOMENTS = ("time", "created", "started")
_SECONDS, _KWH = "seconds", "kwh"
NOT_KNOWN = "–"


def write_page(facts: Facts, uri: str) -> None:
    """Write the page to a file, replacing an existing one.

    Failure: the old page, if any, stays; never a part of the new one.
    """
    storage.write(uri, render(facts).encode())


def render(facts: Facts) -> str:
    """Return the page as HTML."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            facts=facts,
            at=_Lookup(facts),
            chart=StoryChart.of(facts.events, facts.rules.threshold),
            style=Markup(files(__package__).joinpath("style.css").read_text()),
            shade=_shade,
            top=TOP,
            bottom=BOTTOM,
            band=BAND,
        )
    )


def shown(path: str, value: Any) -> str:
    """Return a fact as the page shows it.

    >>> [shown("events.0.accuracy", 0.27603), shown("spans.0.images", 1797), shown("runs.0.seconds", 74.26)]
    ['0.276', '1,797', '74.3 s']
    """
    name = path.rpartition(".")[2]
    if value is None or value == "":
        return NOT_KNOWN
    if isinstance(value, float):
        return _duration(value) if name == _SECONDS else f"{value:.5f}" if name == _KWH else f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)[:16].replace("T", " ") if name in _MOMENTS else str(value)


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.1f} s"


def _shade(count: int, row: int, is_right: bool) -> float:
    """Return how dark a cell of the confusion matrix is, 0 to 1; a single confused image stays visible."""
    share = count / row if row else 0.0
    return share if is_right or not count else 0.3 + 0.7 * share


class _Lookup:
    """Facts by path, for the template; an unknown path is an error."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def value(self, path: str) -> Any:
        found: Any = self._facts
        for part in path.split("."):
            found = found[int(part)] if isinstance(found, tuple) else getattr(found, part)
        return found

    def text(self, path: str) -> str:
        return shown(path, self.value(path))


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pipeline", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
