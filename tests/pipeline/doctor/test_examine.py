"""What the doctor finds of a machine, of a workspace on it, and of one on Google Cloud, against the emulators."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import requests
from aiohttp import web
from click.testing import CliRunner
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from packaging.requirements import Requirement

from adaptation.errors import AdaptationError
from adaptation.evaluation.mix import Recall
from adaptation.io import storage
from adaptation.platforms.base import Upload
from adaptation.platforms.rollout import put_in_service
from emulators.http_server import LoopbackServer, Request
from pipeline.cli.main import cli
from pipeline.doctor import google_cloud, machine
from pipeline.doctor.checks import Check, Finding, Severity, broken, carry_out, warning
from pipeline.doctor.examine import examine
from pipeline.doctor.machine import (
    LOCK,
    disk_findings,
    installed_packages,
    memory_findings,
    package_findings,
    python_findings,
    wanted_packages,
)
from pipeline.workspace.settings import LabelSettings, Settings
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.cloud import LABELS, ROOT, Cloud, a_cloud
from tests.worlds.images import contents
from tests.worlds.processes import free_port
from tests.worlds.spans import published

LOOP_CHECKS = ("the rule of the evaluation", "the last training")
SHOP_BUCKET = "bucket shop"


@pytest.fixture
def local(tmp_path: Path) -> Workspace:
    return Workspace.open(write_settings(tmp_path / "adapt.toml", ["cat", "dog"]))


def texts(findings: Iterator[Finding] | list[Finding]) -> list[str]:
    return [finding.text for finding in findings]


def found(path: Path) -> dict[str, list[Finding]]:
    """Return the findings by check."""
    return {result.name: list(result.findings) for result in examine(path)}


def a_model(folder: Path, key: str) -> Upload:
    model = folder / key
    model.mkdir()
    (model / "saved_model.pb").write_text(key)
    return Upload(model=str(model), key=key, spans=(1,), metrics={}, source=key, run=key)


# Running checks


def test_results_are_in_the_order_of_the_checks() -> None:
    second_is_done = threading.Event()

    def first() -> list[Finding]:
        assert second_is_done.wait(60)
        return [warning("first")]

    def second() -> list[Finding]:
        second_is_done.set()
        return [broken("second")]

    results = list(carry_out([Check("a", first, seconds=60), Check("b", second, seconds=60), Check("c", list)]))
    assert [(result.name, texts(list(result.findings)), result.broken) for result in results] == [
        ("a", ["first"], False),
        ("b", ["second"], True),
        ("c", [], False),
    ]


@pytest.mark.parametrize(
    ("remote", "severity", "cause"), [(True, Severity.BROKEN, "the network"), (False, Severity.WARNING, "is busy")]
)
def test_check_that_hangs_is_given_up_and_blames_what_it_waits_for(
    remote: bool, severity: Severity, cause: str
) -> None:
    never = threading.Event()
    (result,) = carry_out([Check("any", lambda: [] if never.wait() else [], seconds=0.1, remote=remote)])
    (finding,) = result.findings
    assert finding.text.startswith("no answer within 0.1 s.")
    assert (finding.severity, cause in finding.text) == (severity, True)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (type("NoRoom", (AdaptationError,), {})("the disk is full. Free some space."), "the disk is full. Free some"),
        (RuntimeError("a bug"), "it could not be looked at: RuntimeError: a bug"),
    ],
)
def test_check_that_fails_is_a_finding(error: Exception, message: str) -> None:
    def fail() -> list[Finding]:
        raise error

    (result,) = carry_out([Check("any", fail)])
    assert result.broken and texts(list(result.findings))[0].startswith(message)


# The machine


def test_environment_has_the_packages_of_the_lock() -> None:
    assert LOCK.exists()
    assert len(wanted_packages()) > 150
    assert list(package_findings(wanted_packages(), installed_packages())) == []


def test_distribution_names_the_packages_without_a_lock(tmp_path: Path) -> None:
    names = {one.name for one in wanted_packages(tmp_path / "no.lock")}
    assert {"tfx", "tensorflow", "click"} <= names
    assert "gcp-storage-emulator" not in names  # an extra's
    assert list(package_findings(wanted_packages(tmp_path / "no.lock"), installed_packages())) == []


def test_packages_missing_or_of_another_version_are_named() -> None:
    wanted = [Requirement(text) for text in ("tfx==1.21.0", "Ruamel.Yaml==1", "keras>=3.12,<4", "gone==2")]
    missing, others = package_findings(wanted, {"tfx": "1.20.0", "ruamel-yaml": "1", "keras": "3.15.0"})
    assert (missing.severity, missing.text) == (Severity.BROKEN, 'not installed: gone==2. Run "make setup".')
    assert others.severity is Severity.WARNING
    assert "tfx 1.20.0 instead of ==1.21.0. " in others.text and "keras" not in others.text


def test_many_packages_are_abbreviated() -> None:
    (finding,) = package_findings([Requirement(f"package-{number}") for number in range(30)], {})
    assert "package-9 and 20 more." in finding.text


def test_version_that_is_imported_counts_of_two_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setuptools, for one, puts its own packages behind the installed ones."""
    here = installed_packages()["click"]
    for folder in ("before", "behind"):
        (tmp_path / folder / "click-0.1.dist-info").mkdir(parents=True)
        (tmp_path / folder / "click-0.1.dist-info" / "METADATA").write_text("Name: Click\nVersion: 0.1\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "behind")])
    assert installed_packages()["click"] == here
    monkeypatch.setattr(sys, "path", [str(tmp_path / "before"), *sys.path])
    assert installed_packages()["click"] == "0.1"


def test_wrong_python_is_named() -> None:
    assert list(python_findings("3.11.9")) == []
    (finding,) = python_findings("3.12.1")
    assert finding.severity is Severity.BROKEN and "this is Python 3.12.1, but " in finding.text
    assert metadata.metadata("continuous-adaptation")["Requires-Python"] in finding.text


def test_little_memory_is_a_warning() -> None:
    assert list(memory_findings(4 * 2**30)) == []
    (finding,) = memory_findings(3 * 2**30)
    assert finding.severity is Severity.WARNING and finding.text.startswith("3.0 GiB of memory")


def test_memory_of_a_container_is_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP_LIMIT", tmp_path / "memory.max")
    unlimited = machine._memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._memory() == unlimited
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine._memory() == 2**20


def test_little_room_on_the_disk_is_a_warning(tmp_path: Path) -> None:
    assert list(disk_findings(tmp_path, least=1)) == []
    (finding,) = disk_findings(tmp_path / "not" / "yet", least=2**60)
    assert finding.severity is Severity.WARNING and f"GiB are free at {tmp_path}." in finding.text


def test_folder_that_cannot_be_written_to_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # to root everything is allowed
    (finding,) = disk_findings(tmp_path, least=1)
    assert finding.severity is Severity.BROKEN and "cannot be written to" in finding.text


# A workspace on this machine


def test_workspace_in_order_or_empty_has_no_findings(local: Workspace, tmp_path: Path) -> None:
    assert found(tmp_path)["serving model"] == []
    registry, endpoint = local.platform.registry, local.platform.endpoint
    put_in_service(registry, endpoint, registry.upload(a_model(tmp_path, "first")), "first")
    assert (found(tmp_path)["settings"], found(tmp_path)["serving model"]) == ([], [])


@pytest.mark.parametrize(("images", "warned"), [(99, True), (100, False)])
def test_fewer_than_100_test_images_are_a_warning(local: Workspace, tmp_path: Path, images: int, warned: bool) -> None:
    published(local.spans, images=images)
    findings = found(tmp_path)["test images"]
    assert [finding.severity for finding in findings] == [Severity.WARNING] * warned
    assert not warned or "span-1 has 99 test images" in findings[0].text


def test_champion_below_the_threshold_is_a_warning(local: Workspace, tmp_path: Path) -> None:
    registry, endpoint = local.platform.registry, local.platform.endpoint
    upload = replace(a_model(tmp_path, "first"), recalls={"cat": Recall(60, 50), "dog": Recall(40, 38)})
    put_in_service(registry, endpoint, registry.upload(upload), "first")
    (finding,) = found(tmp_path)["champion"]
    assert finding.severity is Severity.WARNING
    assert "right on 88 of its 100 test images (0.8800), below evaluation.threshold = 0.9" in finding.text


def test_interrupted_deployment_on_one_machine_is_named(local: Workspace, tmp_path: Path) -> None:
    registry, endpoint = local.platform.registry, local.platform.endpoint
    put_in_service(registry, endpoint, registry.upload(a_model(tmp_path, "first")), "first")
    endpoint.deploy(registry.upload(a_model(tmp_path, "second")))
    assert found(tmp_path)["serving model"] == [
        broken('version 2 is served, but version 1 is the champion. Run "adapt train", or "adapt rollback".')
    ]


def test_machine_is_checked_without_settings_and_the_rest_is_a_warning(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert list(findings) == ["python", "packages", "memory", "disk", "settings"]
    (finding,) = findings["settings"]
    assert finding.severity is Severity.WARNING and 'Make one with "adapt init"' in finding.text
    assert contents(tmp_path) == {}


def test_invalid_settings_are_broken(tmp_path: Path) -> None:
    (tmp_path / "adapt.toml").write_text('[labels]\nnames = ["cat", "dog"]\n[gate]\nflor = 1\n')
    (finding,) = found(tmp_path)["settings"]
    assert finding.severity is Severity.BROKEN and "Did you mean gate.floor?" in finding.text


def test_settings_without_their_last_line_are_a_warning(local: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "adapt.toml"
    assert found(tmp_path)["settings"] == []
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:20]))
    (finding,) = found(tmp_path)["settings"]
    assert finding.severity is Severity.WARNING and 'the line "# end of adapt.toml"' in finding.text


