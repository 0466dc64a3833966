"""Windows: the choice of spans for a training job, `all`, `last:K` or a list like `1,3,9-11`.

A window is resolved against the published spans: the result is a selection, with the digest of its content.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adaptation.data.labels import changed_label
from adaptation.data.spans import Manifest, Span, SpanNotPublished, SpanStore, content_digest, enumerate_spans
from adaptation.errors import AdaptationError

_LAST = re.compile(r"last:([1-9][0-9]{0,8})")
_RANGE = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?")
_LONGEST_RANGE = 100_000
_IMPORTED_SPLITS = {"train": "train", "eval": "test"}


class InvalidWindow(AdaptationError, ValueError):
    """A window that cannot be trained on: its text, or the labels or the content of its spans."""


@dataclass(frozen=True)
class Window:
    """A choice of spans, resolved against the published ones when it is used.

    Attributes:
      last: The number of newest spans, or None if the spans are named or all are taken.
      numbers: The numbers named, sorted; empty if none are.

    >>> Window.parse("1,9-11").numbers
    (1, 9, 10, 11)
    >>> [str(span) for span in Window.parse("last:2").resolve([Span(9), Span(10), Span(2)])]
    ['span-9', 'span-10']
    """

    last: int | None = None
    numbers: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Window:
        """Return the window that a text means.

        Raises:
          InvalidWindow: The text has none of the three forms.
        """
        text = text.strip()
        if text == "all":
            return cls()
        if match := _LAST.fullmatch(text):
            return cls(last=int(match[1]))
        numbers = {number for part in text.split(",") for number in _numbers(part.strip(), text)}
        return cls(numbers=tuple(sorted(numbers)))

    def __str__(self) -> str:
        if self.last:
            return f"last:{self.last}"
        return enumerate_spans(map(Span, self.numbers)) if self.numbers else "all"

    def resolve(self, published: Iterable[Span]) -> tuple[Span, ...]:
        """Return the window's spans, oldest first.

        Raises:
          SpanNotPublished: The window names an unpublished span, or no span is published.
        """
        there = sorted(published)
        if not there:
            raise SpanNotPublished('no span is published yet. Run "adapt init" or "adapt spans adopt".')
        missing = set(map(Span, self.numbers)) - set(there)
        if missing:
            raise SpanNotPublished(
                f"span {enumerate_spans(missing)} of window {self} is not published "
                f'(published: {enumerate_spans(there)}). Run "adapt spans list".'
            )
        if self.numbers:
            return tuple(map(Span, self.numbers))
        return tuple(there[-self.last :] if self.last else there)


@dataclass(frozen=True)
class Selection:
    """Spans to train on together, oldest first; at least one.

    Attributes:
      manifests: Their manifests.
    """

    manifests: tuple[Manifest, ...]

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans."""
        return tuple(Span(manifest.span) for manifest in self.manifests)

    @property
    def window(self) -> str:
        """The window that names exactly these spans."""
        return enumerate_spans(self.spans)

    @property
    def digest(self) -> str:
        """Digest of their content (64 hex digits)."""
        return content_digest(self.manifests)

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names: the longest list of the spans; the others are the beginning of it."""
        return self._longest.labels

    @property
    def _longest(self) -> Manifest:
        return max(self.manifests, key=lambda manifest: len(manifest.labels))


def select(data_root: str, window: str, digest: str = "", labels: tuple[str, ...] = ()) -> Selection:
    """Resolve a window against the published spans.

    Args:
      data_root: Folder or gs:// URI that has the spans.
      window: `all`, `last:K` or a list like `1,3,9-11`.
      digest: The expected content; "" accepts any.
      labels: The expected label names: those of the spans, perhaps with others appended; () accepts any.

    Raises:
      SpanNotPublished: The window names an unpublished span.
      InvalidWindow: The text is no window, the spans' label names differ by more than appended ones or are not the
        expected ones, or their content is not that of `digest`.
    """
    store = SpanStore(data_root)
    selection = Selection(tuple(store.manifests(Window.parse(window).resolve(store.spans()))))
    _refuse_mixed_labels(selection)
    if labels and (change := changed_label(labels, selection.labels)):
        raise InvalidWindow(
            f"the settings do not name the labels as the spans {selection.window} do: {change}. Set labels.names to "
            f"{', '.join(selection.labels)}; append new ones."
        )
    if digest and digest != selection.digest:
        raise InvalidWindow(
            f"the spans {selection.window} have the digest {selection.digest[:12]}, but {digest[:12]} was requested. "
            "Start the run again with the present digest."
        )
    return selection


def training_parameters(data_root: str, selection: Selection, ingestion: str) -> dict[str, str]:
    """Return the parameters with which the training pipeline trains on exactly these spans.

    Args:
      data_root: Folder or gs:// URI that has the spans.
      selection: The spans to train on.
      ingestion: `spans`: the pipeline begins with SpanExampleGen; `import`: with ImportExampleGen.

    Raises:
      InvalidWindow: ImportExampleGen cannot select these spans.
    """
    if ingestion == "spans":
        return {"window": selection.window, "digest": selection.digest}
    return {"input-config": input_config(data_root, selection), "output-config": "{}"}


def input_config(data_root: str, selection: Selection) -> str:
    """Return the input of an ImportExampleGen over the data root that reads exactly these spans and their two splits.

    Returns:
      `tfx.proto.Input` as protocol-buffer JSON (source: tfx/proto/example_gen.proto).

    Raises:
      InvalidWindow: No file pattern selects them.
    """
    store = SpanStore(data_root)
    pattern = span_pattern(selection.spans, others=[*store.spans(), *store.unsigned()])
    splits = [{"name": name, "pattern": f"{pattern}/{folder}/*.tfrecord"} for name, folder in _IMPORTED_SPLITS.items()]
    return json.dumps({"splits": splits})


def span_pattern(spans: Sequence[Span], others: Iterable[Span]) -> str:
    """Return the file pattern that matches the folders of exactly these spans, for an ExampleGen's input split.

    A pattern has no alternation: it cannot select 9, 10 and 11 together; see `InvalidWindow`.

    Args:
      spans: The spans wanted.
      others: The other spans that have a folder; `span-*` is used only if there are none.

    Returns:
      For example `span-7`, `span-[123]`, `span-1[02]` or `span-*`.

    Raises:
      InvalidWindow: No pattern selects them; the message names the setting that does.
    """
    if not set(others) - set(spans):
        return "span-*"
    texts = [str(span.number) for span in spans]
    columns = ["".join(sorted(set(column))) for column in zip(*texts, strict=False)]
    if len(set(map(len, texts))) > 1 or math.prod(map(len, columns)) != len(set(texts)):
        raise InvalidWindow(
            f"no file pattern selects exactly the spans {enumerate_spans(spans)}. "
            'Set training.ingestion = "spans", which takes any window.'
        )
    return "span-" + "".join(column if len(column) == 1 else f"[{column}]" for column in columns)


def _numbers(part: str, text: str) -> range:
    match = _RANGE.fullmatch(part)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < first + _LONGEST_RANGE:
        raise InvalidWindow(f'{text!r} is no window. Write "all", "last:2", or span numbers like "1,3,9-11".')
    return range(first, last + 1)


def _refuse_mixed_labels(selection: Selection) -> None:
    for manifest in selection.manifests:
        if change := changed_label(selection.labels, manifest.labels):
            raise InvalidWindow(
                f"span-{manifest.span} and span-{selection._longest.span} do not name the labels alike: {change}. "
                "Choose a window of spans that do; only appended names may differ."
            )
