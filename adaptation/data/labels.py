"""Labels: the source of an image's true label, and the treatment of images without one.

A label comes from the file name's prefix, from the image's folder, or from a table that people wrote, see
`label_tables`; the labels of a review go before these, see `reviews`. A label is never guessed: an image without one is
skipped with a reason, and too many skipped images stop the work. Labels are compared with predictions elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal, get_args

from adaptation import codec
from adaptation.data.label_tables import InvalidLabels, LabelRow, labels_by_path, labels_of_images, nfc, read_rows
from adaptation.errors import AdaptationError
from adaptation.io import storage

if TYPE_CHECKING:
    import polars as pl

Source = Literal["prefix", "folder", "file", "pattern", "review"]
ClassFolder = Literal["", "first", "last"]
_EXAMPLES = 3
_NAMES_SHOWN = 10


class UnknownLabel(AdaptationError, LookupError):
    """An image without a known label; the message is the reason for skipping it."""


class TooManySkipped(AdaptationError, ValueError):
    """More images were skipped than the settings allow."""


@dataclass(frozen=True, order=True)
class Skipped:
    """An image that was left out: its name relative to the batch, and the reason."""

    name: str
    reason: str


def refuse_if_too_many(skipped: Sequence[Skipped], total: int, max_share: float) -> None:
    """Raise if too many images had to be left out.

    Args:
      skipped: The images that were left out.
      total: Number of all images, including these.
      max_share: The largest share of them that may be left out, 0 to 1.

    Raises:
      TooManySkipped: The share is larger; the message names examples.
    """
    if len(skipped) <= max_share * total:
        return
    examples = "".join(f"\n  {one.name}: {one.reason}" for one in sorted(skipped)[:_EXAMPLES])
    raise TooManySkipped(
        f"{len(skipped)} of {total} images were skipped, {len(skipped) / total:.1%}; {max_share:.1%} may be. "
        f"Fix the images or their labels, or allow a larger share in the settings. For example:{examples}"
    )


def changed_label(names: Sequence[str], earlier: Sequence[str]) -> str:
    """Return the first change of label names other than names appended to the earlier ones; "" if there is none.

    A label is an index into the names of its span: it keeps its meaning as long as names are only appended. Names are
    compared in Unicode's form NFC.

    >>> changed_label(("ant", "cat", "ship"), ("cat", "ship"))
    "label 0 was 'cat' and is 'ant'"
    >>> changed_label(("cat",), ("cat", "ship"))
    "label 1 was 'ship' and is missing"
    >>> changed_label(("cat", "ship", "ox"), ("cat", "ship"))
    ''
    """
    for number, (before, now) in enumerate(zip_longest(earlier, names[: len(earlier)])):
        if now is None or nfc(now) != nfc(before):
            return f"label {number} was {before!r} and is {'missing' if now is None else repr(now)}"
    return ""


def pattern_fault(pattern: str) -> str:
    """Return what is wrong with a pattern of labels, as a part of a sentence; "" if it can be used."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        return f"should be a regular expression ({error})"
    return "" if "label" in groups else "should have a group named label, as in (?P<label>[a-z]+)_\\d"


