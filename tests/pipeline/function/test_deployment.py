"""The deployment of the function: its calls of gcloud, their order, and the rights they grant.

`gcloud` is a stand-in on the PATH, a process of its own: it notes what it was called with, and refuses to make what is
there and to change what is not.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adaptation.errors import AdaptationError
from pipeline.cli.main import cli
from pipeline.function.deployment import PERMISSIONS, deployment_steps
from pipeline.function.gcloud import Answer, Step, carry_out, script
from pipeline.workspace.settings_file import load, write_settings

CLOUD: dict[str, object] = {
    "name": "shop",
    "platform.kind": "vertex",
    "data.root": "gs://images/spans",
    "collection.root": "gs://images/collected",
    "vertex.project": "demo",
    "vertex.location": "europe-west4",
    "vertex.root": "gs://works/adaptation",
    "vertex.image": "europe-docker.pkg.dev/demo/images/adaptation:1",
    "vertex.service_account": "pipelines@demo.iam.gserviceaccount.com",
}
RUNNER = "serviceAccount:shop-trigger@demo.iam.gserviceaccount.com"
INVOKER = "serviceAccount:shop-invoker@demo.iam.gserviceaccount.com"
AGENT = "serviceAccount:service-7@gs-project-accounts.iam.gserviceaccount.com"
SHOP = "it's a $(shop)"
ADDRESS = "https://shop-trigger-abc.a.run.app"
STAND_IN = """\
import json, pathlib, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
with open(here / "calls", "a") as calls:
    calls.write(json.dumps(words) + "\\n")
if (here / "fails").exists() and (here / "fails").read_text() in words:
    sys.exit("ERROR: (gcloud) the quota is used up")
verbs = ("create", "describe", "update", "deploy")
(verb,) = [word for word in words if word in verbs] or [""]
if not verb:
    print("service-7@gs-project-accounts.iam.gserviceaccount.com" if "service-agent" in words else "")
    sys.exit()
kind, name = words[: words.index(verb)], next(word for word in words[words.index(verb) + 1 :] if word != "http")
there = here / ("-".join([*kind, name.partition("@")[0]]).replace("/", "_") + ".there")
if kind == ["storage", "buckets"]:
    print("eu")
elif (verb == "create") == there.exists() and verb != "deploy":
    sys.exit(f"ERROR: (gcloud) {name}: {'ALREADY_EXISTS' if there.exists() else 'NOT_FOUND'}")
elif kind == ["functions"] and verb == "describe":
    print(f"https://{name}-abc.a.run.app")
