"""Shapes of talking to a model with the openai client, of which only the frame is left.

Its `request` answers with a fresh copy of a ready object, and the walk through the arguments (over a hundred
microseconds for each resent message) is left out: a call then costs some tens of microseconds, and what capture adds is
most of what is measured.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2
from openai import AsyncOpenAI, NotGiven, Omit, OpenAI, Stream
from openai._base_client import AsyncAPIClient, SyncAPIClient
from openai.resources.chat.completions import completions
from openai.resources.responses import responses as responses_module
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from benchmarks.interleaved import Scope, Shape, long_history

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "gpt-4o-mini"
SYSTEM = {"role": "system", "content": "You are the support assistant of a shop for tents."}
TOOLS: Any = [
    {"type": "function", "function": {"name": f"tool_{n}", "description": "A tool.", "parameters": {"type": "object"}}}
    for n in range(20)
]
STEP = "Step"
"""Prefix of questions that are answered with a tool call."""

CHUNKS = 300
TASKS = 64

ANSWER = ChatCompletion.model_validate(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "It arrives on Thursday."},
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27},
    }
)
TOOL_CALL = ChatCompletion.model_validate(
    ANSWER.model_dump()
    | {
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "call_1", "type": "function", "function": {"name": "tool_1", "arguments": '{"id": 1}'}}
                    ],
                },
            }
        ]
    }
)
RESPONSE = Response.model_validate(
    {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": MODEL,
        "status": "completed",
        "output": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "It arrives on Thursday.", "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 20,
            "output_tokens": 7,
            "total_tokens": 27,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
)


def _chunk(delta: dict[str, Any], finish: str | None = None) -> ChatCompletionChunk:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return ChatCompletionChunk.model_validate(head | {"choices": [choice]})


PIECES = [_chunk({"role": "assistant"}), *[_chunk({"content": "word "})] * (CHUNKS - 2), _chunk({}, "stop")]


class Raw:
    """Result of `with_raw_response`."""

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, answer: Any) -> None:
        self.parse = lambda: answer


def _ready(options: Any) -> Any:
    answer = _answer(options)
    raw = isinstance(options.headers, dict) and "X-Stainless-Raw-Response" in options.headers
    return Raw(answer) if raw else answer


def _answer(options: Any) -> Any:
    if options.url == "/responses":
        return RESPONSE.model_copy()
    asked = options.json_data["messages"][-1]["content"]
    return (TOOL_CALL if asked.startswith(STEP) else ANSWER).model_copy()


def _request(client: Any, _cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
    if not stream:
        return _ready(options)
    opened: Stream[ChatCompletionChunk] = stream_cls(
        cast_to=ChatCompletionChunk, response=httpx2.Response(200), client=client
    )
    opened._iterator = _copies()  # noqa: SLF001 - what parsing the body would have given
    return opened


def _copies() -> Iterator[ChatCompletionChunk]:
    for piece in PIECES:
        yield piece.model_copy()


async def _async_request(_client: Any, _cast_to: Any, options: Any, **_: Any) -> Any:
    await asyncio.sleep(0)
    return _ready(options)


def _given(data: dict[str, Any], _expected: Any) -> dict[str, Any]:
    return {name: value for name, value in data.items() if not isinstance(value, Omit | NotGiven)}


async def _async_given(data: dict[str, Any], expected: Any) -> dict[str, Any]:
    return _given(data, expected)


def _leave_the_frame(*parts: Any) -> None:
    sync_client, async_client, *resources = parts
    sync_client.request, async_client.request = _request, _async_request
    for module in resources:
        module.maybe_transform, module.async_maybe_transform = _given, _async_given


_leave_the_frame(SyncAPIClient, AsyncAPIClient, completions, responses_module)

client = OpenAI(api_key="benchmark")
async_client = AsyncOpenAI(api_key="benchmark")
loop = asyncio.new_event_loop()


def _asked(history: list[Any], **options: Any) -> Any:
    message = client.chat.completions.create(model=MODEL, messages=history, **options).choices[0].message
    history.append(message.to_dict())
    return message


def small(scope: Scope) -> None:
    """Run a chat of 20 short turns; the history grows from two messages to 40."""
    history: list[Any] = [SYSTEM]
    with scope():
        for turn in range(20):
            history.append({"role": "user", "content": f"Question {turn}?"})
            _asked(history)


def short(scope: Scope) -> None:
    """Ask the same question 20 times, each without a history."""
    with scope():
        for _ in range(20):
            messages: list[Any] = [SYSTEM, {"role": "user", "content": "Where is my order?"}]
            client.chat.completions.create(model=MODEL, messages=messages)


def single(scope: Scope) -> None:
    """Ask the same question 20 times, each in a conversation of its own."""
    for _ in range(20):
        with scope():
            messages: list[Any] = [SYSTEM, {"role": "user", "content": "Where is my order?"}]
            client.chat.completions.create(model=MODEL, messages=messages)


def large(scope: Scope) -> None:
    """Run ten turns after a history of 60 messages of 500 characters, with 20 declared tools."""
    history = long_history()
    with scope():
        for turn in range(10):
            history.append({"role": "user", "content": f"Question {turn}?"})
            client.chat.completions.create(model=MODEL, messages=history, tools=TOOLS)
            history.append({"role": "assistant", "content": "It arrives on Thursday."})


def streamed(scope: Scope) -> None:
    """Stream five answers in 300 chunks each."""
    history: list[Any] = [SYSTEM]
    with scope():
        for turn in range(5):
            history.append({"role": "user", "content": f"Question {turn}?"})
            text = ""
            for chunk in client.chat.completions.create(model=MODEL, messages=history, stream=True):
                text += chunk.choices[0].delta.content or ""
            history.append({"role": "assistant", "content": text})


async def _one(number: int) -> None:
    messages: list[Any] = [SYSTEM, {"role": "user", "content": f"Question {number}?"}]
    await async_client.chat.completions.create(model=MODEL, messages=messages)


def concurrent(scope: Scope) -> None:
    """Run 64 tasks at once, in one conversation."""

    async def all_at_once() -> None:
        with scope():
            await asyncio.gather(*map(_one, range(TASKS)))

    loop.run_until_complete(all_at_once())


def separate(scope: Scope) -> None:
    """Run 64 tasks at once, each with a conversation of one call."""

    async def one(number: int) -> None:
        with scope():
            await _one(number)

    async def all_at_once() -> None:
        await asyncio.gather(*map(one, range(TASKS)))

    loop.run_until_complete(all_at_once())


def responses(scope: Scope) -> None:
    """Run a chat of 20 turns through the Responses API, with its items resent each time."""
    items: list[Any] = []
    with scope():
        for turn in range(20):
            items.append({"role": "user", "content": f"Question {turn}?"})
            response = client.responses.create(model=MODEL, instructions="Be kind.", input=items)
            items += [item.to_dict() for item in response.output]


def agent(scope: Scope) -> None:
    """Run five steps: in each the model calls a tool, gets the result and answers."""
    history: list[Any] = [SYSTEM]
    with scope():
        for step in range(5):
            history.append({"role": "user", "content": f"{STEP} {step}."})
            call = _asked(history, tools=TOOLS).tool_calls[0]
            history.append({"role": "tool", "tool_call_id": call.id, "content": '{"status": "done"}'})
            _asked(history, tools=TOOLS)


SHAPES = (
    Shape("short call", short, 20),
    Shape("short call, a conversation each", single, 20),
    Shape("small call, growing chat", small, 20),
    Shape("60 messages, 20 tools", large, 10),
    Shape("stream of 300 chunks", streamed, 5),
    Shape("64 async tasks", concurrent, TASKS),
    Shape("64 tasks, 64 conversations", separate, TASKS),
    Shape("Responses", responses, 20),
    Shape("agent step with a tool", agent, 10),
)
