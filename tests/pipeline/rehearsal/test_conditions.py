"""What a task's condition says of its inputs, in the forms that TFX writes."""

from __future__ import annotations

import pytest

from pipeline.rehearsal.conditions import Condition, ConditionFailed, UnknownCondition
from pipeline.rehearsal.executions import Artifact

METRICS = Artifact("1", {}, "gs://shop/metrics", {"retrain": 1, "accuracy": 0.85, "batch": "2021-10", "parts": [1]})
RETRAIN = "inputs.artifacts['metrics'].artifacts[0].metadata['retrain']"
ACCURACY = "inputs.artifacts['metrics'].artifacts[0].metadata['accuracy']"
BATCH = "inputs.artifacts['metrics'].artifacts[0].metadata['batch']"
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
def test_a_condition_holds_or_not(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"({RETRAIN} >= 1.0)", "= 1.0"),
        (f"({RETRAIN} == 1.0", "a bracket that is not closed"),
        (f"({RETRAIN} == )", "')'"),
        (f"{RETRAIN} == 1.0 1.0", "1.0"),
        (f"({BATCH} == 'it's')", "s')"),
        ("inputs.parameters['month'] == '2021-10'", "inputs.parameters"),
        ("inputs.artifacts['metrics'].artifacts[0].name == 'x'", "inputs.artifacts"),
        ("Unknown Comparison Operation 4", "Unknown"),
        (f"({RETRAIN} ==", "its end"),
    ],
)
def test_what_tfx_does_not_write_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(UnknownCondition) as caught:
        Condition.parse(text)
    assert text in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "(inputs.artifacts['metrics'].artifacts[0].metadata['again'] == 1.0)",
            "'again'.*accuracy, batch, parts, retrain",
        ),
        ("(inputs.artifacts['metrics'].artifacts[1].metadata['retrain'] == 1.0)", "artifact metrics"),
        ("(inputs.artifacts['model'].artifacts[0].metadata['retrain'] == 1.0)", "artifact model"),
        (f"({RETRAIN} == '1')", "1.0 with '1'"),
        ("(inputs.artifacts['metrics'].artifacts[0].metadata['parts'] == 1.0)", "another type"),
        (f"({RETRAIN} + {RETRAIN} == 2.0)", "no texts"),
        (RETRAIN, "truth value"),
        (f"!({RETRAIN})", "truth value"),
    ],
)
def test_what_cannot_be_decided_is_an_error_that_says_why(text: str, named: str) -> None:
    with pytest.raises(ConditionFailed, match=named):
        holds(text)


def test_the_second_part_is_not_asked_where_the_first_decides() -> None:
    missing = "(inputs.artifacts['metrics'].artifacts[0].metadata['again'] == 1.0)"
    assert holds(f"({RETRAIN} == 1.0) || {missing}")
    assert not holds(f"({RETRAIN} == 0.0) && {missing}")
