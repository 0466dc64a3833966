"""Concurrent requests to the function as the runtime serves it start one job."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.worlds.function import COLLECTION, Place, collect

TARGET = "on_request"
SECONDS_TO_ANSWER = 120
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(url: str) -> int:
    try:
        with direct.open(urllib.request.Request(url, b"{}"), timeout=SECONDS_TO_ANSWER) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_200_concurrent_deliveries_start_one_job(place: Place, batch: str) -> None:
    collect(f"{COLLECTION}/{batch}", 5)
    urls = [instance.url for instance in place.instances] * 100
    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(post, urls)) == [200] * 200
    assert place.jobs(batch) == [f"evaluation-{batch}-0001"]
    lines = place.lines(batch)
    outcomes = Counter(line["outcome"] for line in lines)
    assert outcomes.total() == 200
    assert outcomes["start"] == 1
    assert set(outcomes) <= {"start", "running", "resume"}
    assert {line["job"] for line in lines} == {f"evaluation-{batch}-0001"}


def test_instance_looks_up_the_model_once(place: Place, batch: str) -> None:
    """All threads of an instance share one connection and its cache."""
    collect(f"{COLLECTION}/{batch}", 2)
    for instance in place.instances:
        post(instance.url)
    place.vertex.server.requests.clear()
    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(post, [place.instances[0].url] * 64)) == {200}
    assert place.vertex.server.count(r"/models\?") == 0
    assert place.vertex.server.count("champion") == 64


def test_instance_recovers_after_a_failure(place: Place, batch: str) -> None:
    collect(f"{COLLECTION}/{batch}", 5)
    place.vertex.server.fail_next("pipelineJobs", times=50, status=503)
    assert post(place.instances[0].url) == 503
    place.vertex.server.recover()
    assert post(place.instances[0].url) == 200
    assert place.jobs(batch) == [f"evaluation-{batch}-0001"]
