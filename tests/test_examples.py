"""The examples run, and what they record is what they show."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from converra.api.client import Converra
from converra.server.run import serve
from tests.markdown import ROOT

if TYPE_CHECKING:
    from converra.api.results import Conversation


class Recorded(NamedTuple):
    """What an example left with the API, and the requests that it took."""

    conversation: Conversation
    requests: list[str]


def _run(example: str) -> Recorded:
    """Run an example on its own, against an API and a model of its own; it ends well and warns of nothing."""
    with serve() as server:
        environment = os.environ | {
            "CONVERRA_BASE_URL": server.base_url,
            "CONVERRA_API_KEY": "examples",
            "OPENAI_BASE_URL": server.openai_url,
            "OPENAI_API_KEY": "examples",
        }
        program = [sys.executable, "-W", "error", str(ROOT / "examples" / example)]
        finished = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
        assert finished.stderr == ""
        assert finished.returncode == 0
        sent = [f"{request.method} {request.path}" for request in server.requests if request.path.startswith("/api/")]
        with Converra(api_key="examples", base_url=server.base_url) as client:
            (row,) = client.conversations.list()
            assert row.id is not None
            return Recorded(client.conversations.get(row.id), sent)


@pytest.fixture(scope="module")
def quickstart() -> Recorded:
    """One run of the quickstart for all that is promised of it."""
    return _run("quickstart.py")


def test_quickstart_records_each_turn_once(quickstart: Recorded) -> None:
    """A chat that resends its history is recorded turn by turn, with its tool call, and completed."""
    assert quickstart.conversation.status == "completed"
    assert [(message.role, message.content) for message in quickstart.conversation.messages or []] == [
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


def test_quickstart_records_what_each_turn_cost(quickstart: Recorded) -> None:
    """Every turn of the model has its model, its token usage and its latency; a streamed one when it began."""
    turns = [message for message in quickstart.conversation.messages or [] if message.usage]
    assert [(turn.role, turn.model) for turn in turns] == [
        ("tool", "gpt-4o-mini-stand-in"),
        ("assistant", "gpt-4o-mini-stand-in"),
        ("assistant", "gpt-4o-mini-stand-in"),
        ("assistant", "gpt-4o-mini-stand-in"),
    ]
    assert all(turn.usage and turn.usage.prompt_tokens and turn.usage.completion_tokens for turn in turns)
    assert all(turn.latency_ms is not None and turn.latency_ms > 0 for turn in turns)
    assert ["timeToFirstTokenMs" in (turn.metadata or {}) for turn in turns] == [False, False, True, False]


def test_quickstart_pairs_the_tool_call_with_its_result(quickstart: Recorded) -> None:
    """A tool call has its arguments as an object, and its result names the call."""
    messages = quickstart.conversation.messages or []
    call, result = [call for message in messages for call in message.tool_calls or []]
    assert (call.name, call.arguments) == ("look_up_order", {"order_id": "4711"})
    assert (result.name, result.id, result.arguments) == ("look_up_order", call.id, None)


def test_quickstart_costs_two_requests(quickstart: Recorded) -> None:
    """A conversation that ends before its first flush is delivered in two requests: requests are scarce."""
    conversation_id = quickstart.conversation.id
    assert quickstart.requests == [
        "POST /api/v1/conversations",
        f"POST /api/v1/conversations/{conversation_id}/messages",
    ]
