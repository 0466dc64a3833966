"""PipelineTrigger: starts the training pipeline on a window of spans."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import Dataset, File

from adaptation import codec
from adaptation.data.windows import select, training_parameters
from adaptation.platforms.connect import connect
from adaptation.trigger import start_training
from components import artifacts


@tfx.dsl.components.component
def PipelineTrigger(
    span: tfx.dsl.components.InputArtifact[Dataset],
    job: tfx.dsl.components.OutputArtifact[File],
    platform: tfx.dsl.components.Parameter[str],
    data_root: tfx.dsl.components.Parameter[str],
    window: tfx.dsl.components.Parameter[str] = "all",
    ingestion: tfx.dsl.components.Parameter[str] = "spans",
) -> None:
    """Starts one training run for the span, however often this component runs, and does not wait for it.

    Args:
      span: What SpanPreparator made.
      job: Gets `job.json`; custom properties `job` (its id) and `spans` (the window that it trains on).
      platform: Where to run it: the JSON text of a platform's configuration, see `adaptation.platforms.connect`.
      data_root: Folder or gs:// URI that has the spans.
      window: `all`, `last:K` or a list like `1,3,9-11`; resolved now, so that the run trains on what was meant.
      ingestion: Whose parameters the training pipeline takes: `spans` SpanExampleGen's, `import` ImportExampleGen's.

    Raises:
      SpanNotPublished: The window names a span that is not there.
      InvalidWindow: The window is none, or ImportExampleGen cannot be told these spans.
    """
    selection = select(data_root, window)
    number = span.get_int_custom_property("span")
    parameters = training_parameters(data_root, selection, ingestion)
    started = start_training(connect(platform).jobs, number, selection.digest, parameters)
    artifacts.write(job, artifacts.JOB, codec.encode(started))
    job.set_string_custom_property("job", started.id)
    job.set_string_custom_property("spans", selection.window)
