"""Platforms, local and Vertex AI: both keep the promises of `adaptation.platforms.base`."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import Job, JobRequest, JobState, ModelVersion, Platform, Standing, Upload
from adaptation.platforms.connect import LocalConfig, VertexConfig, connect
from adaptation.platforms.history import history
from adaptation.platforms.rollout import Approval, approve, deploy_or_wait, put_in_service, reject, roll_back
from emulators.vertex import VertexEmulator
from tests.worlds.vertex import ROOT, a_config, a_spec, object_storage, publish

RUN = """
import sys
from adaptation.platforms.local.jobs import run_recorded
def work(request):
    if request.parameters["batch"] == "2021-11":
        raise ValueError("there is no such month")
    return {}
run_recorded(sys.argv[-1], work)
"""


@dataclass(frozen=True)
class Rig:
    """A platform, the URI of its files, and a way to make its next job fail."""

    config: LocalConfig | VertexConfig
    files: str
    fail_next_job: Callable[[], object]

    @property
    def platform(self) -> Platform:
        """Connect to the platform as a new process would."""
        return connect(self.config.to_json())

    def model(self, key: str) -> str:
        """Write a model and return its folder."""
        folder = storage.join(self.files, "models", key)
        storage.write(storage.join(folder, "saved_model.pb"), key.encode())
        return folder

    def upload(self, key: str, champion: int | None = None) -> ModelVersion:
        """Upload a version with this key, compared with the champion of that number."""
        upload = Upload(self.model(key), key, (1, 2), {"span-1": 0.98}, "runs/1/model", "run-1", "0.1.0+abc", champion)
        return self.platform.registry.upload(upload)

    def approve(self, number: int) -> None:
        """Approve a version."""
        platform = self.platform
        approve(platform.registry, platform.endpoint, platform.registry.find(str(number)))

    def serve(self, number: int) -> None:
        """Deploy and promote a version."""
        platform = self.platform
        put_in_service(platform.registry, platform.endpoint, platform.registry.find(str(number)), "because")

    def champion_and_served(self) -> tuple[int, list[int]]:
        """Return the champion's number and the versions that are served."""
        platform = self.platform
        return platform.registry.find().number, list(platform.endpoint.serving())

    def ended(self, job_id: str) -> Job:
        """Wait for the job to end and return it."""
        until = time.monotonic() + 60
        while not (job := self.platform.jobs.get(job_id)) or not job.state.ended:
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.02)
        return job


@pytest.fixture(params=["local", "vertex"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    if request.param == "local":
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        config = LocalConfig(str(tmp_path), (sys.executable, "-c", RUN))
        yield Rig(config, str(tmp_path), lambda: None)
        return
    with object_storage(monkeypatch), VertexEmulator(operation_seconds=0.01) as server:
        publish("evaluation")
        publish("training", a_spec("training", {"batch": ""}))
        yield Rig(a_config(server), ROOT, lambda: server.fail_jobs(message="there is no such month"))


def october(job_id: str = "evaluation-2021-10-0001") -> JobRequest:
    return JobRequest(job_id, "evaluation", {"batch": "2021-10"})


# Jobs


def test_job_runs_to_its_end_as_requested(rig: Rig) -> None:
    rig.platform.jobs.create(october())
    job = rig.ended("evaluation-2021-10-0001")
    assert (job.id, job.pipeline, dict(job.parameters)) == (october().id, "evaluation", {"batch": "2021-10"})
    assert (job.state, job.message) == (JobState.SUCCEEDED, "")
    assert job.link


def test_same_id_is_the_same_job_whatever_the_request(rig: Rig) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda _: rig.platform.jobs.create(october()), range(8)))
    assert {job.id for job in jobs} == {"evaluation-2021-10-0001"}
    job = rig.ended("evaluation-2021-10-0001")
    assert rig.platform.jobs.create(JobRequest(job.id, "evaluation", {"batch": "2021-11"})) == job
    assert len(rig.platform.jobs.list()) == 1


