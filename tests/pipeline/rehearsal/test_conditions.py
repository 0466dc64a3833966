"""Conditions of tasks, in the forms that TFX writes: which hold, which are refused, which cannot be decided."""

from __future__ import annotations

import pytest

from pipeline.rehearsal.conditions import Condition, ConditionFailed, UnknownCondition
from pipeline.rehearsal.executions import Artifact

METRICS = Artifact("1", {}, "gs://shop/metrics", {"retrain": 1, "accuracy": 0.85, "batch": "2021-10", "parts": [1]})
METADATA = "inputs.artifacts['metrics'].artifacts[0].metadata"
RETRAIN, ACCURACY, BATCH = (f"{METADATA}['{name}']" for name in ("retrain", "accuracy", "batch"))
URI = "inputs.artifacts['metrics'].artifacts[0].uri"


def holds(text: str) -> bool:
    return Condition.parse(text).holds({"metrics": (METRICS,)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        (f"({RETRAIN} == 1.0)", True),
        (f"({RETRAIN} == 0.0)", False),
        (f"!(({RETRAIN} == 1.0))", False),
        (f"({ACCURACY} < 0.9)", True),
        (f"({ACCURACY} > 0.9)", False),
        (f"({RETRAIN} < 1.0)", False),
        (f"({RETRAIN} > 1.0)", False),
        (f"({RETRAIN} >= 1.0)", True),
        (f"({RETRAIN} + {RETRAIN} == 2.0)", True),
        (f"({ACCURACY} > -1.5e-05)", True),
        (f"({BATCH} == '2021-10')", True),
        (f"({BATCH} < '2021-9')", True),
        (f"({URI} == 'gs://shop/metrics')", True),
        (f"(({BATCH} + '_old') == '2021-10_old')", True),
        (f"(({RETRAIN} == 1.0) && ({ACCURACY} > 0.9))", False),
        (f"(({RETRAIN} == 1.0) || ({ACCURACY} > 0.9))", True),
        (f"({RETRAIN} == 1.0) && ({ACCURACY} < 0.9)", True),
        (f"({RETRAIN} == 1.0) || ({RETRAIN} == 0.0) && ({ACCURACY} > 0.9)", True),
        (f"!(!(({RETRAIN} == 1.0)))", True),
    ],
)
def test_condition_holds_or_not(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"({RETRAIN} == 1.0", "'1.0' is not understood"),
        (f"({RETRAIN} == )", "')' is not understood"),
        (f"{RETRAIN} == 1.0 1.0", "1.0"),
        (f"({BATCH} == 'it's')", "s')"),
        (f"{RETRAIN} ? true : false", "true"),
        (f"size({BATCH}) == 7.0", "size"),
        ("inputs.parameters['month'] == '2021-10'", "inputs.parameters"),
        ("inputs.artifacts['metrics'].artifacts[0].name == 'x'", "inputs.artifacts"),
        ("Unknown Comparison Operation 4", "Unknown"),
        (f"({RETRAIN} ==", "'=='"),
    ],
)
def test_condition_that_tfx_does_not_write_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(UnknownCondition) as caught:
        Condition.parse(text)
    assert text in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"({METADATA}['again'] == 1.0)", "again.*missing.*'accuracy': 0.85, 'batch': '2021-10', 'parts'"),
        ("(inputs.artifacts['metrics'].artifacts[1].metadata['retrain'] == 1.0)", "missing.*{'metrics': .*'retrain'"),
        ("(inputs.artifacts['model'].artifacts[0].metadata['retrain'] == 1.0)", "missing.*{'metrics': .*'retrain'"),
        (f"({RETRAIN} == '1')", "mixes types"),
        (f"({METADATA}['parts'] == 1.0)", "mixes types"),
        (f"({RETRAIN} == 1)", "mixes types"),
        (f"({RETRAIN} + {BATCH} == 2.0)", "mixes types"),
        (RETRAIN, r"1\.0.* is not a truth value"),
        (f"!({RETRAIN})", "mixes types"),
    ],
)
def test_condition_that_cannot_be_decided_names_its_inputs(text: str, named: str) -> None:
    with pytest.raises(ConditionFailed, match=named):
        holds(text)


def test_second_part_is_not_evaluated_when_the_first_decides() -> None:
    missing = f"({METADATA}['again'] == 1.0)"
    assert holds(f"({RETRAIN} == 1.0) || {missing}")
    assert not holds(f"({RETRAIN} == 0.0) && {missing}")
