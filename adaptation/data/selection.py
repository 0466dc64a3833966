"""Selections: a window resolved against the published spans, with the digest that names their content.

Which spans a window means is `windows`' matter; what is done with their shards is that of whoever trains.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from adaptation.data.spans import Manifest, Span, SpanStore, content_digest, enumerate_spans
from adaptation.data.windows import Window, span_pattern
from adaptation.errors import AdaptationError

_IMPORTED_SPLITS = {"train": "train", "eval": "test"}


class SpansChanged(AdaptationError, ValueError):
    """Spans whose content is not what was selected."""


class MixedLabels(AdaptationError, ValueError):
    """Spans with different label names."""


@dataclass(frozen=True)
class Selection:
    """Spans to train on together, oldest first; at least one.

    Attributes:
      manifests: Their manifests.
    """

    manifests: tuple[Manifest, ...]

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans."""
        return tuple(Span(manifest.span) for manifest in self.manifests)

    @property
    def window(self) -> str:
        """The window that names exactly these spans."""
        return enumerate_spans(self.spans)

    @property
    def digest(self) -> str:
        """Names their content (64 hex digits)."""
        return content_digest(self.manifests)

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names that they share."""
        return self.manifests[0].labels


def select(data_root: str, window: str, digest: str = "", labels: tuple[str, ...] = ()) -> Selection:
    """Resolves a window against the spans published now.

    Args:
      data_root: Folder or gs:// URI that has the spans.
      window: `all`, `last:K` or a list like `1,3,9-11`.
      digest: The content that is meant; any where it is left out.
      labels: The label names that are meant; any where they are left out.

    Raises:
      InvalidWindow, SpanNotPublished: The window is none, or names a span that is not there.
      MixedLabels: The spans do not share their label names, or have others than are meant.
      SpansChanged: The content is not that of `digest`.
    """
    store = SpanStore(data_root)
    selection = Selection(tuple(store.manifests(Window.parse(window).resolve(store.spans()))))
    _refuse_mixed_labels(selection)
    if labels and labels != selection.labels:
        raise MixedLabels(
            f"the spans {selection.window} have the labels {', '.join(selection.labels)}, the settings name "
            f"{', '.join(labels)}: a model would take one for another. Set labels.names as the spans have them."
        )
    if digest and digest != selection.digest:
        raise SpansChanged(
            f"the spans {selection.window} have the digest {selection.digest[:12]}, but {digest[:12]} was asked for. "
            "Start the run again with the present digest."
        )
    return selection


def training_parameters(data_root: str, selection: Selection, ingestion: str) -> dict[str, str]:
    """What a run of the training pipeline is told, so that it trains on exactly this.

    Args:
      data_root: Folder or gs:// URI that has the spans.
      selection: The spans to train on.
      ingestion: `spans`: the pipeline begins with SpanExampleGen; `import`: with ImportExampleGen.

    Raises:
      WindowNotExpressible: ImportExampleGen cannot be told these spans.
    """
    if ingestion == "spans":
        return {"window": selection.window, "digest": selection.digest}
    return {"input-config": input_config(data_root, selection), "output-config": "{}"}


def input_config(data_root: str, selection: Selection) -> str:
    """What an ImportExampleGen over the data root reads to get these spans, and their two splits, exactly.

    Returns:
      `tfx.proto.Input` as protocol-buffer JSON (source: tfx/proto/example_gen.proto).

    Raises:
      WindowNotExpressible: No file pattern selects them.
    """
    store = SpanStore(data_root)
    pattern = span_pattern(selection.spans, others=[*store.spans(), *store.unsigned()])
    splits = [{"name": name, "pattern": f"{pattern}/{folder}/*.tfrecord"} for name, folder in _IMPORTED_SPLITS.items()]
    return json.dumps({"splits": splits})


def _refuse_mixed_labels(selection: Selection) -> None:
    for manifest in selection.manifests:
        if manifest.labels != selection.labels:
            raise MixedLabels(
                f"span-{manifest.span} has the labels {', '.join(manifest.labels)}, {selection.spans[0]} has "
                f"{', '.join(selection.labels)}. Choose a window of spans with the same labels."
            )
