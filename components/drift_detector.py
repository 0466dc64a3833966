"""DriftDetector: says whether a batch seems different from the champion's test images, before it is labelled."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File

from adaptation import codec
from adaptation.data.batches import collection_of
from adaptation.evaluation.log import version_id
from adaptation.evaluation.look_records import Outcome, record_look
from adaptation.evaluation.looks import look_with, read_seen
from adaptation.progress import report
from components import artifacts


@tfx.dsl.components.component
def DriftDetector(
    file_list: tfx.dsl.components.InputArtifact[File],
    predictions: tfx.dsl.components.InputArtifact[File],
    look: tfx.dsl.components.OutputArtifact[File],
    reference: tfx.dsl.components.Parameter[str] = "",
    run: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Compare a batch's predictions with what the same version predicts on its test images; no label is read.

    It warns and decides nothing: a version without a reference, or too few images, is the outcome `unknown`.

    Args:
      file_list: What FileListGen made.
      predictions: What BatchPredictionGen made, or results of Vertex AI from elsewhere.
      look: Gets `look.json`, an `adaptation.evaluation.look_records.LookRecord`, which is also added to the records
        beside the collection; custom properties `look` (int, 1 for the outcome `look`) and `outcome`.
      reference: URI of a reference to compare with; by default that of the version that predicted.
      run: Name of this pipeline run, for the record.

    Raises:
      InvalidPredictions: The predictions are missing or unreadable.

    Failure: the record beside the collection comes last; a repeat makes no second one.
    """
    snapshot, version = artifacts.read_snapshot(file_list), artifacts.read_version(predictions)
    seen = read_seen(snapshot, predictions.get_string_custom_property("results"))
    number, champion = (version.number, version_id(version.number, version.key)) if version else (0, "")
    found = look_with(reference or (version.reference if version else ""), number, seen.profile, snapshot.batch)
    record = seen.record(snapshot, found, number, champion, run)
    artifacts.write(look, artifacts.LOOK, codec.encode(record))
    look.set_int_custom_property("look", int(found.outcome is Outcome.LOOK))
    look.set_string_custom_property("outcome", found.outcome)
    if version and (collection := collection_of(snapshot)):
        record_look(collection, record)
    report(found.reason)
