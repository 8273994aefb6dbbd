"""A call that passes several captured layers is one turn: LangChain on the anthropic client."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from tests.integrations.stored import recorder_for
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.messages import BaseMessage

    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer

anthropic = pytest.importorskip("langchain_anthropic")


@tool
def look_up_order(order_id: str) -> str:
    """Where an order is and when it arrives."""
    return f'{{"order_id": {order_id}, "status": "late"}}'


@pytest.fixture
def prompt() -> str:
    """A prompt of the test's own, by which its conversations are found."""
    return f"prompt_{uuid4().hex}"


@pytest.fixture
def recorder(server: LocalServer, prompt: str) -> Iterator[Recorder]:
    """A recorder whose implicit conversations have the test's prompt."""
    with recorder_for(server, prompt_id=prompt) as made:
        yield made


def _invoked(model: Any, history: list[BaseMessage]) -> Any:
    return model.invoke(history)


def _streamed(model: Any, history: list[BaseMessage]) -> Any:
    first, *others = model.stream(history)
    for chunk in others:
        first += chunk
    return first


@pytest.mark.parametrize("ask", [_invoked, _streamed])
@pytest.mark.parametrize("block", [True, False], ids=["in a block", "without one"])
def test_chat_anthropic(
    server: LocalServer,
    recorder: Recorder,
    prompt: str,
    ask: Callable[[Any, list[BaseMessage]], Any],
    block: bool,
) -> None:
    """LangChain records it, and the client below does not, streamed and not, in a block and outside of one."""
    model: Any = anthropic.ChatAnthropic(
        model="claude-test", base_url=server.anthropic_url, api_key="any", max_retries=0, timeout=LONG
    ).bind_tools([look_up_order])
    asked = len(server.requests)
    with recorder.conversation(prompt) if block else contextlib.nullcontext():
        history: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("Where is order 1234?")]
        called = ask(model, history)
        (call,) = called.tool_calls
        history += [called, ToolMessage(look_up_order.invoke(call["args"]), tool_call_id=call["id"])]
        assert "late" in ask(model, history).text
    assert recorder.flush(timeout=LONG)
    calls = [one for one in server.requests[asked:] if "/v1/messages" in one.path]
    assert len(calls) == 2
    found, count = server.store.conversations(prompt_id=prompt)
    assert count == 1
    messages = server.store.messages(found[0])
    assert [(one["role"], one["content"]) for one in messages] == [
        ("system", "Be brief."),
        ("user", "Where is order 1234?"),
        ("tool", ""),
        ("tool", '{"order_id": 1234, "status": "late"}'),
        ("assistant", "Order 1234 is late."),
    ]
    answers = [one for one in messages if one.get("usage")]
    assert len(answers) == 2
    assert all(one["model"] == "claude-test-stand-in" for one in answers)
