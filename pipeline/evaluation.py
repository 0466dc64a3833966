"""The batch evaluation pipeline: a batch of images is predicted and measured; below the threshold it becomes a span."""

from __future__ import annotations

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from components.batch_prediction_gen import BatchPredictionGen
from components.candidate_evaluator import CandidateEvaluator
from components.drift_detector import DriftDetector
from components.file_list_gen import FileListGen
from components.performance_evaluator import PerformanceEvaluator
from components.pipeline_trigger import PipelineTrigger
from components.span_preparator import SpanPreparator
from pipeline.place import Place
from pipeline.workspace.settings import Settings


def evaluation_pipeline(settings: Settings, batch: str, place: Place) -> tfx.dsl.Pipeline:
    """Return the pipeline, for either runner.

    Args:
      settings: The deployment's settings.
      batch: The batch, `YYYY-MM`; empty: the newest.
      place: Where it runs.
    """
    return tfx.dsl.Pipeline(
        pipeline_name=f"{settings.name}-evaluation",
        pipeline_root=place.root,
        components=_components(settings, batch, place),
        metadata_connection_config=place.metadata,
        beam_pipeline_args=list(place.beam),
    )


def _components(settings: Settings, batch: str, place: Place) -> list[BaseNode]:
    labels = settings.labels.truth.to_json()
    records = {"data_root": settings.data.root, "records_root": place.records, "run": place.run}
    retraining = {**records, "window": settings.training.window, "ingestion": place.ingestion}
    listed = FileListGen(collection_root=settings.collection.root, batch=batch, **records)
    files = listed.outputs["file_list"]
    predicted = BatchPredictionGen(file_list=files, platform=place.platform)
    predictions = predicted.outputs["predictions"]
    looked = DriftDetector(file_list=files, predictions=predictions, run=place.run)
    compared = CandidateEvaluator(
        file_list=files,
        predictions=predictions,
        labels=labels,
        platform=place.platform,
        approval=settings.gate.approval,
        max_skipped=settings.labels.max_skipped,
        run=place.run,
    )
    measured = PerformanceEvaluator(
        file_list=files,
        predictions=predictions,
        candidate=compared.outputs["candidate"],
        look=looked.outputs["look"],
        labels=labels,
        **settings.evaluation.parameters,
        max_skipped=settings.labels.max_skipped,
        audit=settings.review.audit,
        run=place.run,
    )
    with tfx.dsl.Cond(measured.outputs["metrics"].future().custom_property("retrain") == 1):
        span = SpanPreparator(
            file_list=files,
            predictions=predictions,
            labels=labels,
            seed=settings.data.seed,
            test_ratio=settings.data.test_ratio,
            shard_megabytes=settings.data.shard_megabytes,
            max_skipped=settings.labels.max_skipped,
            **retraining,
        )
        trigger = PipelineTrigger(span=span.outputs["span"], platform=place.platform, **retraining)
    return [listed, predicted, looked, compared, measured, span, trigger]
