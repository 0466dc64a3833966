"""Tables of labels that people and labelling tools write: their rows, and the image that each row names.

Taken are CSV (commas, semicolons or tabs) and JSON lines with `path` and `label`, and what Label Studio exports of an
image classification: CSV, JSON and JSON_MIN (https://labelstud.io/guide/export). What has no certain meaning is refused
with its line. The label names are checked elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from adaptation.errors import AdaptationError
from adaptation.io import storage

_EXCERPT = 200  # characters of what a foreign file has
_PATHS, _LABELS, _CHOICES = ("path", "image"), ("label", "choice"), ("choice", "label")
_OF_LABEL_STUDIO = "annotation_id"
_UPLOADED = re.compile(r"/data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?([^/]+)")
_LOCAL_FILE = re.compile(r"/data/local-files/?\?d=(.+)")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\|[^/]*\\[^/]*$")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/|[a-z][a-z0-9+.-]*://")
_SHOWN = 10


class InvalidLabels(AdaptationError, ValueError):
    """Unusable label names or table of labels; the message names every fault."""


@dataclass(frozen=True)
class LabelRow:
    """A row of a table of labels: the line that it ends on, or that its task begins on; path and label.

    Either is None if it is missing, and `label` is "" for an image that nobody has labelled yet. A path has forward
    slashes; Label Studio's own addresses of an image are replaced by the name or path that was given to it.
    """

    line: int
    path: object
    label: object


def read_rows(uri: str) -> list[LabelRow]:
    """Return the rows of a table of labels: CSV if its name ends so, else JSON. Blank rows are left out.

    Raises:
      InvalidLabels: The file is missing, lacks the columns `path` and `label`, is neither CSV nor JSON, or has a row
        that can be read in more than one way; the message names the line.
    """
    try:
        rows = _csv_rows if uri.lower().endswith((".csv", ".tsv")) else _json_rows
        return list(rows(_text(storage.read(uri))))
    except FileNotFoundError as error:
        raise InvalidLabels(f"the file of labels {uri} is missing. Put it there, or name another.") from error
    except UnicodeDecodeError as error:
        raise InvalidLabels(f"{uri} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidLabels(f"{uri}, {error}") from error


def labels_by_path(uri: str) -> dict[str, LabelRow]:
    """Return the rows of a table by path; repeated ones only once.

    Raises:
      InvalidLabels: As for `read_rows`; a path or label is no text; or a path has two labels.
    """
    rows: dict[str, LabelRow] = {}
    for row in read_rows(uri):
        place, path = f"{uri}, line {row.line}", row.path
        if not isinstance(path, str) or not isinstance(row.label, str) or not path:
            raise InvalidLabels(f"{place}: path {path!r:.200}, label {row.label!r:.200}. Both must be texts.")
        if (first := rows.setdefault(path, row)).label != row.label:
            raise InvalidLabels(
                f"{place}: {path:.200} is {row.label!r:.200}, and {first.label!r:.200} before. Keep one of the two."
            )
    return rows


def labels_of_images(uri: str, root: str, names: Sequence[str]) -> dict[str, str]:
    """Return the labels that a table gives to the images of a folder, by the images' names.

    A row names one image. In order of precedence its path is the image's full URI; its name relative to the folder; a
    path on another machine that ends in the folder's name and the image's (`C:/photos/2021-10/ship_1.jpg`); or a bare
    file name that only one row and one image has. A path into another folder names none of these images. Names are
    compared in Unicode's form NFC.

    Args:
      uri: The table.
      root: URI of the folder, e.g. `gs://bucket/collection/2021-10`.
      names: The images' names relative to it.

    Raises:
      InvalidLabels: As for `labels_by_path`, or rows do not say which image they mean; the message lists them.
    """
    rows = labels_by_path(uri)
    finder = _Finder(root, names, rows)
    claims: dict[str, dict[int, list[LabelRow]]] = defaultdict(lambda: defaultdict(list))
    doubts: list[str] = []
    for path, row in rows.items():
        rank, found = finder.find(path)
        for name in found if len(found) == 1 else ():
            claims[name][rank].append(row)
        if len(found) > 1:
            doubts.append(f"line {row.line}: {path} may be {' or '.join(found)}")
    best = {name: by_rank[min(by_rank)] for name, by_rank in claims.items()}
    doubts += [_contradiction(name, chosen) for name, chosen in best.items() if len({row.label for row in chosen}) > 1]
    if doubts:
        more = [f"... and {len(doubts) - _SHOWN} more"] if len(doubts) > _SHOWN else []
        message = f"{uri} does not say for sure which images of {root} it labels. Give the paths as in {names[0]}:"
        raise InvalidLabels("\n  ".join([message, *doubts[:_SHOWN], *more]))
    return {name: str(chosen[0].label) for name, chosen in best.items()}


class _Finder:
    """The images of a folder by all that a row may call them."""

    def __init__(self, root: str, names: Sequence[str], paths: Iterable[str]) -> None:
        self._root, self._folder = storage.join(root, ""), f"/{storage.basename(root)}/"
        self._paths, self._in_table = paths, Counter[str]()
        self._names = {nfc(name.replace("\\", "/")): name for name in names} | {nfc(name): name for name in names}
        self._files: dict[str, list[str]] = {}

    def find(self, path: str) -> tuple[int, Sequence[str]]:
        """Return the rank of the reading, the best is 0, and the images that the path may mean by it."""
        path = nfc(path)
        whole = path.startswith(self._root) and self._names.get(path[len(self._root) :])
        if whole:
            return 0, (whole,)
        if not _ABSOLUTE.match(path) and (name := self._names.get(path.removeprefix("./"))):
            return 1, (name,)
        inside = f"/{path}".partition(self._folder)[2]
        if inside:
            return 2, tuple(filter(None, [self._names.get(inside)]))
        return 3, () if "/" in path else self._by_file_name(path)

    def _by_file_name(self, file: str) -> Sequence[str]:
        if not self._files:
            for key, name in self._names.items():
                self._files.setdefault(storage.basename(key), []).append(name)
            self._in_table.update(storage.basename(nfc(path)) for path in self._paths)
        found = sorted(set(self._files.get(file, ())))
        others = [f"that of another row with the file name {file}"] if found and self._in_table[file] > 1 else []
        return [*found, *others]


def nfc(text: str) -> str:
    """Return the text in Unicode's form NFC: macOS writes other letters for the same name."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _text(data: bytes) -> str:
    """Return the text of a file; its byte order mark, if there is one, says in which of Unicode's encodings it is."""
    is_utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return data.decode("utf-16" if is_utf_16 else "utf-8-sig")


