"""FileListGen: lists a batch of collected images in the form that batch prediction reads."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File

from adaptation import codec
from adaptation.data.batches import Batch, BatchStore
from components import artifacts


@tfx.dsl.components.component
def FileListGen(
    file_list: tfx.dsl.components.OutputArtifact[File],
    collection_root: tfx.dsl.components.Parameter[str],
    batch: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Takes the snapshot of a batch: the images that are there now, and no others, are evaluated and later archived.

    Args:
      file_list: Gets `file_list.txt`, one image URI a line, sorted, as Vertex AI batch prediction takes it, and
        `snapshot.json`; custom properties `batch`, `images` and `digest`.
      collection_root: Folder or gs:// URI that has the months `YYYY-MM/`.
      batch: The month; the newest where it is left out.

    Raises:
      InvalidBatch, NoBatch: It names no month, or one that is not there or has no images.

    Failure: the artifact is used only when the whole list was written; a retry takes a new snapshot.
    """
    store = BatchStore(collection_root)
    snapshot = store.snapshot(Batch.parse(batch) if batch else store.newest())
    artifacts.write(file_list, artifacts.SNAPSHOT, codec.encode(snapshot, indent=0))
    artifacts.write(file_list, artifacts.FILE_LIST, "".join(f"{uri}\n" for uri in snapshot.uris).encode())
    file_list.set_string_custom_property("batch", snapshot.batch)
    file_list.set_int_custom_property("images", len(snapshot.images))
    file_list.set_string_custom_property("digest", snapshot.digest)
