"""CandidateEvaluator: goes on comparing the candidate with the champion, on each batch, until it is decided."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File

from adaptation import codec
from adaptation.data.batches import collection_of
from adaptation.data.labelling import labelling
from adaptation.data.labels import Labels
from adaptation.evaluation.candidate import compare_new
from adaptation.evaluation.gate import Comparison, Outcome, Verdict
from adaptation.evaluation.log import ComparisonLog, version_id
from adaptation.platforms.base import ModelVersion, Platform, Standing
from adaptation.platforms.connect import connect
from adaptation.platforms.rollout import Approval, deploy_or_wait, overtaken
from adaptation.progress import report
from components import artifacts


@tfx.dsl.components.component
def CandidateEvaluator(
    file_list: tfx.dsl.components.InputArtifact[File],
    predictions: tfx.dsl.components.InputArtifact[File],
    candidate: tfx.dsl.components.OutputArtifact[File],
    labels: tfx.dsl.components.Parameter[str],
    platform: tfx.dsl.components.Parameter[str],
    approval: tfx.dsl.components.Parameter[str] = "automatic",
    max_skipped: tfx.dsl.components.Parameter[float] = 0.05,
    run: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Compare the registry's candidate with the champion on images that neither was trained on.

    The candidate is what the gate left undecided. It predicts the images that the champion has predicted; those with a
    known label that were not compared before are added to a log, and the gate's rules are applied to all of it. The
    candidate then becomes the champion, is dropped, or stays the candidate.

    Args:
      file_list: What FileListGen made.
      predictions: What BatchPredictionGen made.
      candidate: Custom property `version`: the number of the candidate that became the champion, or 0; with a candidate
        also `verdict.json`, an `adaptation.evaluation.gate.Verdict`.
      labels: Where the true labels come from, as JSON text: `Labels(...).to_json()`; reviewed labels go before that.
      platform: The JSON text of a platform's configuration, see `adaptation.platforms.connect`.
      approval: `automatic`, or `person`: a candidate that has won waits for `adapt models approve`.
      max_skipped: Share of the images that may lack a known label.
      run: Name of this pipeline run, for the log.

    Failure: cut off at any point, one version is serving; a retry counts no image twice and finishes.
    """
    target, champion = connect(platform), artifacts.read_version(predictions)
    version, snapshot = target.registry.candidate(), artifacts.read_snapshot(file_list)
    candidate.set_int_custom_property("version", 0)
    collection = collection_of(snapshot)
    if version is None or champion is None or collection is None:
        return
    if version.champion != champion.number:
        target.registry.mark(version, Standing.DROPPED, overtaken(version, champion))
        return
    found = labelling(Labels.from_json(labels), snapshot, max_skipped)
    if found.waiting:
        return
    log = ComparisonLog(collection, version_id(champion.number, champion.key), version_id(version.number, version.key))
    results = target.predictor.predict(artifacts.file_list_uri(file_list), candidate.uri, str(version.number))
    champions = predictions.get_string_custom_property("results")
    compare_new(log, snapshot, champions, results, found.labels, run, found.drawn)
    verdict = codec.read(version.comparison, Comparison).judge(log.looks())
    artifacts.write(candidate, artifacts.VERDICT, codec.encode(verdict))
    if _conclude(target, version, verdict, approval):
        candidate.set_int_custom_property("version", version.number)
    report(f"candidate {version.number}: {verdict.outcome}, {verdict.reason}")


def _conclude(target: Platform, version: ModelVersion, verdict: Verdict, approval: str) -> bool:
    """Carry a verdict out, and return whether the version has become the champion."""
    if verdict.outcome is Outcome.REFUSE:
        target.registry.mark(version, Standing.DROPPED, verdict.reason)
    if verdict.outcome is not Outcome.DEPLOY:
        return False
    return deploy_or_wait(target.registry, target.endpoint, version, verdict.reason, Approval(approval))
