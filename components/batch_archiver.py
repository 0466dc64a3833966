"""BatchArchiver: moves the images that have become training data out of the months they were collected in."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File

from adaptation.data.batches import BatchStore, collection_of
from adaptation.data.spans import Span, SpanStore
from adaptation.progress import report
from components import artifacts


@tfx.dsl.components.component
def BatchArchiver(
    deployment: tfx.dsl.components.InputArtifact[File],
    archive: tfx.dsl.components.OutputArtifact[File],
    data_root: tfx.dsl.components.Parameter[str],
    collection_root: tfx.dsl.components.Parameter[str],
) -> None:
    """Archives exactly the snapshots that the trained spans were made from, once the training run has got to its end.

    Images that came later stay. Spans that were not made from a month of collected images leave nothing to archive.

    Args:
      deployment: VertexDeployer's, which knows the spans.
      archive: Gets the custom property `images`, how many were moved.
      data_root: Folder or gs:// URI that has the spans.
      collection_root: The one that has the months; a snapshot may say where they were before the workspace was moved.

    Failure: each image is at the old place or at the new one; a retry, or the next training run, moves the rest.
    """
    store, batches = SpanStore(data_root), BatchStore(collection_root)
    spans = map(Span, sorted(artifacts.read_deployment(deployment).verdict.challenger))
    snapshots = [snapshot for snapshot in map(store.snapshot, spans) if snapshot]
    moved = sum(batches.archive(snapshot) for snapshot in snapshots if collection_of(snapshot))
    archive.set_int_custom_property("images", moved)
    if moved:
        report(f"archived {moved} images")