def test_failed_job_has_its_message_and_stays_failed(rig: Rig) -> None:
    rig.fail_next_job()
    request = JobRequest("evaluation-2021-11-0001", "evaluation", {"batch": "2021-11"})
    rig.platform.jobs.create(request)
    job = rig.ended(request.id)
    assert job.state is JobState.FAILED
    assert "there is no such month" in job.message
    assert rig.platform.jobs.create(request) == job


def test_jobs_are_listed_in_the_order_of_their_creation(rig: Rig) -> None:
    for job_id in ("b", "c", "a"):
        rig.platform.jobs.create(october(job_id))
    assert [job.id for job in rig.platform.jobs.list()] == ["b", "c", "a"]


def test_job_has_its_times_of_creation_and_end(rig: Rig) -> None:
    before = datetime.now(UTC)
    rig.platform.jobs.create(october())
    job = rig.ended(october().id)
    moments = [datetime.fromisoformat(text) for text in (job.created, job.ended)]
    assert before <= moments[0] <= moments[1] <= datetime.now(UTC)


def test_job_that_was_never_created_is_none(rig: Rig) -> None:
    assert rig.platform.jobs.get("evaluation-2021-10-0001") is None
    assert list(rig.platform.jobs.list()) == []


# Registry


def test_version_keeps_files_spans_metrics_and_origin(rig: Rig) -> None:
    version = rig.upload("first")
    assert (version.number, version.key, version.spans, version.metrics) == (1, "first", (1, 2), {"span-1": 0.98})
    assert (version.source, version.run, version.code) == ("runs/1/model", "run-1", "0.1.0+abc")
    assert storage.read(storage.join(version.uri, "saved_model.pb")) == b"first"
    assert list(rig.platform.registry.versions()) == [version]
    assert rig.platform.registry.find("1") == version


def test_same_key_is_the_same_version_and_another_key_the_next(rig: Rig) -> None:
    first = rig.upload("first")
    assert rig.upload("first") == first
    assert rig.upload("second").number == 2


def test_version_10_comes_after_version_9(rig: Rig) -> None:
    for number in range(1, 12):
        rig.upload(f"run-{number}")
    assert [version.number for version in rig.platform.registry.versions()] == list(range(1, 12))


def test_folder_without_a_saved_model_is_refused(rig: Rig) -> None:
    upload = Upload(storage.join(rig.files, "nothing"), "key", (1,), {}, "", "")
    with pytest.raises(LookupError, match="nothing holds no SavedModel"):
        rig.platform.registry.upload(upload)
    assert list(rig.platform.registry.versions()) == []


def test_champion_is_none_before_the_first_promotion(rig: Rig) -> None:
    registry = rig.platform.registry
    assert registry.champion() is None
    rig.upload("first")
    assert registry.champion() is None
    with pytest.raises(LookupError, match=r"is the champion yet \(versions: 1\)"):
        registry.find()


@pytest.mark.parametrize("model", ["3", "0", "01", "newest", "default", ""])
def test_unknown_version_is_refused_with_the_existing_ones(rig: Rig, model: str) -> None:
    rig.upload("first"), rig.upload("second")
    with pytest.raises(LookupError, match=r"\(versions: 1, 2\)") as error:
        rig.platform.registry.find(model)
    assert isinstance(error.value, AdaptationError)


def test_champion_is_the_version_promoted_last(rig: Rig) -> None:
    registry = rig.platform.registry
    first, second = rig.upload("first"), rig.upload("second")
    for version in (first, second, second):
        registry.promote(version, "because")
        assert registry.find() == registry.champion() == version
    assert registry.predecessor() == first


def test_promotions_are_kept_with_their_reasons(rig: Rig) -> None:
    registry = rig.platform.registry
    assert list(registry.promotions()) == []
    first, second = rig.upload("first"), rig.upload("second")
    for version, reason in ((first, "the first"), (second, "a better one"), (first, "back again")):
        registry.promote(version, reason)
    assert [(one.version, one.reason) for one in rig.platform.registry.promotions()] == [
        (1, "the first"),
        (2, "a better one"),
        (1, "back again"),
    ]


