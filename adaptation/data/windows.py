"""Windows: which spans a training run takes, `all`, `last:K` or a list like `1,3,9-11`.

What the spans hold is not looked at here; `selection` reads the manifests of those chosen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adaptation.data.spans import Span, SpanNotPublished, enumerate_spans
from adaptation.errors import AdaptationError

_LAST = re.compile(r"last:([1-9][0-9]{0,8})")
_RANGE = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?")
_LONGEST_RANGE = 100_000


class InvalidWindow(AdaptationError, ValueError):
    """A text that is no window."""


class WindowNotExpressible(AdaptationError, ValueError):
    """A set of spans that no file pattern selects exactly."""


@dataclass(frozen=True)
class Window:
    """A choice of spans that is resolved against those published when it is used.

    Attributes:
      last: The number of newest spans; None where the spans are named or all are taken.
      numbers: The numbers named, sorted; empty where none are.

    >>> Window.parse("1,9-11").numbers
    (1, 9, 10, 11)
    >>> [str(span) for span in Window.parse("last:2").resolve([Span(9), Span(10), Span(2)])]
    ['span-9', 'span-10']
    """

    last: int | None = None
    numbers: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Window:
        """The window that a text means.

        Raises:
          InvalidWindow: It is none of the three forms.
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
        """The window's spans, oldest first.

        Raises:
          SpanNotPublished: It names a span that is not published, or none is published at all.
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


def span_pattern(spans: Sequence[Span], others: Iterable[Span]) -> str:
    """The file pattern that matches the folders of exactly these spans, as an ExampleGen's input split takes it.

    A pattern has no alternation, so that 9, 10 and 11 together cannot be written; see `WindowNotExpressible`.

    Args:
      spans: The spans wanted.
      others: The other spans that have a folder; `span-*` serves only where there are none.

    Returns:
      For example `span-7`, `span-[123]`, `span-1[02]` or `span-*`.

    Raises:
      WindowNotExpressible: No pattern selects them; the message names the way that does.
    """
    if not set(others) - set(spans):
        return "span-*"
    texts = [str(span.number) for span in spans]
    columns = ["".join(sorted(set(column))) for column in zip(*texts, strict=False)]
    if len(set(map(len, texts))) > 1 or math.prod(map(len, columns)) != len(set(texts)):
        raise WindowNotExpressible(
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
