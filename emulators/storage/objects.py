"""The objects of the storage emulator: buckets, contents and listings, all in memory.

The resources are kept as gcp-storage-emulator keeps them. This module adds what it lacks, or does at a cost that grows
with the number of objects: names taken literally, listings in pages, uploads whose parts may come again.
"""

from __future__ import annotations

import bisect
import itertools
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gcp_storage_emulator.exceptions import BadRequest, NotFound
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.storage import Storage

Resource = dict[str, Any]
LARGEST_PAGE = 1000
ENDED_UPLOADS = 10_000
_LAST = chr(0x10FFFF)


@dataclass(frozen=True)
class Listing:
    """The parameters of a listing.

    Attributes:
      bucket: The bucket.
      prefix: The beginning of the names.
      delimiter: Names that have it behind the prefix are listed by the part up to it, as one folder.
      start: The first name, included.
      end: The last name, not included.
      after: The last name or folder of the page before.
      limit: The largest number of names and folders on a page.
    """

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    after: str = ""
    limit: int = LARGEST_PAGE

    def reaches(self, name: str) -> bool:
        """Return True if a name, not before the first one, is listed."""
        return name.startswith(self.prefix) and not (self.end and name >= self.end)

    def folder_of(self, name: str) -> str:
        """Return the folder by which the name is listed, or "" if it is listed itself."""
        cut = name.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
        return name[: cut + len(self.delimiter)] if cut >= 0 else ""


@dataclass(frozen=True)
class Page:
    """A page of a listing; the next one comes after `last`, None on the last page."""

    items: tuple[Resource, ...]
    prefixes: tuple[str, ...]
    last: str | None


class Objects(Storage):  # type: ignore[misc]
    """Buckets and objects.

    Args:
      finalized: Is called with each object that was created or replaced.
    """

    def __init__(self, finalized: Callable[[Resource], None]) -> None:
        super().__init__(use_memory_fs=True)
        self._finalized = finalized
        self._store = _Contents()
        self._names: dict[str, list[str]] = defaultdict(list)
        self._parts: dict[str, bytearray] = {}
        self._ended: dict[str, Resource] = {}

    def add_bucket(self, name: str) -> None:
        """Create a bucket.

        Raises:
          FileExistsError: The bucket exists.
        """
        if not buckets.create_bucket(name, self):
            raise FileExistsError(f"there is a bucket {name!r} already.")

    def find(self, bucket: str, name: str) -> Resource | None:
        """Return the object's resource, or None."""
        found: Resource | None = self.objects.get(bucket, {}).get(name)
        return found

    def page(self, listing: Listing) -> Page:
        """Return a page of a listing; names and prefixes are in one common order.

        Raises:
          NotFound: The bucket does not exist.
        """
        if listing.bucket not in self.buckets:
            raise NotFound
        entries = self._entries(listing)
        shown = list(itertools.islice(entries, listing.limit))
        items = tuple(self.objects[listing.bucket][entry] for entry in shown if not listing.folder_of(entry))
        prefixes = tuple(entry for entry in shown if listing.folder_of(entry))
        return Page(items, prefixes, shown[-1] if next(entries, None) else None)

    def _entries(self, listing: Listing) -> Iterator[str]:
        names = self._names[listing.bucket]
        at = bisect.bisect_left(names, max(listing.prefix, listing.start))
        if listing.after:
            at = max(at, _place_after(names, listing.after, listing))
        while at < len(names) and listing.reaches(names[at]):
            entry = listing.folder_of(names[at]) or names[at]
            yield entry
            at = _place_after(names, entry, listing)

    def create_file(
        self, bucket_name: str, file_name: str, content: bytes, file_obj: Resource, file_id: str | None = None
    ) -> None:
        """Put an object in place."""
        if bucket_name not in self.buckets:
            raise NotFound
        if not self.find(bucket_name, file_name):
            bisect.insort(self._names[bucket_name], file_name)
        file_obj |= {"metageneration": "1", "size": str(len(content)), "name": file_name}
        if "mediaLink" in file_obj:
            file_obj["mediaLink"] = file_obj["mediaLink"].replace(
                f"/o/{file_name}?", f"/o/{quote(file_name, safe='')}?"
            )
        if file_id:
            self._end_upload(file_id, file_obj)
        super().create_file(bucket_name, file_name, content, file_obj)
        self._finalized(file_obj)

    def delete_file(self, bucket_name: str, file_name: str) -> None:
        """Remove an object for good."""
        self._hard_delete_file(bucket_name, file_name)
        names = self._names[bucket_name]
        del names[bisect.bisect_left(names, file_name)]

    def create_resumable_upload(self, bucket_name: str, file_name: str, file_obj: Resource) -> str:
        """Begin an upload in parts; return its id."""
        if bucket_name not in self.buckets:
            raise NotFound
        upload = uuid.uuid4().hex
        self.resumable[upload] = file_obj
        self._parts[upload] = bytearray()
        return upload

    def get_resumable_byte_count(self, file_id: str) -> int:
        """Return how many bytes of an upload in parts have arrived."""
        return len(self._parts[file_id])

    def add_to_resumable_upload(
        self, file_id: str, content: bytes, total_size: int | None = None, expected_start: int | None = None
    ) -> bytes | None:
        """Add a part to the earlier ones; return the whole content once it is complete."""
        data = self._parts[file_id]
        start = len(data) if expected_start is None else expected_start
        if start > len(data):
            raise BadRequest(f"a part begins at {start}, {len(data)} bytes have come before it")
        data += content[len(data) - start :]
        return bytes(data[:total_size]) if total_size is not None and len(data) >= total_size else None

    def ended_upload(self, upload: str) -> Resource | None:
        """Return the object of an upload in parts, or None while it goes on."""
        return self._ended.get(upload)

    def cancel_upload(self, upload: str) -> None:
        """Cancel an upload in parts; a missing one is no error."""
        self.resumable.pop(upload, None)
        self._parts.pop(upload, None)

    def _end_upload(self, upload: str, resource: Resource) -> None:
        self.cancel_upload(upload)
        self._ended[upload] = resource
        while len(self._ended) > ENDED_UPLOADS:
            del self._ended[next(iter(self._ended))]

    def _object_path(self, bucket_name: str, file_name: str) -> str:
        return f"{bucket_name}/{file_name}"

    def _write_config_to_file(self) -> None:
        """Do nothing: all resources would be written out again after each change."""


class _Contents:
    """Contents by path; a path is only a name here."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def makedirs(self, path: str) -> None:
        """Do nothing: there are no folders."""

    def remove_tree(self, path: str) -> None:
        """Do nothing: there are no folders, and a removed bucket is empty."""

    def write_bytes(self, path: str, content: bytes) -> None:
        """Keep a content."""
        self._contents[path] = content

    def read_bytes(self, path: str) -> bytes:
        """Return the content."""
        if path not in self._contents:
            raise FileNotFoundError(path)
        return self._contents[path]

    def remove_file(self, path: str) -> None:
        """Remove a content."""
        if self._contents.pop(path, None) is None:
            raise FileNotFoundError(path)


def _place_after(names: list[str], entry: str, listing: Listing) -> int:
    """Return where a listing goes on after a name, or after all names in a folder."""
    if listing.folder_of(entry):
        return bisect.bisect_left(names, entry + _LAST)
    return bisect.bisect_right(names, entry)
