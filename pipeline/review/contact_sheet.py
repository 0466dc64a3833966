"""Contact sheets: pages of small images, each page a file that needs no other file and no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jinja2 import Environment

from adaptation.data.decoding import LARGEST_FILE, Undecodable, decode
from adaptation.io import storage

PER_PAGE = 200
EDGE = 128

_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}, sheet {{ number }}</title>
<style>
  :root { color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif; }
  body { margin: 1rem; }
  main { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem; }
  figure { margin: 0; break-inside: avoid; }
  img, .damaged { width: 8rem; height: 8rem; object-fit: contain; image-rendering: pixelated; }
  .damaged { display: grid; place-content: center; text-align: center; outline: 1px dashed; }
  figcaption { overflow-wrap: anywhere; }
  @media print { nav { display: none; } }
</style>
<h1>{{ title }}</h1>
<p>Each number is the image's row in {{ table }}. Write the true label there, in the column label.</p>
<nav>
{% if number > 1 %}<a href="{{ names(number - 1) }}">previous sheet</a>{% endif %}

{% if more %}<a href="{{ names(number + 1) }}">next sheet</a>{% endif %}

</nav>
<main>
{% for cell in cells %}
<figure>
  {% if cell.problem %}
  <div class="damaged">{{ cell.problem }}</div>
  {% else %}
  <img src="{{ cell.source }}" alt="{{ cell.picture.path }}">
  {% endif %}
  <figcaption><b>{{ cell.picture.row }}</b> {{ cell.picture.path }}<br>{{ cell.picture.caption }}</figcaption>
</figure>
{% endfor %}
</main>
</html>
""")


@dataclass(frozen=True)
class Picture:
    """An image to show.

    Attributes:
      row: Number of its row in the table.
      uri: Where it is.
      size: Its bytes.
      path: Its path in the table.
      caption: The text below it.
    """

    row: int
    uri: str
    size: int
    path: str
    caption: str


@dataclass(frozen=True)
class _Cell:
    picture: Picture
    source: str = ""
    problem: str = ""


def write_sheets(
    folder: Path, title: str, pictures: Iterable[Picture], table: str = "labels.csv", per_page: int = PER_PAGE
) -> tuple[Path, ...]:
    """Write the sheets `sheet-1.html`, `sheet-2.html` ... and return them; the memory holds one sheet at a time.

    Args:
      folder: Where they go.
      title: The heading of each.
      pictures: The images. For one that cannot be shown, the sheet has the reason.
      table: The table that the numbers refer to.
      per_page: Largest number of images on a sheet.
    """
    remaining, sheets = iter(pictures), list[Path]()
    page = list(islice(remaining, per_page))
    while page:
        following = list(islice(remaining, per_page))
        number = len(sheets) + 1
        sheets.append(folder / _name(number))
        text = _PAGE.render(
            title=title, table=table, number=number, more=bool(following), names=_name, cells=_cells(page)
        )
        storage.write(storage.absolute(str(sheets[-1])), text.encode())
        page = following
    return tuple(sheets)


def _name(number: int) -> str:
    return f"sheet-{number}.html"


def _cells(pictures: Sequence[Picture]) -> Iterator[_Cell]:
    readable = iter(storage.read_many([one.uri for one in pictures if one.size <= LARGEST_FILE]))
    for picture in pictures:
        yield _cell(picture, next(readable)) if picture.size <= LARGEST_FILE else _Cell(picture, problem="is too large")


def _cell(picture: Picture, data: bytes | OSError) -> _Cell:
    if isinstance(data, OSError):
        return _Cell(picture, problem="cannot be read")
    try:
        thumbnail = _thumbnail(data)
    except Undecodable as problem:
        return _Cell(picture, problem=str(problem))
    return _Cell(picture, source=f"data:image/jpeg;base64,{base64.b64encode(thumbnail).decode()}")


def _thumbnail(data: bytes) -> bytes:
    image, small = decode(data, 2 * EDGE), io.BytesIO()
    image.thumbnail((EDGE, EDGE))
    image.save(small, "JPEG", quality=90)
    return small.getvalue()
