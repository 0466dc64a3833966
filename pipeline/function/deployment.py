"""What the function needs on Google Cloud, as steps that are safe to repeat.

    Cloud Scheduler ------------------+
    Pub/Sub topic -- subscription ----+--> function <name>-trigger ------+
    Cloud Storage -- Eventarc ------------> function <name>-on-image ----+--> collection, records, specs, Vertex AI

Two service accounts separate the permissions. The functions run as one that may only do what a delivery does: read the
collection and the published specs, read and create records (it can neither change nor remove one), find the champion,
and create pipeline jobs that run as the pipelines' own account. The other may only call the functions and receive
events.

Source of the commands: `gcloud help`, and the reference of each at https://cloud.google.com/sdk/gcloud/reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adaptation.io import storage
from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from pipeline.function.build import ENVIRONMENT, variables
from pipeline.function.gcloud import GCLOUD, Answer, Command, Step
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import InvalidSettings

SERVICES = (
    "aiplatform",
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "cloudscheduler",
    "eventarc",
    "iam",
    "pubsub",
    "run",
    "storage",
)
PERMISSIONS = (
    "aiplatform.models.get",
    "aiplatform.models.list",
    "aiplatform.pipelineJobs.create",
    "aiplatform.pipelineJobs.get",
)
READ, CREATE = "roles/storage.objectViewer", "roles/storage.objectCreator"
ON_REQUEST, ON_EVENT = "on_request", "on_event"
FINALIZED = "google.cloud.storage.object.v1.finalized"
_SECONDS = 300  # for a delivery, which retries requests to Vertex AI
_LONGEST_ACCOUNT, _LONGEST_FUNCTION = 30, 63


def deployment_steps(settings: Settings, folder: Path) -> list[Step]:
    """Return the steps that deploy the folder that `function.build` writes.

    Accounts come early and their roles late, because a new account takes a while to exist everywhere.

    Raises:
      InvalidSettings: The settings do not say enough for Google Cloud, or name no account that the pipelines run as.
    """
    environment = variables(settings)
    if not settings.vertex.service_account:
        raise InvalidSettings(
            f"{settings.file}: vertex.service_account is missing. The function may start pipelines as that "
            "account; the project's default account has too many permissions for that."
        )
    deployment = _Deployment(settings, folder)
    return [
        deployment.services(),
        deployment.account(deployment.runner, "the account that the functions run as"),
        deployment.account(deployment.invoker, "the account that calls the functions"),
        deployment.topic(),
        deployment.role(),
        deployment.storage_events(),
        deployment.on_project("the right to pass events on", deployment.invoker, "roles/eventarc.eventReceiver"),
        deployment.on_project("the right to start evaluations", deployment.runner, deployment.role_name),
        deployment.acting(),
        deployment.on_folder("the right to read the collection", environment["COLLECTION_ROOT"], READ),
        deployment.on_folder("the right to read evaluations' specs", settings.vertex.spec_folder(EVALUATION), READ),
        deployment.on_folder("the right to read trainings' specs", settings.vertex.spec_folder(TRAINING), READ),
        deployment.on_folder("the right to read the spans, for the window of a training", settings.data.root, READ),
        deployment.on_folder("the right to read the records", environment["RECORDS_ROOT"], READ),
        deployment.on_folder("the right to create records", environment["RECORDS_ROOT"], CREATE),
        *deployment.notification(),
        deployment.on_request(),
        deployment.on_event(),
        deployment.calling(deployment.trigger),
        deployment.calling(deployment.on_image),
        deployment.subscription(),
        deployment.schedule(),
    ]


@dataclass(frozen=True)
class _Deployment:
    """The names of a deployment's parts, and the step that makes each."""

    settings: Settings
    folder: Path

    @property
    def trigger(self) -> str:
        """The name of the function for requests, and of the topic, its subscription and the schedule's job."""
        return self._named("trigger", _LONGEST_FUNCTION)

    @property
    def on_image(self) -> str:
        """The name of the function for storage events."""
        return self._named("on-image", _LONGEST_FUNCTION)

    @property
    def runner(self) -> str:
        """Id of the account that the functions run as."""
        return self._named("trigger", _LONGEST_ACCOUNT)

    @property
    def invoker(self) -> str:
        """Id of the account that calls them."""
        return self._named("invoker", _LONGEST_ACCOUNT)

    @property
    def role_name(self) -> str:
        return f"projects/{self._project}/roles/{self._role}"

    def services(self) -> Step:
        names = tuple(f"{name}.googleapis.com" for name in SERVICES)
        return Step("the services", self._gcloud("services", "enable", *names))

    def account(self, account: str, what: str) -> Step:
        accounts = ("iam", "service-accounts")
        return Step(
            what,
            self._gcloud(*accounts, "create", account, f"--display-name={account}"),
            look=self._gcloud(*accounts, "describe", self._email(account)),
        )

    def topic(self) -> Step:
        return Step(
            "the topic for messages that start a delivery",
            self._gcloud("pubsub", "topics", "create", self.trigger),
            look=self._gcloud("pubsub", "topics", "describe", self.trigger),
        )

    def role(self) -> Step:
        words = (self._role, f"--title={self.trigger}", f"--permissions={','.join(PERMISSIONS)}", "--stage=GA")
        return Step(
            "the role with a delivery's permissions on Vertex AI",
            self._gcloud("iam", "roles", "create", *words),
            look=self._gcloud("iam", "roles", "describe", self._role),
            renew=self._gcloud("iam", "roles", "update", *words),
        )

    def storage_events(self) -> Step:
        agent = Answer("--member=serviceAccount:", self._gcloud("storage", "service-agent"))
        return Step(
            "the right of Cloud Storage to publish its events",
            self._binding("projects", self._project, agent, "roles/pubsub.publisher"),
        )

    def on_project(self, what: str, account: str, role: str) -> Step:
        return Step(what, self._binding("projects", self._project, self._member(account), role))

    def acting(self) -> Step:
        role, pipelines = "roles/iam.serviceAccountUser", self.settings.vertex.service_account
        binding = self._binding("iam service-accounts", pipelines, self._member(self.runner), role)
        return Step("the right to start pipelines as their account", binding)

    def on_folder(self, what: str, uri: str, role: str) -> Step:
        """Grant a role on the objects of a folder, which becomes a managed one, or of a whole bucket."""
        bucket, _, key = uri.removeprefix("gs://").strip("/").partition("/")
        kind, place = ("managed-folders", f"gs://{bucket}/{key}/") if key else ("buckets", f"gs://{bucket}")
        return Step(what, self._binding(f"storage {kind}", place, self._member(self.runner), role))

    def on_request(self) -> Step:
        return Step("the function that requests call", self._function(self.trigger, ON_REQUEST, "--trigger-http"))

    def on_event(self) -> Step:
        bucket = self.settings.collection.root.removeprefix("gs://").partition("/")[0]
        location = self._gcloud("storage", "buckets", "describe", f"gs://{bucket}", "--format=value(location.lower())")
        flags = (
            f"--trigger-event-filters=type={FINALIZED}",
            f"--trigger-event-filters=bucket={bucket}",
            Answer("--trigger-location=", location),  # a bucket's events exist in its own location only
            f"--trigger-service-account={self._email(self.invoker)}",
            "--retry",
        )
        return Step("the function that each new object calls", self._function(self.on_image, ON_EVENT, *flags))

    def notification(self) -> Iterator[Step]:
        """Yield the rights to publish events, and to read the secret that signs them, if the settings say so."""
        member, notify = self._member(self.runner), self.settings.notify
        if notify.pubsub:
            _, project, _, topic = notify.pubsub.split("/")
            words = ("pubsub", "topics", "add-iam-policy-binding", topic, member, "--role=roles/pubsub.publisher")
            publish = (GCLOUD, *words, f"--project={project}", "--quiet")  # this command knows no --condition
            yield Step("the right to publish events", publish)
        if notify.webhooks and notify.secret:
            command = self._binding("secrets", notify.secret, member, "roles/secretmanager.secretAccessor")
            yield Step("the right to read the secret that signs events", command)

    def calling(self, function: str) -> Step:
        region, member = f"--region={self._location}", self._member(self.invoker)
        command = self._gcloud("functions", "add-invoker-policy-binding", function, region, member)
        return Step(f"the right to call {function}", command)

    def subscription(self) -> Step:
        words = (
            self.trigger,
            self._address("--push-endpoint="),
            f"--push-auth-service-account={self._email(self.invoker)}",
            f"--ack-deadline={_SECONDS}",
            "--min-retry-delay=10s",
            "--max-retry-delay=600s",
            "--expiration-period=never",
        )
        subscriptions = ("pubsub", "subscriptions")
        return Step(
            "the subscription that brings the topic's messages to the function",
            self._gcloud(*subscriptions, "create", *words, f"--topic={self.trigger}"),
            look=self._gcloud(*subscriptions, "describe", self.trigger),
            renew=self._gcloud(*subscriptions, "update", *words),
        )

    def schedule(self) -> Step:
        location = f"--location={self._location}"
        words = (
            self.trigger,
            location,
            f"--schedule={self.settings.function.schedule}",
            self._address("--uri="),
            "--http-method=post",
            f"--oidc-service-account-email={self._email(self.invoker)}",
            f"--attempt-deadline={_SECONDS}s",
        )
        jobs = ("scheduler", "jobs")
        return Step(
            "the schedule that calls the function",
            self._gcloud(*jobs, "create", "http", *words),
            look=self._gcloud(*jobs, "describe", self.trigger, location),
            renew=self._gcloud(*jobs, "update", "http", *words),
        )

    @property
    def _secrets(self) -> tuple[str, ...]:
        """The flag that puts the secret of Secret Manager into the variable of the same name, if one signs events."""
        notify = self.settings.notify
        return (f"--set-secrets={notify.secret}={notify.secret}:latest",) if notify.webhooks and notify.secret else ()

    @property
    def _project(self) -> str:
        return self.settings.vertex.project

    @property
    def _location(self) -> str:
        return self.settings.vertex.location

    @property
    def _role(self) -> str:
        return self.trigger.replace("-", "_")  # a role's id has no hyphens

    def _named(self, suffix: str, longest: int) -> str:
        """Return the deployment's name with a suffix; too long a name is cut and gets its digest."""
        name, room = self.settings.name, longest - len(suffix) - 1
        if len(name) > room:
            digest = hashlib.sha256(name.encode()).hexdigest()[:6]
            name = f"{name[: room - len(digest) - 1]}-{digest}"
        return f"{name}-{suffix}"

    def _email(self, account: str) -> str:
        return f"{account}@{self._project}.iam.gserviceaccount.com"

    def _member(self, account: str) -> str:
        return f"--member=serviceAccount:{self._email(account)}"

    def _address(self, flag: str) -> Answer:
        """Return a flag with the function's address, which exists once it is deployed."""
        region, form = f"--region={self._location}", "--format=value(serviceConfig.uri)"
        return Answer(flag, self._gcloud("functions", "describe", self.trigger, "--gen2", region, form))

    def _function(self, name: str, entry_point: str, *flags: str | Answer) -> Command:
        return self._gcloud(
            "functions",
            "deploy",
            name,
            "--gen2",
            "--runtime=python312",
            f"--region={self._location}",
            f"--source={self.folder}",
            f"--entry-point={entry_point}",
            f"--env-vars-file={storage.join(str(self.folder), ENVIRONMENT)}",
            f"--service-account={self._email(self.runner)}",
            "--no-allow-unauthenticated",
            "--memory=512Mi",
            "--cpu=1",
            "--concurrency=16",
            "--max-instances=4",
            f"--timeout={_SECONDS}s",
            *self._secrets,
            *flags,
        )

    def _binding(self, kind: str, resource: str, member: str | Answer, role: str) -> Command:
        """Return the binding of a role, explicitly without a condition: gcloud would prompt where others have one."""
        words = (*kind.split(), "add-iam-policy-binding", resource)
        return self._gcloud(*words, member, f"--role={role}", "--condition=None")

    def _gcloud(self, *words: str | Answer) -> Command:
        return (GCLOUD, *words, f"--project={self._project}", "--quiet")
