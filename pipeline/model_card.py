"""The model card of a version, in Hugging Face's format, from what is recorded: a head in YAML, then Markdown.

Source of the format: https://huggingface.co/docs/hub/model-cards, with `model-index` as the hub reads results from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import yaml

from adaptation import codec
from adaptation.data.spans import Manifest, Span, SpanNotPublished, SpanStore, enumerate_spans
from adaptation.evaluation.accuracy import wilson_interval
from adaptation.evaluation.gate import Comparison
from adaptation.io import storage
from adaptation.platforms.base import ModelVersion
from adaptation.platforms.history import VersionEvent, history
from pipeline.energy import EnergyFactors, energy, usage_of
from pipeline.workspace.workspace import Workspace

README = "README.md"
_LIMITS = """\
- The figures are those of the test splits of the listed spans. On other images they say nothing: a change of camera,
  season or customers shows only in the evaluation of a batch.
- A span that was made of a batch that the earlier champion failed on is not a fair sample of all images.
- The model answers with one of the listed classes for every image, also for one that shows none of them.
- A confidence is not a probability that the answer is right; after a change of the images it is usually too high.
"""


def model_card(workspace: Workspace, version: ModelVersion) -> str:
    """Return the card of a version.

    Raises:
      AdaptationError: A record is unreadable, or the platform does not answer.
    """
    settings, registry = workspace.settings, workspace.platform.registry
    manifests = _manifests(workspace.spans, version.spans)
    events = [event for event in history(registry) if event.version == version.number]
    comparison = codec.read(version.comparison, Comparison) if version.comparison else None
    name = f"{settings.name}-{version.number}"
    parts = [
        f"---\n{yaml.safe_dump(_head(name, version), sort_keys=False, allow_unicode=True)}---\n",
        f"# {name}\n",
        "An image classifier, trained and judged by continuous-adaptation.\n",
        "## Lineage\n",
        _table(["", ""], [*_lineage(version), *_used(workspace, version)]),
        "## Training data\n",
        _table(["span", "made of", "training images", "test images"], map(_span, manifests)),
        f"Classes: {', '.join(manifests[-1].labels if manifests else settings.labels.names)}.\n",
        "## Figures\n",
        _table(["test split", "accuracy"], _accuracies(version)),
        _table(["class", "test images", "correct", "recall", "95 % interval"], _recalls(version)),
        *(_compared(comparison) if comparison else ()),
        "## Limits\n",
        _LIMITS,
        "## History\n",
        _table(["from (UTC)", "standing", "why"], map(_event, events)),
    ]
    return "\n".join(part for part in parts if part)


def save_card(version: ModelVersion, card: str) -> str:
    """Write the card beside the version's model, replacing an earlier one, and return its URI."""
    uri = storage.join(version.uri.rstrip("/").rpartition("/")[0], README)
    storage.write(uri, card.encode())
    return uri


def _head(name: str, version: ModelVersion) -> Mapping[str, object]:
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": f"test split of {span}", "type": span},
            "metrics": [{"type": "accuracy", "value": round(value, 6)}],
        }
        for span, value in sorted(version.metrics.items())
        if span.startswith("span-")
    ]
    head: dict[str, object] = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "continuous-adaptation"],
    }
    return head | ({"model-index": [{"name": name, "results": results}]} if results else {})


def _lineage(version: ModelVersion) -> Iterator[tuple[str, str]]:
    yield "version", str(version.number)
    yield "made", version.created
    yield "by run", version.run
    yield "code", version.code or "unknown"
    yield "trained on", enumerate_spans(map(Span, version.spans)) or "unknown"
    if version.champion is not None:
        yield "compared with", f"version {version.champion}" if version.champion else "nothing: it was the first"
    yield "SavedModel", version.uri


def _used(workspace: Workspace, version: ModelVersion) -> Iterator[tuple[str, str]]:
    """Yield what the training took, if its job ran on this machine; the kWh are an estimate."""
    if (used := usage_of(workspace, version.run)) is not None:
        factors = EnergyFactors()
        kwh = energy([used], factors).kwh
        yield "CPU time", f"{used.cpu_seconds:.0f} s, at most {used.peak_bytes / 2**30:.2f} GiB of memory"
        yield "energy", f"about {kwh:.5f} kWh, estimated at {factors.watts_per_cpu:g} W a busy CPU thread"


def _manifests(spans: SpanStore, numbers: Iterable[int]) -> list[Manifest]:
    """Return the manifests of the spans that still exist."""
    found = []
    for number in sorted(numbers):
        try:
            found.append(spans.manifest(Span(number)))
        except SpanNotPublished:
            continue
    return found


def _span(manifest: Manifest) -> Sequence[object]:
    return f"span-{manifest.span}", manifest.batch, manifest.images_in("train"), manifest.images_in("test")


def _accuracies(version: ModelVersion) -> Iterator[Sequence[object]]:
    for name, value in sorted(version.metrics.items()):
        yield name, f"{value:.4f}"


def _recalls(version: ModelVersion) -> Iterator[Sequence[object]]:
    for name, recall in sorted(version.recalls.items()):
        if recall.images:
            interval = wilson_interval(recall.correct, recall.images)
            share = recall.correct / recall.images
            yield name, recall.images, recall.correct, f"{share:.3f}", f"{interval.low:.3f} to {interval.high:.3f}"


def _compared(comparison: Comparison) -> Iterator[str]:
    yield "## Comparison with the champion of that time, on the same test images\n"
    rows = [
        (f"span-{span}", pairs.both, pairs.champion_only, pairs.challenger_only, pairs.neither)
        for span, pairs in sorted(comparison.by_span.items())
    ]
    yield _table(["test split", "both right", "only the champion", "only this one", "both wrong"], rows)


def _event(event: VersionEvent) -> Sequence[object]:
    return event.time[:16].replace("T", " "), event.standing, event.reason


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown; an empty text without rows."""
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *lines, ""])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
