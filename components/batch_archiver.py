"""BatchArchiver: moves the images that have become training data out of the months they were collected in."""

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
    """Archives exactly the snapshots that the trained spans were made from, once the training run has got to its end.

    Images that came later stay. Spans that were not made from a month of collected images leave nothing to archive.

    Args:
      deployment: VertexDeployer's, which knows the spans.
      archive: Gets the custom property `images`, how many were moved.
      data_root: Folder or gs:// URI that has the spans.
      collection_root: The one that has the months; a snapshot may say where they were before the workspace was moved.
        Specs of 0.1.0 leave it out: where the snapshot says.

    Failure: each image is at the old place or at the new one; a retry, or the next training run, moves the rest.
    """
    store = SpanStore(data_root)
    spans = map(Span, sorted(artifacts.read_deployment(deployment).verdict.challenger))
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
