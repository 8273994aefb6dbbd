"""Shapes of talking to an agent with the Claude Agent SDK, of which only the frame is left.

The methods of the SDK through which everything passes exchange ready messages; there is no CLI. The history stays in
the CLI, so that no request resends it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from claude_agent_sdk._internal.query import Query

from benchmarks.capture_openai import CHUNKS
from benchmarks.interleaved import Scope, Shape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

MODEL = "claude-benchmark"
USAGE = {"input_tokens": 20, "output_tokens": 7}
FACTS = {"session_id": "session-1", "uuid": "u", "parent_tool_use_id": None}
INIT = {"type": "system", "subtype": "init", "model": MODEL, "tools": [f"tool_{n}" for n in range(20)], **FACTS}
RESULT = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "usage": USAGE, **FACTS}


def _said(number: int, *content: Any) -> dict[str, Any]:
    head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": None}
    return {"type": "assistant", "message": {**head, "content": content, "usage": USAGE}, **FACTS}


def _event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "stream_event", "event": {"type": kind, **more}, **FACTS}


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


WORDS = _text("It arrives on Thursday.")
CALL = {"type": "tool_use", "id": "toolu_1", "name": "tool_1", "input": {"id": 1}}
RETURNED = {"type": "tool_result", "tool_use_id": "toolu_1", "content": '{"status": "done"}'}
WORD = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "word "})


def _talked(number: int) -> list[Any]:
    return [_said(number, WORDS), RESULT]


def _worked(number: int) -> list[Any]:
    result = {"type": "user", "message": {"role": "user", "content": [RETURNED]}, **FACTS}
    return [_said(2 * number, CALL), result, _said(2 * number + 1, WORDS), RESULT]


def _streamed(number: int) -> list[Any]:
    head = {"id": f"msg_{number}", "role": "assistant", "model": MODEL, "content": [], "usage": USAGE}
    return [
        _event("message_start", message=head),
        _event("content_block_start", index=0, content_block=_text("")),
        *[WORD] * (CHUNKS - 5),
        _event("content_block_stop", index=0),
        _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}),
        _event("message_stop"),
        RESULT,
    ]


class Transport:
    """A pipe to no CLI."""

    async def write(self, data: str) -> None:
        """Take a line."""


async def _nothing(_query: Any) -> None:
    """Stand for what the SDK does in a method that is patched."""


async def _receive(query: Any) -> AsyncIterator[Any]:
    for message in query.messages:
        yield message


stubbed: Any = Query
stubbed.start = stubbed.close = _nothing
stubbed.receive_messages = _receive
loop = asyncio.new_event_loop()


async def _converse(runs: Iterable[Iterable[Any]], words: str) -> None:
    query: Any = object.__new__(Query)
    query.transport = Transport()
    await query.start()
    for number, messages in enumerate(runs):
        prompt = {"type": "user", "message": {"role": "user", "content": f"{words} {number}?"}}
        await query.transport.write(json.dumps(prompt) + "\n")
        query.messages = messages
        async for _ in query.receive_messages():
            pass
    await query.close()


def _talk(runs: list[list[Any]], words: str, scope: Scope) -> None:
    with scope():
        loop.run_until_complete(_converse(runs, words))


TALKED = [[INIT, *_talked(number)] for number in range(20)]
WORKED = [[INIT, *_worked(number)] for number in range(5)]
STREAMED = [[INIT, *_streamed(number)] for number in range(5)]

SHAPES = (
    Shape("claude-agent-sdk: prompt", lambda scope: _talk(TALKED, "Question", scope), 20),
    Shape("claude-agent-sdk: step with a tool", lambda scope: _talk(WORKED, "Step", scope), 10),
    Shape("claude-agent-sdk: stream of 300 events", lambda scope: _talk(STREAMED, "Question", scope), 5),
)
