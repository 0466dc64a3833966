"""Where a pipeline runs: what its definition is given besides the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.workspace.vertex_settings import BEAM_IN_PROCESS


@dataclass(frozen=True)
class Place:
    """Where a pipeline runs.

    Attributes:
      root: Folder or gs:// URI of the pipeline's artifacts.
      platform: The platform's configuration as JSON text, for the components that reach out to it.
      run: Name of the run, for what it makes to remember.
      records: Folder or gs:// URI of the trigger's records.
      metadata: The ML Metadata connection; None where the runner brings its own.
      beam: Arguments of every Beam pipeline in it.
      ingestion: Whose parameters a training run takes there: `spans` SpanExampleGen's, `import` ImportExampleGen's.
    """

    root: str
    platform: str
    run: str
    records: str
    metadata: object | None = None
    beam: Sequence[str] = BEAM_IN_PROCESS
    ingestion: str = "spans"
