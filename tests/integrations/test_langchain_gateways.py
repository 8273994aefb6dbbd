"""Gateways that imitate OpenAI, through LangChain: no empty calls, and the model that was asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import converra
from tests.integrations import scripted
from tests.integrations.chat_scripts import chunk, completion
from tests.integrations.langchain_app import App, running

if TYPE_CHECKING:
    from collections.abc import Iterator

EMPTY_CALLS: list[Any] = [
    {"index": 0, "id": "", "type": "function", "function": {"name": "", "arguments": ""}},
    {"index": 0, "id": "call_1", "type": "function", "function": {"name": "", "arguments": "{}"}},
]


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain is captured."""
    with running() as running_app:
        yield running_app


def _answers(call: Any) -> dict[str, scripted.Reply]:
    """A text with an empty call beside it, in which no model is named."""
    whole = completion({"content": "Hello!", "tool_calls": [call]}, model=None)
    pieces = [chunk({"content": "Hello"}), chunk({"content": "!", "tool_calls": [call]}), chunk({}, finish="stop")]
    return {
        "invoke": scripted.document(whole),
        "stream": scripted.stream(*[{**piece, "model": None} for piece in pieces]),
    }


@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("call", EMPTY_CALLS, ids=json.dumps)
def test_an_empty_call_beside_a_text(call: Any, way: str, app: App) -> None:
    """It is no call, and the model is the one that was asked for, marked as such."""
    reply = _answers(call)[way]
    with scripted.serve({"gateway": lambda _request: reply}) as served, converra.conversation("prompt"):
        model = app.model(model="tiny", base_url=served.base_url("gateway"))
        _ = [model.invoke("Hi")] if way == "invoke" else list(model.stream("Hi"))
    _, (role, content, facts) = app.messages()
    assert (role, content, facts.get("toolCalls")) == ("assistant", "Hello!", None)
    assert (facts["model"], facts["metadata"]["modelRequested"]) == ("tiny", True)
