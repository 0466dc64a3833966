"""PipelineTrigger: starts the training pipeline on a window of spans."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import Dataset, File

from adaptation import codec
from adaptation.platforms.connect import connect
from adaptation.retraining import Decision, start
from components import artifacts


@tfx.dsl.components.component
def PipelineTrigger(
    span: tfx.dsl.components.InputArtifact[Dataset],
    job: tfx.dsl.components.OutputArtifact[File],
    platform: tfx.dsl.components.Parameter[str],
    data_root: tfx.dsl.components.Parameter[str],
    records_root: tfx.dsl.components.Parameter[str],
    run: tfx.dsl.components.Parameter[str] = "",
    window: tfx.dsl.components.Parameter[str] = "all",
    ingestion: tfx.dsl.components.Parameter[str] = "spans",
) -> None:
    """Start one training run for the span, however often this component runs, and do not wait for it.

    While another training is running, the new one waits for its end; the next delivery of the trigger starts it.

    Args:
      span: The output of SpanPreparator.
      job: Gets `job.json`; custom property `job`, the id of the training, or of the one that it waits for.
      platform: The platform that runs it: the JSON text of its configuration, see `adaptation.platforms.connect`.
      data_root: Folder or gs:// URI of the spans.
      records_root: Folder or gs:// URI of the trigger's records.
      run: Name of this pipeline run.
      window: `all`, `last:K` or a list like `1,3,9-11`; resolved when the training starts.
      ingestion: Training takes the parameters of SpanExampleGen (`spans`) or of ImportExampleGen (`import`).

    Raises:
      JobFailed: The training has failed at every attempt.
      InvalidWindow, SpanNotPublished: The window is invalid, or names a span that is not published.
    """
    connected, number = connect(platform), span.get_int_custom_property("span")
    champion = connected.registry.champion()
    decision = Decision(number, run, champion.number if champion else 0, data_root, window, ingestion)
    started = start(records_root, connected.jobs, connected.registry, decision)
    artifacts.write(job, artifacts.JOB, codec.encode(started))
    job.set_string_custom_property("job", started.id)