@dataclass(frozen=True)
class Labels:
    """The label names and the source of an image's label.

    >>> Labels(("ship", "traffic_light")).of("traffic_light_0001.jpg")
    'traffic_light'

    Attributes:
      names: The labels, in the order of the model's outputs.
      source: `prefix`: the file's name is the label, then `_`, then anything (the longest label that fits counts).
        `folder`: the image lies in a folder named after its label. `file`: a table with a row an image, see
        `label_tables`. `pattern`: a regular expression finds the label in the image's name relative to the batch.
        `review`: the image has only what people label it as, see `reviews`.
      file: URI of the table.
      class_folder: Which of several folders around an image is named after its label, the `first` below the batch's or
        the `last`; "" where there is only one: an image in more than one has no label then.
      pattern: The regular expression, with a group named `label`.
      reviewed: Labels by image name that go before all these. The text form omits them: its reader adds those of its
        batch, see `reviews.with_reviews`.
      tabled: The table's labels by image name, if `in_batch` has found them; the text form omits them.

    Raises:
      InvalidLabels: No names, an empty, unprintable or repeated one; an unknown source; a file missing or superfluous.
    """

    names: tuple[str, ...]
    source: Source = "prefix"
    file: str = ""
    class_folder: ClassFolder = ""
    pattern: str = ""
    reviewed: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    tabled: Mapping[str, str] | None = field(default=None, hash=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if complaint := _complaint(self):
            raise InvalidLabels(complaint)

    def in_batch(self, root: str, names: Sequence[str]) -> Labels:
        """Return the same labels for the images of one folder: what a row of a table names depends on them.

        Args:
          root: URI of the folder.
          names: The images' names relative to it.

        Raises:
          InvalidLabels: The table is broken, missing, or does not say which of the images it means.
        """
        if self.source != "file" or self.tabled is not None:
            return self
        return replace(self, tabled=labels_of_images(self.file, root, names))

    def of(self, name: str) -> str:
        """Return the true label of an image.

        Args:
          name: The image's name relative to the batch, e.g. `ship_1.jpg` or `ship/1.jpg`.

        Raises:
          UnknownLabel: The image has no label, or one that is none of the names.
          InvalidLabels: The file of labels is broken or missing.
        """
        if (found := self._known.get(nfc(self._find(name)))) is None:
            raise UnknownLabel(self.why_unknown(name))
        return found

    def knows(self, name: str) -> bool:
        """Return True if the image has a label, see `of`."""
        return nfc(self._find(name)) in self._known

    def why_unknown(self, name: str) -> str:
        """Return the reason, for people, why an image has no label."""
        where = {
            "prefix": "by its name's prefix",
            "folder": "by its folder",
            "file": f"in {self.file}",
            "pattern": f"where labels.pattern, {self.pattern!r}, finds it",
            "review": "by a review",
        }
        place = "of its review" if name in self.reviewed else where[self.source]
        found, known = self._find(name), f"(known: {_some(self.names)})"
        if found:
            return f"the label {found!r} {place} is not known {known}"
        if self.source == "file" and (row := self._rows_by_file.get(nfc(storage.basename(name)))):
            place += f" (line {row.line} names {row.path!r}, another image as it seems)"
        if self.source == "folder" and len(folders := name.split("/")[:-1]) > 1 and not self.class_folder:
            choice = f'"first" ({folders[0]}) or "last" ({folders[-1]})'
            return f"lies in folders in folders, {'/'.join(folders)}: set labels.class_folder to {choice}"
        return f"no label {place} {known}"

    def of_all(self, names: pl.Series) -> pl.Series:
        """Return the true labels of many images, in their order, as an Enum series; null where `of` finds none."""
        import polars as pl  # here, because it takes longer to import than all the rest of this module

        is_ascii = all(map(str.isascii, self.names))  # then no other text can be a label
        texts = names if is_ascii else names.str.normalize("NFC")
        if self.source in ("file", "pattern"):
            found = pl.Series([self._find(name) for name in names], dtype=pl.String)
        elif self.source == "review":
            found = pl.Series([None] * len(names), dtype=pl.String)
        elif self.source == "folder":
            found = self._folder_of_all(texts)
        else:
            in_folders = texts.str.contains("/", literal=True).any()  # splitting takes as long as all the rest
            files = texts.str.split("/").list.last() if in_folders else texts
            found = files.str.extract(self._prefix.pattern)
        if self.reviewed:
            reviewed = names.replace_strict(self.reviewed, default=None, return_dtype=pl.String)
            found = pl.select(pl.coalesce(reviewed, found)).to_series()
        return self.known(found)

    def known(self, labels: pl.Series) -> pl.Series:
        """Return labels as an Enum series of the names, compared with them in the form NFC; null for others."""
        import polars as pl

        if not all(map(str.isascii, self.names)):
            labels = labels.str.normalize("NFC").replace(self._known)
        return labels.cast(pl.Enum(self.names), strict=False)

    def index(self, label: str) -> int:
        """Return the label's number: its place among the names.

        Raises:
          UnknownLabel: It is not one of the names.
        """
        if label not in self._indices:
            raise UnknownLabel(f"{label!r} is no label (known: {_some(self.names)})")
        return self._indices[label]

    def to_json(self) -> str:
        """Return the labels as a component's parameter; `from_json` reads it."""
        always = {"names": self.names, "source": self.source, "file": self.file}
        seldom = {"class_folder": self.class_folder, "pattern": self.pattern}
        return json.dumps(always | {key: value for key, value in seldom.items() if value})

    @classmethod
    def from_json(cls, text: str) -> Labels:
        """Return the labels that `to_json` wrote."""
        return codec.decode(text, cls, "the parameter labels", remedy="Pass what Labels(...).to_json() returns.")

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def _known(self) -> dict[str, str]:
        """The names by their form NFC."""
        return {nfc(name): name for name in self.names}

    @cached_property
    def _prefix(self) -> re.Pattern[str]:
        longest_first = sorted(self._known, key=len, reverse=True)
        return re.compile(f"^({'|'.join(map(re.escape, longest_first))})_")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @cached_property
    def _table(self) -> Mapping[str, str]:
        if self.tabled is not None:
            return self.tabled
        return {path: str(row.label) for path, row in labels_by_path(self.file).items()}

    @cached_property
    def _rows_by_file(self) -> dict[str, LabelRow]:
        return {nfc(storage.basename(str(row.path))): row for row in read_rows(self.file)}

    def _find(self, name: str) -> str:
        if name in self.reviewed:
            return self.reviewed[name]
        if self.source == "file":
            return self._table.get(name, "")
        if self.source == "folder":
            return self._folder_of(name)
        if self.source == "pattern":
            match = self._pattern.search(nfc(name))
            return match["label"] or "" if match else ""
        if self.source == "review":
            return ""
        match = self._prefix.match(nfc(name.rpartition("/")[2]))
        return match[1] if match else ""

    def _folder_of(self, name: str) -> str:
        folders = name.split("/")[:-1]
        if not folders or (len(folders) > 1 and not self.class_folder):
            return ""
        return folders[0 if self.class_folder == "first" else -1]

    def _folder_of_all(self, names: pl.Series) -> pl.Series:
        import polars as pl

        parts = names.str.split("/")
        found = parts.list.get(0 if self.class_folder == "first" else -2, null_on_oob=True)
        enough = (parts.list.len() >= 2) if self.class_folder else (parts.list.len() == 2)
        return pl.select(pl.when(enough).then(found)).to_series()


def _complaint(labels: Labels) -> str:
    names = labels.names
    odd = [name for name in names if not (isinstance(name, str) and name.strip() and name.isprintable())]
    if not names or odd:
        return f"the label names are {list(names)}. Give at least one, none of them empty or unprintable."
    if len(set(map(nfc, names))) < len(names):
        return f"the label names {list(names)} have one twice. Give each label once."
    if labels.source not in get_args(Source):
        return f"{labels.source!r} is no source of labels. Use {', '.join(get_args(Source))}."
    if bool(labels.file) != (labels.source == "file"):
        return f"labels come from {labels.source!r}, and their file is {labels.file!r}. Give a file for 'file' alone."
    if bool(labels.pattern) != (labels.source == "pattern"):
        return (
            f"labels come from {labels.source!r}, and the pattern is {labels.pattern!r}. Give one for 'pattern' alone."
        )
    if fault := pattern_fault(labels.pattern) if labels.pattern else "":
        return f"labels.pattern {fault}"
    if labels.class_folder not in get_args(ClassFolder):
        return f"{labels.class_folder!r} is no folder of a class. Use first or last."
    return ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
