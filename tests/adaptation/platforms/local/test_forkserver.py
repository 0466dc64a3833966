"""Fork server: a forked process is like one started normally, and the server's end affects no other process."""

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
from typing import Any

import pytest

from adaptation.platforms.local import forkserver
from adaptation.platforms.local.forkserver import Forked, serving, start

ROOT = Path(__file__).parents[4]
MODULE, PRELOAD = "program_of_a_test", "preload_of_a_test"
COMMAND = (sys.executable, "-P", "-m", MODULE)
FACTS = """
import gc, json, os, signal, subprocess, sys, threading, types

def executed(*command):
    return subprocess.check_output(command, errors="surrogateescape", close_fds=False).splitlines()

main = sys.modules["__main__"]
mask = os.umask(0o22)
source = os.readlink("/proc/self/fd/0")
with open("facts.json", "w") as file:
    json.dump(
        {
            "leads its session": os.getsid(0) == os.getpgrp() == os.getpid(),
            "name": [__name__, __file__, __spec__.name, main.__dict__ is globals()],
            "arguments": sys.argv,
            "path": sys.path,
            "flags": str(sys.flags),
            "folder": [os.getcwd(), *executed("pwd", "-P")],
            "environment": [dict(os.environ), sorted(executed("env"))],
            "input": source if source != os.devnull else [source, sys.stdin.read()],
            "output": [[s.encoding, s.errors, s.line_buffering, os.readlink(f"/proc/self/fd/{s.fileno()}")]
                       for s in (sys.stdout, sys.stderr)],
            "open in what it executes": executed("ls", "/proc/self/fd"),
            "signals": {number.name: str(signal.getsignal(number)) for number in signal.valid_signals()
                        if isinstance(number, signal.Signals)},
            "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "collector": [gc.isenabled(), gc.get_threshold()],
            "threads": [thread.name for thread in threading.enumerate()],
            "mask": mask,
        },
        file,
    )
"""
HELD = """
import os, subprocess, sys, time
sleep = subprocess.Popen(["sleep", "60"])
print(os.getpid(), sleep.pid, flush=True)
while os.path.exists(sys.argv[1]):
    time.sleep(0.01)
"""
PARENT = "import os, sys; print(os.getppid(), *sys.argv[1:])"


@pytest.fixture(autouse=True)
def _modules_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    (tmp_path / f"{PRELOAD}.py").touch()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """Start a server, wait until it is ready, and yield its process id."""
    write(tmp_path, PARENT)
    with serving(MODULE, PRELOAD):
        yield int(output_of(tmp_path).split()[0])


def write(folder: Path, program: str) -> None:
    (folder / f"{MODULE}.py").write_text(program)


def forked(folder: Path, *arguments: str) -> Forked:
    """Have the server fork a process whose log is `log`."""
    with (folder / "log").open("ab") as log:
        process = start([*COMMAND, *arguments], log)
    assert process is not None, "nothing was forked"
    return process


def refused(folder: Path, *command: str) -> bool:
    """Return whether no server runs the command."""
    with (folder / "log").open("ab") as log:
        return start(command or COMMAND, log) is None


def run_forked(folder: Path, *arguments: str) -> None:
    """Have the server fork a process and wait for its end, with a timeout."""
    process = forked(folder, *arguments)
    process.connection.settimeout(60)
    process.wait()


def output_of(folder: Path, *arguments: str) -> str:
    """Return what a forked process prints."""
    run_forked(folder, *arguments)
    output = (folder / "log").read_text()
    (folder / "log").unlink()
    return output


def started(folder: Path, *arguments: str) -> None:
    """Run the program as a job's process is started without a server."""
    with (folder / "log").open("ab") as log:
        subprocess.run(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ,  # without what a library may have added where Python does not see it
            start_new_session=True,
        )


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


def numbers_in(log: Path) -> list[int]:
    wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
    return [int(number) for number in log.read_text().split()]


