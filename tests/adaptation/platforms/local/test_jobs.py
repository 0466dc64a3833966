"""Local jobs: recorded once, run by their own process, whatever happens to it or to its creator.

Each promise holds whether the process was started in the ordinary way or forked by a server.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adaptation import progress
from adaptation.io.locks import locked, locked_if_free
from adaptation.platforms.base import InvalidJob, Job, JobFailed, JobRequest, JobState, NoSuchJob
from adaptation.platforms.local import LocalJobs, forkserver, run_recorded
from adaptation.platforms.local import jobs as local_jobs

ROOT = Path(__file__).parents[4]
MODULE, PRELOAD = "program_of_a_job", "adaptation.platforms.local"
COMMAND = (sys.executable, "-P", "-m", MODULE)
JobsThat = Callable[[str], LocalJobs]


@pytest.fixture(autouse=True)
def _children_find_their_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))


@pytest.fixture(params=["started", "forked"])
def jobs_that(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobsThat]:
    """Return a maker of jobs whose work is a few lines of Python over `request`."""
    with contextlib.ExitStack() as server:

        def make(work: str) -> LocalJobs:
            jobs = jobs_of(tmp_path, f"assert (sys.orig_argv[2] == '-c') is {request.param == 'forked'}\n{work}")
            if request.param == "forked":
                server.enter_context(forkserver.serving(MODULE, PRELOAD))
            return jobs

        yield make


def jobs_of(folder: Path, work: str, before: str = "") -> LocalJobs:
    """Return jobs with that work, whose processes run `before` first."""
    lines = "".join(f"    {line}\n" for line in work.splitlines())
    (folder / f"{MODULE}.py").write_text(
        "import os, subprocess, sys, time\n"
        "from adaptation.platforms.base import JobRequest\n"
        "from adaptation.platforms.local import LocalJobs, run_recorded\n"
        "from adaptation.progress import report\n"
        f"here = {str(folder)!r}\n"
        f"def work(request):\n{lines}\n"
        f"{before}\n"
        "run_recorded(sys.argv[1], work)\n"
    )
    return LocalJobs(str(folder / "jobs"), COMMAND)


def held(folder: Path) -> LocalJobs:
    """Return jobs that report their parent process and do not end before `hold` is removed."""
    (folder / "hold").touch()
    return jobs_of(
        folder, "report(str(os.getppid()))\nwhile os.path.exists(here + '/hold'):\n    time.sleep(0.01)\nreturn {}"
    )


def created(jobs: LocalJobs) -> str:
    """Return Python code that creates job-1 and waits until it reports."""
    create = "jobs.create(JobRequest('job-1', 'evaluation', {})); next(jobs.follow('job-1'))"
    return f"jobs = LocalJobs({jobs.folder!r}, {jobs.command!r}); {create}"


def run_in_a_group(code: str) -> int:
    """Run the code in a process in its own group and return its exit code."""
    imports = (
        "import os, signal\n"
        "from adaptation.platforms.local import forkserver\n"
        "from adaptation.platforms.base import JobRequest\n"
        "from adaptation.platforms.local import LocalJobs\n"
    )
    return subprocess.run([sys.executable, "-c", imports + code], start_new_session=True).returncode


def a_request(job_id: str = "job-1") -> JobRequest:
    return JobRequest(job_id, "evaluation", {"batch": "2021-10"})


def ended(jobs: LocalJobs, job_id: str = "job-1") -> Job:
    wait_for(lambda: existing(jobs, job_id).state.ended)
    return existing(jobs, job_id)


def existing(jobs: LocalJobs, job_id: str = "job-1") -> Job:
    job = jobs.get(job_id)
    assert job is not None
    return job


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


def test_job_runs_in_its_own_process_and_leaves_its_result(jobs_that: JobsThat) -> None:
    jobs = jobs_that("print('printed')\nreturn {'batch': request.parameters['batch'], 'process': os.getpid()}")
    created = jobs.create(a_request())
    job = ended(jobs)
    assert (created.id, created.pipeline, created.parameters) == ("job-1", "evaluation", {"batch": "2021-10"})
    assert (job.state, job.message, job.result["batch"]) == (JobState.SUCCEEDED, "", "2021-10")
    assert job.result["process"] != os.getpid()
    assert Path(job.link).read_text() == "printed\n"


def test_same_id_is_the_same_job_and_runs_once(jobs_that: JobsThat, tmp_path: Path) -> None:
    jobs = jobs_that("open(here + '/ran', 'a').write('x')\nreturn {}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(jobs.create, [a_request()] * 8))
    job = ended(jobs)
    assert jobs.create(JobRequest("job-1", "training", {})) == job
    time.sleep(0.5)  # for late processes
    assert (tmp_path / "ran").read_text() == "x"


def test_concurrent_starts_of_a_job_run_it_once(tmp_path: Path) -> None:
    folder = a_recorded_job(tmp_path)
    ran: list[str] = []

    def work(request: JobRequest) -> dict[str, str]:
        ran.append(request.id)
        time.sleep(0.2)
        return {}

    threads = [threading.Thread(target=run_recorded, args=(str(folder), work)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran == ["job-1"]


def test_job_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    folder = a_recorded_job(tmp_path)
    run_recorded(str(folder), lambda request: {"run": 1})
    run_recorded(str(folder), lambda request: {"run": 2})
    assert existing(LocalJobs(str(tmp_path), ())).result == {"run": 1}


def test_job_that_ran_before_the_lock_was_taken_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_recorded_job(tmp_path)
    lock = locked_if_free

    def late_lock(path: str) -> contextlib.AbstractContextManager[bool]:
        monkeypatch.undo()
        run_recorded(str(folder), lambda request: {"run": "the other's"})
        return lock(path)

    monkeypatch.setattr(local_jobs, "locked_if_free", late_lock)
    run_recorded(str(folder), lambda request: {"run": "mine"})
    assert existing(LocalJobs(str(tmp_path), ())).result == {"run": "the other's"}


def test_job_that_runs_or_has_ended_starts_no_process(tmp_path: Path) -> None:
    folder = a_recorded_job(tmp_path)
    jobs = LocalJobs(str(tmp_path), ("no-such-program",))
    with locked(str(folder / "lock")):
        assert jobs.create(a_request()).state is JobState.PENDING
    run_recorded(str(folder), lambda request: {"ran": jobs.create(request).state})
    assert jobs.create(a_request()).result == {"ran": "RUNNING"}


def test_job_whose_lock_is_taken_for_a_moment_is_run_after_it(tmp_path: Path) -> None:
    folder = a_recorded_job(tmp_path)
    child = threading.Thread(target=run_recorded, args=(str(folder), lambda request: {"ran": True}))
    with locked(str(folder / "lock")):
        child.start()
        time.sleep(0.2)
    child.join(10)
    assert existing(LocalJobs(str(tmp_path), ())).result == {"ran": True}


def test_job_whose_creator_died_before_starting_it_is_started_later(jobs_that: JobsThat, tmp_path: Path) -> None:
    jobs = jobs_that("return {'ran': True}")
    a_recorded_job(tmp_path / "jobs")
    assert existing(jobs).state is JobState.PENDING
    jobs.create(a_request())
    assert ended(jobs).result == {"ran": True}


def test_failed_job_has_its_message_and_the_traceback_in_its_log(jobs_that: JobsThat) -> None:
    jobs = jobs_that("raise ValueError('no luck')")
    jobs.create(a_request())
    job = ended(jobs)
    assert (job.state, job.message) == (JobState.FAILED, "ValueError: no luck")
    assert "Traceback" in Path(job.link).read_text()


@pytest.mark.parametrize(
    ("work", "message"),
    [("return {'result': object()}", "TypeError"), ("return None", "TypeError"), ("sys.exit(0)", "SystemExit")],
)
def test_job_without_a_valid_result_has_failed(jobs_that: JobsThat, work: str, message: str) -> None:
    jobs = jobs_that(work)
    jobs.create(a_request())
    job = ended(jobs)
    assert job.state is JobState.FAILED
    assert message in job.message


def test_job_that_is_still_starting_is_not_started_again(jobs_that: JobsThat, tmp_path: Path) -> None:
    slow = "while not os.path.exists(here + '/go'):\n    time.sleep(0.01)"
    jobs = jobs_that("return {}")
    program = tmp_path / f"{MODULE}.py"
    begun = "with open(here + '/started', 'a') as file:\n    file.write('x')\n"
    program.write_text(program.read_text().replace("run_recorded(sys", f"{begun}{slow}\nrun_recorded(sys"))
    first = jobs.create(a_request())
    looks = [jobs.create(a_request()) for _ in range(15)]
    assert {job.state for job in [first, *looks, existing(jobs)]} == {JobState.RUNNING}
    assert first.message == "its process is starting"
    (tmp_path / "go").touch()
    assert ended(jobs).state is JobState.SUCCEEDED
    assert (tmp_path / "started").read_text() == "x"


def test_job_whose_process_was_killed_while_it_started_is_started_again(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "return {}", before="if not os.path.exists(here + '/go'):\n    time.sleep(60)")
    creation = "job = jobs.create(JobRequest('job-1', 'evaluation', {}))"
    code = f"jobs = LocalJobs({jobs.folder!r}, {jobs.command!r}); {creation}; os.kill(os.getpid(), signal.SIGKILL)"
    run_in_a_group(code)
    assert existing(jobs).state is JobState.RUNNING
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(tmp_path).encode() in process.read_bytes() and MODULE.encode() in process.read_bytes():
                os.kill(int(process.parent.name), signal.SIGKILL)
    wait_for(lambda: existing(jobs).state is JobState.PENDING)
    (tmp_path / "go").touch()
    jobs.create(a_request())
    assert ended(jobs).state is JobState.SUCCEEDED


def test_job_on_a_full_disk_has_failed_for_that_reason(tmp_path: Path) -> None:
    """The disk is a file system of a few kilobytes, which only root can mount."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted")
    try:
        folder = a_recorded_job(mounted)

        def fill(request: JobRequest) -> dict[str, str]:
            with open(mounted / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

        run_recorded(str(folder), fill)
        job = existing(LocalJobs(str(mounted), ()))
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert job.state is JobState.FAILED
    assert "No space left on device" in job.message and "killed" not in job.message


def test_killed_job_has_failed_and_names_its_log(jobs_that: JobsThat) -> None:
    jobs = jobs_that("report(str(os.getpid()))\ntime.sleep(60)")
    jobs.create(a_request())
    os.kill(int(next(jobs.follow("job-1"))), signal.SIGKILL)
    wait_for(lambda: existing(jobs).state is not JobState.RUNNING)
    job = existing(jobs)
    assert job.state is JobState.FAILED
    assert "killed" in job.message
    assert job.link in job.message
    assert jobs.create(a_request()) == job


def test_children_of_a_killed_job_do_not_keep_it_running(jobs_that: JobsThat) -> None:
    jobs = jobs_that("subprocess.Popen(['sleep', '30'])\nreport(str(os.getpid()))\ntime.sleep(60)")
    jobs.create(a_request())
    leader = int(next(jobs.follow("job-1")))
    os.kill(leader, signal.SIGKILL)
    wait_for(lambda: existing(jobs).state is JobState.FAILED)
    os.killpg(leader, signal.SIGKILL)


@pytest.mark.parametrize("forked", [False, True])
def test_process_that_ends_before_it_starts_the_job_leaves_it_failed(tmp_path: Path, forked: bool) -> None:
    jobs = jobs_of(tmp_path, "return {}", before="sys.exit('wrong settings')")
    with forkserver.serving(MODULE, PRELOAD) if forked else contextlib.nullcontext():
        jobs.create(a_request())
        job = ended(jobs)
    assert (job.state, job.message) == (JobState.FAILED, f"the process ended before it began; {job.link} may say why")
    assert Path(job.link).read_text() == "wrong settings\n"


def test_command_that_cannot_be_run_raises_and_the_job_can_be_retried(jobs_that: JobsThat, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="no-such-program"):
        LocalJobs(str(tmp_path / "jobs"), ("no-such-program",)).create(a_request())
    jobs = jobs_that("return {'ran': True}")
    assert existing(jobs).state is JobState.PENDING
    jobs.create(a_request())
    assert ended(jobs).result == {"ran": True}


def test_job_outlives_the_process_group_of_its_creator(tmp_path: Path) -> None:
    jobs = held(tmp_path)
    killed = run_in_a_group(f"{created(jobs)}\nos.killpg(0, signal.SIGKILL)")
    (tmp_path / "hold").unlink()
    assert killed == -signal.SIGKILL
    assert ended(jobs).state is JobState.SUCCEEDED


def test_forked_job_outlives_the_server_which_ends_with_its_owner(tmp_path: Path) -> None:
    jobs = held(tmp_path)
    creation = f"{created(jobs)}\n    os.kill(os.getpid(), signal.SIGKILL)"
    killed = run_in_a_group(f"with forkserver.serving({MODULE!r}, {PRELOAD!r}):\n    {creation}")
    server = int(next(jobs.follow("job-1")))
    wait_for(lambda: not Path(f"/proc/{server}").exists())
    (tmp_path / "hold").unlink()
    assert killed == -signal.SIGKILL
    assert ended(jobs).state is JobState.SUCCEEDED


def test_job_created_by_a_forked_job_is_forked_by_the_same_server(tmp_path: Path) -> None:
    work = f"""
if request.id == 'job-1':
    LocalJobs(os.path.dirname(sys.argv[1]), {COMMAND!r}).create(JobRequest('job-2', 'training', {{}}))
return {{'parent': os.getppid()}}"""
    jobs = jobs_of(tmp_path, work)
    with forkserver.serving(MODULE, PRELOAD):
        jobs.create(a_request())
        first = ended(jobs)
        second = ended(jobs, "job-2")
    assert first.result["parent"] == second.result["parent"] != os.getpid()


def test_concurrently_created_jobs_are_all_forked(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "return {'parent': os.getppid(), 'process': os.getpid()}")
    with forkserver.serving(MODULE, PRELOAD), ThreadPoolExecutor(4) as pool:
        ids = [job.id for job in pool.map(jobs.create, [a_request(f"job-{number}") for number in range(4)])]
        results = [ended(jobs, job_id).result for job_id in ids]
    assert len({result["parent"] for result in results}) == 1
    assert len({result["process"] for result in results}) == 4


def test_job_is_started_normally_after_the_server_was_killed(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "return {'parent': os.getppid()}")
    with forkserver.serving(MODULE, PRELOAD):
        jobs.create(a_request("job-1"))
        os.kill(ended(jobs, "job-1").result["parent"], signal.SIGKILL)
        jobs.create(a_request("job-2"))
        assert ended(jobs, "job-2").result == {"parent": os.getpid()}


def test_progress_is_followed_from_the_first_message_to_the_end(jobs_that: JobsThat) -> None:
    jobs = jobs_that("for n in range(4):\n    report(f'step {n}')\n    time.sleep(0.15)\nreturn {}")
    jobs.create(a_request())
    assert list(jobs.follow("job-1")) == [f"step {n}" for n in range(4)]
    assert list(jobs.follow("job-1")) == [f"step {n}" for n in range(4)]


def test_progress_outside_a_job_is_not_recorded_in_it(tmp_path: Path) -> None:
    def work(request: JobRequest) -> dict[str, str]:
        progress.report("inside")
        return {}

    run_recorded(str(a_recorded_job(tmp_path)), work)
    progress.report("outside")
    assert list(LocalJobs(str(tmp_path), ()).follow("job-1")) == ["inside"]


def test_unfinished_progress_message_is_not_shown(tmp_path: Path) -> None:
    folder = a_recorded_job(tmp_path)
    run_recorded(str(folder), lambda request: {})
    (folder / "progress.jsonl").write_text('{"time": "", "message": "whole"}\n{"time": "ha')
    assert list(LocalJobs(str(tmp_path), ()).follow("job-1")) == ["whole"]


def test_job_that_ends_normally_never_looks_killed(tmp_path: Path) -> None:
    jobs = LocalJobs(str(tmp_path), ())
    seen = set()
    for number in range(40):
        folder = a_recorded_job(tmp_path, f"job-{number}")
        child = threading.Thread(target=run_recorded, args=(str(folder), lambda request: {}))
        child.start()
        while not existing(jobs, folder.name).state.ended:
            seen.add(existing(jobs, folder.name).state)
        seen.add(existing(jobs, folder.name).state)
        child.join()
    assert JobState.SUCCEEDED in seen
    assert JobState.FAILED not in seen


@pytest.mark.parametrize("job_id", ["", "..", "../x", "a/b", "/etc", "-a", "A", "a.b", "a\n", "é", "a" * 129])
def test_job_id_that_could_lead_elsewhere_is_refused(tmp_path: Path, job_id: str) -> None:
    jobs = LocalJobs(str(tmp_path / "jobs"), ("true",))
    with pytest.raises(InvalidJob, match="cannot name a job"):
        jobs.create(JobRequest(job_id, "evaluation", {}))
    with pytest.raises(InvalidJob, match="cannot name a job"):
        jobs.get(job_id)
    assert list(tmp_path.iterdir()) == []


def test_jobs_are_listed_in_the_order_of_their_creation(tmp_path: Path) -> None:
    jobs = LocalJobs(str(tmp_path), ("true",))
    for job_id in ("b", "c", "a"):
        jobs.create(a_request(job_id))
    (tmp_path / "z-without-a-request").mkdir()
    (tmp_path / "Not a job").mkdir()
    assert [job.id for job in jobs.list()] == ["b", "c", "a"]


def test_job_that_was_never_started_is_started_by_following_it(
    jobs_that: JobsThat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_jobs, "START_SECONDS", 0.1)
    jobs = jobs_that("report('started')\nreturn {}")
    a_recorded_job(tmp_path / "jobs")
    assert list(jobs.follow("job-1")) == ["started"]


def test_job_that_was_never_created_is_none_and_cannot_be_followed(tmp_path: Path) -> None:
    jobs = LocalJobs(str(tmp_path / "jobs"), ("true",))
    assert jobs.get("job-1") is None
    assert jobs.list() == []
    with pytest.raises(NoSuchJob, match="job-1"):
        next(jobs.follow("job-1"))


def a_recorded_job(jobs_folder: Path, job_id: str = "job-1") -> Path:
    """Record a job as a creator does that dies right after it."""
    folder = jobs_folder / job_id
    folder.mkdir(parents=True)
    value = {"id": job_id, "pipeline": "evaluation", "parameters": {}, "created": "2021-10-31T00:00:00+00:00"}
    (folder / "request.json").write_text(json.dumps(value))
    return folder
