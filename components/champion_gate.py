"""ChampionGate: may the challenger take the champion's place? Deploy, refuse, or undecided."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Model, ModelBlessing, ModelEvaluation

from adaptation import codec
from adaptation.evaluation.gate import MARGIN, Outcome
from components import artifacts

ACCURACY = "accuracy"
IMAGES = "images"


def eval_config(further: Sequence[tfma.MetricConfig] = ()) -> tfma.EvalConfig:
    """Return what the Evaluator measures of the challenger, for the record: accuracy by span, by label, and by both.

    The model answers the signature `evaluate` (serialized Examples in, `probabilities` out); no threshold is set,
    because the gate decides.

    Args:
      further: Metrics that are recorded beside it.
    """
    metrics = [
        tfma.MetricConfig(class_name="SparseCategoricalAccuracy", config=f'{{"name": "{ACCURACY}"}}'),
        tfma.MetricConfig(class_name="ExampleCount", config=f'{{"name": "{IMAGES}"}}'),
        *further,
    ]
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(signature_name="evaluate", label_key="label", prediction_key="probabilities"),
        ],
        slicing_specs=[tfma.SlicingSpec(feature_keys=keys) for keys in ([], ["span"], ["label"], ["span", "label"])],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )


@tfx.dsl.components.component
def ChampionGate(
    comparison: tfx.dsl.components.InputArtifact[File],
    evaluation: tfx.dsl.components.InputArtifact[ModelEvaluation],
    model: tfx.dsl.components.InputArtifact[Model],
    blessing: tfx.dsl.components.OutputArtifact[ModelBlessing],
    floor: tfx.dsl.components.Parameter[float] = 0.0,
    margin: tfx.dsl.components.Parameter[float] = MARGIN,
) -> None:
    """Judges the challenger by the paired counts, see `adaptation.evaluation.gate.judge`.

    Args:
      comparison: ModelComparator's.
      evaluation: The Evaluator's, made with `eval_config()`; nothing is decided by it.
      model: The challenger.
      blessing: Gets `verdict.json`, `pairs.json` (the comparison with floor and margin), `further_metrics.json` (on all
        test images, by name), and the custom properties `blessed`, which Pusher reads, `outcome` (deploy, refuse or
        undecided) and `current_model`, the challenger's URI.
      floor: The least accuracy on every span's test split.
      margin: How much worse than the champion the challenger may be on the older spans.
    """
    judged = replace(artifacts.read_pairs(comparison), floor=floor, margin=margin)
    verdict = judged.judge()
    artifacts.write(blessing, artifacts.VERDICT, codec.encode(verdict))
    artifacts.write(blessing, artifacts.PAIRS, codec.encode(judged))
    artifacts.write(blessing, artifacts.FURTHER_METRICS, codec.encode(_further(evaluation.uri)))
    blessing.set_int_custom_property("blessed", int(verdict.outcome is Outcome.DEPLOY))
    blessing.set_string_custom_property("outcome", verdict.outcome)
    blessing.set_string_custom_property("current_model", model.uri)


def _further(uri: str) -> dict[str, float]:
    """Return the metrics on all test images that are single numbers, but for those of `eval_config` itself."""
    all_images: Mapping[str, Mapping[str, float]] = next(
        (values[""][""] for key, values in tfma.load_eval_result(uri).slicing_metrics if not key), {}
    )
    figures = {name: value.get("doubleValue", nan) for name, value in all_images.items()}
    return {name: one for name, one in figures.items() if isfinite(one) and name not in (ACCURACY, IMAGES)}
