"""A rehearsal that is stopped ends all that it has started, and its record says so."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from pipeline.rehearsal import Processes, Rehearsal, RehearsalFailed, TaskReport, TaskState, rehearse
from pipeline.rehearsal.executions import Metadata
from tests.worlds.processes import is_alive, wait_until
from tests.worlds.rehearsal import NAME, a_place, a_spec, container, holding, states, task

QUIET = container("leave()")


def test_interrupt_ends_the_children_and_is_recorded(tmp_path: Path) -> None:
    def interrupt(report: TaskReport) -> None:
        if report.name == "Quick" and report.state is TaskState.SUCCEEDED:
            raise KeyboardInterrupt

    wait_for_pids = f"while not Path({str(tmp_path / 'pids')!r}).exists(): time.sleep(0.01)\nleave()"
    spec = a_spec(tmp_path, {"Held": task(container(holding(tmp_path))), "Quick": task(container(wait_for_pids))})
    with pytest.raises(KeyboardInterrupt):
        rehearse(spec, a_place(tmp_path), on_change=interrupt)
    for pid in json.loads((tmp_path / "pids").read_text()):
        wait_until(lambda pid=pid: not is_alive(pid))
    recorded = Metadata(str(tmp_path / "rehearsal" / "metadata")).executions(NAME)
    assert {one.task: str(one.state) for one in recorded} == {"Held": "CANCELLED", "Quick": "SUCCEEDED"}


def test_rehearsal_can_be_stopped_from_another_thread(tmp_path: Path) -> None:
    processes, done = Processes(), list[Rehearsal]()
    tasks = {"Held": task(container(holding(tmp_path))), "Next": task(QUIET, takes=["Held"])}
    spec = a_spec(tmp_path, tasks)
    thread = threading.Thread(target=lambda: done.append(rehearse(spec, a_place(tmp_path), processes=processes)))
    thread.start()
    wait_until((tmp_path / "pids").exists)
    processes.stop()
    thread.join(60)
    assert states(done[0]) == {"Held": "CANCELLED", "Next": "NOT_STARTED"}
    with pytest.raises(RehearsalFailed, match="stopped"):
        done[0].check()
