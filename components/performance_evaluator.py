"""PerformanceEvaluator: measures the deployed model on a batch and decides whether to retrain."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File, Metrics

from adaptation import codec
from adaptation.data.batches import collection_of
from adaptation.data.labels import Labels
from adaptation.data.reviews import with_reviews
from adaptation.evaluation.accuracy import Rule, decide, evaluate
from adaptation.progress import report
from components import artifacts


@tfx.dsl.components.component
def PerformanceEvaluator(
    file_list: tfx.dsl.components.InputArtifact[File],
    predictions: tfx.dsl.components.InputArtifact[File],
    metrics: tfx.dsl.components.OutputArtifact[Metrics],
    labels: tfx.dsl.components.Parameter[str],
    threshold: tfx.dsl.components.Parameter[float] = 0.9,
    rule: tfx.dsl.components.Parameter[str] = "point",
    min_images: tfx.dsl.components.Parameter[int] = 30,
    max_skipped: tfx.dsl.components.Parameter[float] = 0.05,
) -> None:
    """Holds each image's prediction against its true label.

    Args:
      file_list: What FileListGen made.
      predictions: What BatchPredictionGen made.
      metrics: Gets `evaluation.json` (accuracy, 95 % Wilson interval, figures per class, confusion matrix, the skipped
        images) and `decision.json`; custom properties `retrain` (int, 0 or 1, always set), `images` and, where any
        image could be evaluated, `accuracy`.
      labels: Where the true labels come from, as JSON text: `Labels(...).to_json()`;
        what was reviewed goes before that.
      threshold: The accuracy below which to retrain.
      rule: `point`: the accuracy is below; `wilson`: the interval's upper bound is below.
      min_images: With fewer evaluated images the batch says too little to act on.
      max_skipped: Share of the images that may lack a prediction or a known label.

    Raises:
      AdaptationError: Predictions are missing, duplicated or unreadable, or too many images were skipped.

    Failure: the batch counts as evaluated only when all is written; a retry evaluates it again.
    """
    snapshot = artifacts.read_snapshot(file_list)
    results = predictions.get_string_custom_property("results")
    evaluation = evaluate(snapshot, results, with_reviews(Labels.from_json(labels), snapshot), max_skipped)
    decision = decide(evaluation, threshold, Rule(rule), min_images)
    artifacts.write(metrics, artifacts.EVALUATION, codec.encode(evaluation, indent=0))
    artifacts.write(metrics, artifacts.DECISION, codec.encode(decision))
    metrics.set_int_custom_property("retrain", int(decision.retrain))
    metrics.set_int_custom_property("images", evaluation.images)
    if evaluation.accuracy is not None:
        metrics.set_float_custom_property("accuracy", evaluation.accuracy)
    if collection := collection_of(snapshot):
        collection.mark_evaluated(snapshot)
    report(decision.reason)
