"""What a create carries of its messages beside its content is shown where it belongs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from converra.server.run import LocalServer

ASKED: dict[str, Any] = {"role": "user", "content": "What is this?", "timestamp": "2025-01-20T14:30:00Z"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "A cat.", "model": "gpt-4o", "tokens": 4}
PICTURE = {"kind": "image", "mime": "image/png", "bytes": 2048}
DETAILS: dict[str, Any] = {
    "0": {"metadata": {"attachments": [PICTURE], "messageId": "m0"}},
    "1": {
        "usage": {"promptTokens": 70, "completionTokens": 4},
        "latencyMs": 812,
        "toolCalls": [{"id": "c", "name": "look_up", "arguments": {"animal": "lynx"}}],
        "metadata": {"error": {"type": "RateLimitError", "status": 429}},
    },
}
WHOLE = [ASKED | DETAILS["0"], ANSWER | DETAILS["1"]]


def created(http: httpx.Client, details: Any = DETAILS, status: str = "completed") -> str:
    """A conversation that one request has brought."""
    content = {"messages": [ASKED, ANSWER], "metadata": {"channel": "web", "messageDetails": details}}
    body = {"promptId": "p", "content": json.dumps(content), "status": status}
    answer = http.post("/conversations", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def page(server: LocalServer, path: str) -> str:
    """A page of the viewer."""
    answer = httpx.get(f"{server.url}/conversations/{path}")
    assert answer.status_code == 200
    return answer.text


def test_the_viewer_shows_each_message_with_its_details(server: LocalServer, http: httpx.Client) -> None:
    """Attachment, tokens, time, calls and error are where they are for an appended message."""
    text = page(server, created(http))
    for shown in ("image · image/png · 2.0 KB", "70 → 4 tokens", "812 ms", "look_up", "error: RateLimitError 429"):
        assert shown in text
    assert "channel" in text
    assert "messageDetails" not in text


def test_the_store_counts_and_finds_them(server: LocalServer, http: httpx.Client) -> None:
    """Totals and search say the same as for messages that were appended."""
    created(http)
    http.post(f"/conversations/{created(http, {}, 'active')}/messages", json={"messages": WHOLE})
    appended, at_once = server.store.conversations()[0]
    assert server.store.messages(at_once) == server.store.messages(appended)[2:] == WHOLE
    assert (at_once.totals.tokens_in, at_once.totals.tokens_out) == (70, 4)
    assert (at_once.totals.latency_ms, at_once.totals.calls, at_once.totals.errors) == (812, 1, 1)
    found = httpx.get(server.url, params={"q": "lynx"}).text
    assert at_once.id in found
    assert at_once.metadata == {"channel": "web"}


@pytest.mark.parametrize("kind", ["json", "content"])
def test_files_have_them_in_their_place(server: LocalServer, http: httpx.Client, kind: str) -> None:
    """As if each message had been appended."""
    file = json.loads(page(server, f"{created(http)}/export/{kind}"))
    assert (file["messages"], file["metadata"]) == (WHOLE, {"channel": "web"})


def test_a_transcript_of_a_conversation_in_one_request_is_text(server: LocalServer, http: httpx.Client) -> None:
    """Also where the API would show the JSON that was sent."""
    assert page(server, f"{created(http)}/export/transcript") == "User: What is this?\nAssistant: A cat.\n"
    assert "812 ms" in page(server, f"{created(http)}/export/html")


@pytest.mark.parametrize(
    "odd",
    [
        7,
        {"first": {}},
        {"0": 7},
        {"0": {"usage": 7}},
        {"0": {"latencyMs": "long"}},
        {"1": {"toolCalls": [7]}},
        {"0": {"metadata": []}},
    ],
)
def test_what_no_message_can_have_stays_in_the_metadata(server: LocalServer, http: httpx.Client, odd: Any) -> None:
    """Metadata may have any key with any value: it is kept, and every page works."""
    conversation_id = created(http, odd)
    (found,) = server.store.conversations()[0]
    assert (server.store.messages(found), found.metadata["messageDetails"]) == ([ASKED, ANSWER], odd)
    for path in ("", "/export/json", "/export/content", "/export/transcript", "/export/html"):
        page(server, f"{conversation_id}{path}")
    assert httpx.get(server.url).status_code == 200


def test_details_of_messages_that_are_not_there_do_no_harm(server: LocalServer, http: httpx.Client) -> None:
    """A position beyond the messages is nobody's."""
    created(http, {"9": {"latencyMs": 1}})
    (found,) = server.store.conversations()[0]
    assert server.store.messages(found) == [ASKED, ANSWER]
