"""Ingestion: how the spans of a window become the training pipeline's examples.

By default SpanExampleGen links their files. The alternative, TFX's ImportExampleGen, reads them by file patterns, which
cannot name every set of spans.
"""

from __future__ import annotations

import json

from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from adaptation.data.windows import Selection, input_config
from components.span_example_gen import SpanExampleGen
from pipeline.workspace.settings import Settings


def ingestion(settings: Settings, selection: Selection) -> BaseNode:
    """Return the ingestion component of the settings, for the selected spans.

    Raises:
      InvalidWindow: ImportExampleGen is to read them, and no pattern selects exactly these spans.
    """
    if settings.training.ingestion == "spans":
        return linked(settings, selection.window, selection.digest)
    config = json_format.Parse(input_config(settings.data.root, selection), tfx.proto.Input())
    return imported(settings, config, None)


def linked(settings: Settings, window: str, digest: str) -> BaseNode:
    """Return SpanExampleGen for a window; either text may be a runtime parameter."""
    labels = json.dumps(settings.labels.names)
    return SpanExampleGen(
        data_root=settings.data.root,
        window=window,
        digest=digest,
        labels=labels,
        max_skipped=settings.labels.max_skipped,
    )


def imported(settings: Settings, config: tfx.proto.Input, output: tfx.proto.Output | None) -> BaseNode:
    """Return ImportExampleGen for the data root; either configuration may be a runtime parameter."""
    return tfx.components.ImportExampleGen(input_base=settings.data.root, input_config=config, output_config=output)
