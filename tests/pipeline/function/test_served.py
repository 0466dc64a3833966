"""The function's folder at work: installed from its requirements into a fresh Python 3.12, and called over HTTP.

Nothing of this project's own environment is there: what the function imports is what was deployed with it. Of its
requests, each must be covered by a right that the deployment grants.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
import yaml

from adaptation.io import storage
from pipeline.function.deployment import CREATE, PERMISSIONS, READ, deployment_steps
from tests.worlds.cloud import MONTH, Cloud, a_cloud, done
from tests.worlds.processes import free_port, wait_until

PROJECT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")
MINUTES = 300
STORAGE_RIGHTS = {READ: {"get", "list"}, CREATE: {"create"}}  # of roles/storage.objectViewer and .objectCreator
_STORAGE = re.compile(r"(?:(?P<upload>/upload)|/download)?(?:/storage/v1)?/b/(?P<bucket>[^/]+)/o(?:/(?P<key>.+))?")
_VERTEX = re.compile(r"/v1/projects/[^/]+/locations/[^/]+/(?P<collection>models|pipelineJobs)(?P<one>/[^/]+)?")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python 3.12 with the requirements of the function only."""
    environment = tmp_path_factory.mktemp("python")
    uv("venv", "--quiet", "--no-project", "--clear", "--python", python312(), str(environment))
    requirements = PROJECT / "cloud_function" / "requirements.txt"
    installed = environment / "bin" / "python"
    uv("pip", "sync", "--quiet", "--require-hashes", "--python", str(installed), str(requirements))
    return installed


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with a_cloud(tmp_path / "shop", monkeypatch) as cloud:
        cloud.vertex.hang_jobs()  # nothing runs them here, so none may count as done
        monkeypatch.setenv("ADAPT_VERTEX__SERVICE_ACCOUNT", "pipelines@shop.iam.gserviceaccount.com")
        done(cloud.adapt("function", "build"))
        yield cloud


def uv(*arguments: str) -> None:
    finished = subprocess.run([UV, *arguments], capture_output=True, text=True, timeout=MINUTES)
    assert finished.returncode == 0, finished.stderr


