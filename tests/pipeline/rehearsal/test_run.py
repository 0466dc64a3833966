"""The rehearsal of pipelines whose containers run a few lines of Python: inputs, order, conditions, failures."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from pipeline.rehearsal import RehearsalFailed, TaskReport, TaskState, rehearse
from tests.worlds.rehearsal import a_place, a_spec, constant, container, decision, metadata, states, task

QUIET = container("leave()")


def test_task_gets_the_artifacts_of_those_before_it(tmp_path: Path) -> None:
    spec = a_spec(
        tmp_path,
        {"Last": task(container("leave(seen=value('First', 'number') + 1)"), takes=["First"])}
        | {"First": task(container("leave(number=41.0)"))},
    )
    done = rehearse(spec, a_place(tmp_path))
    assert not done.failed
    assert metadata(done, "Last") == {"seen": 42}


def test_outputs_are_below_the_root_by_run_and_task(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, {"First": task(QUIET)})
    own = rehearse(spec, a_place(tmp_path), run="run-a").output("First", "made")
    elsewhere = rehearse(spec, a_place(tmp_path, root=str(tmp_path / "else")), run="run-b").output("First", "made")
    assert own.uri == f"{tmp_path}/outputs/run-a/First_1/made"
    assert elsewhere.uri == f"{tmp_path}/else/run-b/First_3/made"


def test_parameters_come_from_the_spec_the_run_and_the_caller(tmp_path: Path) -> None:
    parameters = {
        "month": {"componentInputParameter": "month"},
        "images": {"componentInputParameter": "images"},
        "run": constant("{{$.pipeline_job_name}}/{{$.pipeline_task_name}}"),
        "floor": constant(0.5),
    }
    spec = a_spec(
        tmp_path, {"First": task(container("leave(**parameters)"), parameters=parameters)}, {"month": "", "images": 3}
    )
    done = rehearse(spec, a_place(tmp_path), {"month": "2021-10"}, run="run-1")
    assert metadata(done, "First") == {"month": "2021-10", "images": 3, "run": "run-1/First", "floor": 0.5}
    again = rehearse(spec, a_place(tmp_path), {"images": "7"})
    assert metadata(again, "First")["images"] == 7


def test_placeholders_in_a_command_mean_inputs_and_outputs(tmp_path: Path) -> None:
    words = [
        "{{$.inputs.parameters['floor']}}",
        "{{$.inputs.artifacts['First'].metadata['number']}}",
        "{{$.inputs.artifacts['First'].uri}}",
        "{{$.outputs.artifacts['made'].uri}}",
    ]
    executor = container("leave(words=sys.argv[2:])")
    executor["container"]["args"] += words
    tasks = {
        "First": task(container("leave(number=2.0)")),
        "Last": task(executor, takes=["First"], parameters={"floor": constant(30.0)}),
    }
    done = rehearse(a_spec(tmp_path, tasks), a_place(tmp_path))
    uris = [done.output(name, "made").uri for name in ("First", "Last")]
    assert metadata(done, "Last")["words"] == ["30", "2", *uris]


@pytest.mark.parametrize("path", [".inputs.parameters['gone']", ".pipeline_root", ".inputs.artifacts['gone'].uri"])
def test_unknown_placeholder_fails_its_task_and_is_named(tmp_path: Path, path: str) -> None:
    executor = container("leave()")
    executor["container"]["args"].append("{{$" + path + "}}")
    done = rehearse(a_spec(tmp_path, {"First": task(executor)}), a_place(tmp_path))
    assert path in done.failed[0].message


def test_task_starts_as_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("ADAPT_NAME", "other")
    look = "leave(files=os.listdir(), python=sys.prefix, names=sorted(os.environ), more=os.environ['MORE'])"
    spec = a_spec(tmp_path, {"First": task(container(look))})
    seen = metadata(rehearse(spec, a_place(tmp_path, environment={"MORE": "yes"})), "First")
    assert (seen["files"], seen["more"]) == ([], "yes")
    assert {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "ADAPT_NAME"}.isdisjoint(seen["names"])
    assert "PATH" in seen["names"]
    assert seen["python"] == sys.prefix


def test_condition_that_holds_runs_the_branch(tmp_path: Path) -> None:
    done = rehearse(a_spec(tmp_path, decision(1)), a_place(tmp_path))
    assert set(states(done).values()) == {"SUCCEEDED"}


def test_condition_that_does_not_hold_skips_only_the_branch(tmp_path: Path) -> None:
    done = rehearse(a_spec(tmp_path, decision(0)), a_place(tmp_path))
    assert states(done) == {"Decide": "SUCCEEDED", "Report": "SUCCEEDED", "Span": "SKIPPED", "Trigger": "SKIPPED"}
    assert not done.failed
    assert done.tasks["Trigger"].message == "an upstream task was skipped"


def test_condition_that_cannot_be_decided_fails_its_task(tmp_path: Path) -> None:
    tasks = {**decision(1), "Decide": task(container("leave(accuracy=0.5)"))}
    done = rehearse(a_spec(tmp_path, tasks), a_place(tmp_path))
    assert "missing" in done.failed[0].message
    assert "{'Decide': [{'accuracy': 0.5}]}" in done.failed[0].message
    assert states(done)["Trigger"] == "NOT_STARTED"


def test_failure_stops_only_what_depends_on_it(tmp_path: Path) -> None:
    tasks = {
        "Broken": task(container("sys.exit('the disk is full')")),
        "After": task(QUIET, takes=["Broken"]),
        "Other": task(QUIET),
        "Later": task(QUIET, takes=["Other"]),
    }
    done = rehearse(a_spec(tmp_path, tasks), a_place(tmp_path))
    assert states(done) == {"Broken": "FAILED", "After": "NOT_STARTED", "Other": "SUCCEEDED", "Later": "SUCCEEDED"}
    with pytest.raises(RehearsalFailed) as caught:
        done.check("adapt rehearse training")
    assert caught.value.report.name == "Broken"
    assert "exit code 1: the disk is full" in str(caught.value)
    assert f"The end of {done.tasks['Broken'].log}" in str(caught.value)
    assert '"adapt rehearse training --task Broken"' in str(caught.value)


def test_missing_command_is_a_failure_that_names_it(tmp_path: Path) -> None:
    executor = {"container": {"image": "none", "command": ["no-such-program"], "args": []}}
    done = rehearse(a_spec(tmp_path, {"First": task(executor)}), a_place(tmp_path))
    assert "no-such-program cannot be started" in done.failed[0].message


def test_killed_task_names_the_signal(tmp_path: Path) -> None:
    done = rehearse(a_spec(tmp_path, {"First": task(container("os.kill(os.getpid(), 9)"))}), a_place(tmp_path))
    assert "ended by SIGKILL" in done.failed[0].message


def test_exit_handler_runs_after_a_failure_and_gets_the_status(tmp_path: Path) -> None:
    status = {"status": {"taskFinalStatus": {"producerTask": "Broken"}}}
    handler = task(
        container("leave(**json.loads(parameters['status']))"), after=["Broken"], always=True, parameters=status
    )
    done = rehearse(a_spec(tmp_path, {"Broken": task(container("sys.exit(1)")), "Exit": handler}), a_place(tmp_path))
    assert states(done) == {"Broken": "FAILED", "Exit": "SUCCEEDED"}
    assert metadata(done, "Exit")["state"] == "FAILED"
    assert metadata(done, "Exit")["error"] == {"message": "Broken failed"}


def test_independent_tasks_run_side_by_side_up_to_the_limit(tmp_path: Path) -> None:
    """Two are alive at the same time, because each waits for the other; a third is not started before one has ended."""
    met = f"""