def test_version_that_is_not_in_the_registry_cannot_be_promoted(rig: Rig) -> None:
    foreign = ModelVersion(7, "", "", (), {}, "", "", "")
    with pytest.raises(LookupError, match="'7'"):
        rig.platform.registry.promote(foreign, "because")


@pytest.mark.parametrize(
    ("promoted", "before"),
    [
        ((1, 2), 1),
        ((1, 2, 3), 2),
        ((1, 2, 3, 2), 1),
        ((1, 2, 3, 2, 3), 2),
        ((1, 2, 1, 3), 1),
        ((1, 2, 3, 2, 4), 2),
    ],
)
def test_predecessor_is_found_like_a_browsers_back_button(rig: Rig, promoted: tuple[int, ...], before: int) -> None:
    versions = [rig.upload(f"run-{number}") for number in range(1, 5)]
    for number in promoted:
        rig.platform.registry.promote(versions[number - 1], "because")
    assert rig.platform.registry.predecessor().number == before


@pytest.mark.parametrize("promoted", [(), (1,), (1, 2, 1)])
def test_predecessor_of_the_first_champion_is_refused(rig: Rig, promoted: tuple[int, ...]) -> None:
    versions = [rig.upload(f"run-{number}") for number in range(1, 3)]
    for number in promoted:
        rig.platform.registry.promote(versions[number - 1], "because")
    with pytest.raises(LookupError, match="before this one"):
        rig.platform.registry.predecessor()


def marked(rig: Rig, *marks: tuple[int, Standing]) -> Rig:
    for number, standing in marks:
        registry = rig.platform.registry
        registry.mark(registry.find(str(number)), standing, f"{standing} because")
    return rig


def standings(rig: Rig) -> list[tuple[int, str]]:
    return [(record.version, record.standing) for record in rig.platform.registry.standings()]


def candidate(rig: Rig) -> int | None:
    found = rig.platform.registry.candidate()
    return found.number if found else None


def test_standings_are_kept_with_reason_and_time_the_newest_last(rig: Rig) -> None:
    rig.upload("first"), rig.upload("second")
    marked(rig, (2, Standing.REFUSED), (1, Standing.WAITING), (1, Standing.REJECTED))
    records = rig.platform.registry.standings()
    assert standings(rig) == [(2, "refused"), (1, "waiting for approval"), (1, "rejected")]
    assert records[0].reason == "refused because"
    assert all(datetime.fromisoformat(record.time).tzinfo for record in records)


def test_standing_marked_twice_is_recorded_once(rig: Rig) -> None:
    rig.upload("first")
    marked(rig, (1, Standing.CANDIDATE), (1, Standing.CANDIDATE))
    assert standings(rig) == [(1, "candidate")]


def test_candidate_that_is_superseded_is_dropped(rig: Rig) -> None:
    rig.upload("first"), rig.upload("second")
    assert candidate(marked(rig, (1, Standing.CANDIDATE))) == 1
    assert candidate(marked(rig, (2, Standing.CANDIDATE))) == 2
    assert standings(rig) == [(1, "candidate"), (2, "candidate"), (1, "dropped")]


@pytest.mark.parametrize("standing", [Standing.REFUSED, Standing.DROPPED, Standing.WAITING])
def test_candidate_that_was_decided_is_no_longer_one(rig: Rig, standing: Standing) -> None:
    rig.upload("first")
    assert candidate(rig) is None
    assert candidate(marked(rig, (1, Standing.CANDIDATE), (1, standing))) is None


