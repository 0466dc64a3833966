"""TensorFlow's own `gs://` works against the storage emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests

from emulators.storage import StorageEmulator
from emulators.tls_proxy import TlsProxy

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
gfile.rmtree("gs://b/folder")
assert gfile.listdir("gs://b") == ["moved"]
"""


@pytest.fixture
def emulator() -> Iterator[StorageEmulator]:
    with StorageEmulator() as emulator:
        emulator.create_bucket("b")
        yield emulator


@pytest.fixture
def proxy(emulator: StorageEmulator) -> Iterator[TlsProxy]:
    with TlsProxy(emulator.url) as proxy:
        yield proxy


def test_tensorflow_reads_writes_lists_and_removes(emulator: StorageEmulator, proxy: TlsProxy) -> None:
    command = [sys.executable, "-c", TENSORFLOW]
    result = subprocess.run(
        command, env=os.environ | proxy.environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    assert emulator.count("^(POST|PUT) /upload") >= 8


def test_a_client_that_trusts_the_certificate_gets_through(proxy: TlsProxy) -> None:
    environment = proxy.environment()
    response = requests.get(
        "https://storage.googleapis.com/storage/v1/b/b",
        proxies={"https": environment["https_proxy"]},
        verify=environment["CURL_CA_BUNDLE"],
        timeout=10,
    )
    assert response.json()["name"] == "b"


@pytest.mark.parametrize("place", ["https://example.com", "https://oauth2.googleapis.com", "https://127.0.0.1"])
def test_no_other_place_is_reached(emulator: StorageEmulator, proxy: TlsProxy, place: str) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        requests.get(place, proxies={"https": proxy.environment()["https_proxy"]}, timeout=10)
    assert not emulator.requests
