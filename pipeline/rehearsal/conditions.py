"""Conditions of tasks: the part of the Common Expression Language that TFX's compiler writes, and its meaning.

Source of the forms: `placeholder_to_cel` in tfx/orchestration/kubeflow/v2/compiler_utils.py. Numbers, strings, the URI
or a property of an input artifact; `==`, `<`, `>`; `+` of strings; `!`, `&&`, `||`. Whatever else is refused by name.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adaptation.errors import AdaptationError
from pipeline.rehearsal.executions import Artifact

Value = float | str | bool
Inputs = Mapping[str, Sequence[Artifact]]
_Expression = Callable[[Inputs], Value]
_COMPARISONS: Mapping[str, Callable[..., bool]] = {"==": operator.eq, "<": operator.lt, ">": operator.gt}
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)
      | (?P<string>'[^']*')
      | (?P<artifact>inputs\.artifacts\['[^']+'\]\.artifacts\[\d+\]\.(?:uri\b|metadata\['[^']+'\]))
      | (?P<sign>&&|\|\||==|[<>+!()])
    )""",
    re.VERBOSE,
)
_ARTIFACT = re.compile(r"inputs\.artifacts\['(.+?)'\]\.artifacts\[(\d+)\]\.(?:uri|metadata\['(.+)'\])")


class UnknownCondition(AdaptationError, ValueError):
    """A condition that TFX's compiler does not write."""


class ConditionFailed(AdaptationError, LookupError):
    """A condition that cannot be decided: what it asks for is not there, or is of another type."""


@dataclass(frozen=True)
class Condition:
    """A condition: its text, and what it says of a task's input artifacts."""

    text: str
    _expression: _Expression

    @classmethod
    def parse(cls, text: str) -> Condition:
        """The condition that a text says; the empty text always holds.

        Raises:
          UnknownCondition: It has another form than those that TFX writes.
        """
        return cls(text, _Parser(text).whole() if text else lambda inputs: True)

    def holds(self, inputs: Inputs) -> bool:
        """Whether it holds.

        Raises:
          ConditionFailed: It asks for an artifact or a property that is not there, or compares two types.
        """
        return _truth(self._expression(inputs), self.text)


class _Parser:
    """Reads a condition from left to right; each method reads one level of precedence, the weakest first."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)

    def whole(self) -> _Expression:
        expression = self._any()
        if self._tokens:
            raise _unknown(self._text, self._tokens[0][1])
        return expression

    def _any(self) -> _Expression:
        left = self._all()
        while self._take("||"):
            left = _either(left, self._all(), self._text)
        return left

    def _all(self) -> _Expression:
        left = self._comparison()
        while self._take("&&"):
            left = _both(left, self._comparison(), self._text)
        return left

    def _comparison(self) -> _Expression:
        left = self._sum()
        for sign in _COMPARISONS:
            if self._take(sign):
                return _compared(sign, left, self._sum(), self._text)
        return left

    def _sum(self) -> _Expression:
        left = self._single()
        while self._take("+"):
            left = _joined(left, self._single(), self._text)
        return left

    def _single(self) -> _Expression:
        if self._take("!"):
            operand = self._single()
            return lambda inputs: not _truth(operand(inputs), self._text)
        if self._take("("):
            inner = self._any()
            if not self._take(")"):
                raise _unknown(self._text, "a bracket that is not closed")
            return inner
        kind, token = self._tokens.pop(0) if self._tokens else ("", "its end")
        if kind == "number":
            return lambda inputs: float(token)
        if kind == "string":
            return lambda inputs: token[1:-1]
        if kind == "artifact":
            return lambda inputs: _looked_up(token, inputs)
        raise _unknown(self._text, token)

    def _take(self, sign: str) -> bool:
        found = bool(self._tokens) and self._tokens[0] == ("sign", sign)
        if found:
            self._tokens.pop(0)
        return found


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unknown(text, text[position:])
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    return tokens


def _unknown(text: str, part: str) -> UnknownCondition:
    return UnknownCondition(f"the condition {text} is not of a form that TFX writes: {part!r} is not understood.")


def _either(left: _Expression, right: _Expression, text: str) -> _Expression:
    return lambda inputs: _truth(left(inputs), text) or _truth(right(inputs), text)


def _both(left: _Expression, right: _Expression, text: str) -> _Expression:
    return lambda inputs: _truth(left(inputs), text) and _truth(right(inputs), text)


def _compared(sign: str, left: _Expression, right: _Expression, text: str) -> _Expression:
    def compare(inputs: Inputs) -> bool:
        one, other = left(inputs), right(inputs)
        if type(one) is not type(other) or not isinstance(one, float | str):
            raise ConditionFailed(f"the condition {text} compares {one!r} with {other!r}, which is of another type.")
        return bool(_COMPARISONS[sign](one, other))

    return compare


def _joined(left: _Expression, right: _Expression, text: str) -> _Expression:
    def join(inputs: Inputs) -> str:
        one, other = left(inputs), right(inputs)
        if not (isinstance(one, str) and isinstance(other, str)):
            raise ConditionFailed(f"the condition {text} joins {one!r} and {other!r}, which are no texts.")
        return one + other

    return join


def _truth(value: Value, text: str) -> bool:
    if not isinstance(value, bool):
        raise ConditionFailed(f"the condition {text} takes {value!r} for a truth value, which it is not.")
    return value


def _looked_up(reference: str, inputs: Inputs) -> Value:
    match = _ARTIFACT.fullmatch(reference)
    assert match is not None  # the token has this form
    key, index, name = match[1], int(match[2]), match[3]
    artifacts = inputs.get(key, ())
    if index >= len(artifacts):
        raise ConditionFailed(f"a condition asks for the artifact {key}, of which there is none.")
    if name is None:
        return artifacts[index].uri
    metadata = artifacts[index].metadata
    if name not in metadata:
        known = ", ".join(sorted(metadata)) or "none"
        raise ConditionFailed(f"a condition asks for the property {name!r} of {key}, which has: {known}.")
    value = metadata[name]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