def test_promotion_ends_a_standing_also_after_a_roll_back(rig: Rig) -> None:
    rig.upload("first"), rig.upload("second")
    rig.serve(1)
    marked(rig, (2, Standing.CANDIDATE))
    rig.serve(2)
    assert candidate(rig) is None
    roll_back(rig.platform.registry, rig.platform.endpoint)
    assert candidate(rig) is None
    assert candidate(marked(rig, (2, Standing.CANDIDATE))) == 2


def test_champion_cannot_be_marked(rig: Rig) -> None:
    rig.upload("first")
    rig.serve(1)
    assert standings(marked(rig, (1, Standing.CANDIDATE))) == []


def test_promotions_are_numbered_and_have_their_times(rig: Rig) -> None:
    rig.upload("first"), rig.upload("second")
    for number in (1, 2, 1):
        rig.serve(number)
    promotions = rig.platform.registry.promotions()
    assert [one.number for one in promotions] == [1, 2, 3]
    moments = [datetime.fromisoformat(one.time) for one in promotions]
    assert all(before <= after for before, after in itertools.pairwise(moments))


# Endpoint, and the two together


def test_endpoint_that_was_never_used_serves_nothing(rig: Rig) -> None:
    assert list(rig.platform.endpoint.serving()) == []


def test_endpoint_serves_one_version_at_a_time(rig: Rig) -> None:
    versions = [rig.upload(f"run-{number}") for number in range(1, 4)]
    for number in (3, 1, 1, 2):
        rig.platform.endpoint.deploy(versions[number - 1])
        assert list(rig.platform.endpoint.serving()) == [number]


def test_deployed_version_is_served_and_champion(rig: Rig) -> None:
    rig.upload("first"), rig.upload("second")
    for number in (1, 2, 2):
        rig.serve(number)
        assert rig.champion_and_served() == (number, [number])


def test_roll_back_goes_step_by_step_to_the_first_version(rig: Rig) -> None:
    for number in (1, 2, 3):
        rig.upload(f"run-{number}")
        rig.serve(number)
    platform = rig.platform
    assert [roll_back(platform.registry, platform.endpoint).number for _ in range(2)] == [2, 1]
    with pytest.raises(LookupError):
        roll_back(platform.registry, platform.endpoint)
    assert rig.champion_and_served() == (1, [1])


def test_concurrent_deployments_end_with_one_champion_that_is_served(rig: Rig) -> None:
    for number in (1, 2, 3):
        rig.upload(f"run-{number}")
    rig.serve(1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(rig.serve, (2, 3)))
    assert rig.champion_and_served() in [(2, [2]), (3, [3])]


# Approval and history


def delivered(rig: Rig, number: int, approval: Approval) -> bool:
    platform = rig.platform
    version = platform.registry.find(str(number))
    return deploy_or_wait(platform.registry, platform.endpoint, version, "better", approval)


@pytest.mark.parametrize(("approval", "serving"), [(Approval.AUTOMATIC, 2), (Approval.PERSON, 1)])
def test_better_version_is_served_or_waits_as_the_settings_say(rig: Rig, approval: Approval, serving: int) -> None:
    rig.upload("first"), rig.upload("second", champion=1)
    rig.serve(1)
    for _ in range(2):
        assert delivered(rig, 2, approval) == (serving == 2)
    assert rig.champion_and_served() == (serving, [serving])
    assert standings(rig) == ([(2, "waiting for approval")] if serving == 1 else [])


@pytest.mark.parametrize("approval", Approval)
def test_version_that_was_compared_with_another_champion_is_dropped(rig: Rig, approval: Approval) -> None:
    rig.upload("first"), rig.upload("second", champion=1), rig.upload("third", champion=2)
    rig.serve(1), rig.serve(2)
    roll_back(rig.platform.registry, rig.platform.endpoint)
    assert not delivered(rig, 3, approval)
    assert rig.champion_and_served() == (1, [1])
    assert standings(rig) == [(3, "dropped")]


