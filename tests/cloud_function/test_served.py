"""Many requests at once to the function as the runtime serves it: one job."""

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


def test_200_deliveries_at_once_start_one_job(place: Place, month: str) -> None:
    collect(f"{COLLECTION}/{month}", 5)
    urls = [instance.url for instance in place.instances] * 100
    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(post, urls)) == [200] * 200
    assert place.jobs(month) == [f"evaluation-{month}-0001"]
    lines = place.lines(month)
    outcomes = Counter(line["outcome"] for line in lines)
    assert outcomes.total() == 200
    assert outcomes["start"] == 1
    assert set(outcomes) <= {"start", "running", "resume"}
    assert {line["job"] for line in lines} == {f"evaluation-{month}-0001"}


def test_an_instance_asks_for_the_model_by_its_name_once_in_its_life(place: Place, month: str) -> None:
    """All its threads share one connection, and what it knows."""
    collect(f"{COLLECTION}/{month}", 2)
    for instance in place.instances:
        post(instance.url)
    place.vertex.server.requests.clear()
    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(post, [place.instances[0].url] * 64)) == {200}
    assert place.vertex.server.count(r"/models\?") == 0
    assert place.vertex.server.count("champion") == 64


def test_an_instance_goes_on_after_a_failure(place: Place, month: str) -> None:
    collect(f"{COLLECTION}/{month}", 5)
    place.vertex.server.fail_next("pipelineJobs", times=50, status=503)
    assert post(place.instances[0].url) == 503
    place.vertex.server.recover()
    assert post(place.instances[0].url) == 200
    assert place.jobs(month) == [f"evaluation-{month}-0001"]
