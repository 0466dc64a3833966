"""Small TFX components, compiled by the real compiler and started by the real entry point."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import Dataset, File, Metrics

InputArtifact, OutputArtifact = tfx.dsl.components.InputArtifact, tfx.dsl.components.OutputArtifact
Parameter = tfx.dsl.components.Parameter


@tfx.dsl.components.component
def Decide(
    examples: InputArtifact[tfx.types.standard_artifacts.Examples],
    labels: InputArtifact[File],
    metrics: OutputArtifact[Metrics],
    note: OutputArtifact[Metrics],
    month: Parameter[str],
    most: Parameter[int],
):
    """Note the inputs; `retrain` is whether the batch is 2021-10."""
    metrics.set_int_custom_property("retrain", int(month == "2021-10"))
    note.set_int_custom_property("span", examples.get_int_custom_property("span"))
    note.set_int_custom_property("most", most)
    note.set_float_custom_property("accuracy", 0.5)
    note.set_string_custom_property("labels", labels.uri)


@tfx.dsl.components.component
def Prepare(note: InputArtifact[Metrics], span: OutputArtifact[Dataset], run: Parameter[str]):
    """Make a span that records its run and input."""
    span.set_int_custom_property("most", note.get_int_custom_property("most"))
    span.set_string_custom_property("run", run)


@tfx.dsl.components.component
def Rest(note: InputArtifact[Metrics]):
    """Run if nothing is retrained."""


@tfx.dsl.components.component
def Work():
    """Run before the exit handler."""


@tfx.orchestration.experimental.exit_handler
def Report(status: Parameter[str]):
    """Run as the exit handler."""
