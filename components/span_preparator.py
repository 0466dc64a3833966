"""SpanPreparator: turns a batch of images into the next span."""

import apache_beam as beam
from apache_beam.runners.direct.direct_runner import DirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tfx import v1 as tfx
from tfx.types import Artifact
from tfx.types.experimental.simple_artifacts import Dataset, File

from adaptation.data.labelling import labelling
from adaptation.data.labels import Labels
from adaptation.data.span_preparation import Preparation, begin, chunks, find_published, finish, read_reports, stage
from adaptation.data.spans import Manifest, SpanStore
from adaptation.data.splits import Split, test_share
from adaptation.retraining import Decision, decide
from components import artifacts
from components.write_chunks import WriteChunks


@tfx.dsl.components.component(use_beam=True)
def SpanPreparator(
    file_list: tfx.dsl.components.InputArtifact[File],
    span: tfx.dsl.components.OutputArtifact[Dataset],
    data_root: tfx.dsl.components.Parameter[str],
    labels: tfx.dsl.components.Parameter[str],
    predictions: tfx.dsl.components.InputArtifact[File] = None,
    seed: tfx.dsl.components.Parameter[int] = 0,
    test_ratio: tfx.dsl.components.Parameter[float] = 0.2,
    shard_megabytes: tfx.dsl.components.Parameter[int] = 128,
    max_skipped: tfx.dsl.components.Parameter[float] = 0.05,
    run: tfx.dsl.components.Parameter[str] = "",
    records_root: tfx.dsl.components.Parameter[str] = "",
    window: tfx.dsl.components.Parameter[str] = "all",
    ingestion: tfx.dsl.components.Parameter[str] = "spans",
    beam_pipeline: tfx.dsl.components.BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Publish the snapshot's images as a span, on Beam; of a batch that was drawn from, the labelled ones.

    Args:
      file_list: The output of FileListGen.
      predictions: The output of BatchPredictionGen; it names the version to replace.
      span: Gets a copy of the span's `manifest.json`; custom properties `span` (its number) and `digest`.
      data_root: Folder or gs:// URI of the spans.
      labels: The source of the true labels, as JSON text: `Labels(...).to_json()`; reviewed labels go before them.
      seed: Seed of the train/test split.
      test_ratio: Least share of the test split, see `adaptation.data.splits.test_share`.
      shard_megabytes: Approximate size of a shard.
      max_skipped: Share of the images that may be unusable.
      run: Name of this pipeline run, for the manifest.
      records_root: Folder or gs:// URI of the trigger's records; there the decision to train on the span is recorded
        before the span is published, so that it outlives this run. Empty: nothing is recorded.
      window: As for PipelineTrigger.
      ingestion: As for PipelineTrigger.
      beam_pipeline: TFX's; its runner is the one that the pipeline's beam arguments name.

    Raises:
      AdaptationError: As `adaptation.data.span_preparation.prepare`.

    Failure: no span or the whole one is visible; the same snapshot again finishes, or returns, the same span.
    """
    snapshot, store = artifacts.read_snapshot(file_list), SpanStore(data_root)
    found = labelling(Labels.from_json(labels), snapshot, max_skipped)
    part = found.part(snapshot)
    split = Split(seed, test_share(len(part.images), test_ratio))
    preparation = begin(store, part, found.labels, split, max_skipped, run, snapshot.key, found.picked(snapshot))
    if records_root:
        champion = predictions.get_int_custom_property("version") if predictions else 0
        decide(records_root, Decision(preparation.span.number, run, champion, data_root, window, ingestion))
    published = find_published(store, preparation.span)
    _write(published or _prepare_on_beam(beam_pipeline, preparation, shard_megabytes * 2**20), span)


def _prepare_on_beam(pipeline: beam.Pipeline, preparation: Preparation, shard_bytes: int) -> Manifest:
    cut = chunks(preparation, shard_bytes)
    folder = stage(preparation, cut)
    with pipeline:
        pipeline | "WriteChunks" >> WriteChunks(folder, len(cut), processes=_is_in_process(pipeline))
    store = SpanStore(preparation.data_root)
    return find_published(store, preparation.span) or finish(preparation, read_reports(folder, len(cut)))


def _is_in_process(pipeline: beam.Pipeline) -> bool:
    return isinstance(pipeline.runner, FnApiRunner | DirectRunner)


def _write(manifest: Manifest, span: Artifact) -> None:
    artifacts.write(span, artifacts.MANIFEST, manifest.to_json())
    span.set_int_custom_property("span", manifest.span)
    span.set_string_custom_property("digest", manifest.digest)