def test_version_that_waits_is_served_once_it_is_approved(rig: Rig) -> None:
    rig.upload("first"), rig.upload("second", champion=1)
    rig.serve(1)
    marked(rig, (2, Standing.WAITING))
    assert rig.champion_and_served() == (1, [1])
    for _ in range(2):
        rig.approve(2)
        assert rig.champion_and_served() == (2, [2])
    assert [one.reason for one in rig.platform.registry.promotions()] == [
        "because",
        "approved: waiting for approval because",
    ]


def test_first_version_of_all_can_wait_for_approval(rig: Rig) -> None:
    rig.upload("first", champion=0)
    marked(rig, (1, Standing.WAITING))
    rig.approve(1)
    assert rig.champion_and_served() == (1, [1])


@pytest.mark.parametrize("standing", [None, Standing.REFUSED, Standing.CANDIDATE, Standing.REJECTED])
def test_version_that_does_not_wait_cannot_be_approved(rig: Rig, standing: Standing | None) -> None:
    rig.upload("first"), rig.upload("second")
    rig.serve(1)
    if standing:
        marked(rig, (2, standing))
    with pytest.raises(AdaptationError, match="version 2 is not pending"):
        rig.approve(2)
    assert rig.champion_and_served() == (1, [1])


def test_version_is_not_approved_after_another_became_the_champion(rig: Rig) -> None:
    rig.upload("first"), rig.upload("second"), rig.upload("third", champion=2)
    rig.serve(1), rig.serve(2)
    marked(rig, (3, Standing.WAITING))
    roll_back(rig.platform.registry, rig.platform.endpoint)
    with pytest.raises(AdaptationError, match="compared with version 2, but version 1 is the champion now"):
        rig.approve(3)
    assert rig.champion_and_served() == (1, [1])


def test_version_that_was_rejected_stays_so(rig: Rig) -> None:
    registry = rig.platform.registry
    rig.upload("first"), rig.upload("second")
    rig.serve(1)
    with pytest.raises(AdaptationError, match="version 2 is"):
        reject(registry, registry.find("2"), "too slow")
    marked(rig, (2, Standing.WAITING))
    for _ in range(2):
        reject(registry, registry.find("2"), "too slow")
    assert standings(rig) == [(2, "waiting for approval"), (2, "rejected")]


def test_history_says_who_served_when_and_what_was_decided(rig: Rig) -> None:
    for number in range(1, 5):
        rig.upload(f"run-{number}")
    marked(rig, (4, Standing.REFUSED))
    rig.serve(1)
    marked(rig, (2, Standing.CANDIDATE), (3, Standing.CANDIDATE))
    rig.serve(3)
    roll_back(rig.platform.registry, rig.platform.endpoint)
    events = history(rig.platform.registry)
    assert [(one.version, one.standing) for one in events] == [
        (4, "refused"),
        (1, "champion"),
        (2, "candidate"),
        (3, "candidate"),
        (2, "dropped"),
        (3, "champion"),
        (3, "rolled back"),
        (1, "champion"),
    ]
    served = [one for one in events if one.standing == "champion"]
    assert [one.until for one in served] == [served[1].time, served[2].time, ""]
    assert {(one.run, one.code) for one in events} == {("run-1", "0.1.0+abc")}


# Predictor


def test_predicting_an_empty_list_is_refused(rig: Rig) -> None:
    rig.upload("first")
    rig.serve(1)
    storage.write(storage.join(rig.files, "empty.txt"), b"\n")
    with pytest.raises(AdaptationError, match="names no image"):
        rig.platform.predictor.predict(storage.join(rig.files, "empty.txt"), rig.files)


@pytest.mark.parametrize("model", ["champion", "2"])
def test_predicting_with_a_missing_model_is_refused(rig: Rig, model: str) -> None:
    rig.upload("first")
    storage.write(storage.join(rig.files, "list.txt"), b"gs://bucket/a.jpg\n")
    with pytest.raises(LookupError, match="versions: 1"):
        rig.platform.predictor.predict(storage.join(rig.files, "list.txt"), rig.files, model)