def test_variables_of_a_kubernetes_service_are_named(
    local: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPT_PORT", "tcp://10.0.0.11:8080")
    (finding,) = found(tmp_path)["settings"]
    assert "ADAPT_PORT are no settings: Kubernetes sets them" in finding.text


def test_missing_table_of_labels_is_broken(tmp_path: Path) -> None:
    write_settings(tmp_path / "adapt.toml", LABELS, {"labels.source": "file", "labels.file": "labels.csv"})
    (finding,) = found(tmp_path)["labels"]
    assert finding.severity is Severity.BROKEN and f"{tmp_path}/labels.csv is missing" in finding.text
    (tmp_path / "labels.csv").write_text("path,label\n")
    assert found(tmp_path)["labels"] == []


def test_command_prints_the_findings_and_has_their_exit_code(local: Workspace, tmp_path: Path) -> None:
    in_order = CliRunner().invoke(cli, ["doctor", "-w", str(tmp_path)])
    assert in_order.exit_code == 0
    assert [line for line in in_order.output.splitlines() if "memory" not in line and "disk" not in line] == [
        "ok       python",
        "ok       packages",
        "ok       settings",
        "ok       recipe",
        "ok       file system",
        "ok       permissions",
        "ok       state",
        "ok       the last jobs",
        "ok       serving model",
        *(f"ok       {name}" for name in LOOP_CHECKS),
        "ok       test images",
        "ok       champion",
        *(["no problems found"] if "warning" not in in_order.output else []),
    ]
    local.platform.endpoint.deploy(local.platform.registry.upload(a_model(tmp_path, "first")))
    result = CliRunner().invoke(cli, ["doctor", "-w", str(tmp_path)])
    assert result.exit_code == 1
    assert "broken   serving model: version 1 is served, but no version is the champion." in result.output
    assert "no problems found" not in result.output


def test_warnings_alone_leave_the_exit_code_0(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["doctor", "-w", str(tmp_path)])
    assert result.exit_code == 0
    assert "warning  settings: there is no settings file" in result.output


# A workspace on Google Cloud


class Google(LoopbackServer):
    """The APIs of a project, and a registry that has one image."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = {"aiplatform", "storage"}
        self.tokens: list[str] = []

    @property
    def image(self) -> str:
        return f"{self.url.removeprefix('http://')}/shop/images/adaptation:1"

    def answer(self, request: Request) -> web.Response:
        if request.url.path == "/v1/projects/shop/services:batchGet":
            assert request.headers["authorization"] == "Bearer emulated"
            return web.json_response({"services": [self._service(name) for name in request.query["names"]]})
        self.tokens += [token] if (token := request.headers.get("authorization")) else []
        there = (request.method, request.url.path) == ("HEAD", "/v2/shop/images/adaptation/manifests/1")
        return web.Response(status=200 if there else 404)

    def _service(self, name: str) -> dict[str, str]:
        enabled = name.rpartition("/")[2].removesuffix(".googleapis.com") in self.enabled
        return {"name": name.replace("/shop/", "/123/"), "state": "ENABLED" if enabled else "DISABLED"}


@pytest.fixture
def google() -> Iterator[Google]:
    with Google() as google:
        yield google


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, google: Google) -> Iterator[Cloud]:
    """A deployment in order, except that no spec is published, which takes a while."""
    with a_cloud(tmp_path / "shop", monkeypatch) as cloud:
        monkeypatch.setenv("ADAPT_VERTEX__CREDENTIALS", "default")
        monkeypatch.setenv("ADAPT_VERTEX__IMAGE", google.image)
        monkeypatch.setattr(google_cloud, "SERVICE_USAGE", google.url)
        locate(cloud, "EUROPE-WEST4")
        yield cloud


def locate(cloud: Cloud, location: str) -> None:
    """Move the bucket to that location."""
    requests.patch(f"{cloud.objects.url}/storage/v1/b/shop", json={"location": location}, timeout=60)


def finding(cloud: Cloud, check: str) -> Finding:
    """Return the only finding of a check."""
    (only,) = found(cloud.folder)[check]
    return only


def test_deployment_in_order_has_no_findings_and_is_unchanged(cloud: Cloud, google: Google) -> None:
    assert cloud.adapt("publish").exit_code == 0
    before = [request for request in cloud.objects.requests if not request.startswith("GET")]
    findings = found(cloud.folder)
    assert [name for name, results in findings.items() if results and name not in ("memory", "disk")] == []
    assert list(findings)[4:] == [
        *("settings", "recipe", "credentials", "apis", SHOP_BUCKET, "image", "serving model", "published specs"),
        *(*LOOP_CHECKS, "test images", "champion"),
    ]
    assert [request for request in cloud.objects.requests if not request.startswith("GET")] == before
    assert cloud.vertex.count("^(POST|PATCH|DELETE)") == 0
    assert google.count("services:batchGet") == 1 and google.count("HEAD") == 1


def test_specs_of_other_settings_are_a_warning(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cloud.adapt("publish").exit_code == 0
    monkeypatch.setenv("ADAPT_EVALUATION__THRESHOLD", "0.7")
    result = finding(cloud, "published specs")
    assert result.severity is Severity.WARNING
    assert "the published evaluation pipeline differs from the one" in result.text and '"adapt publish"' in result.text


def test_specs_that_are_not_published_are_broken(cloud: Cloud) -> None:
    missing = found(cloud.folder)["published specs"]
    assert [one.severity for one in missing] == [Severity.BROKEN] * 2
    assert f'{ROOT}/specs/training/latest.json does not exist. Run "adapt publish"' in missing[0].text


@pytest.fixture
def no_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the check of specs: compiling them takes a while."""
    monkeypatch.setattr(google_cloud, "PIPELINES", ())


def test_incomplete_settings_are_broken_and_send_no_request(
    cloud: Cloud, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__PROJECT", "")
    findings = found(cloud.folder)
    assert list(findings)[-1] == "settings"
    assert "vertex.project is missing" in findings["settings"][0].text
    assert len(google.requests) == 0


def test_missing_credentials_are_broken_and_send_no_request(
    cloud: Cloud, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(cloud.folder / "no.json"))
    findings = found(cloud.folder)
    assert list(findings)[-1] == "credentials"
    (result,) = findings["credentials"]
    assert result.severity is Severity.BROKEN
    assert "no.json" in result.text and '"gcloud auth application-default login"' in result.text
    assert len(google.requests) == 0


def test_apis_that_are_not_enabled_are_named_with_the_command(cloud: Cloud, google: Google, no_specs: None) -> None:
    google.enabled.clear()
    result = finding(cloud, "apis")
    assert result.severity is Severity.BROKEN
    command = "gcloud services enable aiplatform.googleapis.com storage.googleapis.com --project=shop"
    assert f'Run "{command}".' in result.text


def test_apis_are_checked_only_if_used(cloud: Cloud, no_specs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__DATAFLOW", "true")
    assert "not enabled: dataflow.googleapis.com." in finding(cloud, "apis").text
    monkeypatch.setenv("ADAPT_VERTEX__DATAFLOW", "false")
    monkeypatch.setenv("ADAPT_VERTEX__IMAGE", "europe-docker.pkg.dev.invalid/shop/adaptation:1")
    assert found(cloud.folder)["apis"] == []


def test_apis_that_may_not_be_listed_are_a_warning(cloud: Cloud, google: Google, no_specs: None) -> None:
    google.fail_next("services:batchGet", status=403)
    result = finding(cloud, "apis")
    assert result.severity is Severity.WARNING
    assert "(HTTP 403)" in result.text and "roles/serviceusage.serviceUsageViewer" in result.text


def test_missing_bucket_is_broken(cloud: Cloud, no_specs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_DATA__ROOT", "gs://gone/data")
    result = finding(cloud, "bucket gone")
    assert result.severity is Severity.BROKEN
    assert "gcloud storage buckets create gs://gone --location=europe-west4" in result.text
    assert found(cloud.folder)[SHOP_BUCKET] == []


@pytest.mark.parametrize("place", ["EUROPE-WEST4", "EU"])
def test_bucket_in_or_around_the_location_is_in_order(cloud: Cloud, no_specs: None, place: str) -> None:
    locate(cloud, place)
    assert found(cloud.folder)[SHOP_BUCKET] == []


@pytest.mark.parametrize("place", ["EUROPE-WEST1", "US", "EUR4"])
def test_bucket_elsewhere_is_a_warning(cloud: Cloud, no_specs: None, place: str) -> None:
    locate(cloud, place)
    result = finding(cloud, SHOP_BUCKET)
    assert result.severity is Severity.WARNING
    assert f"gs://shop is in {place}, vertex.location is europe-west4" in result.text


def test_bucket_without_access_is_broken(cloud: Cloud, no_specs: None) -> None:
    cloud.objects.fail_next("GET /storage/v1/b/shop(\\?|/iam)", times=2, status=403)
    result = finding(cloud, SHOP_BUCKET)
    assert result.severity is Severity.BROKEN
    assert "storage.objects.create, storage.objects.delete, storage.objects.get, storage.objects.list" in result.text
    assert "roles/storage.objectAdmin" in result.text


class ReadOnly(LoopbackServer):
    """Object storage that an account may only read."""

    def answer(self, request: Request) -> web.Response:
        if request.url.path.endswith("/iam/testPermissions"):
            asked = request.query["permissions"]
            allowed = {"storage.objects.get", "storage.objects.list"}
            return web.json_response({"permissions": [name for name in asked if name in allowed]})
        return web.json_response({"location": "EUROPE-WEST4", "locationType": "region"})


def test_bucket_with_read_access_only_is_broken(cloud: Cloud, no_specs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with ReadOnly() as objects:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", objects.url)
        result = finding(cloud, SHOP_BUCKET)
    assert result.severity is Severity.BROKEN
    assert "lacks storage.objects.create, storage.objects.delete on gs://shop" in result.text


@pytest.mark.parametrize(
    "image", ["adaptation:1", "docker.pkg.dev/Shop/x:1", "docker.pkg.dev/x:1 ", "a.dev/x@sha256:1"]
)
def test_malformed_image_is_broken(cloud: Cloud, no_specs: None, monkeypatch: pytest.MonkeyPatch, image: str) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__IMAGE", image)
    result = finding(cloud, "image")
    assert result.severity is Severity.BROKEN
    assert repr(image) in result.text and "europe-west4-docker.pkg.dev/<project>/" in result.text


@pytest.mark.parametrize("tag", ["", ":latest"])
def test_image_with_a_changeable_tag_is_a_warning(
    cloud: Cloud, google: Google, no_specs: None, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__IMAGE", google.image.removesuffix(":1") + tag)
    result, absent = found(cloud.folder)["image"]
    assert result.severity is Severity.WARNING and "can change its content" in result.text
    assert absent.severity is Severity.BROKEN


def test_image_missing_from_its_registry_is_broken(
    cloud: Cloud, google: Google, no_specs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = f"{google.image.rpartition(':')[0]}@sha256:{'a' * 64}"
    monkeypatch.setenv("ADAPT_VERTEX__IMAGE", absent)
    result = finding(cloud, "image")
    assert result.severity is Severity.BROKEN
    assert f"docker push {absent}" in result.text
    assert google.count(f"HEAD /v2/shop/images/adaptation/manifests/sha256:{'a' * 64}") == 1


def test_other_registries_do_not_get_the_token_of_the_account(cloud: Cloud, google: Google, no_specs: None) -> None:
    assert found(cloud.folder)["image"] == []
    assert google.count("HEAD") == 1 and google.tokens == []


def test_google_registries_get_the_token_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[type[requests.Session]] = []
    answer = requests.Response()
    answer.status_code = 200

    def sent(session: requests.Session, *_: object, **__: object) -> requests.Response:
        used.append(type(session))
        return answer

    monkeypatch.setattr(google_cloud, "_sent", sent)
    settings = Settings(labels=LabelSettings(names=LABELS))
    asking = google_cloud._Google(settings, AnonymousCredentials())
    for host in ("europe-docker.pkg.dev", "gcr.io", "docker.pkg.dev.example.com", "evilgcr.io"):
        assert asking.manifest_status(f"https://{host}/v2/x/manifests/1") == 200
    assert used == [AuthorizedSession, AuthorizedSession, requests.Session, requests.Session]


def test_registry_that_refuses_or_is_unreachable_is_a_warning(
    cloud: Cloud, google: Google, no_specs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.fail_next("HEAD", status=403)
    refused = finding(cloud, "image")
    assert refused.severity is Severity.WARNING and "(HTTP 403)" in refused.text
    monkeypatch.setenv("ADAPT_VERTEX__IMAGE", f"127.0.0.1:{free_port()}/shop/adaptation:1")
    silent = finding(cloud, "image")
    assert silent.severity is Severity.WARNING and "could not be reached" in silent.text


def test_checks_report_being_offline_and_do_not_hang(
    cloud: Cloud, no_specs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(google_cloud, "SERVICE_USAGE", nowhere)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", nowhere)
    monkeypatch.setenv("ADAPT_VERTEX__API_ENDPOINT", nowhere)
    findings = found(cloud.folder)
    for check in ("apis", SHOP_BUCKET, "serving model"):
        (result,) = findings[check]
        assert result.severity is Severity.BROKEN and nowhere.removeprefix("http://") in result.text


def test_failing_service_is_not_retried(cloud: Cloud, no_specs: None) -> None:
    cloud.vertex.fail_next(times=100, status=503)
    result = finding(cloud, "serving model")
    assert result.severity is Severity.BROKEN and "HTTP 503" in result.text
    assert len(cloud.vertex.requests) == 1


def test_interrupted_deployment_on_vertex_ai_is_named(cloud: Cloud, no_specs: None) -> None:
    cloud.register(2)
    platform = cloud.workspace.platform
    assert found(cloud.folder)["serving model"] == []
    platform.endpoint.deploy(platform.registry.find("1"))
    messages = texts(found(cloud.folder)["serving model"])
    assert any("version 1 serves, but version 2 is the champion" in text for text in messages)


def test_rehearsal_sends_no_request_to_apis_or_registries(
    cloud: Cloud, google: Google, no_specs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__CREDENTIALS", "anonymous")
    findings = found(cloud.folder)
    assert "apis" not in findings and findings["image"] == [] and findings[SHOP_BUCKET] == []
    assert len(google.requests) == 0


def test_table_of_labels_in_a_bucket_is_checked(cloud: Cloud, no_specs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_LABELS__SOURCE", "file")
    monkeypatch.setenv("ADAPT_LABELS__FILE", "gs://shop/labels.csv")
    assert "gs://shop/labels.csv is missing" in finding(cloud, "labels").text
    storage.write("gs://shop/labels.csv", b"path,label\n")
    assert found(cloud.folder)["labels"] == []
