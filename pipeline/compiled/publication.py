"""Publication: specs in the pipeline bucket, under immutable names, and the latest one, which is run.

    <root>/specs/training/<digest>.json        a spec; written once
                          index/0001.json ...  the digest that became the latest, and when
                          latest.json          the latest spec itself, which the trigger submits

Nothing that was published is ever removed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.platforms.vertex.config import LATEST
from adaptation.retraining import TRAINING
from pipeline.compiled.spec import Spec
from pipeline.user_code import upload
from pipeline.workspace.settings import Settings


@dataclass(frozen=True)
class Entry:
    """A record of the index: the digest of the spec that became the latest, and when (ISO 8601, UTC)."""

    digest: str
    time: str


@dataclass(frozen=True)
class Published:
    """A published spec: its URI, which its digest names, and whether it existed before."""

    uri: str
    known: bool


def publish(settings: Settings, pipeline: str, spec: Spec) -> Published:
    """Put a spec into the bucket and make it the latest.

    The wheel with the recipe's code is uploaded first. Of several published at the same time, the last one in the
    index is the latest in the end.

    Failure: interrupted at any point, the latest spec is the old or the new one, complete; a retry finishes.
    """
    if pipeline == TRAINING:
        upload(settings)
    folder = settings.vertex.spec_folder(pipeline)
    index, uri = Journal(storage.join(folder, "index"), Entry), storage.join(folder, f"{spec.digest}.json")
    known = not _created(uri, spec)
    _enter(index, spec.digest)
    _follow_index(index, folder)
    return Published(uri, known)


def _created(uri: str, spec: Spec) -> bool:
    try:
        storage.create(uri, spec.to_json())
    except FileExistsError:
        return False
    return True


def _enter(index: Journal[Entry], digest: str) -> None:
    entry = Entry(digest, datetime.now(UTC).isoformat(timespec="seconds"))
    index.update(lambda last: None if last and last.value.digest == digest else entry)


def _follow_index(index: Journal[Entry], folder: str) -> None:
    """Make the index's last spec the latest; look again, because another may have been added meanwhile."""
    written = None
    while (last := index.last()) != written:
        assert last is not None  # an entry was made before; none is ever removed
        storage.write(storage.join(folder, LATEST), storage.read(storage.join(folder, f"{last.value.digest}.json")))
        written = last
