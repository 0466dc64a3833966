"""FileListGen: lists a batch of collected images in the form that batch prediction reads."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File

from adaptation import codec
from adaptation.data.batches import Batch, BatchStore
from adaptation.data.spans import SpanStore
from adaptation.data.waiting import snapshot_of
from adaptation.progress import report
from adaptation.trigger import continued
from components import artifacts


@tfx.dsl.components.component
def FileListGen(
    file_list: tfx.dsl.components.OutputArtifact[File],
    collection_root: tfx.dsl.components.Parameter[str],
    batch: tfx.dsl.components.Parameter[str] = "",
    data_root: tfx.dsl.components.Parameter[str] = "",
    records_root: tfx.dsl.components.Parameter[str] = "",
    run: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Take the snapshot of a batch: its present images that are in no span. Exactly these are evaluated.

    An evaluation that labels continue takes the snapshot that they were given for, and so do its retries.

    Args:
      file_list: Gets `file_list.txt`, one image URI a line, sorted, as Vertex AI batch prediction reads it, and
        `snapshot.json`, which also counts what was passed over; custom properties `batch`, `images` and `digest`.
      collection_root: Folder or gs:// URI of the batches, `YYYY-MM/`.
      batch: Name of the batch; the newest by default.
      data_root: Folder or gs:// URI of the spans; their images are left out. Without it none are.
      records_root: Folder or gs:// URI of the trigger's records, which say what this run is about.
      run: Name of this pipeline run.

    Raises:
      InvalidBatch, NoBatch: The name is invalid, or the batch does not exist or has no such images.

    Failure: the artifact is used only when the whole list was written; a retry takes a new snapshot.
    """
    store = BatchStore(collection_root)
    chosen = Batch.parse(batch) if batch else store.newest()
    waiting = continued(store, records_root, chosen, run) if records_root else None
    snapshot = snapshot_of(store, waiting) if waiting else store.snapshot(chosen)
    if data_root:
        snapshot = snapshot.without(SpanStore(data_root).images_of(snapshot.batch))
    artifacts.write(file_list, artifacts.SNAPSHOT, codec.encode(snapshot, indent=0))
    artifacts.write(file_list, artifacts.FILE_LIST, "".join(f"{uri}\n" for uri in snapshot.uris).encode())
    file_list.set_string_custom_property("batch", snapshot.batch)
    file_list.set_int_custom_property("images", len(snapshot.images))
    file_list.set_string_custom_property("digest", snapshot.digest)
    passed_over = f"; {snapshot.passed_over}" if snapshot.passed_over else ""
    report(f"{len(snapshot.images)} images of {snapshot.batch}{passed_over}")