def _contradiction(name: str, rows: Sequence[LabelRow]) -> str:
    readings = "; ".join(f"line {row.line}: {row.path!s:.200} is {row.label!r:.200}" for row in rows)
    return f"{name} has several labels ({readings})"


def _csv_rows(text: str) -> Iterator[LabelRow]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    try:
        columns = [cell.strip() for cell in next(reader, [])]
        path, label = _columns(columns)
        for cells in reader:
            if any(cell.strip() for cell in cells[len(columns) :]):
                raise ValueError(f"line {reader.line_num}: {cells} has more cells than there are columns. Quote it.")
            if any(cell.strip() for cell in cells):
                row = dict(zip(columns, cells, strict=False))
                yield _row(reader.line_num, row.get(path), row.get(label))
    except csv.Error as error:
        raise ValueError(f"after line {reader.line_num}: {error}. Fix it, or save the table as CSV again.") from error


def _delimiter(text: str) -> str:
    """Return the character between the cells of the first line: spreadsheets of many countries write semicolons."""
    head = text.lstrip("\r\n").partition("\n")[0]
    return max(",;\t", key=head.count)


def _columns(columns: Sequence[str]) -> tuple[str, str]:
    path, label = _first(_PATHS, columns), _first(_keys(columns), columns)
    shown = str(list(columns))[:_EXCERPT]
    if path is None or label is None:
        raise ValueError(f"line 1: the columns are {shown if columns else None}. Name two of them path and label.")
    if twice := [name for name in (path, label) if columns.count(name) > 1]:
        raise ValueError(f"line 1: the column {twice[0][:_EXCERPT]!r} is there twice in {shown}. Rename one.")
    return path, label


