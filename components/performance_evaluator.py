"""PerformanceEvaluator: measures the deployed model on a batch and decides whether to retrain."""

from tfx import v1 as tfx
from tfx.types import Artifact
from tfx.types.experimental.simple_artifacts import File, Metrics

from adaptation import codec
from adaptation.data.batches import collection_of
from adaptation.data.labelling import labelling
from adaptation.data.labels import Labels
from adaptation.data.waiting import keep_waiting
from adaptation.evaluation.decision import Criterion, Rule
from adaptation.evaluation.decisions import Decided, record_decision
from adaptation.evaluation.judgement import Judgement, judge, wait_for_labels
from adaptation.evaluation.log import version_id
from adaptation.evaluation.look_records import Look
from adaptation.progress import report
from components import artifacts


@tfx.dsl.components.component
def PerformanceEvaluator(
    file_list: tfx.dsl.components.InputArtifact[File],
    predictions: tfx.dsl.components.InputArtifact[File],
    metrics: tfx.dsl.components.OutputArtifact[Metrics],
    labels: tfx.dsl.components.Parameter[str],
    candidate: tfx.dsl.components.InputArtifact[File] = None,
    look: tfx.dsl.components.InputArtifact[File] = None,
    threshold: tfx.dsl.components.Parameter[float] = 0.9,
    rule: tfx.dsl.components.Parameter[str] = "evidence",
    false_alarms: tfx.dsl.components.Parameter[float] = 0.2,
    drop: tfx.dsl.components.Parameter[float] = 0.05,
    ignore_mix: tfx.dsl.components.Parameter[int] = 0,
    min_images: tfx.dsl.components.Parameter[int] = 30,
    max_skipped: tfx.dsl.components.Parameter[float] = 0.05,
    audit: tfx.dsl.components.Parameter[int] = 30,
    run: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Compare predictions with true labels, and decide by the images that are new for the champion.

    If labels come from a review, only the images of a recorded draw count; without any the batch waits for them.

    Args:
      file_list: What FileListGen made.
      predictions: What BatchPredictionGen made. If they are from elsewhere, all images are new.
      metrics: Gets `evaluation.json` and `decision.json`; custom properties `retrain` (int, 0 or 1), `images` and, if
        any image could be evaluated, `accuracy`.
      labels: Where the true labels come from, as JSON text: `Labels(...).to_json()`; reviewed labels go before that.
      candidate: What CandidateEvaluator made; if a candidate has just become the champion, nothing is retrained.
      look: What DriftDetector made; how the batch seemed without labels goes into the decision's record.
      threshold: The accuracy that the model must reach; this and the next five make a `Criterion`.
      rule: `evidence`, `drop`, `point` or `wilson`.
      false_alarms: Accepted probability of any needless retraining in 36 batches.
      drop: For the rule `drop`: the accepted fall below the champion's own accuracy.
      ignore_mix: 1 keeps a model if only the mix of classes has changed.
      min_images: With fewer evaluated images nothing is concluded.
      max_skipped: Share of the images that may lack a prediction or a known label.
      audit: Images to propose for review, if labels come from a review, nobody has given any, and nothing seems wrong.
      run: Name of this pipeline run, for the champion's log beside the collection.

    Raises:
      AdaptationError: Predictions are missing, duplicated or unreadable, or too many images were skipped.

    Failure: the batch counts as evaluated only when all is written; a retry counts no image twice.
    """
    snapshot, version = artifacts.read_snapshot(file_list), artifacts.read_version(predictions)
    criterion = Criterion(threshold, Rule(rule), min_images, false_alarms, drop, bool(ignore_mix))
    found = labelling(Labels.from_json(labels), snapshot, max_skipped)
    results = predictions.get_string_custom_property("results")
    seen = artifacts.read_look(look).look if look else None
    if found.waiting:
        judgement = wait_for_labels(snapshot, found.labels.names, seen, audit)
    else:
        judgement = judge(snapshot, results, found.labels, version, criterion, max_skipped, run, found.drawn)
    judgement = _in_context(judgement, candidate, seen)
    _write(judgement, metrics)
    if collection := collection_of(snapshot):
        if version:
            record_decision(collection, Decided.of(judgement.evaluation, judgement.decision, version.number, run))
            if found.labels.source == "review":
                champion = version_id(version.number, version.key)
                keep_waiting(collection, snapshot, found, results, champion, labels, max_skipped)
        collection.mark_evaluated(snapshot)
    report(judgement.decision.reason)


def _in_context(judgement: Judgement, candidate: Artifact | None, seen: Look | None) -> Judgement:
    """Return the judgement with what the run found out before it."""
    if candidate and (promoted := candidate.get_int_custom_property("version")):
        judgement = judgement.kept(f"version {promoted} has just become the champion")
    return judgement.after(seen) if seen else judgement


def _write(judgement: Judgement, metrics: Artifact) -> None:
    evaluation, decision = judgement.evaluation, judgement.decision
    artifacts.write(metrics, artifacts.EVALUATION, codec.encode(evaluation, indent=0))
    artifacts.write(metrics, artifacts.DECISION, codec.encode(decision))
    metrics.set_int_custom_property("retrain", int(decision.retrain))
    metrics.set_int_custom_property("images", evaluation.images)
    if evaluation.accuracy is not None:
        metrics.set_float_custom_property("accuracy", evaluation.accuracy)
