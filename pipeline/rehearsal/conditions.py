"""Conditions of tasks, in the Common Expression Language, as TFX's compiler writes them and the backends evaluate them.

Source of the forms: `placeholder_to_cel` in tfx/orchestration/kubeflow/v2/compiler_utils.py. A condition asks for URIs
and properties of input artifacts. Numbers are doubles, as in the `google.protobuf.Value` that properties are kept in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError

from adaptation.errors import AdaptationError
from pipeline.rehearsal.executions import Artifact

Inputs = Mapping[str, Sequence[Artifact]]
_ARTIFACT = re.compile(r"inputs\.artifacts\['[^']+'\]\.artifacts\[\d+\]\.(?:uri\b|metadata\['[^']+'\])")
_OTHER_NAME = re.compile(r"\b[A-Za-z_][\w.]*")


class UnknownCondition(AdaptationError, ValueError):
    """A condition that is not valid, or asks for something other than input artifacts."""


class ConditionFailed(AdaptationError, LookupError):
    """A condition that cannot be decided: it asks for something that is missing, or of another type."""


@dataclass(frozen=True)
class Condition:
    """A condition of a task; an empty text always holds."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Return the condition after a check of its text.

        Raises:
          UnknownCondition: It has a form that TFX does not write.
        """
        if text:
            _compiled(text)
        rest = re.sub("'[^']*'", "''", _ARTIFACT.sub("''", text))
        if other := _OTHER_NAME.search(rest):
            raise UnknownCondition(f"the condition {text} asks for {other[0]}, which is not understood.")
        return cls(text)

    def holds(self, inputs: Inputs) -> bool:
        """Decide the condition for a task's input artifacts.

        Raises:
          ConditionFailed: It asks for an artifact or a property that is missing, or mixes types.
        """
        if not self.text:
            return True
        artifacts = {name: {"artifacts": [vars(one) for one in given]} for name, given in inputs.items()}
        values = json.loads(json.dumps({"artifacts": artifacts}), parse_int=float)
        try:
            value = _environment().program(_compiled(self.text)).evaluate({"inputs": json_to_cel(values)})
        except CELEvalError as error:
            raise self._failed("it asks for something that is missing, or mixes types", inputs) from error
        if not isinstance(value, celpy.celtypes.BoolType):
            raise self._failed(f"{value!r} is not a truth value", inputs)
        return bool(value)

    def _failed(self, reason: str, inputs: Inputs) -> ConditionFailed:
        known = {name: [dict(one.metadata) for one in given] for name, given in inputs.items()}
        return ConditionFailed(f"the condition {self.text} cannot be decided: {reason}. The inputs have: {known}.")


@cache
def _environment() -> celpy.Environment:
    return celpy.Environment()


def _compiled(text: str) -> celpy.Expression[Any]:
    try:
        return _environment().compile(text)
    except CELParseError as error:
        part = text[(error.column or 1) - 1 :]
        raise UnknownCondition(f"the condition {text} is not valid: {part!r} is not understood.") from error
