"""A conversation that one create has brought is read and passed on like any other."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from converra import AsyncConverra, Converra
from converra.server.run import serve
from tests.cli.recorded import printed

if TYPE_CHECKING:
    from pathlib import Path

    from converra.api.results import StoredConversation

CHAT: list[Any] = [
    {"role": "user", "content": "Look.", "metadata": {"messageId": "m1", "attachments": [{"kind": "image"}]}},
    {
        "role": "assistant",
        "content": "I see.",
        "model": "gpt-4o",
        "usage": {"promptTokens": 20, "completionTokens": 5},
        "latencyMs": 812.0,
        "metadata": {"messageId": "m2"},
    },
]
FACTS = "(gpt-4o · 20 tokens in, 5 out · 812 ms)"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """The file of a server to which the conversation was sent in one request."""
    path = tmp_path / "kept.db"
    with serve(path=path) as server, Converra(api_key="dev", base_url=server.base_url) as client:
        client.conversations.create(prompt_id="p", content=CHAT, status="completed")
        (request,) = server.requests
        content = json.loads(request.json()["content"])
        assert [set(message) for message in content["messages"]] == [{"role", "content"}, {"role", "content", "model"}]
    return path


def test_it_is_shown_and_exported_whole(db: Path) -> None:
    """With usage, latency and metadata where they were recorded, in every form."""
    shown = printed("conversations", "show", "last", "--db", str(db))
    assert shown.splitlines()[2:] == ["user:", "  Look.", "", "assistant:", "  I see.", f"  {FACTS}"]
    for each in ("json", "content"):
        file = json.loads(printed("export", "--format", each, "--db", str(db)))
        assert (file["messages"], file["metadata"]) == (CHAT, {})
    assert json.loads(printed("export", "--format", "jsonl", "--db", str(db)))["messages"] == CHAT
    assert printed("export", "--format", "transcript", "--db", str(db)) == "User: Look.\nAssistant: I see.\n"
    assert FACTS in printed("export", "--format", "html", "--db", str(db))
    told = printed("tail", "--json", "--last", "2", "--no-follow", "--db", str(db)).splitlines()
    assert [json.loads(line).get("message") for line in told][:2] == CHAT


def test_it_is_pushed_whole(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server has it as it was recorded."""
    with serve() as account:
        monkeypatch.setenv("CONVERRA_BASE_URL", account.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "real")
        printed("push", "--db", str(db))
        (found,) = account.store.conversations()[0]
        assert (account.store.messages(found), found.status) == (CHAT, "completed")
        assert found.metadata == {"pushed": 2}


@pytest.mark.parametrize("hidden", [True, False], ids=["only the content is shown", "messages are shown"])
def test_an_api_is_read_the_same_way(hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it shows the messages, or no more than the document promises: the content as it was sent."""
    with serve() as server, Converra(api_key="dev", base_url=server.base_url) as client:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "dev")
        client.conversations.create(prompt_id="p", content=CHAT, status="completed")
        server.faults.hide_messages = hidden
        assert FACTS in printed("conversations", "show", "last")
        assert json.loads(printed("export", "--format", "content")) == {"messages": CHAT, "metadata": {}}
        assert printed("export", "--format", "transcript") == "User: Look.\nAssistant: I see.\n"


async def _got(base_url: str, conversation_id: str) -> StoredConversation:
    async with AsyncConverra(api_key="dev", base_url=base_url) as client:
        return await client.conversations.get(conversation_id)


def test_the_client_puts_them_back() -> None:
    """Sync and async, from messages and from structured content in which they stand within the messages."""
    given: list[Any] = [CHAT, json.dumps({"messages": CHAT})]
    with serve() as server, Converra(api_key="dev", base_url=server.base_url) as client:
        for content in given:
            made = client.conversations.create(prompt_id="p", content=content, status="active")
            for read in (client.conversations.get(str(made.id)), asyncio.run(_got(server.base_url, str(made.id)))):
                assert (read.to_dict()["messages"], read.metadata) == (CHAT, {})
            more = client.conversations.append_messages(str(made.id), messages=CHAT, metadata={"channel": "web"})
            assert (more.to_dict()["messages"], more.metadata) == (CHAT + CHAT, {"channel": "web"})
