"""Storage emulator: it is as strict as the service, and fails on request."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import fsspec
import google.auth
import pytest
import requests
from aiohttp import web
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as cloud
from hypothesis import given
from hypothesis import strategies as st

from emulators.http_server import LoopbackServer, Request
from emulators.storage.emulator import StorageEmulator
from emulators.storage.objects import Listing, Objects

Upload = Callable[..., requests.Response]


@pytest.fixture
def emulator() -> Iterator[StorageEmulator]:
    with StorageEmulator() as emulator:
        emulator.create_bucket("b")
        yield emulator


@pytest.fixture
def bucket(emulator: StorageEmulator, monkeypatch: pytest.MonkeyPatch) -> cloud.Bucket:
    """Return the bucket as the service's client library sees it."""
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    return cloud.Client("project", AnonymousCredentials()).bucket("b")


class Subscriber(LoopbackServer):
    """A server that keeps what is posted to it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Request] = []

    def answer(self, request: Request) -> web.Response:
        self.events.append(request)
        return web.Response(status=204)

    @property
    def names(self) -> list[str]:
        return sorted(json.loads(event.body)["name"] for event in self.events)


def media(url: str, name: str, data: bytes, **conditions: Any) -> requests.Response:
    return requests.post(
        f"{url}/upload/storage/v1/b/b/o", data, params={"uploadType": "media", "name": name} | conditions
    )


def multipart(url: str, name: str, data: bytes, **conditions: Any) -> requests.Response:
    return requests.post(
        f"{url}/upload/storage/v1/b/b/o",
        parts(name, data, b"\r\n"),
        headers={"Content-Type": "multipart/related; boundary=cut"},
        params={"uploadType": "multipart"} | conditions,
    )


def parts(name: str, data: bytes, end: bytes) -> bytes:
    meta = [b"--cut", b"Content-Type: application/json", b"", json.dumps({"name": name}).encode()]
    return end.join([*meta, b"--cut", b"Content-Type: image/png", b"", data, b"--cut--"])


def resumable(url: str, name: str, data: bytes, **conditions: Any) -> requests.Response:
    begun = begin(url, name, **conditions)
    return send(begun.headers["Location"], data, 0, len(data)) if begun.ok else begun


def begin(url: str, name: str, **conditions: Any) -> requests.Response:
    return requests.post(
        f"{url}/upload/storage/v1/b/b/o", params={"uploadType": "resumable", "name": name} | conditions
    )


def send(location: str, data: bytes, start: int, total: int) -> requests.Response:
    span = f"{start}-{start + len(data) - 1}" if data else "*"
    return requests.put(location, data, headers={"Content-Range": f"bytes {span}/{total}"})


EVERY_UPLOAD = pytest.mark.parametrize("upload", [media, multipart, resumable])


def read(url: str, name: str, **headers: str) -> requests.Response:
    return requests.get(f"{url}/b/{name}", headers=headers)


def generation(url: str, name: str) -> int:
    return int(requests.get(f"{url}/storage/v1/b/b/o/{name}").json()["generation"])


# Preconditions


@EVERY_UPLOAD
def test_object_is_created_once(emulator: StorageEmulator, upload: Upload) -> None:
    assert upload(emulator.url, "a", b"first", ifGenerationMatch=0).status_code == 200
    assert upload(emulator.url, "a", b"second", ifGenerationMatch=0).status_code == 412
    assert read(emulator.url, "a").content == b"first"


@EVERY_UPLOAD
def test_upload_replaces_only_the_generation_that_was_seen(emulator: StorageEmulator, upload: Upload) -> None:
    seen = upload(emulator.url, "a", b"1").json()["generation"]
    assert upload(emulator.url, "a", b"2", ifGenerationMatch=seen).status_code == 200
    assert upload(emulator.url, "a", b"3", ifGenerationMatch=seen).status_code == 412
    assert upload(emulator.url, "new", b"3", ifGenerationMatch=seen).status_code == 412
    assert read(emulator.url, "a").content == b"2"


@EVERY_UPLOAD
def test_generation_that_was_seen_is_kept(emulator: StorageEmulator, upload: Upload) -> None:
    seen = upload(emulator.url, "a", b"1").json()["generation"]
    assert upload(emulator.url, "a", b"2", ifGenerationNotMatch=seen).status_code == 412
    assert upload(emulator.url, "new", b"2", ifGenerationNotMatch=0).status_code == 412
    assert upload(emulator.url, "a", b"2", ifGenerationNotMatch=0).status_code == 200


@EVERY_UPLOAD
def test_upload_without_condition_replaces_what_is_there(emulator: StorageEmulator, upload: Upload) -> None:
    generations = [int(upload(emulator.url, "a", data).json()["generation"]) for data in (b"old", b"new")]
    assert read(emulator.url, "a").content == b"new"
    assert generations[0] < generations[1] == generation(emulator.url, "a")


def test_condition_is_checked_when_an_upload_ends(emulator: StorageEmulator) -> None:
    location = begin(emulator.url, "a", ifGenerationMatch=0).headers["Location"]
    media(emulator.url, "a", b"faster")
    assert send(location, b"slower", 0, 6).status_code == 412
    assert read(emulator.url, "a").content == b"faster"


def test_concurrent_creates_of_200_clients_have_one_winner(emulator: StorageEmulator) -> None:
    async def create(session: aiohttp.ClientSession, number: int) -> int:
        target = f"{emulator.url}/upload/storage/v1/b/b/o?uploadType=media&name=a&ifGenerationMatch=0"
        async with session.post(target, data=f"{number}".encode() * 1000) as response:
            return response.status

    async def race() -> list[int]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return await asyncio.gather(*(create(session, number) for number in range(200)))

    emulator.latency = 0.5
    statuses = asyncio.run(race())
    assert sorted(statuses) == [200] + [412] * 199
    assert emulator.most_in_flight == 200
    assert read(emulator.url, "a").content == f"{statuses.index(200)}".encode() * 1000


@pytest.mark.parametrize("copy", ["copyTo/b/b/o/new", "rewriteTo/b/b/o/new", "moveTo/o/new"])
def test_copies_and_moves_hold_to_conditions_on_both_ends(emulator: StorageEmulator, copy: str) -> None:
    def status(**conditions: int) -> int:
        return requests.post(f"{emulator.url}/storage/v1/b/b/o/old/{copy}", params=conditions).status_code

    media(emulator.url, "old", b"old")
    media(emulator.url, "new", b"new")
    old, new = generation(emulator.url, "old"), generation(emulator.url, "new")
    assert status(ifGenerationMatch=0) == 412
    assert status(ifGenerationMatch=old) == 412
    assert status(ifGenerationMatch=new, ifSourceGenerationMatch=new) == 412
    assert status(sourceGeneration=new) == 404
    assert (read(emulator.url, "old").content, read(emulator.url, "new").content) == (b"old", b"new")
    assert status(ifGenerationMatch=new, ifSourceGenerationMatch=old, ifSourceMetagenerationMatch=1) == 200
    assert read(emulator.url, "new").content == b"old"


def test_composing_holds_to_conditions(bucket: cloud.Bucket) -> None:
    sources = [bucket.blob(name) for name in ("a", "b")]
    for blob in sources:
        blob.upload_from_string(blob.name * 2)
    bucket.blob("sum").compose(sources, if_generation_match=0)
    assert bucket.blob("sum").download_as_bytes() == b"aabb"
    with pytest.raises(PreconditionFailed):
        bucket.blob("sum").compose(sources, if_generation_match=0)


def test_deletion_removes_only_the_generation_that_was_seen(bucket: cloud.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=blob.generation + 1)
    blob.delete(if_generation_match=blob.generation)
    with pytest.raises(NotFound):
        blob.delete()


def test_metadata_change_makes_a_new_metageneration(bucket: cloud.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    assert blob.metageneration == 1
    blob.metadata = {"key": "value"}
    blob.patch(if_metageneration_match=1)
    assert blob.metageneration == 2
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=1)


# Uploads


@given(
    data=st.binary(), end=st.sampled_from([b"\r\n", b"\n"]), tail=st.sampled_from([b"", b"\r", b"\r\n", b"\r\n--cut--"])
)
def test_multipart_upload_keeps_every_byte(data: bytes, end: bytes, tail: bytes) -> None:
    request = Request(
        "POST",
        "/upload/storage/v1/b/b/o?uploadType=multipart",
        {"host": "127.0.0.1", "content-type": 'multipart/related; boundary="cut"'},
        parts("a", data + tail, end),
    )
    emulator = StorageEmulator()
    emulator.create_bucket("b")
    assert emulator.answer(request).status == 200
    response = emulator.answer(Request("GET", "/b/a", {"host": "127.0.0.1"}, b""))
    assert (response.body, response.headers["Content-Type"]) == (data + tail, "image/png")


@EVERY_UPLOAD
def test_empty_object_can_be_uploaded(emulator: StorageEmulator, upload: Upload) -> None:
    assert upload(emulator.url, "empty", b"").json()["size"] == "0"
    assert read(emulator.url, "empty").content == b""


def test_chunked_request_may_have_a_content_length_too(emulator: StorageEmulator) -> None:
    host, port = emulator.url.removeprefix("http://").split(":")
    head = (
        "POST /upload/storage/v1/b/b/o?uploadType=media&name=a HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n"
        "Content-Length: 11\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(
            b"6\r\nhello \r\n5;x=y\r\nworld\r\n0\r\nTrailer: z\r\n\r\nGET /b/a HTTP/1.1\r\nHost: here\r\n\r\n"
        )
        received = b""
        while not received.endswith(b"hello world"):
            assert (data := connection.recv(10_000))
            received += data


def test_upload_through_tls_goes_on_through_tls(emulator: StorageEmulator) -> None:
    headers = {"Host": "storage.googleapis.com"}
    params = {"uploadType": "resumable", "name": "a"}
    begun = requests.post(f"{emulator.url}/upload/storage/v1/b/b/o", params=params, headers=headers)
    assert begun.headers["Location"].startswith("https://storage.googleapis.com/upload/storage/v1/b/b/o?")


def test_upload_in_parts_is_visible_after_the_last_part(emulator: StorageEmulator) -> None:
    location = begin(emulator.url, "a").headers["Location"]
    first = send(location, b"hel", 0, 5)
    assert (first.status_code, first.headers["Range"]) == (308, "bytes=0-2")
    assert read(emulator.url, "a").status_code == 404
    assert send(location, b"lo", 3, 5).json()["size"] == "5"
    assert read(emulator.url, "a").content == b"hello"


def test_repeated_part_is_accepted_once(emulator: StorageEmulator) -> None:
    location = begin(emulator.url, "a", ifGenerationMatch=0).headers["Location"]
    for _ in range(2):
        assert send(location, b"hel", 0, 5).headers["Range"] == "bytes=0-2"
    assert [send(location, b"lo", 3, 5).status_code for _ in range(2)] == [200, 200]
    assert read(emulator.url, "a").content == b"hello"


def test_part_out_of_order_is_refused(emulator: StorageEmulator) -> None:
    location = begin(emulator.url, "a").headers["Location"]
    assert send(location, b"lo", 3, 5).status_code == 400


def test_upload_reports_how_many_bytes_arrived(emulator: StorageEmulator) -> None:
    location = begin(emulator.url, "a").headers["Location"]
    assert "Range" not in send(location, b"", 0, 5).headers
    send(location, b"hel", 0, 5)
    assert send(location, b"", 0, 5).headers["Range"] == "bytes=0-2"


def test_cancelled_upload_cannot_be_finished(emulator: StorageEmulator) -> None:
    location = begin(emulator.url, "a").headers["Location"]
    assert requests.delete(location).status_code == 499
    assert send(location, b"hello", 0, 5).status_code == 404


def test_checksum_that_does_not_fit_is_refused(bucket: cloud.Bucket) -> None:
    blob = bucket.blob("a")
    blob.md5_hash = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(Exception, match="doesn't match"):
        blob.upload_from_string(b"data")


# Downloads


@pytest.mark.parametrize(
    ("asked", "content", "span"),
    [
        ("bytes=2-4", b"cde", "bytes 2-4/10"),
        ("bytes=7-", b"hij", "bytes 7-9/10"),
        ("bytes=7-99", b"hij", "bytes 7-9/10"),
        ("bytes=-3", b"hij", "bytes 7-9/10"),
        ("bytes=-99", b"abcdefghij", "bytes 0-9/10"),
    ],
)
def test_range_of_bytes_can_be_read(emulator: StorageEmulator, asked: str, content: bytes, span: str) -> None:
    media(emulator.url, "a", b"abcdefghij")
    response = read(emulator.url, "a", Range=asked)
    assert (response.status_code, response.content, response.headers["Content-Range"]) == (206, content, span)


def test_download_has_its_checksum(emulator: StorageEmulator) -> None:
    resource = media(emulator.url, "a", b"123456789").json()
    assert resource["crc32c"] == base64.b64encode(bytes.fromhex("e3069283")).decode()
    assert f"crc32c={resource['crc32c']}," in read(emulator.url, "a").headers["X-Goog-Hash"]


def test_range_beyond_the_end_cannot_be_read(emulator: StorageEmulator) -> None:
    media(emulator.url, "a", b"abc")
    assert read(emulator.url, "a", Range="bytes=3-").status_code == 416


def test_replaced_generation_is_not_found(bucket: cloud.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    first = blob.generation
    blob.upload_from_string(b"2")
    assert bucket.blob("a", generation=blob.generation).download_as_bytes() == b"2"
    with pytest.raises(NotFound):
        bucket.blob("a", generation=first).download_as_bytes()


def test_missing_objects_and_buckets_are_not_found(bucket: cloud.Bucket) -> None:
    assert not bucket.blob("a").exists()
    assert not bucket.client.bucket("other").exists()
    with pytest.raises(NotFound):
        bucket.client.bucket("other").blob("a").upload_from_string(b"")
    with pytest.raises(NotFound):
        list(bucket.client.list_blobs("other"))


def test_unknown_requests_are_refused(emulator: StorageEmulator) -> None:
    assert requests.get(f"{emulator.url}/storage/v1/b/b/o?matchGlob=*").status_code == 501
    assert requests.post(f"{emulator.url}/storage/v1/b/b/anywhereCaches").status_code == 501
    assert requests.get(f"{emulator.url}/storage/v1/b/b/o/a/acl").status_code == 501
    assert requests.get(f"{emulator.url}/wipe").status_code == 501


# Moves


def test_moved_object_keeps_metadata_and_leaves_its_old_name(bucket: cloud.Bucket) -> None:
    blob = bucket.blob("a/b c")
    blob.metadata = {"key": "value"}
    blob.upload_from_string(b"data", content_type="image/png")
    moved = bucket.move_blob(blob, "c/d")
    assert [found.name for found in bucket.list_blobs()] == ["c/d"]
    assert (moved.metadata, moved.content_type, moved.metageneration) == ({"key": "value"}, "image/png", 1)
    assert moved.generation > blob.generation
    assert moved.download_as_bytes() == b"data"


def test_move_onto_itself_or_from_a_missing_object_is_refused(emulator: StorageEmulator) -> None:
    media(emulator.url, "a", b"data")
    assert requests.post(f"{emulator.url}/storage/v1/b/b/o/a/moveTo/o/a").status_code == 400
    assert requests.post(f"{emulator.url}/storage/v1/b/b/o/none/moveTo/o/a").status_code == 404
    assert read(emulator.url, "a").content == b"data"


# Batches


def test_requests_of_a_batch_take_effect_and_fail_each_by_itself(
    emulator: StorageEmulator, bucket: cloud.Bucket
) -> None:
    for name in ("a", "b c", "kept"):
        bucket.blob(name).upload_from_string(b"data")
    with bucket.client.batch(raise_exception=False) as batch:
        bucket.blob("a").delete()
        bucket.blob("missing").delete()
        bucket.blob("b c").delete(if_generation_match=1)
        bucket.copy_blob(bucket.blob("kept"), bucket, "copy")
    assert [response.status_code for response in batch._responses] == [204, 404, 412, 200]
    assert [blob.name for blob in bucket.list_blobs()] == ["b c", "copy", "kept"]
    assert emulator.count("^DELETE /storage/v1/b/b/o/") == 3


def test_gcsfs_removes_in_batches(emulator: StorageEmulator, bucket: cloud.Bucket) -> None:
    for name in ("a", "b c", "d/é"):
        bucket.blob(name).upload_from_string(b"data")
    files = fsspec.filesystem("gs", use_listings_cache=False, skip_instance_cache=True)
    outcome = fsspec.asyn.sync(files.loop, files._rm_files, ["b/a", "b/b c", "b/d/é", "b/missing"])
    assert outcome[:3] == ["b/a", "b/b c", "b/d/é"]
    assert isinstance(outcome[3], OSError)
    assert not list(bucket.list_blobs())


def test_invalid_batch_is_refused(emulator: StorageEmulator) -> None:
    assert requests.post(f"{emulator.url}/batch/storage/v1", b"nonsense").status_code == 400


# Listings


def test_listing_comes_in_pages_of_a_thousand(emulator: StorageEmulator, bucket: cloud.Bucket) -> None:
    for number in range(2500):
        emulator.answer(
            Request("POST", f"/upload/storage/v1/b/b/o?uploadType=media&name={number:04}", {"host": "x"}, b"")
        )
    assert [blob.name for blob in bucket.list_blobs()] == [f"{number:04}" for number in range(2500)]
    assert emulator.count(r"^GET /storage/v1/b/b/o\?") == 3
    assert len([*bucket.list_blobs(page_size=1, max_results=2)]) == 2
    assert emulator.count(r"^GET /storage/v1/b/b/o\?") == 5
    assert len(requests.get(f"{emulator.url}/storage/v1/b/b/o?maxResults=5000").json()["items"]) == 1000


def test_names_are_listed_by_prefix_and_folder(bucket: cloud.Bucket) -> None:
    for name in ("a/1", "a/2", "a/b/3", "a/b/4", "a/c/", "a0", "ab/5"):
        bucket.blob(name).upload_from_string(b"")
    listing = bucket.list_blobs(prefix="a/", delimiter="/")
    assert [blob.name for blob in listing] == ["a/1", "a/2"]
    assert listing.prefixes == {"a/b/", "a/c/"}
    assert [blob.name for blob in bucket.list_blobs(start_offset="a/b/4", end_offset="ab/5")] == ["a/b/4", "a/c/", "a0"]


@given(
    names=st.sets(st.text("ab/é\U0001f600", min_size=1, max_size=5), max_size=20),
    prefix=st.text("ab/", max_size=2),
    delimiter=st.sampled_from(["", "/", "b/"]),
    start=st.text("ab/", max_size=2),
    end=st.text("ab/", max_size=2),
    limit=st.integers(1, 4),
)
def test_pages_together_are_the_whole_listing(
    names: set[str], prefix: str, delimiter: str, start: str, end: str, limit: int
) -> None:
    objects = Objects(lambda resource: None)
    objects.add_bucket("b")
    for name in names:
        objects.create_file("b", name, b"", {})
    entries: list[str] = []
    after: str | None = ""
    while after is not None:
        page = objects.page(Listing("b", prefix, delimiter, start, end, after, limit))
        entries += sorted([*page.prefixes, *(item["name"] for item in page.items)])
        assert len(page.items) + len(page.prefixes) == limit or page.last is None
        after = page.last
    shown = {name for name in names if name.startswith(prefix) and name >= start and (not end or name < end)}
    assert entries == sorted({folder(name, prefix, delimiter) for name in shown})


def folder(name: str, prefix: str, delimiter: str) -> str:
    head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name[len(prefix) :], "", "")
    return prefix + head + cut


@pytest.mark.parametrize("query", ["pageToken=!", "pageToken=gA==", "maxResults=0", "maxResults=many"])
def test_invalid_listing_is_refused(emulator: StorageEmulator, query: str) -> None:
    assert requests.get(f"{emulator.url}/storage/v1/b/b/o?{query}").status_code == 400


# Faults


def test_matching_requests_fail_with_the_status(emulator: StorageEmulator) -> None:
    emulator.fail_next("^POST .*name=a", times=2, status=429)
    assert media(emulator.url, "other", b"").status_code == 200
    assert [media(emulator.url, "a", b"").status_code for _ in range(3)] == [429, 429, 200]


@pytest.mark.parametrize(("drop", "status"), [("before", 404), ("after", 200), ("within", 200)])
def test_connection_drops_before_or_after_the_effect(emulator: StorageEmulator, drop: Any, status: int) -> None:
    emulator.fail_next("^POST", drop=drop)
    with pytest.raises(requests.RequestException):
        media(emulator.url, "a", b"data")
    assert read(emulator.url, "a").status_code == status
    assert media(emulator.url, "a", b"data").status_code == 200


def test_slow_requests_wait_concurrently(emulator: StorageEmulator) -> None:
    async def get_all() -> float:
        async with aiohttp.ClientSession() as session:
            begun = asyncio.get_running_loop().time()
            await asyncio.gather(*(session.get(f"{emulator.url}/b/a") for _ in range(50)))
            return asyncio.get_running_loop().time() - begun

    emulator.fail_next("^GET", times=50, delay=0.3)
    assert 0.3 <= asyncio.run(get_all()) < 3
    assert emulator.most_in_flight == 50


def test_requests_are_logged(emulator: StorageEmulator) -> None:
    media(emulator.url, "a", b"")
    read(emulator.url, "a")
    assert list(emulator.requests) == ["POST /upload/storage/v1/b/b/o?uploadType=media&name=a", "GET /b/a"]


def test_malformed_request_is_refused(emulator: StorageEmulator) -> None:
    host, port = emulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(1000).split()[1] == b"400"


def test_upload_that_its_client_aborts_is_no_error(emulator: StorageEmulator, caplog: pytest.LogCaptureFixture) -> None:
    host, port = emulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"POST /upload/storage/v1/b/b/o?uploadType=media&name=a HTTP/1.1\r\n")
        connection.sendall(b"Host: here\r\nContent-Length: 11\r\n\r\nhello")
        assert read(emulator.url, "a").status_code == 404
    assert [read(emulator.url, "a").status_code for _ in range(3)] == [404] * 3
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


def test_emulator_stops_when_its_context_ends() -> None:
    with StorageEmulator() as emulator:
        assert requests.get(f"{emulator.url}/storage/v1/b").ok
    with pytest.raises(requests.ConnectionError):
        requests.get(emulator.url)


# Events


def test_event_names_the_object_that_was_created(emulator: StorageEmulator, bucket: cloud.Bucket) -> None:
    bucket.blob("before").upload_from_string(b"")
    with Subscriber() as subscriber:
        emulator.subscribe(f"{subscriber.url}/hook")
        blob = bucket.blob("folder/ship é 1.jpg")
        blob.upload_from_string(b"data", content_type="image/jpeg")
        emulator.events.wait(10)
        (event,) = subscriber.events
    assert str(event) == "POST /hook"
    assert event.headers["ce-specversion"] == "1.0"
    assert event.headers["ce-type"] == "google.cloud.storage.object.v1.finalized"
    assert event.headers["ce-source"] == "//storage.googleapis.com/projects/_/buckets/b"
    assert event.headers["ce-subject"] == "objects/folder/ship%20%C3%A9%201.jpg"
    resource = json.loads(event.body)
    assert (resource["bucket"], resource["name"], resource["size"]) == ("b", blob.name, "4")
    assert (resource["generation"], resource["contentType"]) == (str(blob.generation), "image/jpeg")


def test_events_follow_every_creation_and_no_deletion(emulator: StorageEmulator, bucket: cloud.Bucket) -> None:
    with Subscriber() as subscriber:
        emulator.subscribe(subscriber.url)
        for upload in (media, multipart, resumable):
            upload(emulator.url, "object", b"data")
        blob = bucket.blob("object")
        bucket.copy_blob(blob, bucket, "copy")
        bucket.blob("rewritten").rewrite(blob)
        bucket.blob("sum").compose([blob, blob])
        bucket.move_blob(blob, "moved")
        bucket.blob("copy").delete()
        emulator.events.wait(10)
    assert subscriber.names == ["copy", "moved", "object", "object", "object", "rewritten", "sum"]


def test_event_is_delivered_more_than_once_if_configured(emulator: StorageEmulator) -> None:
    with Subscriber() as subscriber:
        emulator.subscribe(subscriber.url, copies=2)
        media(emulator.url, "a", b"")
        emulator.events.wait(10)
    first, second = subscriber.events
    assert first.headers["ce-id"] == second.headers["ce-id"]


def test_event_that_was_not_acknowledged_is_delivered_again(emulator: StorageEmulator) -> None:
    with Subscriber() as subscriber:
        emulator.subscribe(subscriber.url)
        subscriber.fail_next(status=500)
        subscriber.fail_next(drop="before")
        media(emulator.url, "a", b"")
        emulator.events.wait(10)
    assert subscriber.names == ["a"]
    assert emulator.events.failed == []


def test_event_that_is_never_acknowledged_is_given_up(
    emulator: StorageEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulators.storage.events.SECONDS_BETWEEN_ATTEMPTS", 0)
    with Subscriber() as subscriber:
        emulator.subscribe(subscriber.url)
        subscriber.fail_next(times=100, status=503)
        media(emulator.url, "a", b"")
        emulator.events.wait(10)
    assert emulator.events.failed == [subscriber.url]


# Other clients


def test_default_credentials_are_accepted(emulator: StorageEmulator, bucket: cloud.Bucket) -> None:
    credentials, _ = google.auth.default(["https://www.googleapis.com/auth/devstorage.read_write"])
    cloud.Client("project", credentials).bucket("b").blob("a").upload_from_string(b"data")
    assert bucket.blob("a").download_as_bytes() == b"data"


BEAM = """
import apache_beam as beam
with beam.Pipeline() as pipeline:
    pipeline | beam.Create([b"1", b"2", b"3"]) | beam.io.WriteToTFRecord("gs://b/out/records", num_shards=2)
with beam.Pipeline() as pipeline:
    read = pipeline | beam.io.ReadFromTFRecord("gs://b/out/records*")
    read | beam.Map(int) | beam.CombineGlobally(sum) | beam.Map(print)
"""


def test_beam_reads_and_writes(emulator: StorageEmulator) -> None:
    command = [sys.executable, "-c", BEAM]
    environment = os.environ | emulator.environment()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (0, "6\n"), result.stderr
    names = [item["name"] for item in requests.get(f"{emulator.url}/storage/v1/b/b/o").json()["items"]]
    assert names == ["out/records-00000-of-00002", "out/records-00001-of-00002"]


def test_gcsfs_creates_moves_and_lists(emulator: StorageEmulator, bucket: cloud.Bucket) -> None:
    files = fsspec.filesystem("gs", use_listings_cache=False, skip_instance_cache=True)
    files.pipe_file("b/a", b"data\r\n--==0==", mode="create")
    with pytest.raises(FileExistsError):
        files.pipe_file("b/a", b"other", mode="create")
    files.mv_file("b/a", "b/folder/b")
    assert files.find("b") == ["b/folder/b"]
    assert files.cat_file("b/folder/b") == b"data\r\n--==0=="
    assert emulator.count("moveTo") == 1