def _keys(names: Iterable[str]) -> Sequence[str]:
    """Return the names of a label, the first to look for first: in Label Studio's exports, what people chose."""
    return _CHOICES if _OF_LABEL_STUDIO in names else _LABELS


def _first(wanted: Sequence[str], given: Iterable[str]) -> str | None:
    return next((name for name in wanted if name in given), None)


def _json_rows(text: str) -> Iterator[LabelRow]:
    values = _elements(text) if text.lstrip().startswith("[") else _lines(text)
    for line, source, value in values:
        yield _json_row(line, source, value)


def _lines(text: str) -> Iterator[tuple[int, str, object]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, line, json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {_expected(line)}") from error


def _elements(text: str) -> Iterator[tuple[int, str, object]]:
    """Yield the elements of a JSON array with the lines on which they begin."""
    decoder, at, line, seen = json.JSONDecoder(), text.index("[") + 1, 1, 0
    while True:
        at = _skip_blank(text, at)
        line, seen = line + text.count("\n", seen, at), at
        if text[at : at + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError as error:
            raise ValueError(f"line {line}: it is not JSON ({error}). Export it again.") from error
        yield line, text[at:end], value
        at = _skip_blank(text, end)
        if text[at : at + 1] not in (",", "]"):
            raise ValueError(f"line {line}: it is cut off after this task. Export it again.")
        at += text[at] == ","


def _skip_blank(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at


def _json_row(line: int, source: str, value: object) -> LabelRow:
    if isinstance(value, dict):
        if isinstance(data := value.get("data"), dict):
            return _row(line, _image(data), _annotated(line, value))
        path, label = _first(_PATHS, value), _first(_keys(value), value)
        if path and (label or _OF_LABEL_STUDIO in value):
            return _row(line, value[path], value[label] if label else "")
    raise ValueError(f"line {line}: {_expected(source)}")


def _expected(source: str) -> str:
    return f'{source[:100]} is not of the form {{"path": ..., "label": ...}}, nor a task of Label Studio.'


def _image(data: Mapping[str, Any]) -> object:
    """Return what a task calls its image: in the field `path` or `image`, or in its only one."""
    field = _first(_PATHS, data) or (next(iter(data)) if len(data) == 1 else None)
    return data[field] if field else None


def _annotated(line: int, task: Mapping[str, Any]) -> str:
    """Return the label that the annotations of a task agree on; "" if there is none."""
    valid = [one for one in _list(line, task, "annotations") if isinstance(one, dict) and not one.get("was_cancelled")]
    results = [result for one in valid for result in _list(line, one, "result") if isinstance(result, dict)]
    if others := sorted({str(result.get("type")) for result in results} - {"choices"}):
        raise ValueError(f"line {line}: the task has an annotation of the type {others[0]}, not choices. Remove it.")
    values = (result.get("value") for result in results)
    return _only(line, [name for value in values if isinstance(value, dict) for name in _list(line, value, "choices")])


def _list(line: int, task: Mapping[str, Any], field: str) -> Sequence[Any]:
    value = task.get(field)
    if not isinstance(value, list | None):
        raise ValueError(f"line {line}: {field} is {str(value)[:100]!r}, and should be a list. Export it again.")
    return value or ()


def _only(line: int, labels: Sequence[object]) -> str:
    different = sorted({str(label) for label in labels})
    if len(different) > 1:
        raise ValueError(f"line {line}: the image has several labels, {' and '.join(different)}. Leave one.")
    return different[0] if different else ""


def _row(line: int, path: object, label: object) -> LabelRow:
    if isinstance(label, str) and label.startswith('{"choices"'):
        label = json.loads(label)
    if isinstance(label, dict):
        label = label.get("choices")
    return LabelRow(line, _plain(path), _only(line, label) if isinstance(label, list) else label)


def _plain(path: object) -> object:
    """Return a path with forward slashes; an address that Label Studio made becomes what it was given."""
    if not isinstance(path, str):
        return path
    if match := _UPLOADED.fullmatch(path):
        return unquote(match[1])
    if match := _LOCAL_FILE.fullmatch(path):
        return unquote(match[1])
    if path.startswith(("http://", "https://")):
        address = urlsplit(path)
        return f"{address.scheme}://{address.netloc}{unquote(address.path)}"
    return path.replace("\\", "/") if _WINDOWS.match(path) else path
