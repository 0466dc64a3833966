"""TLS proxy: Google's addresses lead to the emulators, for TensorFlow's `gs://` too; all others are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests

from emulators.storage.emulator import StorageEmulator
from emulators.tls_proxy import STORAGE_HOSTS, TlsProxy, vertex_host
from emulators.vertex import VertexEmulator

TENSORFLOW = """
import tensorflow as tf
gfile = tf.io.gfile
gfile.makedirs("gs://b/folder")
with gfile.GFile("gs://b/folder/a b.txt", "w") as file:
    file.write("hello")
with gfile.GFile("gs://b/folder/empty", "w") as file:
    file.write("")
with gfile.GFile("gs://b/folder/large", "wb") as file:
    file.write(bytes(5_000_000))
with tf.io.TFRecordWriter("gs://b/folder/records") as writer:
    for number in range(1000):
        writer.write(b"%d" % number)
assert gfile.GFile("gs://b/folder/a b.txt").read() == "hello"
assert gfile.GFile("gs://b/folder/large", "rb").read() == bytes(5_000_000)
assert gfile.stat("gs://b/folder/empty").length == 0
assert sorted(gfile.listdir("gs://b/folder")) == ["a b.txt", "empty", "large", "records"]
assert gfile.glob("gs://b/folder/r*") == ["gs://b/folder/records"]
assert not gfile.exists("gs://b/folder/missing")
assert sum(1 for _ in tf.data.TFRecordDataset("gs://b/folder/records")) == 1000
gfile.rename("gs://b/folder/empty", "gs://b/moved")
gfile.rename("gs://b/folder", "gs://b/renamed")
assert gfile.GFile("gs://b/renamed/a b.txt").read() == "hello"
gfile.rmtree("gs://b/renamed")
assert gfile.listdir("gs://b") == ["moved"]
"""


@pytest.fixture
def emulator() -> Iterator[StorageEmulator]:
    with StorageEmulator() as emulator:
        emulator.create_bucket("b")
        yield emulator


@pytest.fixture
def vertex() -> Iterator[VertexEmulator]:
    with VertexEmulator("demo", "europe-west4") as vertex:
        yield vertex


@pytest.fixture
def proxy(emulator: StorageEmulator, vertex: VertexEmulator) -> Iterator[TlsProxy]:
    hosts = {**dict.fromkeys(STORAGE_HOSTS, emulator.url), vertex_host("europe-west4"): vertex.url}
    with TlsProxy(hosts) as proxy:
        yield proxy


def get(proxy: TlsProxy, url: str) -> requests.Response:
    """Send a request like a client that is configured by the environment alone."""
    environment = proxy.environment()
    proxies = {scheme: environment[f"{scheme}_proxy"] for scheme in ("http", "https")}
    return requests.get(url, proxies=proxies, verify=environment["REQUESTS_CA_BUNDLE"], timeout=60)


def test_tensorflow_reads_writes_lists_and_removes(emulator: StorageEmulator, proxy: TlsProxy) -> None:
    command = [sys.executable, "-c", TENSORFLOW]
    result = subprocess.run(
        command, env=os.environ | proxy.environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    assert emulator.count("^(POST|PUT) /upload") >= 8
    assert proxy.refused == []


def test_client_that_trusts_the_certificate_gets_through(proxy: TlsProxy) -> None:
    assert get(proxy, "https://storage.googleapis.com/storage/v1/b/b").json()["name"] == "b"


def test_hosts_lead_to_their_own_emulators(emulator: StorageEmulator, vertex: VertexEmulator, proxy: TlsProxy) -> None:
    path = "/v1/projects/demo/locations/europe-west4/models"
    assert get(proxy, f"https://europe-west4-aiplatform.googleapis.com{path}").json() == {"models": []}
    assert list(vertex.requests) == [f"GET {path}"]
    assert not emulator.requests


def test_client_without_the_certificate_is_refused(proxy: TlsProxy) -> None:
    proxies = {"https": proxy.environment()["https_proxy"]}
    with pytest.raises(requests.exceptions.SSLError):
        requests.get("https://storage.googleapis.com/storage/v1/b/b", proxies=proxies, timeout=60)


@pytest.mark.parametrize(
    ("place", "request_line"),
    [
        ("https://example.com", "CONNECT example.com:443"),
        ("https://oauth2.googleapis.com", "CONNECT oauth2.googleapis.com:443"),
        ("https://us-central1-aiplatform.googleapis.com", "CONNECT us-central1-aiplatform.googleapis.com:443"),
        ("https://127.0.0.1", "CONNECT 127.0.0.1:443"),
    ],
)
def test_other_hosts_are_refused_and_recorded(
    emulator: StorageEmulator, vertex: VertexEmulator, proxy: TlsProxy, place: str, request_line: str
) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        get(proxy, place)
    assert proxy.refused == [request_line]
    assert not emulator.requests
    assert not vertex.requests


def test_plain_http_is_refused_and_recorded(emulator: StorageEmulator, proxy: TlsProxy) -> None:
    assert get(proxy, "http://storage.googleapis.com/storage/v1/b/b").status_code == 403
    assert proxy.refused == ["GET http://storage.googleapis.com/storage/v1/b/b"]
    assert not emulator.requests
