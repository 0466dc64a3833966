"""BatchArchiver: moves the images that have become training data out of their batches."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File

from adaptation.data.batches import BatchStore, Snapshot, collection_of
from adaptation.data.spans import Span, SpanStore
from adaptation.progress import report
from components import artifacts


@tfx.dsl.components.component
def BatchArchiver(
    deployment: tfx.dsl.components.InputArtifact[File],
    archive: tfx.dsl.components.OutputArtifact[File],
    data_root: tfx.dsl.components.Parameter[str],
    collection_root: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Archive exactly the snapshots that the trained spans were made from, at the end of the training job.

    Later images stay. Spans that were not made from a batch leave nothing to archive.

    Args:
      deployment: The output of VertexDeployer, which lists the spans.
      archive: Gets the custom property `images`, the number of moved images.
      data_root: Folder or gs:// URI of the spans.
      collection_root: Folder or gs:// URI of the batches; a snapshot may name the one before the workspace was moved.
        Specs of 0.1.0 omit it; then the one that the snapshot names.

    Failure: each image is at the old place or at the new one; a retry, or the next training job, moves the rest.
    """
    store = SpanStore(data_root)
    spans = map(Span, artifacts.read_deployment(deployment).comparison.by_span)
    snapshots = [snapshot for snapshot in map(store.snapshot, spans) if snapshot]
    moved = sum(_archive(snapshot, collection_root) for snapshot in snapshots)
    archive.set_int_custom_property("images", moved)
    if moved:
        report(f"archived {moved} images")


def _archive(snapshot: Snapshot, collection_root: str) -> int:
    batches = collection_of(snapshot)
    if batches is None:
        return 0
    return (BatchStore(collection_root) if collection_root else batches).archive(snapshot)