Path({str(tmp_path)!r}, parameters["name"]).touch()
end = time.monotonic() + 60
while not all(Path({str(tmp_path)!r}, name).exists() for name in ("A", "B")):
    assert time.monotonic() < end
    time.sleep(0.01)
leave()
"""
    running, most = set(), []

    def tell(report: TaskReport) -> None:
        running.add(report.name) if report.state is TaskState.RUNNING else running.discard(report.name)
        most.append(len(running))

    tasks = {name: task(container(met), parameters={"name": constant(name)}) for name in ("A", "B", "C", "D")}
    done = rehearse(a_spec(tmp_path, tasks), a_place(tmp_path, parallel=2), on_change=tell)
    assert not done.failed
    assert max(most) == 2


def test_changes_are_reported_by_the_calling_thread(tmp_path: Path) -> None:
    reported: list[tuple[str, str]] = []

    def tell(report: TaskReport) -> None:
        assert threading.current_thread() is threading.main_thread()
        reported.append((report.name, str(report.state)))

    rehearse(a_spec(tmp_path, decision(0)), a_place(tmp_path, parallel=1), on_change=tell)
    assert {state for _, state in reported[:4]} == {"NOT_STARTED"}
    assert reported[4:6] == [("Decide", "RUNNING"), ("Decide", "SUCCEEDED")]
    assert sorted(reported[6:]) == [
        ("Report", "RUNNING"),
        ("Report", "SUCCEEDED"),
        ("Span", "SKIPPED"),
        ("Trigger", "SKIPPED"),
    ]


def test_driver_changes_what_the_command_gets(tmp_path: Path) -> None:
    driver = """
file = Path(given["outputs"]["outputFile"])
file.parent.mkdir(parents=True)
file.write_text(json.dumps({"parameterValues": {"pattern": "span-7/*"},
                            "artifacts": {"made": {"artifacts": [{"metadata": {"span": 7}}]}}}))
"""
    made = "given['outputs']['artifacts']['made']['artifacts'][0]['metadata']"
    executor = container(f"leave(pattern=parameters['pattern'], **{made})", driver)
    spec = a_spec(tmp_path, {"First": task(executor, parameters={"pattern": constant("span-{SPAN}/*")})})
    assert metadata(rehearse(spec, a_place(tmp_path)), "First") == {"pattern": "span-7/*", "span": 7}


def test_failing_driver_fails_its_task_before_the_command_starts(tmp_path: Path) -> None:
    executor = container(f"Path({str(tmp_path)!r}, 'started').touch()", "sys.exit('no such span')")
    done = rehearse(a_spec(tmp_path, {"First": task(executor)}), a_place(tmp_path))
    assert done.failed[0].message == "exit code 1: no such span"
    assert not (tmp_path / "started").exists()


def test_log_has_the_command_and_its_output(tmp_path: Path) -> None:
    done = rehearse(a_spec(tmp_path, {"First": task(container("print('hello'); leave()"))}), a_place(tmp_path))
    log = done.tasks["First"].log
    assert log is not None
    assert log.parent == tmp_path / "rehearsal" / "runs" / done.run
    assert log.read_text().startswith("$ python -c ")
    assert done.tasks["First"].last_lines()[-1] == "hello"
