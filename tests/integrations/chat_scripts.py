"""Chat Completions as providers send them: the shapes that real traffic was found to have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.integrations.scripted import Received, Reply, always, document, stream

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = {
    "prompt_tokens": 21,
    "completion_tokens": 9,
    "total_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": None},
}


def usage(prompt_tokens: int, completion_tokens: int, **more: Any) -> dict[str, Any]:
    """Token usage, with fields beside the three that every provider reports."""
    total = prompt_tokens + completion_tokens
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": total,
        **more,
    }


def completion(
    *messages: dict[str, Any], finish: str | None = "stop", usage: Any = USAGE, **more: Any
) -> dict[str, Any]:
    """A whole completion with one choice per message."""
    choices = [
        {"index": index, "finish_reason": finish, "logprobs": None, "message": {"role": "assistant", **message}}
        for index, message in enumerate(messages)
    ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": choices,
        "usage": usage,
        **more,
    }


def chunk(
    delta: dict[str, Any] | None = None, index: int = 0, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    """One chunk; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": choices,
        **more,
    }


def tool_call(number: int, name: str, arguments: str) -> dict[str, Any]:
    """A tool call of a whole answer."""
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def call_delta(index: int, arguments: str | None, **first: Any) -> dict[str, Any]:
    """A fragment of a streamed tool call."""
    name = first.pop("name", None)
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return {"index": index, **first, "function": function}


WORDS = ("Hel", "lo", " there", "!")
TEXT_CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    *[chunk({"content": word}) for word in WORDS],
    chunk({}, finish="stop"),
]
USAGE_CHUNK = chunk(usage=USAGE)
TOOL_CHUNKS = [
    chunk({"role": "assistant", "content": None, "tool_calls": [call_delta(0, "", id="call_1", name="get_weather")]}),
    chunk({"tool_calls": [call_delta(1, None, id="call_2", name="get_time")]}),
    chunk({"tool_calls": [call_delta(0, '{"city":')]}),
    chunk({"tool_calls": [call_delta(1, '{"zone"')]}),
    chunk({"tool_calls": [call_delta(0, ' "Paris"}')]}),
    chunk({"tool_calls": [call_delta(1, ': "CET"}')]}),
    chunk({}, finish="tool_calls"),
]
ERROR = {
    "error": {"message": "no such model", "type": "invalid_request_error", "param": None, "code": "model_not_found"}
}

LEGACY: dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1_700_000_000,
    "model": "davinci-002",
    "choices": [{"index": 0, "text": "Hello.", "finish_reason": "stop", "logprobs": None}],
}


SCRIPTS: dict[str, Callable[[Received], Reply]] = {
    "text": always(document(completion({"content": "Hello there!", "refusal": None}))),
    "json": always(document(completion({"content": '{"name": "Ada", "age": 36}', "refusal": None}))),
    "no-json": always(document(completion({"content": '{"name": "Ada", "age": "old"}', "refusal": None}))),
    "length": always(document(completion({"content": '{"name": "A'}, finish="length"))),
    "tools": always(
        document(
            completion(
                {
                    "content": None,
                    "tool_calls": [
                        tool_call(1, "get_weather", '{"city": "Paris"}'),
                        tool_call(2, "get_time", '{"zone": "CET"}'),
                    ],
                },
                finish="tool_calls",
            )
        )
    ),
    "two": always(document(completion({"content": "Heads."}, {"content": "Tails."}))),
    "refusal": always(document(completion({"content": None, "refusal": "I can't help with that."}))),
    "stream": always(stream(*TEXT_CHUNKS)),
    "stream-usage": always(stream(*TEXT_CHUNKS, USAGE_CHUNK)),
    "stream-tools": always(stream(*TOOL_CHUNKS)),
    "stream-json": always(
        stream(
            chunk({"role": "assistant", "content": '{"name": "Ada", '}),
            chunk({"content": '"age": 36}'}),
            chunk({}, finish="stop"),
        )
    ),
    "stream-cut": always(stream(*TEXT_CHUNKS[:3], cut=True)),
    "stream-error": always(stream(*TEXT_CHUNKS[:3], {"error": {"message": "overloaded", "type": "server_error"}})),
    "stream-held": always(stream(*TEXT_CHUNKS, hold=3)),
    "bad-request": always(document(ERROR, 400)),
    "error-in-200": always(document(ERROR)),
    "models": always(document({"object": "list", "data": []})),
    "embeddings": always(
        document({"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]})
    ),
    "legacy": always(document(LEGACY)),
    "legacy-stream": always(stream({**LEGACY, "choices": [{**LEGACY["choices"][0], "finish_reason": None}]}, LEGACY)),
    "plain-text": always(Reply((b"<html>gateway</html>",), content_type="text/plain")),
}
