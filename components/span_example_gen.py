"""SpanExampleGen: ingests a window of spans without moving their bytes."""

from collections.abc import Sequence

from tfx import v1 as tfx

from adaptation import codec
from adaptation.data.labels import Skipped, refuse_if_too_many
from adaptation.data.span_decoding import left_out, usable_records
from adaptation.data.spans import Shard, Span, SpanStore
from adaptation.data.windows import Selection, select
from adaptation.io import storage
from adaptation.progress import report

SPLIT_FOLDERS = {"train": "Split-train", "test": "Split-eval"}


@tfx.dsl.components.component
def SpanExampleGen(
    examples: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Examples],
    data_root: tfx.dsl.components.Parameter[str],
    window: tfx.dsl.components.Parameter[str] = "all",
    digest: tfx.dsl.components.Parameter[str] = "",
    labels: tfx.dsl.components.Parameter[str] = "[]",
    max_skipped: tfx.dsl.components.Parameter[float] = 0.05,
) -> None:
    """Make the Examples artifact by linking the spans' immutable shards under `Split-train/` and `Split-eval/`.

    The cost grows with the number of files, not their size: a hard link on disk, a server-side copy on object storage.
    Only the images of spans of an earlier version are decoded; a shard is copied without those that cannot be.
    The layout of the artifact is TFX's: tfx/types/artifact_utils.py, `get_split_uri`.

    Args:
      examples: Gets the splits `train` and `eval`; custom properties `spans` (like `1-3`), `digest` and `images`.
      data_root: Folder or gs:// URI of the spans.
      window: `all`, `last:K` or a list like `1,3,9-11`.
      digest: Content digest of the window. Give it where results are cached: a cache key has parameters, not folders.
      labels: The model's label names as a JSON list: those of the spans, perhaps with others appended; an empty list
        accepts any.
      max_skipped: Share of the images that may be left out because they cannot be decoded.

    Raises:
      TooManySkipped: More images than that cannot be decoded.
      AdaptationError: The window is invalid, names an unpublished span, or its content is not that of `digest`.

    Failure: an artifact with some links is never used; a retry makes them again.
    """
    selection = select(data_root, window, digest, codec.decode(labels, tuple[str, ...], "the parameter labels"))
    store = SpanStore(data_root)
    unusable = left_out(store, selection.manifests)
    images = sum(manifest.images for manifest in selection.manifests)
    skipped = [image for shard in unusable.values() for image in shard]
    refuse_if_too_many(skipped, images, max_skipped)
    _report(skipped)
    links = _links(store, selection, examples.uri)
    storage.in_parallel(lambda pair: storage.link(*pair), [pair for pair in links if pair[0] not in unusable])
    for shard, target in links:
        if shard in unusable:
            storage.write(target, usable_records(shard))
    examples.splits = ["train", "eval"]
    examples.span = selection.spans[-1].number
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    examples.set_string_custom_property("spans", selection.window)
    examples.set_string_custom_property("digest", selection.digest)
    examples.set_int_custom_property("images", images - len(skipped))


def _links(store: SpanStore, selection: Selection, folder: str) -> list[tuple[str, str]]:
    return [
        (store.shard_uri(span, shard), storage.join(folder, _linked_name(span, shard)))
        for span, manifest in zip(selection.spans, selection.manifests, strict=True)
        for shard in manifest.shards
    ]


def _report(skipped: Sequence[Skipped]) -> None:
    for image in skipped:
        report(f"left out of this training: {image.name} {image.reason}")


def _linked_name(span: Span, shard: Shard) -> str:
    return f"{SPLIT_FOLDERS[shard.split]}/{span}-{storage.basename(shard.path)}"
