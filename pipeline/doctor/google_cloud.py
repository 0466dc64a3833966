"""Checks of Google Cloud: credentials, APIs, buckets, the image, the published specs. Nothing there is changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.connect import connect
from adaptation.platforms.vertex.client import SCOPE
from adaptation.platforms.vertex.config import LATEST, Retries, VertexConfig
from pipeline.doctor.checks import Check, Finding, broken, warning
from pipeline.workspace.settings import Settings
from pipeline.workspace.vertex_settings import PIPELINES
from pipeline.workspace.workspace import Workspace

if TYPE_CHECKING:
    import google.auth.credentials
    import requests

SERVICE_USAGE = "https://serviceusage.googleapis.com"
STORAGE = "https://storage.googleapis.com"
LOG_IN = 'Run "gcloud auth application-default login", or give the process a service account.'
PERMISSIONS = tuple(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list"))
COMPILE_SECONDS = 120.0
_TIMEOUT = (5, 10)
_GOOGLES_REGISTRIES = (".pkg.dev", ".gcr.io")
_ONE_TRY = Retries(request_timeout=10, attempts=1)
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<host>[a-z0-9-]+(?:[.:][a-z0-9-]+)+)/(?P<path>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "oci.image.index.v1",
    )
)


class Unreachable(AdaptationError, ConnectionError):
    """A server that did not answer."""


def credentials_check(settings: Settings) -> Check:
    """Return the check of the credentials; without valid ones no other check can answer."""
    return Check("credentials", lambda: _credentials_findings(settings))


def cloud_checks(workspace: Workspace) -> list[Check]:
    """Return the other checks of a complete deployment. A rehearsal has neither APIs nor a registry of images."""
    settings = workspace.settings
    google = _Google(settings, _credentials(settings))
    places = (settings.data.root, settings.collection.root, settings.vertex.root, settings.labels.file)
    buckets = sorted({place.split("/")[2] for place in places if place})
    outside = [Check("apis", lambda: _api_findings(google))] if _is_real(settings) else []
    return [
        *outside,
        *(Check(f"bucket {bucket}", partial(_bucket_findings, google, bucket)) for bucket in buckets),
        Check("image", lambda: _image_findings(google)),
        Check("serving model", lambda: _service_findings(workspace)),
        Check("published specs", lambda: _spec_findings(settings), seconds=COMPILE_SECONDS),
    ]


@dataclass(frozen=True)
class _Google:
    """Requests to Google's APIs with the settings' credentials, each with a timeout."""

    settings: Settings
    credentials: google.auth.credentials.Credentials

    def get(self, url: str, query: Mapping[str, Any]) -> requests.Response:
        """Return the response, whatever its status.

        Raises:
          Unreachable: There was none.
        """
        return _sent(self._session(), "GET", url, params=query)

    def manifest_status(self, url: str) -> int:
        """Return a registry's status for an image; errors as for `get`. The token goes to Google's registries only."""
        import requests

        known = f".{url.split('/')[2]}".endswith(_GOOGLES_REGISTRIES)
        session = self._session() if known else requests.Session()
        return _sent(session, "HEAD", url, headers={"Accept": _MANIFESTS}).status_code

    def _session(self) -> requests.Session:
        from google.auth.transport.requests import AuthorizedSession

        return AuthorizedSession(self.credentials)  # type: ignore[no-untyped-call]


def _sent(session: requests.Session, method: str, url: str, **request: Any) -> requests.Response:
    import google.auth.exceptions
    import requests

    try:
        return session.request(method, url, timeout=_TIMEOUT, **request)
    except (requests.RequestException, google.auth.exceptions.GoogleAuthError) as error:
        message = f"{url.split('/')[2]} could not be reached: {_first_line(error)}. Check the network."
        raise Unreachable(message) from error


def _is_real(settings: Settings) -> bool:
    return settings.vertex.credentials == "default"


def _credentials(settings: Settings) -> google.auth.credentials.Credentials:
    import google.auth
    import google.auth.credentials

    if not _is_real(settings):
        return google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
    found: google.auth.credentials.Credentials = google.auth.default(scopes=[SCOPE])[0]
    return found


def _credentials_findings(settings: Settings) -> Iterator[Finding]:
    import google.auth.exceptions
    from google.auth.transport.requests import Request

    try:
        credentials = _credentials(settings)
        if not credentials.valid:
            credentials.refresh(Request())  # type: ignore[no-untyped-call]
    except google.auth.exceptions.TransportError as error:
        yield broken(f"Google could not be reached: {_first_line(error)}. Check the network.")
    except google.auth.exceptions.GoogleAuthError as error:
        yield broken(f"no valid credentials: {_first_line(error)}. {LOG_IN}")


def _api_findings(google: _Google) -> Iterator[Finding]:
    """Check the APIs. Source: cloud.google.com/service-usage/docs/reference/rest, services.batchGet."""
    vertex = google.settings.vertex
    wanted = ["aiplatform", "storage"]
    wanted += ["dataflow"] * vertex.dataflow + ["artifactregistry"] * ("pkg.dev/" in vertex.image)
    project = f"projects/{vertex.project}"
    names = [f"{project}/services/{name}.googleapis.com" for name in wanted]
    answer = google.get(f"{SERVICE_USAGE}/v1/{project}/services:batchGet", {"names": names})
    if answer.status_code != 200:
        yield warning(
            f"the APIs of {project} could not be listed (HTTP {answer.status_code}). Check vertex.project, and that "
            "the account has roles/serviceusage.serviceUsageViewer."
        )
        return
    states = {service["name"].rpartition("/")[2]: service.get("state") for service in answer.json().get("services", [])}
    off = [f"{name}.googleapis.com" for name in wanted if states.get(f"{name}.googleapis.com") != "ENABLED"]
    if off:
        command = f"gcloud services enable {' '.join(off)} --project={vertex.project}"
        yield broken(f'not enabled: {", ".join(off)}. Run "{command}".')


def _bucket_findings(google: _Google, bucket: str) -> Iterator[Finding]:
    location = google.settings.vertex.location
    address = f"{os.environ.get('STORAGE_EMULATOR_HOST') or STORAGE}/storage/v1/b/{bucket}"
    answer = google.get(address, {"fields": "location,locationType"})
    if answer.status_code == 404:
        command = f"gcloud storage buckets create gs://{bucket} --location={location}"
        yield broken(f'gs://{bucket} does not exist. Run "{command}".')
        return
    if answer.status_code == 200:
        yield from _location_findings(bucket, answer.json()["location"], location)
    allowed = google.get(f"{address}/iam/testPermissions", {"permissions": PERMISSIONS})
    granted = allowed.json().get("permissions", []) if allowed.status_code == 200 else []
    if missing := [permission for permission in PERMISSIONS if permission not in granted]:
        yield broken(
            f"the account lacks {', '.join(missing)} on gs://{bucket} (HTTP {allowed.status_code}). "
            "Grant it roles/storage.objectAdmin there."
        )


def _location_findings(bucket: str, found: str, location: str) -> Iterator[Finding]:
    """Check the location: a multi-region EU, US or ASIA has the regions whose names begin with that."""
    area = {"EU": "europe"}.get(found, found.lower())
    if location != area and not location.startswith(f"{area}-"):
        yield warning(
            f"gs://{bucket} is in {found}, vertex.location is {location}: traffic between them is slower and "
            "is billed. Use a bucket in that location."
        )


def _image_findings(google: _Google) -> Iterator[Finding]:
    image = google.settings.vertex.image
    match = _IMAGE.fullmatch(image)
    if not match:
        yield broken(
            f"vertex.image = {image!r} is not an image's name. Write it like "
            f"{google.settings.vertex.location}-docker.pkg.dev/<project>/<repository>/adaptation:1."
        )
        return
    if not match["digest"] and match["tag"] in (None, "latest"):
        yield warning(f"vertex.image = {image!r} can change its content. Name a fixed tag, or a digest (@sha256:...).")
    if _is_real(google.settings):
        yield from _registry_findings(google, image, match)


def _registry_findings(google: _Google, image: str, match: re.Match[str]) -> Iterator[Finding]:
    """Check the image. Source: the OCI distribution specification, "Checking if content exists in the registry"."""
    scheme = "http" if match["host"].startswith(("localhost:", "127.")) else "https"  # as container engines do
    address = f"{scheme}://{match['host']}/v2/{match['path']}/manifests/{match['digest'] or match['tag'] or 'latest'}"
    try:
        status = google.manifest_status(address)
    except Unreachable as error:
        yield warning(f"{error} So {image} was not checked.")
        return
    if status == 404:
        yield broken(f"{image} does not exist. Build and push it: docker build -t {image} . && docker push {image}")
    elif status != 200:
        yield warning(f"{match['host']} does not show {image} (HTTP {status}). Grant the permission to read it.")


def _service_findings(workspace: Workspace) -> Iterator[Finding]:
    from adaptation.platforms.vertex.consistency import find_orphans
    from adaptation.platforms.vertex.endpoint import VertexEndpoint
    from adaptation.platforms.vertex.registry import VertexRegistry

    config = workspace.config
    assert isinstance(config, VertexConfig)
    platform = connect(replace(config, retries=_ONE_TRY))
    registry, endpoint = platform.registry, platform.endpoint
    assert isinstance(registry, VertexRegistry) and isinstance(endpoint, VertexEndpoint)
    yield from map(broken, find_orphans(registry, endpoint))


def _spec_findings(settings: Settings) -> Iterator[Finding]:
    from pipeline.compiled.compilation import compile_pipeline
    from pipeline.compiled.spec import Spec

    for pipeline in PIPELINES:
        uri = storage.join(settings.vertex.spec_folder(pipeline), LATEST)
        try:
            published = Spec.from_json(storage.read(uri), uri)
        except FileNotFoundError:
            yield broken(f'no {pipeline} pipeline is published: {uri} does not exist. Run "adapt publish".')
            continue
        if published.digest != compile_pipeline(settings, pipeline).digest:
            yield warning(
                f"the published {pipeline} pipeline differs from the one of these settings and this code. "
                f'Run "adapt publish".'
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")[:300]