def python312() -> str:
    """Return a Python 3.12: on the PATH, one of uv's or pyenv's, or downloaded by uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = ["3.12", *map(str, sorted(pyenv.glob("3.12.*/bin/python")))]
    for candidate in candidates:
        find = [UV, "python", "find", "--no-project", "--no-python-downloads", candidate]
        if (found := subprocess.run(find, capture_output=True, text=True, timeout=MINUTES)).returncode == 0:
            return found.stdout.strip()
    download = subprocess.run([UV, "python", "install", "3.12"], capture_output=True, text=True, timeout=MINUTES)
    if download.returncode == 0:
        return "3.12"
    pytest.fail(
        "The function's runtime is Python 3.12, which is not here and could not be downloaded. Install it, with "
        f'"uv python install 3.12", "pyenv install 3.12" or the system\'s packages. uv said: {download.stderr}'
    )


@contextmanager
def served(python: Path, shop: Cloud, entry_point: str = "on_request") -> Iterator[str]:
    """Serve the function from its folder while the context lasts; yield its address."""
    folder, log, port = shop.folder / "function", shop.folder / "log", free_port()
    variables = yaml.safe_load((folder / "env.yaml").read_text())
    arguments = ["--target", entry_point, "--source", "main.py", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-P", "-m", "functions_framework", *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(shop.folder), **shop.objects.environment(), **variables},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(port), MINUTES)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(MINUTES)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def deliver(address: str) -> requests.Response:
    """Send what Cloud Scheduler sends."""
    return requests.post(address, headers={"User-Agent": "Google-Cloud-Scheduler"}, timeout=MINUTES)


def needed(request: str) -> tuple[str, str]:
    """Return the permission that a request of the function needs, and its resource."""
    method, target = request.split(" ")
    url = urlsplit(target)
    if match := _VERTEX.fullmatch(url.path):
        verb = {"GET": "get" if match["one"] else "list", "POST": "create"}[method]
        return f"aiplatform.{match['collection']}.{verb}", ""
    match = _STORAGE.fullmatch(url.path)
    assert match, f"no known permission allows {request}"
    query = parse_qs(url.query)
    if method == "GET" and not match["key"]:
        return "list", f"gs://{match['bucket']}/{query.get('prefix', [''])[0]}"
    if (
        method == "POST" and match["upload"] and query["ifGenerationMatch"] == ["0"]
    ):  # otherwise it needs the right to remove
        return "create", f"gs://{match['bucket']}/"
    return {"GET": "get"}[method], f"gs://{match['bucket']}/{unquote(match['key'])}"


def refused(shop: Cloud) -> list[str]:
    """Return the requests so far that the rights do not cover."""
    bindings = [step.make for step in deployment_steps(shop.settings, shop.folder) if "managed-folders" in step.make]
    granted = [(right, str(words[4])) for words in bindings for right in STORAGE_RIGHTS[role_of(words)]]
    return [request for request in sent(shop) if not is_granted(*needed(request), granted)]


def role_of(words: Sequence[object]) -> str:
    (role,) = [word.removeprefix("--role=") for word in map(str, words) if word.startswith("--role=")]
    return role


def is_granted(right: str, resource: str, granted: Sequence[tuple[str, str]]) -> bool:
    """Check a request against the rights; of an upload only the bucket, its object is checked elsewhere."""
    if right == "create":
        return any(right == one and folder.startswith(resource) for one, folder in granted)
    return right in PERMISSIONS or any(right == one and resource.startswith(folder) for one, folder in granted)


def sent(shop: Cloud) -> list[str]:
    return [*shop.objects.requests, *shop.vertex.requests]


def names(shop: Cloud) -> set[str]:
    """Return the objects of the bucket."""
    return {file.name for file in storage.files_below("gs://shop")}


def forget(shop: Cloud) -> None:
    """Clear the requests that the test itself sent."""
    shop.objects.requests.clear()
    shop.vertex.requests.clear()


def test_delivery_to_the_built_function_creates_one_job_within_its_rights(python: Path, shop: Cloud) -> None:
    with served(python, shop) as address:
        forget(shop)
        assert deliver(address).status_code == 500  # no champion and no image yet
        assert refused(shop) == []
        shop.register()
        forget(shop)
        assert "no batch" in deliver(address).text
        assert refused(shop) == []
        shop.publish_specs()
        shop.collect(120)
        before = names(shop)
        forget(shop)
        first, second = deliver(address), deliver(address)
        assert (first.status_code, second.status_code) == (200, 200), first.text
        assert first.text.startswith("start: ")
        assert second.text.startswith("running: ")
        assert refused(shop) == []
        assert names(shop) - before == {f"adaptation/triggers/{MONTH}/0001.json"}
    assert [job["displayName"] for job in shop.jobs()] == [f"shop-evaluation-{MONTH}-0001"]
    assert shop.submitted == 1


def test_request_beyond_the_rights_is_detected(shop: Cloud) -> None:
    forget(shop)
    shop.objects.requests.extend(
        [
            "GET /storage/v1/b/shop/o?prefix=adaptation/",
            "GET /storage/v1/b/shop/o?prefix=collection/2021",
            "GET /storage/v1/b/shop/o/adaptation%2Fspecs%2Fother%2Flatest.json",
            "POST /upload/storage/v1/b/images/o?uploadType=multipart&ifGenerationMatch=0",
        ]
    )
    shop.vertex.requests.append("GET /v1/projects/shop/locations/europe-west4/pipelineJobs")
    beyond = sent(shop)
    del beyond[1]
    assert refused(shop) == beyond


@pytest.mark.parametrize(
    "unknown",
    [
        "DELETE /storage/v1/b/shop/o/adaptation%2Ftriggers%2F2021-10%2F0001.json",
        "POST /upload/storage/v1/b/shop/o?uploadType=multipart",
        "GET /storage/v1/b/shop",
    ],
)
def test_request_without_a_known_right_is_detected(unknown: str) -> None:
    with pytest.raises((KeyError, AssertionError)):
        needed(unknown)


def test_storage_event_to_the_built_function_creates_one_job(python: Path, shop: Cloud) -> None:
    shop.register()
    shop.publish_specs()
    shop.collect(99)
    with served(python, shop, "on_event") as address:
        shop.objects.subscribe(address, copies=2)
        shop.collect(120)
        shop.objects.events.wait(MINUTES)
    assert shop.objects.events.failed == []
    assert [job["displayName"] for job in shop.jobs()] == [f"shop-evaluation-{MONTH}-0001"]
