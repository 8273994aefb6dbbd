"""The webhook simulator."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from converra.server.webhooks import Webhooks
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

HELLO = {"promptId": "p", "content": "User: Hello", "status": "active"}


class Receiver(http.server.HTTPServer):
    """An app that is told."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks?a=1"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.received.append({"path": self.path, **body})
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def point(server: LocalServer, url: str, origin: str | None = None) -> httpx.Response:
    return httpx.post(f"{server.url}/webhooks", data={"url": url}, headers={"Origin": origin or server.url})


def delivered(server: LocalServer, count: int) -> str:
    """The page, once it shows so many deliveries."""
    page = until(lambda: (text := httpx.get(f"{server.url}/webhooks").text).count("<details") >= count and text)
    return str(page)


def test_an_append_is_told(server: LocalServer, http: httpx.Client, receiver: Receiver) -> None:
    """With the fields that it changed, in order, to the address that was set; a create is not told."""
    assert point(server, receiver.url).status_code == 303
    made = http.post("/conversations", json=HELLO).json()
    messages = f"/conversations/{made['id']}/messages"
    http.post(messages, json={"messages": [{"role": "user", "content": "a"}]})
    http.post(
        messages, json={"messages": [{"role": "user", "content": "b"}], "metadata": {"x": 1}, "status": "completed"}
    )
    text = delivered(server, 2)
    first, second = receiver.received
    changed = ["messages", "content", "updatedAt"]
    created = first.pop("createdAt")
    assert created.endswith("Z")
    assert first == {
        "path": "/hooks?a=1",
        "event": "conversation.updated",
        "simulated": True,
        "conversationId": made["id"],
        "changedFields": changed,
        "status": "active",
    }
    assert second["changedFields"] == [*changed, "status", "metadata", "hasInsights"]
    assert ("200 in" in text, "conversation.updated" in text) == (True, True)


def test_what_a_receiver_does_is_logged(server: LocalServer, http: httpx.Client, receiver: Receiver) -> None:
    """Its errors, and that there is none; neither costs the append anything."""
    receiver.status = 500
    made = http.post("/conversations", json=HELLO).json()
    append = {"messages": [{"role": "user", "content": "a"}]}
    for url in (receiver.url, "http://localhost:1/nobody", ""):
        assert point(server, url).status_code == 303
        assert http.post(f"/conversations/{made['id']}/messages", json=append).status_code == 200
    text = delivered(server, 2)
    for shown in ("500 in", "no answer", "ConnectionRefusedError: Connection refused"):
        assert shown in text


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://127.0.0.1/",
            "http://example.com/",
            "http://10.0.0.1/",
            "http://127.0.0.1.example.com/",
            "file:///x",
        ),
        *(
            "http://user@evil.example:80/",
            "javascript:alert(1)",
            "http://[::2]/",
            "http://127.0.0.1/a b",
            "http://127.0.0.1:x/",
        ),
    ],
)
def test_only_this_machine_is_told(server: LocalServer, url: str) -> None:
    """Any other address is refused, stays in the form to be corrected, and changes nothing."""
    answer = point(server, url)
    assert (answer.status_code, 'role="alert"' in answer.text) == (400, True)
    assert f'value="{url}"' in answer.text
    assert "Switched off" in answer.text
    assert 'value=""' in httpx.get(f"{server.url}/webhooks").text


def test_another_sites_page_cannot_set_it(server: LocalServer) -> None:
    """Nor learn anything from the answer."""
    assert point(server, "http://127.0.0.1:1/", "https://evil.example").status_code == 403


def test_the_worker_goes_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch, server: LocalServer) -> None:
    """And comes back for the next append."""
    monkeypatch.setattr("converra.server.webhooks._IDLE_SECONDS", 0.01)
    webhooks = Webhooks()
    webhooks.point_to("http://127.0.0.1:1/")
    from tests.server.test_store import conversation

    made = server.store.create(conversation())
    for count in (1, 2):
        webhooks.updated(made, made)
        until(lambda: (len(webhooks.deliveries()), webhooks._worker), (count, None))
    assert [each.number for each in webhooks.deliveries()] == [2, 1]