def has_ended(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def children(process: int) -> str:
    return Path(f"/proc/{process}/task/{process}/children").read_text()


# What is forked


def test_forked_process_has_the_environment_of_a_started_one(
    tmp_path: Path, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The creator has changed its folder and environment since the server started."""
    write(tmp_path, FACTS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("SAID_LATER", "väl\udcff")
    monkeypatch.delenv("HOME", raising=False)
    facts: list[dict[str, Any]] = []
    for run in (started, run_forked):
        run(tmp_path, "--settings", "a b.toml")
        facts.append(json.loads(Path("facts.json").read_text()))
        Path("facts.json").unlink()
    ordinary, alike = facts
    assert alike == ordinary
    assert alike["leads its session"] and alike["name"][0] == "__main__" and alike["name"][3]
    assert alike["arguments"] == [str(tmp_path / f"{MODULE}.py"), "--settings", "a b.toml"]
    assert alike["folder"] == [str(tmp_path / "elsewhere")] * 2
    assert alike["open in what it executes"] == ["0", "1", "2", "3"]  # the last is the listing's own
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize(
    "program",
    [
        "import os, sys\nprint('first')\nos.system('echo second')\nsys.exit('third')",
        "import atexit\natexit.register(print, 'second')\nprint('first')",
        "import threading, time\nthreading.Thread(target=lambda: time.sleep(0.1) or print('second')).start()",
        "import os\nprint('never seen')\nos._exit(3)",
    ],
)
def test_output_is_appended_to_the_log(tmp_path: Path, server: int, program: str) -> None:
    write(tmp_path, program)
    logs = []
    for run in (started, run_forked):
        (tmp_path / "log").write_text("before\n")
        run(tmp_path)
        logs.append((tmp_path / "log").read_text())
    assert logs[0] == logs[1]
    assert logs[0].startswith("before\n")


def test_error_leaves_its_traceback_in_the_log(tmp_path: Path, server: int) -> None:
    write(tmp_path, "def work():\n    raise ValueError('no luck')\n\nwork()\n")
    log = output_of(tmp_path)
    assert log.startswith("Traceback") and log.endswith("ValueError: no luck\n")
    assert f'{MODULE}.py", line 2, in work' in log


def test_preloaded_module_is_imported_once_and_silently(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{PRELOAD}.py").write_text(
        f"import gc, sys\nopen({str(tmp_path / 'imports')!r}, 'a').write(f'collector: {{gc.isenabled()}}')\n"
        "for file in (sys.stdout, sys.stderr):\n    print('said', file=file)"
    )
    write(tmp_path, f"import {PRELOAD}, os\nprint(os.getpid())")
    with serving(MODULE, PRELOAD):
        processes = [output_of(tmp_path) for _ in range(3)]
    assert len(set(processes)) == 3 and "said" not in "".join(processes)
    assert (tmp_path / "imports").read_text() == "collector: False"
    assert capfd.readouterr() == ("", "")


def test_concurrent_requests_are_each_forked(tmp_path: Path, server: int) -> None:
    (tmp_path / "hold").touch()
    write(
        tmp_path,
        "import os, sys, time\nprint(os.getppid(), sys.argv[1])\nwhile os.path.exists('hold'): time.sleep(0.01)",
    )
    with ThreadPoolExecutor(4) as pool, contextlib.chdir(tmp_path):
        processes = list(pool.map(lambda number: forked(tmp_path, str(number)), range(4)))
        (tmp_path / "hold").unlink()
    for process in processes:
        process.wait()
    assert sorted((tmp_path / "log").read_text().splitlines()) == [f"{server} {number}" for number in range(4)]


def test_wait_ends_with_the_process_and_not_with_its_children(tmp_path: Path, server: int) -> None:
    (tmp_path / "hold").touch()
    write(tmp_path, HELD)
    held = forked(tmp_path, str(tmp_path / "hold"))
    waiting = threading.Thread(target=held.wait)
    waiting.start()
    process, sleep = numbers_in(tmp_path / "log")
    assert waiting.is_alive() and held.connection.gettimeout() is None
    os.kill(process, signal.SIGKILL)
    waiting.join(60)
    assert not waiting.is_alive() and not has_ended(sleep)
    os.kill(sleep, signal.SIGKILL)


def test_server_keeps_no_descriptors_of_ended_processes(tmp_path: Path, server: int) -> None:
    descriptors = len(os.listdir(f"/proc/{server}/fd"))
    for _ in range(3):
        output_of(tmp_path)
    wait_for(lambda: children(server) == "")
    assert len(os.listdir(f"/proc/{server}/fd")) == descriptors


# Without a server


def test_no_server_forks_nothing(tmp_path: Path) -> None:
    assert refused(tmp_path)
    write(tmp_path, PARENT)
    with serving(MODULE, PRELOAD):
        assert output_of(tmp_path)
    assert refused(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-P", "-m", "pipeline.local.job"),
        (sys.executable, "-m", MODULE),
        (sys.executable, "-P", "-m"),
        ("/usr/bin/python3", "-P", "-m", MODULE),
    ],
)
def test_other_command_is_not_run(tmp_path: Path, server: int, command: tuple[str, ...]) -> None:
    assert refused(tmp_path, *command)


def test_server_exists_only_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, PARENT)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "darwin")
        with serving(MODULE, PRELOAD):
            assert refused(tmp_path)


@pytest.mark.parametrize(
    "preload", ["raise ImportError", "import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)"]
)
def test_server_that_fails_to_start_forks_nothing(tmp_path: Path, preload: str) -> None:
    (tmp_path / f"{PRELOAD}.py").write_text(preload)
    with serving(MODULE, PRELOAD):
        assert refused(tmp_path)


def test_server_that_was_killed_forks_nothing_and_is_not_awaited(tmp_path: Path, server: int) -> None:
    (tmp_path / "hold").touch()
    write(tmp_path, HELD)
    held = forked(tmp_path, str(tmp_path / "hold"))
    _, sleep = numbers_in(tmp_path / "log")
    os.kill(server, signal.SIGKILL)
    killed_at = time.monotonic()
    assert refused(tmp_path) and refused(tmp_path)
    assert time.monotonic() - killed_at < 60
    (tmp_path / "hold").unlink()
    held.wait()
    os.kill(sleep, signal.SIGKILL)


def test_server_that_answers_after_the_timeout_forks_nothing(
    tmp_path: Path, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "import sys; open(sys.argv[1], 'w')")
    os.kill(server, signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(forkserver, "TIMEOUT_SECONDS", 0.1)
        for _ in range(4):  # more than may wait
            assert refused(tmp_path, *COMMAND, str(tmp_path / "late"), "x" * 100_000)
    os.kill(server, signal.SIGCONT)
    wait_for(lambda: not refused(tmp_path, *COMMAND, str(tmp_path / "in time")))
    wait_for((tmp_path / "in time").exists)
    wait_for(lambda: children(server) == "")
    assert not (tmp_path / "late").exists()
    assert (tmp_path / "log").read_text() == ""


def test_request_that_fails_forks_nothing_and_the_next_succeeds(
    tmp_path: Path, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(tmp_path, *COMMAND, *["x" * 100_000] * 4)
    gone = tmp_path / "gone"
    gone.mkdir()
    with monkeypatch.context() as patched:
        patched.chdir(gone)
        gone.rmdir()
        assert refused(tmp_path)
    assert output_of(tmp_path) == f"{server}\n"


# The server's end


def test_server_ends_with_the_context_and_its_processes_go_on(tmp_path: Path) -> None:
    descriptors = os.listdir("/proc/self/fd")
    (tmp_path / "hold").touch()
    write(tmp_path, HELD.replace("os.getpid()", "os.getpid(), os.getppid()"))
    with serving(MODULE, PRELOAD):
        held = forked(tmp_path, str(tmp_path / "hold"))
        process, server, sleep = numbers_in(tmp_path / "log")
    assert has_ended(server) and not has_ended(process)
    (tmp_path / "hold").unlink()
    held.wait()
    os.kill(sleep, signal.SIGKILL)
    assert os.listdir("/proc/self/fd") == descriptors


def test_server_that_is_still_importing_does_not_delay_its_owner(tmp_path: Path) -> None:
    (tmp_path / f"{PRELOAD}.py").write_text("import time; time.sleep(100)")
    started_at = time.monotonic()
    with serving(MODULE, PRELOAD):
        pass
    assert time.monotonic() - started_at < 50


def test_server_ends_with_its_owner_even_if_that_is_killed(tmp_path: Path) -> None:
    write(tmp_path, PARENT)
    owner_that(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    (server,) = numbers_in(tmp_path / "log")
    wait_for(lambda: has_ended(server))


def test_interrupt_at_the_terminal_does_not_reach_the_server(tmp_path: Path) -> None:
    write(tmp_path, PARENT)
    owner_that(
        tmp_path,
        """
try:
    os.killpg(0, signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    start(COMMAND, log).wait()
""",
    )
    first, second = numbers_in(tmp_path / "log")
    assert first == second


def owner_that(folder: Path, code: str) -> None:
    """Run a process, in its own group, that starts a server, forks once, and then runs the code."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    script = (
        "import os, signal, time\n"
        "from adaptation.platforms.local.forkserver import serving, start\n"
        f"COMMAND, log = {COMMAND!r}, open({str(folder / 'log')!r}, 'ab')\n"
        f"with serving({MODULE!r}, {PRELOAD!r}):\n"
        "    start(COMMAND, log).wait()\n"
        f"{lines}"
    )
    subprocess.run([sys.executable, "-c", script], start_new_session=True, timeout=120)
