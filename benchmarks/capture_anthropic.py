"""Shapes of talking to a model with the anthropic client, of which only `request` is left.

It answers with a fresh copy of a ready object. What the client does around it is left out, as in `capture_openai`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
from anthropic import Anthropic, Stream
from anthropic._base_client import SyncAPIClient
from anthropic._models import FinalRequestOptions, construct_type
from anthropic.types import Message, RawMessageStreamEvent

from benchmarks.capture_openai import CHUNKS
from benchmarks.interleaved import Scope, Shape, long_history

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-benchmark"}
COUNTS = {"input_tokens": 20, "output_tokens": 7, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
SYSTEM = "You are the support assistant of a shop for tents."
TOOLS = [{"name": f"tool_{n}", "description": "A tool.", "input_schema": {"type": "object"}} for n in range(20)]
STEP = "Step"
"""Prefix of questions that are answered with a tool call."""


def _message(stop: str, *content: dict[str, Any]) -> Message:
    return Message.model_validate(
        {**HEAD, "content": list(content), "stop_reason": stop, "stop_sequence": None, "usage": COUNTS}
    )


ANSWER = _message("end_turn", {"type": "text", "text": "It arrives on Thursday."})
TOOL_CALL = _message("tool_use", {"type": "tool_use", "id": "toolu_1", "name": "tool_1", "input": {"id": 1}})


def _event(kind: str, **fields: Any) -> Any:
    return construct_type(type_=RawMessageStreamEvent, value={"type": kind, **fields})


def _events() -> Iterator[Any]:
    begun = {**HEAD, "content": [], "stop_reason": None, "stop_sequence": None, "usage": COUNTS}
    yield _event("message_start", message=begun)
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield from [_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "word "})] * (CHUNKS - 5)
    yield _event("content_block_stop", index=0)
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _event("message_delta", delta=ending, usage={"output_tokens": 7})
    yield _event("message_stop")


PIECES = list(_events())


def _request(client: Any, _cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
    if not stream:
        asked = options.json_data["messages"][-1]["content"]
        return (TOOL_CALL if asked[:4] == STEP else ANSWER).model_copy()
    opened = stream_cls(cast_to=RawMessageStreamEvent, response=httpx2.Response(200), client=client)
    opened.__dict__["_iterator"] = (piece.model_copy() for piece in PIECES)
    return opened


SyncAPIClient.request = _request  # type: ignore[method-assign, assignment] # the frame without HTTP

client = Anthropic(api_key="benchmark")


def _ask(messages: list[Any], *, stream: bool = False, **more: Any) -> Any:
    body = {"model": "claude-benchmark", "max_tokens": 200, "messages": messages, "system": SYSTEM, **more}
    options = FinalRequestOptions.construct(method="post", url="/v1/messages", json_data=body)
    return client.request(Message, options, stream=stream, stream_cls=Stream[RawMessageStreamEvent])


def short(scope: Scope) -> None:
    """Ask the same question 20 times, each without a history."""
    with scope():
        for _ in range(20):
            _ask([{"role": "user", "content": "Where is my order?"}])


def small(scope: Scope) -> None:
    """Run a chat of 20 short turns, in which the SDK's blocks are handed back."""
    history: list[Any] = []
    with scope():
        for turn in range(20):
            history.append({"role": "user", "content": f"Question {turn}?"})
            history.append({"role": "assistant", "content": _ask(history).content})


def large(scope: Scope) -> None:
    """Run ten turns after a history of 60 messages of 500 characters, with 20 declared tools."""
    history = long_history()
    with scope():
        for turn in range(10):
            history.append({"role": "user", "content": f"Question {turn}?"})
            _ask(history, tools=TOOLS)
            history.append({"role": "assistant", "content": "It arrives on Thursday."})


def streamed(scope: Scope) -> None:
    """Stream five answers in 300 events each."""
    history: list[Any] = []
    with scope():
        for turn in range(5):
            history.append({"role": "user", "content": f"Question {turn}?"})
            deltas = (event.delta for event in _ask(history, stream=True) if event.type == "content_block_delta")
            history.append({"role": "assistant", "content": "".join(delta.text for delta in deltas)})


def agent(scope: Scope) -> None:
    """Run five steps: in each the model calls a tool, gets the result and answers."""
    history: list[Any] = []
    with scope():
        for step in range(5):
            history.append({"role": "user", "content": f"{STEP} {step}."})
            called = _ask(history, tools=TOOLS).content
            result = {"type": "tool_result", "tool_use_id": called[0].id, "content": '{"status": "done"}'}
            history += [{"role": "assistant", "content": called}, {"role": "user", "content": [result]}]
            history.append({"role": "assistant", "content": _ask(history, tools=TOOLS).content})


SHAPES = (
    Shape("anthropic: short call", short, 20),
    Shape("anthropic: small, growing chat", small, 20),
    Shape("anthropic: 60 messages, 20 tools", large, 10),
    Shape("anthropic: stream of 300 events", streamed, 5),
    Shape("anthropic: agent step with a tool", agent, 10),
)