there.touch()
"""


class Gcloud:
    """The stand-in in a folder, and the calls it got."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        program = folder / "gcloud"
        program.write_text(f"#!{sys.executable} -IS\n{STAND_IN}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def calls(self) -> list[list[str]]:
        """Return the calls since the last time this was called."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def fail(self, word: str) -> None:
        """Let every later call with that word fail; none if it is empty."""
        (self.folder / "fails").write_text(word)


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gcloud:
    made = Gcloud(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(made.folder), prepend=os.pathsep)
    return made


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The calls of a first deployment."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patched:
        made = Gcloud(folder / "bin")
        patched.setenv("PATH", str(made.folder), prepend=os.pathsep)
        deploy(workspace(folder / SHOP))
        return made.calls()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A workspace on Google Cloud, in a folder whose name a careless shell would split."""
    return workspace(tmp_path / SHOP)


def workspace(folder: Path, **changes: object) -> Path:
    overrides = {**CLOUD, **{name.replace("__", "."): value for name, value in changes.items()}}
    write_settings(folder / "adapt.toml", ["bag", "hat"], overrides)
    return folder


def adapt(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["function", *arguments, "--workspace", str(folder)])


def deploy(folder: Path, *arguments: str) -> list[str]:
    """Deploy, check that it succeeds, and return the lines of its output."""
    result = adapt(folder, "deploy", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def steps(folder: Path) -> list[Step]:
    return deployment_steps(load(folder / "adapt.toml"), folder / "function")


def words(folder: Path) -> list[str]:
    """Return every word of every command of a first deployment."""
    return [word.text if isinstance(word, Answer) else word for step in steps(folder) for word in step.make]


def changing(calls: Sequence[list[str]]) -> list[list[str]]:
    """Return the calls that change something."""
    return [call for call in calls if "describe" not in call and "service-agent" not in call]


def the_call(calls: Sequence[list[str]], *start: str) -> list[str]:
    """Return the only call that starts with these words."""
    (found,) = [call for call in calls if call[: len(start)] == list(start)]
    return found


def bindings(calls: Sequence[list[str]]) -> set[tuple[str, str, str]]:
    """Return the bindings as (member, role, resource)."""
    found = [call for call in calls if "add-iam-policy-binding" in call]
    return {
        (option(call, "member"), option(call, "role"), call[call.index("add-iam-policy-binding") + 1]) for call in found
    }


def option(call: Sequence[str], name: str) -> str:
    (value,) = [word.removeprefix(f"--{name}=") for word in call if word.startswith(f"--{name}=")]
    return value


# Order and repetition


def test_steps_are_in_the_order_of_their_needs(first: list[list[str]]) -> None:
    made = [" ".join(call[:4]) for call in changing(first)]
    order = [
        "services enable aiplatform.googleapis.com",
        "iam service-accounts create shop-trigger",
        "iam roles create shop_trigger",
        "projects add-iam-policy-binding demo",
        "functions deploy shop-trigger",
        "functions deploy shop-on-image",
        "functions add-invoker-policy-binding shop-trigger",
        "pubsub subscriptions create shop-trigger",
        "scheduler jobs create http",
    ]
    places = [next(place for place, call in enumerate(made) if call.startswith(start)) for start in order]
    assert places == sorted(places)


def test_second_deployment_creates_nothing_and_updates_everything(gcloud: Gcloud, shop: Path) -> None:
    deploy(shop)
    first = changing(gcloud.calls())
    deploy(shop)
    second = changing(gcloud.calls())
    assert [call for call in second if "create" in call] == []
    assert [call[:3] for call in second if "update" in call] == [
        ["iam", "roles", "update"],
        ["pubsub", "subscriptions", "update"],
        ["scheduler", "jobs", "update"],
    ]
    assert [call for call in first if "create" not in call] == [call for call in second if "update" not in call]


def test_changed_schedule_updates_the_existing_job(gcloud: Gcloud, shop: Path, tmp_path: Path) -> None:
    deploy(shop)
    assert option(the_call(gcloud.calls(), "scheduler", "jobs", "create"), "schedule") == "*/15 * * * *"
    deploy(workspace(tmp_path / "changed", function__schedule="0 6 * * *"))
    assert option(the_call(gcloud.calls(), "scheduler", "jobs", "update"), "schedule") == "0 6 * * *"


def test_failing_command_ends_the_deployment_with_its_message(gcloud: Gcloud, shop: Path) -> None:
    gcloud.fail("--entry-point=on_event")
    result = adapt(shop, "deploy")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the function that each new object calls: ERROR: (gcloud) the quota is used up" in result.stderr
    assert "The command: gcloud functions deploy shop-on-image --gen2" in result.stderr
    assert "Done before it: the services; the account that the functions run as; " in result.stderr
    assert "repeat this" in result.stderr
    assert "Traceback" not in result.stderr
    assert gcloud.calls()[-1][:3] == ["functions", "deploy", "shop-on-image"]


def test_repeated_deployment_completes_an_interrupted_one(gcloud: Gcloud, shop: Path) -> None:
    gcloud.fail("pubsub")
    assert adapt(shop, "deploy").exit_code == 1
    gcloud.fail("")
    before = changing(gcloud.calls())
    assert [call[2] for call in before if "service-accounts" in call] == ["create", "create"]
    deploy(shop)
    after = changing(gcloud.calls())
    assert [call for call in after if call[1:3] == ["service-accounts", "create"]] == []
    assert the_call(after, "scheduler", "jobs", "create")


def test_failure_of_the_first_step_says_that_nothing_was_done(gcloud: Gcloud, shop: Path) -> None:
    gcloud.fail("services")
    assert "Done before it: nothing." in adapt(shop, "deploy").stderr


def test_command_that_needs_an_answer_does_not_run_without_one(gcloud: Gcloud) -> None:
    step = Step("the place", ("gcloud", "make", Answer("--place=", ("gcloud", "services"))))
    with pytest.raises(AdaptationError, match="gcloud services has printed nothing, but --place= needs it"):
        carry_out([step], nullcontext)
    assert gcloud.calls() == [["services"]]


def test_deployment_without_gcloud_says_how_to_install_it(
    shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = adapt(shop, "deploy")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: gcloud is not on this machine's PATH" in result.stderr
    assert "https://cloud.google.com/sdk/docs/install" in result.stderr
    assert "--dry-run" in result.stderr


# What is deployed


def test_folder_with_spaces_and_quotes_stays_one_argument(gcloud: Gcloud, shop: Path) -> None:
    deploy(shop)
    calls = gcloud.calls()
    for function in ("shop-trigger", "shop-on-image"):
        call = the_call(calls, "functions", "deploy", function)
        assert option(call, "source") == f"{shop}/function"
        assert option(call, "env-vars-file") == f"{shop}/function/env.yaml"
    assert (shop / "function" / "env.yaml").is_file()


def test_functions_are_private_bounded_and_of_the_runtime(first: list[list[str]]) -> None:
    for function in ("shop-trigger", "shop-on-image"):
        call = the_call(first, "functions", "deploy", function)
        assert {"--gen2", "--no-allow-unauthenticated", "--runtime=python312"} <= set(call)
        assert option(call, "service-account") == RUNNER.partition(":")[2]
        assert int(option(call, "max-instances")) <= 10
        assert int(option(call, "concurrency")) <= 80
        assert 0 < int(option(call, "timeout").removesuffix("s")) <= 540  # the longest of a function with events


def test_entry_points_have_their_callers(first: list[list[str]]) -> None:
    request, event = (the_call(first, "functions", "deploy", name) for name in ("shop-trigger", "shop-on-image"))
    assert (option(request, "entry-point"), "--trigger-http" in request) == ("on_request", True)
    filters = [word for word in event if word.startswith("--trigger-event-filters=")]
    assert filters == [
        "--trigger-event-filters=type=google.cloud.storage.object.v1.finalized",
        "--trigger-event-filters=bucket=images",
    ]
    assert (option(event, "entry-point"), "--retry" in event) == ("on_event", True)
    assert option(event, "trigger-location") == "eu"
    assert option(event, "trigger-service-account") == INVOKER.partition(":")[2]
    job, subscription = (
        the_call(first, "scheduler", "jobs", "create"),
        the_call(first, "pubsub", "subscriptions", "create"),
    )
    assert (option(job, "uri"), option(subscription, "push-endpoint")) == (ADDRESS, ADDRESS)
    assert option(job, "oidc-service-account-email") == INVOKER.partition(":")[2]
    assert option(subscription, "push-auth-service-account") == INVOKER.partition(":")[2]
    assert option(subscription, "topic") == "shop-trigger"


def test_commands_name_the_project_and_ask_nothing(first: list[list[str]]) -> None:
    for call in first:
        assert call[-2:] == ["--project=demo", "--quiet"]


# Rights


def test_accounts_get_these_rights_and_no_others(first: list[list[str]]) -> None:
    assert bindings(first) == {
        (RUNNER, "projects/demo/roles/shop_trigger", "demo"),
        (RUNNER, "roles/iam.serviceAccountUser", "pipelines@demo.iam.gserviceaccount.com"),
        (RUNNER, "roles/storage.objectViewer", "gs://images/collected/"),
        (RUNNER, "roles/storage.objectViewer", "gs://works/adaptation/specs/evaluation/"),
        (RUNNER, "roles/storage.objectViewer", "gs://works/adaptation/specs/training/"),
        (RUNNER, "roles/storage.objectViewer", "gs://images/spans/"),
        (RUNNER, "roles/storage.objectViewer", "gs://works/adaptation/triggers/"),
        (RUNNER, "roles/storage.objectCreator", "gs://works/adaptation/triggers/"),
        (INVOKER, "roles/eventarc.eventReceiver", "demo"),
        (AGENT, "roles/pubsub.publisher", "demo"),
    }
    callers = [(option(call, "member"), call[2]) for call in first if "add-invoker-policy-binding" in call]
    assert callers == [(INVOKER, "shop-trigger"), (INVOKER, "shop-on-image")]


def test_role_holds_only_the_permissions_that_a_delivery_needs(first: list[list[str]]) -> None:
    role = the_call(first, "iam", "roles", "create")
    assert option(role, "permissions").split(",") == list(PERMISSIONS)
    assert {permission.rpartition(".")[2] for permission in PERMISSIONS} == {"get", "list", "create"}
    assert all(permission.startswith("aiplatform.") for permission in PERMISSIONS)


def test_bindings_say_that_they_have_no_condition(shop: Path) -> None:
    bound = [step.make for step in steps(shop) if "add-iam-policy-binding" in step.make]
    assert len(bound) == 10
    assert all("--condition=None" in command for command in bound)


def test_receivers_of_events_bring_their_rights_and_the_secret(tmp_path: Path) -> None:
    notify = {"notify__webhooks": ["https://example.org/hook"], "notify__secret": "HOOK_SECRET"}
    given = words(workspace(tmp_path / "notifying", **notify, notify__pubsub="projects/other/topics/events"))
    assert "--set-secrets=HOOK_SECRET=HOOK_SECRET:latest" in given
    assert "--role=roles/secretmanager.secretAccessor" in given
    topic = given.index("events")
    assert given[topic - 3 : topic] == ["pubsub", "topics", "add-iam-policy-binding"]
    assert given[topic + 2 : topic + 4] == ["--role=roles/pubsub.publisher", "--project=other"]


def test_collection_that_is_a_whole_bucket_is_granted_as_one(tmp_path: Path) -> None:
    whole = words(workspace(tmp_path / "whole", collection__root="gs://images"))
    assert whole[whole.index("buckets") : whole.index("buckets") + 3] == [
        "buckets",
        "add-iam-policy-binding",
        "gs://images",
    ]
    assert "gs://images/" not in whole


def test_deployment_without_an_account_for_the_pipelines_is_refused(gcloud: Gcloud, tmp_path: Path) -> None:
    result = adapt(workspace(tmp_path / "shop", vertex__service_account=None), "deploy")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "vertex.service_account is missing" in result.stderr
    assert gcloud.calls() == []


# Names


def test_long_name_is_cut_to_each_service_limit_and_stays_unique(tmp_path: Path) -> None:
    long = "a-shop-with-a-rather-long-name-" + "x" * 32
    first = words(workspace(tmp_path / "first", name=long))
    second = words(workspace(tmp_path / "second", name=long[:-1] + "y"))

    def named(words: list[str], *before: str) -> str:
        return next(words[at + len(before)] for at in range(len(words)) if words[at : at + len(before)] == list(before))

    for before, longest in (
        (("service-accounts", "create"), 30),
        (("functions", "deploy"), 63),
        (("roles", "create"), 64),
    ):
        assert len(named(first, *before)) <= longest
        assert named(first, *before) != named(second, *before)
        assert named(first, *before).startswith("a_shop_w" if "roles" in before else "a-shop-w")


# The script


def test_dry_run_runs_nothing_and_writes_nothing(gcloud: Gcloud, shop: Path) -> None:
    shown = deploy(shop, "--dry-run")
    assert gcloud.calls() == []
    assert os.listdir(shop) == ["adapt.toml"]
    comments, commands = shown[1::2], shown[2::2]
    assert len(comments) == len(commands) == len(steps(shop)) + 1
    assert all(line.startswith("# ") for line in comments)
    assert not any(line.startswith("# ") for line in commands)
    assert commands[0] == shlex.join(
        ["adapt", "function", "build", f"--workspace={shop}/adapt.toml", f"--output={shop}/function"]
    )


def test_dry_run_output_does_in_a_shell_what_the_deployment_does(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "\n".join(deploy(shop, "--dry-run"))
    by_command, by_script = Gcloud(tmp_path / "command"), Gcloud(tmp_path / "script")
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # `adapt` is one of them
    for _ in range(2):  # once all is made, once it is found
        monkeypatch.setenv("PATH", f"{by_command.folder}:{programs}")
        deploy(shop)
        monkeypatch.setenv("PATH", f"{by_script.folder}:{programs}")
        subprocess.run(["sh"], input=shown, text=True, check=True, capture_output=True, timeout=300)
        calls = by_command.calls()
        assert calls == by_script.calls()
        assert len(calls) > len(steps(shop))


def test_script_keeps_every_word_one_word_in_the_shell() -> None:
    odd = ["it's", "two words", "$(echo no) `echo no`", "*", "a\nb", "", '"', "~", "#"]
    show = (sys.executable, "-IS", "-c", "import json, sys; print(json.dumps(sys.argv[1:]))")
    answered = tuple(Answer(word, (sys.executable, "-IS", "-c", "print('c  d *')", word)) for word in odd)
    shown = script([Step("words", (*show, *odd, *answered))])
    done = subprocess.run(["sh"], input=shown, text=True, capture_output=True, check=True, timeout=300)
    assert json.loads(done.stdout) == [*odd, *(f"{word}c  d *" for word in odd)]


def test_script_ends_at_the_first_command_that_fails(gcloud: Gcloud, shop: Path) -> None:
    gcloud.fail("--entry-point=on_request")
    shown = "\n".join(deploy(shop, "--dry-run"))
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{Path(sys.executable).parent}"}
    done = subprocess.run(["sh"], input=shown, text=True, capture_output=True, env=environment, timeout=300)
    assert done.returncode != 0
    assert gcloud.calls()[-1][:3] == ["functions", "deploy", "shop-trigger"]
