"""Placeholders in a container's command and in constants: `{{$.pipeline_job_name}}`, `{{$}}` and the others.

Source of the forms: `_resolve_command_line` in tfx/orchestration/kubeflow/v2/step_builder.py, and kfp/dsl/constants.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.compiled.spec import BrokenSpec

_PLACEHOLDER = re.compile(r"\{\{\$(?P<path>.*?)\}\}")
_VALUE = re.compile(
    r"\.(?P<side>inputs|outputs)\.(?P<kind>parameters|artifacts)\['(?P<name>.+?)'\]"
    r"(?:\.(?P<field>uri|name)|\.metadata\['(?P<property>.+)'\])?"
)


@dataclass(frozen=True)
class Scope:
    """The meaning of placeholders in one task.

    Attributes:
      run: Name of the pipeline run.
      task: Name of the task.
      executor_input: The `ExecutorInput`; empty before it is made.
    """

    run: str
    task: str
    executor_input: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, text: str) -> str:
        """Return the text with its placeholders replaced.

        Raises:
          BrokenSpec: One of them is unknown.
        """
        return _PLACEHOLDER.sub(lambda match: self._meaning(match["path"]), text)

    def _meaning(self, path: str) -> str:
        names = {
            "": json.dumps(self.executor_input),
            ".pipeline_job_name": self.run,
            ".pipeline_job_resource_name": f"projects/rehearsal/locations/local/pipelineJobs/{self.run}",
            ".pipeline_task_name": self.task,
        }
        return names[path] if path in names else self._value(path)

    def _value(self, path: str) -> str:
        match = _VALUE.fullmatch(path)
        try:
            if match is None:
                raise LookupError(path)
            given = self.executor_input[match["side"]]
            if match["kind"] == "parameters":
                return _text(given["parameterValues"][match["name"]])
            artifact = given["artifacts"][match["name"]]["artifacts"][0]
            return _text(artifact["metadata"][match["property"]] if match["property"] else artifact[match["field"]])
        except LookupError as error:
            raise BrokenSpec(f"{{{{${path}}}}} is unknown in the task {self.task}.") from error


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
