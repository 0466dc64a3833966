"""Local platform: registry, endpoint and deployment of a version, each killed after every write."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import ModelVersion, NoSuchModel, Standing, Upload
from adaptation.platforms.connect import LocalConfig, connect
from adaptation.platforms.local import LocalEndpoint, LocalJobs, LocalRegistry
from adaptation.platforms.rollout import put_in_service, roll_back
from tests.worlds.images import contents

ROOT = Path(__file__).parents[4]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FILES = ("saved_model.pb", "variables/variables.index")


# The registry


def a_model(folder: Path, content: str = "graph") -> str:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{content} {name}")
    return str(folder)


def an_upload(folder: Path, key: str = "run-1", content: str = "graph") -> Upload:
    return Upload(a_model(folder, content), key, (1, 2), {"span-1": 0.98}, "runs/1/model", "run-1")


def a_registry(folder: Path, versions: int = 0) -> LocalRegistry:
    registry = LocalRegistry(str(folder / "registry"))
    for number in range(1, versions + 1):
        registry.upload(an_upload(folder / f"model-{number}", f"run-{number}", f"graph {number}"))
    return registry


def champions(registry: LocalRegistry, *numbers: int) -> LocalRegistry:
    for number in numbers:
        registry.promote(registry.find(str(number)), "because")
    return registry


def test_version_keeps_files_spans_metrics_and_origin(tmp_path: Path) -> None:
    version = a_registry(tmp_path).upload(an_upload(tmp_path / "model"))
    assert (version.number, version.key, version.spans, version.metrics) == (1, "run-1", (1, 2), {"span-1": 0.98})
    assert (version.source, version.run) == ("runs/1/model", "run-1")
    assert contents(version.uri) == contents(tmp_path / "model")
    assert a_registry(tmp_path).versions() == [version]


def test_version_does_not_change_with_its_source_folder(tmp_path: Path) -> None:
    version = a_registry(tmp_path).upload(an_upload(tmp_path / "model"))
    a_model(tmp_path / "model", "another graph")
    assert contents(version.uri)["saved_model.pb"] == b"graph saved_model.pb"


def test_same_key_is_the_same_version_and_another_key_the_next(tmp_path: Path) -> None:
    registry = a_registry(tmp_path)
    first = registry.upload(an_upload(tmp_path / "model"))
    assert registry.upload(an_upload(tmp_path / "changed", content="another graph")) == first
    assert registry.upload(an_upload(tmp_path / "model", "run-2")).number == 2


def test_version_10_comes_after_version_9(tmp_path: Path) -> None:
    assert [version.number for version in a_registry(tmp_path, versions=11).versions()] == list(range(1, 12))


def test_concurrent_uploads_make_one_version_per_key(tmp_path: Path) -> None:
    uploads = [an_upload(tmp_path / key, key) for key in ("run-1", "run-2", "run-3")] * 4
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda upload: a_registry(tmp_path).upload(upload), uploads))
    versions = a_registry(tmp_path).versions()
    assert [version.number for version in versions] == [1, 2, 3]
    assert {version.key for version in versions} == {"run-1", "run-2", "run-3"}


def test_upload_reads_no_more_files_with_many_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, read_files = storage.read, []
    monkeypatch.setattr(storage, "read", lambda uri: [read_files.append(uri), read(uri)][1])
    counts = []
    for number in range(1, 12):
        read_files.clear()
        a_registry(tmp_path).upload(an_upload(tmp_path / "model", f"run-{number}"))
        counts.append(len(read_files))
    assert counts[1] == counts[-1] <= 3


def test_upload_lists_no_more_files_with_many_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, listed = storage._entries, []
    monkeypatch.setattr(
        storage, "_entries", lambda folder: (listed.append(entry) or entry for entry in entries(folder))
    )
    counts = []
    for number in range(1, 12):
        listed.clear()
        a_registry(tmp_path).upload(an_upload(tmp_path / "model", f"run-{number}"))
        counts.append(len(listed))
    assert counts[1] == counts[-1]


@pytest.mark.parametrize("damage", [b"", b"x"])
def test_damaged_index_is_made_again_from_the_versions(tmp_path: Path, damage: bytes) -> None:
    registry = a_registry(tmp_path, versions=3)
    for file in [*Path(registry.folder).glob("keys/*"), Path(registry.folder, "newest")]:
        if file.name != "complete":
            file.write_bytes(damage)
    assert registry.upload(an_upload(tmp_path / "model", "run-2")).number == 2
    assert registry.upload(an_upload(tmp_path / "model", "run-4")).number == 4


def test_versions_of_a_registry_without_an_index_are_found_by_their_keys(tmp_path: Path) -> None:
    registry = a_registry(tmp_path, versions=3)
    shutil.rmtree(Path(registry.folder) / "keys")
    assert registry.upload(an_upload(tmp_path / "model", "run-2")).number == 2
    assert registry.upload(an_upload(tmp_path / "model", "run-4")).number == 4


def test_champion_whose_folder_is_missing_is_an_error(tmp_path: Path) -> None:
    registry = champions(a_registry(tmp_path, versions=2), 1, 2)
    shutil.rmtree(Path(registry.folder) / "versions" / "2")
    with pytest.raises(NoSuchModel, match="version 2 is the champion, but its folder is missing"):
        registry.champion()
    assert registry.upload(an_upload(tmp_path / "model", "run-3")).number == 3


def test_folder_without_a_saved_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    upload = Upload(str(tmp_path / "empty"), "run-1", (1,), {}, "", "")
    with pytest.raises(NoSuchModel, match="empty holds no SavedModel"):
        a_registry(tmp_path).upload(upload)
    assert a_registry(tmp_path).versions() == []


def test_champion_is_none_before_the_first_promotion(tmp_path: Path) -> None:
    registry = a_registry(tmp_path, versions=1)
    assert registry.champion() is None
    with pytest.raises(NoSuchModel, match=r"no version is the champion yet \(versions: 1\)"):
        registry.find()


def test_champion_is_the_version_promoted_last(tmp_path: Path) -> None:
    registry = champions(a_registry(tmp_path, versions=2), 1, 2)
    champion = registry.champion()
    assert champion == registry.find("champion") == registry.find("2")
    assert champion is not None
    assert champion.number == 2


@pytest.mark.parametrize("model", ["3", "0", "01", "newest", ""])
def test_unknown_version_is_refused_with_the_existing_ones(tmp_path: Path, model: str) -> None:
    with pytest.raises(NoSuchModel, match=r"\(versions: 1, 2\)"):
        a_registry(tmp_path, versions=2).find(model)


def test_promoting_the_champion_again_records_nothing(tmp_path: Path) -> None:
    registry = champions(a_registry(tmp_path, versions=1), 1, 1, 1)
    assert os.listdir(Path(registry.folder) / "champion") == ["0001.json"]


def test_version_of_another_registry_cannot_be_promoted(tmp_path: Path) -> None:
    foreign = a_registry(tmp_path / "other", versions=2).find("2")
    with pytest.raises(NoSuchModel):
        a_registry(tmp_path, versions=1).promote(foreign, "because")


def test_concurrent_promotions_are_all_recorded_in_sequence(tmp_path: Path) -> None:
    registry = a_registry(tmp_path, versions=6)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda version: registry.promote(version, "because"), registry.versions()))
    records = sorted((Path(registry.folder) / "champion").iterdir())
    assert [path.name for path in records] == [f"000{number}.json" for number in range(1, 7)]
    assert {json.loads(path.read_text())["version"] for path in records} == set(range(1, 7))


def test_concurrent_standings_are_all_recorded_in_sequence(tmp_path: Path) -> None:
    registry = a_registry(tmp_path, versions=4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda version: registry.mark(version, Standing.CANDIDATE, "because"), registry.versions()))
    candidates = {record.version for record in registry.standings() if record.standing is Standing.CANDIDATE}
    assert candidates == {1, 2, 3, 4}
    assert registry.candidate() is not None


# The endpoint


def an_endpoint(folder: Path) -> LocalEndpoint:
    return LocalEndpoint(str(folder / "endpoint"))


def test_endpoint_serves_the_files_of_the_version_under_its_number(tmp_path: Path) -> None:
    version = a_registry(tmp_path, versions=1).find("1")
    an_endpoint(tmp_path).deploy(version)
    assert an_endpoint(tmp_path).serving() == [1]
    assert contents(tmp_path / "endpoint" / "1") == contents(version.uri)
    served, original = (Path(folder) / "saved_model.pb" for folder in (tmp_path / "endpoint" / "1", version.uri))
    assert served.samefile(original)


def test_new_version_replaces_the_old_one(tmp_path: Path) -> None:
    registry, endpoint = a_registry(tmp_path, versions=3), an_endpoint(tmp_path)
    for name in ("3", "1", "1", "2"):
        endpoint.deploy(registry.find(name))
        assert endpoint.serving() == [int(name)]
    assert sorted(os.listdir(endpoint.folder)) == [".lock", "2"]
    assert contents(registry.find("3").uri)["saved_model.pb"] == b"graph 3 saved_model.pb"


# Deployment


def champion_and_served(folder: Path) -> tuple[int | None, list[int]]:
    champion = a_registry(folder).champion()
    return (champion.number if champion else None, an_endpoint(folder).serving())


def put(folder: Path, number: int) -> None:
    registry = a_registry(folder)
    put_in_service(registry, an_endpoint(folder), registry.find(str(number)), "because")


def test_version_that_cannot_be_served_does_not_become_champion(tmp_path: Path) -> None:
    a_registry(tmp_path, versions=2)
    put(tmp_path, 1)
    (tmp_path / "endpoint" / "2").write_text("a file in the way")
    with pytest.raises(OSError):
        put(tmp_path, 2)
    assert champion_and_served(tmp_path) == (1, [1])


def test_concurrent_deployments_end_with_the_last_champion_served(tmp_path: Path) -> None:
    registry, endpoint = a_registry(tmp_path, versions=2), an_endpoint(tmp_path)
    deploy, first = endpoint.deploy, [True]

    def overtaken(version: ModelVersion) -> None:
        deploy(version)
        if first and first.pop():
            put(tmp_path, 1)

    endpoint.deploy = overtaken  # type: ignore[method-assign]
    put_in_service(registry, endpoint, registry.find("2"), "because")
    assert champion_and_served(tmp_path) == (2, [2])


# Killed after each write in turn

KILLED_AFTER = """
import os, signal, sys
left = [int(sys.argv[1])]
def counted(write):
    def counting(*args, **options):
        result = write(*args, **options)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return counting
