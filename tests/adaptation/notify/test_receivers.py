"""Receivers: each takes every event, or says within a bounded time why not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from cloudevents.http import from_http, from_json

from adaptation.events import Event, Kind
from adaptation.notify import receivers
from adaptation.notify.config import InvalidReceiver, NotifyConfig, check_topic, check_webhook
from adaptation.notify.receivers import Apprise, LocalCommand, NotDelivered, Topic, Webhook
from emulators.pubsub import PubSubEmulator
from tests.worlds.events import EventWorld, HttpReceiver, writing_command

TOPIC = "projects/demo/topics/events"
EVENT = Event(Kind.TRAINING_FAILED, "job-1/failed", "job/job-1", "2026-11-28T10:00:00+00:00", "it failed", {}, 7)


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """Return one event of each kind."""
    world = EventWorld(tmp_path_factory.mktemp("world"))
    world.live()
    return list({event.kind: event for event in world.collect()}.values())


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


def test_http_receiver_gets_each_kind(happened: list[Event], receiver: HttpReceiver) -> None:
    webhook = Webhook(f"{receiver.url}/hook?token=1", "", "digits")
    for event in happened:
        webhook.send(event)
    read = [from_http(dict(request.headers), request.body) for request in receiver.received]
    assert [one["type"].removeprefix("continuous-adaptation.") for one in read] == [one.kind for one in happened]
    assert {str(request) for request in receiver.received} == {"POST /hook?token=1"}


def test_caller_may_have_an_event_loop_of_its_own(receiver: HttpReceiver) -> None:
    async def notebook() -> None:
        Webhook(receiver.url, "", "digits").send(EVENT)

    asyncio.run(notebook())
    assert len(receiver.received) == 1


def test_post_is_signed_after_standard_webhooks(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    key = b"a key of some length"
    monkeypatch.setenv("HOOK_SECRET", f"whsec_{base64.b64encode(key).decode()}")
    Webhook(receiver.url, "HOOK_SECRET", "digits").send(EVENT)
    (request,) = receiver.received
    assert abs(time.time() - int(request.headers["webhook-timestamp"])) < 60
    signed = f"{EVENT.id}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


def test_nothing_is_posted_unsigned_if_the_secret_is_missing(receiver: HttpReceiver) -> None:
    with pytest.raises(NotDelivered, match="HOOK_SECRET is not set"):
        Webhook(receiver.url, "HOOK_SECRET", "digits").send(EVENT)
    assert receiver.received == []


def test_name_of_a_webhook_hides_its_path() -> None:
    assert "token" not in Webhook("https://example.org/token?key=token", "", "digits").name


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_a_failure_and_is_not_followed(receiver: HttpReceiver, status: int) -> None:
    elsewhere = f"{receiver.url}/elsewhere"
    redirecting = HttpReceiver(lambda _: web.Response(status=status, headers={"Location": elsewhere}))
    with redirecting, pytest.raises(NotDelivered, match=f"HTTP {status}"):
        Webhook(redirecting.url, "", "digits").send(EVENT)
    assert receiver.received == []


def test_refusal_is_reported_with_the_beginning_of_the_answer() -> None:
    server = HttpReceiver(lambda _: web.Response(status=500, text="broken" + "x" * 100_000))
    with server, pytest.raises(NotDelivered, match="HTTP 500: 'broken") as error:
        Webhook(server.url, "", "digits").send(EVENT)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200", b"\x00\xff" * 5000])
def test_answer_that_is_no_http_is_a_failure(answer: bytes) -> None:
    with _raw_server(answer) as url, pytest.raises(NotDelivered):
        Webhook(url, "", "digits").send(EVENT)


def test_endless_answer_is_cut_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n"
    with _raw_server(head + b"x" * 1000) as url:
        Webhook(url, "", "digits").send(EVENT)  # the status is known; no more than the beginning is read


def test_slow_receiver_is_given_up(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "SECONDS", 0.2)
    receiver.fail_next(delay=5)
    with pytest.raises(NotDelivered, match="no answer within"):
        Webhook(receiver.url, "", "digits").send(EVENT)


def test_answer_in_drops_does_not_extend_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "SECONDS", 0.5)
    server = _raw_server(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000, pause=0.1)
    with server as url, pytest.raises(NotDelivered, match="no answer within"):
        Webhook(url, "", "digits").send(EVENT)


def test_server_that_is_down_is_a_failure(receiver: HttpReceiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotDelivered):
        Webhook(f"http://127.0.0.1:{port}", "", "digits").send(EVENT)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook",
        "http://10.0.0.1/hook",
        "http://127.0.0.1.example.org/hook",
        "https://user:word@example.org/hook",
        "http://127.0.0.1@example.org/",
        "https://example.org/hook#part",
        "https://169.254.169.254/latest",
        "https://[fe80::1]/hook",
        "https://[::ffff:169.254.169.254]/",
        "https://0.0.0.0/",
        "https:///hook",
        "https://example.org:99999/",
        "file:///etc/passwd",
        "ftp://example.org",
        "gopher://127.0.0.1",
        "",
    ],
)
def test_webhook_elsewhere_than_https_or_loopback_is_refused(url: str) -> None:
    with pytest.raises(InvalidReceiver):
        check_webhook(url)


@pytest.mark.parametrize(
    "url", ["https://example.org/hook", "http://127.0.0.1:8080", "http://localhost/x", "http://[::1]/"]
)
def test_webhook_on_https_or_loopback_is_allowed(url: str) -> None:
    assert check_webhook(url) == url


def test_name_that_resolves_to_a_metadata_server_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])
    with pytest.raises(NotDelivered, match="DNSError"):
        Webhook("https://innocent.example.org/", "", "digits").send(EVENT)


def test_topic_gets_each_kind(happened: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    with PubSubEmulator(TOPIC) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        for event in happened:
            Topic(TOPIC, "digits").send(event)
    messages = emulator.messages[TOPIC]
    assert [from_json(message.data)["id"] for message in messages] == [event.id for event in happened]
    assert {message.attributes["content-type"] for message in messages} == {"application/cloudevents+json"}
    assert {message.ordering_key for message in messages} == {"digits"}


def test_missing_topic_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with PubSubEmulator() as emulator:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.environment()["PUBSUB_EMULATOR_HOST"])
        with pytest.raises(NotDelivered, match="HTTP 404"):
            Topic(TOPIC, "digits").send(EVENT)


@pytest.mark.parametrize("topic", ["events", "projects/x/topics/", "projects/x/topics/a/b", "projects/x/topics/a?b"])
def test_topic_without_its_full_name_is_refused(topic: str) -> None:
    with pytest.raises(InvalidReceiver):
        check_topic(topic)


def test_command_gets_each_kind(happened: list[Event], tmp_path: Path) -> None:
    for event in happened:
        LocalCommand(writing_command(tmp_path), "digits").send(event)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [event.id for event in happened]


def test_command_that_fails_or_is_missing_is_a_failure() -> None:
    with pytest.raises(NotDelivered, match="exit code 3"):
        LocalCommand(("sh", "-c", "exit 3"), "digits").send(EVENT)
    with pytest.raises(NotDelivered, match="cannot be run"):
        LocalCommand(("/no/such/program",), "digits").send(EVENT)


def test_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "SECONDS", 0.5)
    with pytest.raises(NotDelivered, match="did not end"):
        LocalCommand(("sh", "-c", f"(sleep 2; touch {tmp_path / 'late'}) & wait"), "digits").send(EVENT)
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


def test_command_may_ignore_its_input() -> None:
    LocalCommand(("true",), "digits").send(EVENT)


def test_apprise_posts_the_sentence(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATS", f"json://{receiver.url.removeprefix('http://')}/chat")
    Apprise("CHATS", "digits").send(EVENT)
    (request,) = receiver.received
    posted = json.loads(request.body)
    assert (posted["title"], posted["message"]) == ("digits: training.failed", "it failed")


def test_apprise_url_that_is_unknown_or_down_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATS", "nonsense")
    with pytest.raises(NotDelivered, match="none that apprise knows"):
        Apprise("CHATS", "digits").send(EVENT)
    with HttpReceiver(lambda _: web.Response(status=500)) as server:
        monkeypatch.setenv("CHATS", f"json://{server.url.removeprefix('http://')}/")
        with pytest.raises(NotDelivered, match="could not send"):
            Apprise("CHATS", "digits").send(EVENT)


def test_configuration_makes_a_receiver_of_each_kind() -> None:
    config = NotifyConfig("digits", ("https://example.org",), "S", TOPIC, ("true",), "CHATS")
    kinds = [type(receiver) for receiver in receivers.receivers(config)]
    assert kinds == [Webhook, Topic, LocalCommand, Apprise]


class _raw_server:
    """A server that answers every connection with these bytes, one at a time if there is a pause."""

    def __init__(self, answer: bytes, pause: float = 0.0) -> None:
        self._answer, self._pause = answer, pause
        self._server = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/"

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _serve(self) -> None:
        try:
            connection, _ = self._server.accept()
            with connection:
                connection.recv(100_000)
                parts = (
                    [self._answer] if not self._pause else [self._answer[i : i + 1] for i in range(len(self._answer))]
                )
                for part in parts:
                    connection.sendall(part)
                    time.sleep(self._pause)
        except OSError:
            return
