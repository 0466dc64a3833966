"""Evaluator: TFX's, which skips a missing baseline model."""

from typing import Any

from tfx import v1 as tfx
from tfx.components.evaluator.executor import Executor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

BASELINE = "baseline_model"


class BaselineExecutor(Executor):  # type: ignore[misc]
    """Evaluates the challenger alone where ChampionGen found no champion."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        """See the base class."""
        has_champion = any(model.get_int_custom_property("version") for model in input_dict[BASELINE])
        inputs = input_dict if has_champion else {**input_dict, BASELINE: []}
        super().Do(inputs, output_dict, exec_properties)


class Evaluator(tfx.components.Evaluator):  # type: ignore[misc]
    """TFX's Evaluator, with ChampionGen's output as the baseline."""

    EXECUTOR_SPEC = BeamExecutorSpec(BaselineExecutor)
