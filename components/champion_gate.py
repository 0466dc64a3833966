"""ChampionGate: blesses the challenger, or refuses it and says why."""

from collections.abc import Sequence
from math import isfinite, nan
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.types.standard_artifacts import Model, ModelBlessing, ModelEvaluation

from adaptation import codec
from adaptation.evaluation.gate import Comparison, Part, Score, judge
from components import artifacts

CHALLENGER = "challenger"
CHAMPION = "champion"
ACCURACY = "accuracy"
IMAGES = "images"
_ONLY_MODEL = ""  # what TFMA calls the challenger where there is no champion beside it


def eval_config(further: Sequence[tfma.MetricConfig] = ()) -> tfma.EvalConfig:
    """What the Evaluator measures for the gate: accuracy of challenger and champion by span, by label, and by both.

    `further` metrics are recorded with it.

    Both models answer the signature `evaluate` (serialized Examples in, `probabilities` out); no threshold is set,
    because the gate decides.
    """
    metrics = [
        tfma.MetricConfig(class_name="SparseCategoricalAccuracy", config=f'{{"name": "{ACCURACY}"}}'),
        tfma.MetricConfig(class_name="ExampleCount", config=f'{{"name": "{IMAGES}"}}'),
        *further,
    ]
    return tfma.EvalConfig(
        model_specs=[_model_spec(CHALLENGER), _model_spec(CHAMPION, is_baseline=True)],
        slicing_specs=[tfma.SlicingSpec(feature_keys=keys) for keys in ([], ["span"], ["label"], ["span", "label"])],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )


@tfx.dsl.components.component
def ChampionGate(
    evaluation: tfx.dsl.components.InputArtifact[ModelEvaluation],
    model: tfx.dsl.components.InputArtifact[Model],
    blessing: tfx.dsl.components.OutputArtifact[ModelBlessing],
    floor: tfx.dsl.components.Parameter[float] = 0.0,
    tolerance: tfx.dsl.components.Parameter[float] = 0.0,
) -> None:
    """Judges the challenger by the Evaluator's figures, see `adaptation.evaluation.gate.judge`.

    Args:
      evaluation: The Evaluator's, made with `eval_config()`.
      model: The challenger.
      blessing: Gets `verdict.json`, `comparison.json` (both models by span, by label and by both), and the custom
        properties `blessed`, which Pusher reads, and `current_model`, the challenger's URI.
      floor: The least accuracy on every span's test split.
      tolerance: How much worse than the champion the challenger may be on the newest span.
    """
    challenger = _scores(evaluation.uri, CHALLENGER) or _scores(evaluation.uri, _ONLY_MODEL)
    champion = _scores(evaluation.uri, CHAMPION)
    verdict = judge(_by_span(challenger), _by_span(champion), floor=floor, tolerance=tolerance)
    artifacts.write(blessing, artifacts.VERDICT, codec.encode(verdict))
    artifacts.write(blessing, artifacts.COMPARISON, Comparison(challenger, champion).to_json())
    blessing.set_int_custom_property("blessed", int(verdict.blessed))
    blessing.set_string_custom_property("current_model", model.uri)


def _model_spec(name: str, is_baseline: bool = False) -> tfma.ModelSpec:
    return tfma.ModelSpec(
        name=name,
        signature_name="evaluate",
        label_key="label",
        prediction_key="probabilities",
        is_baseline=is_baseline,
    )


def _scores(uri: str, name: str) -> dict[Part, Score]:
    result = tfma.load_eval_result(uri, model_name=name)
    return {_part(dict(key)): _score(values[""][""]) for key, values in result.slicing_metrics}


def _part(columns: dict[str, Any]) -> Part:
    span, label = (columns.get(name) for name in ("span", "label"))
    return Part(None if span is None else int(span), None if label is None else int(label))


def _by_span(scores: dict[Part, Score]) -> dict[int, Score]:
    return {part.span: score for part, score in scores.items() if part.span is not None and part.label is None}


def _score(values: dict[str, Any]) -> Score:
    figures = {name: value["doubleValue"] for name, value in values.items() if isfinite(value.get("doubleValue", nan))}
    return Score(figures.pop(ACCURACY), int(figures.pop(IMAGES)), figures)
