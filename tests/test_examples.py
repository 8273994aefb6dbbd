"""The examples run, and record the conversations that they show."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest

from converra.api.client import Converra
from converra.server.run import serve
from tests import warm
from tests.markdown import ROOT
from tests.patience import UNHURRIED

if TYPE_CHECKING:
    from converra.api.results import StoredConversation


class Recorded(NamedTuple):
    """Conversations of one example by session, their pages in the viewer, and the requests."""

    conversations: dict[str | None, StoredConversation]
    pages: dict[str | None, str]
    requests: list[str]


def _run(example: str) -> Recorded:
    """Run an example against an API and a model of its own; it must succeed without warnings."""
    with serve() as server:
        environment = os.environ | {
            **UNHURRIED,
            "CONVERRA_BASE_URL": server.base_url,
            "CONVERRA_API_KEY": "examples",
            "OPENAI_BASE_URL": server.openai_url,
            "OPENAI_API_KEY": "examples",
        }
        program = [sys.executable, "-W", "error", str(ROOT / "examples" / example)]
        finished = warm.run(program, env=environment, capture_output=True, text=True, modules=warm.LIBRARIES)
        assert finished.stderr == ""
        assert finished.returncode == 0
        sent = [f"{request.method} {request.path}" for request in server.requests if request.path.startswith("/api/")]
        with Converra(api_key="examples", base_url=server.base_url) as client:
            found = [client.conversations.get(str(row.id)) for row in client.conversations.list()]
        conversations = {(conversation.metadata or {}).get("sessionId"): conversation for conversation in found}
        pages = {
            session: httpx.get(f"{server.url}/conversations/{conversation.id}", trust_env=False).text
            for session, conversation in conversations.items()
        }
        return Recorded(conversations, pages, sent)


def _words(conversation: StoredConversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages or []]


@pytest.fixture(scope="module")
def quickstart_run() -> Recorded:
    return _run("quickstart.py")


@pytest.fixture
def quickstart(quickstart_run: Recorded) -> StoredConversation:
    """Return the conversation of the one run of the quickstart."""
    (conversation,) = quickstart_run.conversations.values()
    return conversation


@pytest.fixture(scope="module")
def support_agent() -> Recorded:
    """Run the support agent once for all tests."""
    return _run("support_agent.py")


def test_quickstart_records_each_turn_once(quickstart: StoredConversation) -> None:
    """A chat that resends its history is recorded turn by turn, with its tool call, and completed."""
    assert quickstart.status == "completed"
    assert _words(quickstart) == [
        ("system", "You are the support assistant of a shop for tents."),
        ("user", "Hello, where is my order 4711?"),
        ("tool", ""),
        ("tool", '{"order_id": "4711", "status": "in transit", "arrives": "Thursday"}'),
        ("assistant", "Order 4711 is in transit and arrives on Thursday."),
        ("user", "Can my neighbour take it in on Thursday?"),
        ("assistant", "Yes, a neighbour can take it in. I have added a note for the driver."),
        ("user", "Great, that is all. Thank you!"),
        ("assistant", "You are welcome. Is there anything else that I can do for you?"),
    ]


def test_quickstart_records_what_each_turn_cost(quickstart: StoredConversation) -> None:
    """Every turn of the model has its model, its token usage and its latency; a streamed one when it began."""
    turns = [message for message in quickstart.messages or [] if message.usage]
    assert [(turn.role, turn.model) for turn in turns] == [
        ("tool", "gpt-4o-mini-stand-in"),
        ("assistant", "gpt-4o-mini-stand-in"),
        ("assistant", "gpt-4o-mini-stand-in"),
        ("assistant", "gpt-4o-mini-stand-in"),
    ]
    assert all(turn.usage and turn.usage.prompt_tokens and turn.usage.completion_tokens for turn in turns)
    assert all(turn.latency_ms is not None and turn.latency_ms > 0 for turn in turns)
    assert ["timeToFirstTokenMs" in (turn.metadata or {}) for turn in turns] == [False, False, True, False]


def test_quickstart_pairs_the_tool_call_with_its_result(quickstart: StoredConversation) -> None:
    """A tool call has its arguments as an object, and its result names the call."""
    messages = quickstart.messages or []
    call, result = [call for message in messages for call in message.tool_calls or []]
    assert (call.name, call.arguments) == ("look_up_order", {"order_id": "4711"})
    assert (result.name, result.id, result.arguments) == ("look_up_order", call.id, None)


def test_quickstart_costs_two_requests(quickstart_run: Recorded, quickstart: StoredConversation) -> None:
    """A conversation that ends before its first flush is delivered in two requests: requests are scarce."""
    assert quickstart_run.requests == [
        "POST /api/v1/conversations",
        f"POST /api/v1/conversations/{quickstart.id}/messages",
    ]


def test_the_support_agent_s_threads_are_conversations(support_agent: Recorded) -> None:
    """Two threads that take turns, one of them interrupted, are two conversations, each turn once, and completed."""
    assert {session: _words(found) for session, found in support_agent.conversations.items()} == {
        "ada": [
            ("system", "You are the support assistant of a shop for tents."),
            ("user", "Hello, where is my order 4711?"),
            ("tool", ""),
            ("tool", '{"order_id": "4711", "status": "in transit", "arrives": "Thursday"}'),
            ("assistant", "Order 4711 is in transit and arrives on Thursday."),
            ("user", "Can my neighbour take it in on Thursday?"),
            ("assistant", "Yes, a neighbour can take it in. I have added a note for the driver."),
            ("user", "Great, that is all. Thank you!"),
            ("assistant", "You are welcome. Is there anything else that I can do for you?"),
        ],
        "ben": [
            ("system", "You are the support assistant of a shop for tents."),
            ("user", "I would like a refund for 1234, please."),
            ("tool", ""),
            ("tool", '{"order_id": "1234", "status": "refunded"}'),
            ("assistant", "Order 1234 is refunded."),
            ("user", "Thanks!"),
            ("assistant", "You are welcome. Is there anything else that I can do for you?"),
        ],
    }
    assert {found.status for found in support_agent.conversations.values()} == {"completed"}


def test_the_support_agent_s_turns_have_their_facts(support_agent: Recorded) -> None:
    """Each turn of the model has its model, usage and latency, each result the call it answers and its own latency."""
    messages = support_agent.conversations["ben"].messages or []
    turns = [message for message in messages if message.usage]
    assert [(turn.role, turn.model) for turn in turns] == [
        ("tool", "gpt-4o-mini-stand-in"),
        ("assistant", "gpt-4o-mini-stand-in"),
        ("assistant", "gpt-4o-mini-stand-in"),
    ]
    call, result = [(message, each) for message in messages for each in message.tool_calls or []]
    assert (call[1].name, call[1].arguments) == ("refund", {"order_id": "1234"})
    assert (result[1].name, result[1].id, result[1].arguments) == ("refund", call[1].id, None)
    assert result[0].latency_ms is not None


def test_the_viewer_shows_the_support_agent_s_threads(support_agent: Recorded) -> None:
    """Each thread's page has its words and its tool calls."""
    for session, words in (("ada", "neighbour take it in on Thursday"), ("ben", "Order 1234 is refunded.")):
        assert words in support_agent.pages[session]
    assert "look_up_order" in support_agent.pages["ada"]
    for session, is_hers in (("ada", True), ("ben", False)):  # an id of random digits may hold 4711 as well
        assert ("order 4711" in support_agent.pages[session].lower()) is is_hers
