"""Publication: names that never change meaning, and a latest spec that is always a whole one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from adaptation.io import storage
from adaptation.io.journal import Journal
from pipeline.compiled import publication
from pipeline.compiled.publication import publish
from pipeline.compiled.spec import Spec
from tests.worlds.cloud import ROOT, Cloud, a_cloud, golden

FOLDER = f"{ROOT}/specs/evaluation"
FIRST, SECOND = golden(displayName="first"), golden(displayName="second")


class Killed(BaseException):
    """The end of the process."""


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with a_cloud(tmp_path / "shop", monkeypatch) as cloud:
        yield cloud


def latest() -> Spec:
    return Spec.from_json(storage.read(f"{FOLDER}/latest.json"))


def index() -> list[str]:
    return [record.value.digest for record in Journal(f"{FOLDER}/index", publication.Entry).records()]


def names() -> list[str]:
    return [file.name for file in storage.files(FOLDER)]


def test_spec_is_put_under_its_digest_and_becomes_the_latest(cloud: Cloud) -> None:
    done = publish(cloud.settings, "evaluation", FIRST)
    assert done.uri == f"{FOLDER}/{FIRST.digest}.json"
    assert not done.known
    assert storage.read(done.uri) == FIRST.to_json() == latest().to_json()
    assert index() == [FIRST.digest]


def test_publishing_the_same_spec_again_changes_nothing(cloud: Cloud) -> None:
    publish(cloud.settings, "evaluation", FIRST)
    assert publish(cloud.settings, "evaluation", FIRST).known
    assert index() == [FIRST.digest]
    assert latest() == FIRST


def test_earlier_spec_stays_when_another_is_published(cloud: Cloud) -> None:
    publish(cloud.settings, "evaluation", FIRST)
    publish(cloud.settings, "evaluation", SECOND)
    assert set(names()) == {f"{FIRST.digest}.json", f"{SECOND.digest}.json", "latest.json"}
    assert latest() == SECOND


def test_publishing_an_older_spec_again_adds_an_entry(cloud: Cloud) -> None:
    for spec in (FIRST, SECOND, FIRST):
        publish(cloud.settings, "evaluation", spec)
    assert index() == [FIRST.digest, SECOND.digest, FIRST.digest]
    assert latest() == FIRST


def test_pipelines_have_separate_latest_specs(cloud: Cloud) -> None:
    publish(cloud.settings, "evaluation", FIRST)
    publish(cloud.settings, "training", golden("training"))
    assert latest() == FIRST


@pytest.mark.parametrize("writes", [1, 2, 3])
@pytest.mark.parametrize("before", [True, False])
def test_interrupted_publication_leaves_a_whole_latest_and_is_finished(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, writes: int, before: bool
) -> None:
    publish(cloud.settings, "evaluation", FIRST)
    with monkeypatch.context() as patch:
        done = itertools.count(1)
        for name in ("create", "write"):
            patch.setattr(storage, name, _mortal(getattr(storage, name), done, writes, before))
        with pytest.raises(Killed):
            publish(cloud.settings, "evaluation", SECOND)
    assert latest() == (SECOND if writes == 3 and not before else FIRST)
    publish(cloud.settings, "evaluation", SECOND)
    assert latest() == SECOND
    assert index() == [FIRST.digest, SECOND.digest]


def test_latest_of_specs_published_at_once_is_the_last_of_the_index(cloud: Cloud) -> None:
    settings, barrier = cloud.settings, Barrier(2)

    def meet(spec: Spec) -> None:
        barrier.wait()
        publish(settings, "evaluation", spec)

    for specs in ((FIRST, SECOND), (SECOND, FIRST), (FIRST, SECOND)):
        with ThreadPoolExecutor() as pool:
            list(pool.map(meet, specs))
        assert latest().digest == index()[-1]
    assert {FIRST.digest, SECOND.digest} == set(index())


def test_publication_overtaken_at_its_last_write_keeps_the_newer_latest(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, write = cloud.settings, storage.write

    def overtaken(uri: str, data: bytes) -> None:
        monkeypatch.setattr(storage, "write", write)
        publish(settings, "evaluation", SECOND)
        write(uri, data)

    monkeypatch.setattr(storage, "write", overtaken)
    publish(settings, "evaluation", FIRST)
    assert index() == [FIRST.digest, SECOND.digest]
    assert latest() == SECOND


def test_publication_overtaken_before_its_entry_becomes_the_latest(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, append = cloud.settings, Journal.append

    def overtaken(journal: Journal, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(Journal, "append", append)
        publish(settings, "evaluation", SECOND)
        return append(journal, *arguments, **options)

    monkeypatch.setattr(publication.Journal, "append", overtaken)
    publish(settings, "evaluation", FIRST)
    assert index() == [SECOND.digest, FIRST.digest]
    assert latest() == FIRST


def test_missing_bucket_is_named(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__ROOT", "gs://no-such-bucket/adaptation")
    with pytest.raises(OSError, match="no-such-bucket"):
        publish(cloud.settings, "evaluation", FIRST)


def _mortal(change: Callable[..., Any], done: Iterator[int], last: int, before: bool) -> Callable[..., Any]:
    def changing(*arguments: Any) -> Any:
        number = next(done)
        if number == last and before:
            raise Killed
        result = change(*arguments)
        if number == last:
            raise Killed
        return result

    return changing