for name in ("fsync", "link", "rename", "replace", "unlink", "mkdir", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
from adaptation.platforms.base import Standing, Upload
from adaptation.platforms.local import LocalEndpoint, LocalRegistry
from adaptation.platforms.rollout import put_in_service, roll_back
folder = sys.argv[2]
registry, endpoint = LocalRegistry(folder + "/registry"), LocalEndpoint(folder + "/endpoint")
"""


def killed_everywhere(tmp_path: Path, action: str, prepare: Callable[[Path], object]) -> Iterator[Path]:
    """Yield worlds in each of which the action was killed after one more of its writes, up to its last."""
    for writes in itertools.count(1):
        folder = tmp_path / str(writes)
        prepare(folder)
        program = [sys.executable, "-c", KILLED_AFTER + action, str(writes), str(folder)]
        code = subprocess.run(program, env=ENVIRONMENT).returncode
        if code == 0:
            assert writes > 5, "nothing was killed"
            return
        assert code == -signal.SIGKILL
        yield folder


def test_upload_killed_anywhere_leaves_a_whole_version_or_none(tmp_path: Path) -> None:
    action = "registry.upload(Upload(folder + '/model', 'run-1', (1,), {}, '', ''))"
    for folder in killed_everywhere(tmp_path, action, lambda folder: a_model(folder / "model")):
        registry = a_registry(folder)
        assert all(contents(version.uri) == contents(folder / "model") for version in registry.versions())
        registry.upload(an_upload(folder / "model"))
        assert [version.number for version in registry.versions()] == [1]
        registry.upload(an_upload(folder / "model", "run-2"))
        assert sorted(os.listdir(folder / "registry" / "versions")) == ["1", "2"]


def with_a_candidate(folder: Path) -> None:
    registry = a_registry(folder, versions=2)
    registry.mark(registry.find("1"), Standing.CANDIDATE, "because")


def test_mark_killed_anywhere_is_completed_by_its_repetition(tmp_path: Path) -> None:
    action = "registry.mark(registry.find('2'), Standing.CANDIDATE, 'because')"
    for folder in killed_everywhere(tmp_path, action, with_a_candidate):
        registry = a_registry(folder)
        registry.mark(registry.find("2"), Standing.CANDIDATE, "because")
        records = [(record.version, record.standing) for record in registry.standings()]
        assert records == [(1, "candidate"), (2, "candidate"), (1, "dropped")]


def serving_one(folder: Path) -> None:
    a_registry(folder, versions=2)
    put(folder, 1)


def test_deployment_killed_anywhere_always_serves_a_whole_version(tmp_path: Path) -> None:
    action = "put_in_service(registry, endpoint, registry.find('2'), 'because')"
    for folder in killed_everywhere(tmp_path, action, serving_one):
        assert_only_whole_versions(folder)
        put(folder, 2)
        assert champion_and_served(folder) == (2, [2])
        assert sorted(os.listdir(folder / "endpoint")) == [".lock", "2"]


def serving_three_after_two_and_one(folder: Path) -> None:
    a_registry(folder, versions=3)
    for number in (1, 2, 3):
        put(folder, number)


def test_roll_back_killed_anywhere_goes_to_the_same_version_again(tmp_path: Path) -> None:
    action = "roll_back(registry, endpoint)"
    for folder in killed_everywhere(tmp_path, action, serving_three_after_two_and_one):
        assert_only_whole_versions(folder)
        champion, _ = champion_and_served(folder)
        if champion == 3:  # else the roll-back was complete, and this would be another one
            roll_back(a_registry(folder), an_endpoint(folder))
        assert champion_and_served(folder) == (2, [2])


def assert_only_whole_versions(folder: Path) -> None:
    serving = an_endpoint(folder).serving()
    assert serving
    for number in serving:
        version: ModelVersion = a_registry(folder).find(str(number))
        assert contents(folder / "endpoint" / str(number)) == contents(version.uri)


# Connecting


def test_configuration_connects_the_same_as_its_text(tmp_path: Path) -> None:
    config = LocalConfig(str(tmp_path), (sys.executable, "-m", "some.job"))
    a_registry(tmp_path, versions=1)
    for platform in (connect(config), connect(config.to_json())):
        assert isinstance(platform.jobs, LocalJobs)
        assert platform.jobs.command == config.command
        assert platform.jobs.folder == str(tmp_path / "jobs")
        assert platform.registry.find("1").number == 1
        platform.endpoint.deploy(platform.registry.find("1"))
        assert an_endpoint(tmp_path).serving() == [1]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"platform": "local"}', '{"platform": "mars"}'])
def test_text_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(AdaptationError) as error:
        connect(text)
    assert isinstance(error.value, AdaptationError)


def test_unknown_platform_is_named_with_the_existing_ones() -> None:
    with pytest.raises(AdaptationError, match="no platform 'mars'.*'local'"):
        connect('{"platform": "mars", "root": "/", "command": []}')
