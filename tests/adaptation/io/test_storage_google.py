"""Storage on Google Cloud Storage: requests that are lost, slow or paged."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from adaptation.io import object_store, storage
from adaptation.io.object_store import NoBucket, StorageFailed, StorageRefused
from adaptation.io.storage import File, join
from emulators.storage.emulator import StorageEmulator
from tests.worlds.vertex import object_storage


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageEmulator]:
    async def soon(seconds: float) -> None:
        await asyncio.sleep(seconds / 100)

    monkeypatch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=soon))
    with object_storage(monkeypatch, "b") as emulator:
        emulator.create_bucket("other")
        yield emulator


def filled(count: int, size: int = 100) -> list[str]:
    uris = [f"gs://b/a/{number:04}.jpg" for number in range(count)]
    storage.in_parallel(lambda uri: storage.write(uri, uri.encode().ljust(size)), uris)
    return uris


def put(emulator: StorageEmulator, name: str) -> None:
    """Create an empty object as another process does."""
    query = {"uploadType": "media", "name": name}
    requests.post(f"{emulator.url}/upload/storage/v1/b/b/o", b"", params=query).raise_for_status()


# Lost requests


@pytest.mark.parametrize(
    "fault", [{"status": 429}, {"status": 503}, {"drop": "before"}, {"drop": "after"}, {"drop": "within"}]
)
@pytest.mark.parametrize(
    "operation",
    [
        lambda: storage.create("gs://b/new", b"data"),
        lambda: storage.write("gs://b/new", b"data"),
        lambda: storage.link("gs://b/old", "gs://b/new"),
        lambda: storage.write("gs://b/new", storage.read("gs://b/old")),
    ],
    ids=["create", "write", "link", "read"],
)
def test_lost_request_or_response_is_retried(emulator: StorageEmulator, operation: Any, fault: dict[str, Any]) -> None:
    storage.write("gs://b/old", b"data")
    emulator.fail_next("", times=2, **fault)
    operation()
    assert storage.read("gs://b/new") == b"data"


def test_create_whose_response_was_lost_still_reports_success(emulator: StorageEmulator) -> None:
    emulator.fail_next("^POST", drop="after")
    storage.create("gs://b/a", b"data")
    assert emulator.count("^POST") == 2
    with pytest.raises(FileExistsError):
        storage.create("gs://b/a", b"data")


def test_concurrent_creates_have_one_winner_over_a_bad_connection(emulator: StorageEmulator) -> None:
    def create(_: int) -> bool:
        try:
            storage.create("gs://b/a", b"all alike")
        except FileExistsError:
            return False
        return True

    for drop in ("after", "before", "within"):
        emulator.fail_next("^POST", times=8, drop=drop)
    assert storage.in_parallel(create, range(40)).count(True) == 1


def test_large_file_arrives_whole_over_a_bad_connection(emulator: StorageEmulator) -> None:
    data = bytes(range(256)) * (51 * 2**12)  # above 50 MiB gcsfs sends it in parts
    for drop in ("before", "after", "within"):
        emulator.fail_next("upload_id", drop=drop)
    storage.create("gs://b/a", data)
    assert storage.read("gs://b/a") == data
    assert emulator.count("upload_id") == 5


@pytest.mark.parametrize("drop", ["before", "after"])
def test_move_whose_response_was_lost_loses_no_file(emulator: StorageEmulator, drop: Any) -> None:
    storage.write("gs://b/a", b"data")
    emulator.fail_next("moveTo", drop=drop)
    try:
        storage.move("gs://b/a", "gs://b/c")
    except (FileExistsError, FileNotFoundError):
        assert drop == "after"
    assert storage.files_below("gs://b") == [File("c", 4)]


def test_removal_whose_response_was_lost_is_no_error(emulator: StorageEmulator) -> None:
    storage.write("gs://b/a", b"data")
    emulator.fail_next("^DELETE", drop="after")
    storage.remove("gs://b/a")
    assert not storage.exists("gs://b/a")


def test_request_without_an_answer_is_retried(emulator: StorageEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "SECONDS_OF_SILENCE", 0.2)
    storage.write("gs://b/a", b"data")
    emulator.fail_next("^GET", delay=600)
    assert storage.read("gs://b/a") == b"data"
    assert emulator.count("^GET") > 1


@pytest.mark.parametrize(
    "operation",
    [
        storage.exists,
        storage.files,
        storage.folders,
        storage.files_below,
        lambda uri: next(storage.iter_files_below(uri)),
        storage.read,
        storage.remove,
        storage.remove_folder,
        lambda uri: storage.write(uri, b"new"),
        lambda uri: storage.create(uri + ".new", b"new"),
        lambda uri: storage.move(uri, uri + ".new"),
        lambda uri: storage.link(uri, uri + ".new"),
    ],
)
def test_server_that_is_down_raises_and_is_not_taken_for_empty(emulator: StorageEmulator, operation: Any) -> None:
    storage.write("gs://b/a", b"data")
    emulator.fail_next("", times=100, status=503)
    with pytest.raises(StorageFailed, match="^gs://b/a.*503"):
        operation("gs://b/a")


def test_read_many_returns_an_error_for_a_file_that_keeps_failing(emulator: StorageEmulator) -> None:
    first, second = filled(2)
    emulator.fail_next("0001", times=100, status=503)
    data, error = storage.read_many([first, second])
    assert data == storage.read(first)
    assert isinstance(error, StorageFailed)


def test_server_that_never_answers_raises_storage_failed(
    emulator: StorageEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "SECONDS_PER_REQUEST", 0.2)
    emulator.fail_next("", times=100, delay=5)
    with pytest.raises(StorageFailed, match="TimeoutError"):
        storage.read("gs://b/a")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_transient_status_raises_storage_failed(emulator: StorageEmulator, status: int) -> None:
    emulator.fail_next("", times=100, status=status)
    with pytest.raises(StorageFailed, match="^gs://b/a"):
        storage.files_below("gs://b/a")


@pytest.mark.parametrize("status", [400, 401, 403, 405])
@pytest.mark.parametrize("operation", [storage.read, storage.files, storage.files_below, storage.folders])
def test_permanent_status_raises_storage_refused(emulator: StorageEmulator, operation: Any, status: int) -> None:
    storage.write("gs://b/a", b"data")
    emulator.fail_next("", times=100, status=status)
    with pytest.raises(StorageRefused, match="^gs://b/a.*refuses.*roles of the account"):
        operation("gs://b/a")


@pytest.mark.parametrize("operation", [storage.files, storage.files_below, storage.folders])
def test_missing_bucket_raises_and_is_not_taken_for_empty(emulator: StorageEmulator, operation: Any) -> None:
    with pytest.raises(NoBucket, match="there is no bucket 'missing'"):
        operation("gs://missing/a")


# Moves


def test_concurrent_moves_to_one_place_have_one_winner_and_lose_none(emulator: StorageEmulator) -> None:
    def move(uri: str) -> bool:
        try:
            storage.move(uri, "gs://b/target")
        except FileExistsError:
            return False
        return True

    uris = filled(40)
    arrived = storage.in_parallel(move, uris)
    assert arrived.count(True) == 1
    assert storage.read("gs://b/target").strip() == uris[arrived.index(True)].encode()
    assert len(storage.files_below("gs://b")) == 40


def test_move_is_one_request(emulator: StorageEmulator) -> None:
    storage.write("gs://b/a", b"data")
    emulator.requests.clear()
    storage.move("gs://b/a", "gs://b/c")
    assert list(emulator.requests) == ["POST /storage/v1/b/b/o/a/moveTo/o/c?ifGenerationMatch=0"]


def test_file_can_be_moved_to_another_bucket(emulator: StorageEmulator) -> None:
    storage.write("gs://b/a", b"data")
    storage.write("gs://other/c", b"other")
    with pytest.raises(FileExistsError):
        storage.move("gs://b/a", "gs://other/c")
    storage.move("gs://b/a", "gs://other/a")
    assert storage.files_below("gs://b") == []
    assert storage.files_below("gs://other") == [File("a", 4), File("c", 5)]


# Listings


def test_listing_of_many_pages_is_complete(emulator: StorageEmulator) -> None:
    uris = filled(2500, size=0)
    emulator.requests.clear()
    assert [join("gs://b/a", file.name) for file in storage.files_below("gs://b/a")] == uris
    assert emulator.count("") == 3
    assert [join("gs://b/a", file.name) for file in storage.files("gs://b/a")] == uris


def test_listing_stopped_early_requests_no_further_page(emulator: StorageEmulator) -> None:
    filled(2500, size=0)
    emulator.requests.clear()
    files = storage.iter_files_below("gs://b/a")
    assert emulator.count("") == 0
    for read, pages in ((1, 1), (999, 1), (1, 2), (1499, 3)):
        assert len(list(itertools.islice(files, read))) == read
        assert emulator.count("") == pages
    assert list(files) == []


def test_folders_outside_the_range_cost_no_page(emulator: StorageEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "NAMES_PER_PAGE", 5)
    for name in [*(f"{number:02}/x" for number in range(30)), *(f"17/{number}" for number in range(20))]:
        storage.write(f"gs://b/a/{name}", b"")
    emulator.requests.clear()
    assert storage.folders("gs://b/a", "15", "19") == ["15", "16", "17", "18"]
    assert emulator.count("") == 1


def test_folder_is_listed_without_others_that_begin_with_its_name(emulator: StorageEmulator) -> None:
    storage.write("gs://b/2021-10_old/a", b"")
    assert storage.files_below("gs://b/2021-10") == []
    assert emulator.count(r"GET .*prefix=2021-10/") == emulator.count("GET") > 0


def test_folder_marker_objects_are_not_listed_as_files(emulator: StorageEmulator) -> None:
    for name in ("folder/", "folder/sub/", "folder/a"):
        put(emulator, name)
    assert storage.files("gs://b/folder") == storage.files_below("gs://b/folder") == [File("a", 0)]
    assert storage.folders("gs://b/folder") == ["sub"]
    assert storage.folders("gs://b") == ["folder"]
    assert storage.files_below("gs://b") == [File("folder/a", 0)]
    storage.remove_folder("gs://b/folder")
    assert not storage.exists("gs://b/folder")


def test_writes_of_another_process_are_seen_at_once(emulator: StorageEmulator) -> None:
    for count in range(3):
        assert len(storage.files("gs://b/a")) == len(storage.files_below("gs://b")) == count
        put(emulator, f"a/{count}")
        assert storage.exists(f"gs://b/a/{count}")


# Many requests in flight


def test_reads_of_many_files_run_in_parallel(emulator: StorageEmulator) -> None:
    uris = filled(500)
    emulator.latency, emulator.most_in_flight = 0.1, 0
    assert [data.strip().decode() for data in storage.read_many(uris) if isinstance(data, bytes)] == uris
    assert emulator.most_in_flight > object_store.REQUESTS_IN_FLIGHT / 2


def test_moves_of_many_files_run_in_parallel(emulator: StorageEmulator) -> None:
    uris = filled(500)
    emulator.latency, emulator.most_in_flight = 0.1, 0
    storage.in_parallel(lambda uri: storage.move(uri, uri + ".moved"), uris)
    assert emulator.most_in_flight > object_store.REQUESTS_IN_FLIGHT / 2
