"""Responses as providers send them: the shapes that real traffic was found to have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.integrations.scripted import Received, Reply, always, document, stream

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 42,
}


def response(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """A whole response."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "model": "gpt-5-mini-2025-08-07",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "usage": USAGE if status == "completed" else None,
        **more,
    }


def message(text: str, *more: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An output message."""
    part = {"type": "output_text", "text": text, "annotations": [], **fields}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part, *more],
    }


def function_call(number: int, name: str, arguments: str) -> dict[str, Any]:
    """A call of a function; results refer to its `call_id`."""
    return {
        "id": f"fc_{number}",
        "type": "function_call",
        "call_id": f"call_{number}",
        "name": name,
        "arguments": arguments,
        "status": "completed",
    }


REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "They greet me."}],
    "encrypted_content": None,
}
SEARCH = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "weather in Paris"},
}
HELLO = response(REASONING, message("Hello there!"))
TOOLS = response(
    message("Let me look."),
    function_call(1, "get_weather", '{"city": "Paris"}'),
    function_call(2, "get_time", '{"zone": "CET"}'),
)
QUEUED = response(status="queued", background=True)
ERROR = {
    "error": {"message": "no such model", "type": "invalid_request_error", "param": None, "code": "model_not_found"}
}


def text_events(*words: str, whole: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The events of a streamed message, up to the last one, which holds all of it."""
    started = {**HELLO, "status": "in_progress", "output": [], "usage": None}
    item = {**message(""), "status": "in_progress", "content": []}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    text = "".join(words)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {
            "type": "response.content_part.added",
            **place,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
        *[{"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in words],
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {
            "type": "response.content_part.done",
            **place,
            "part": {"type": "output_text", "text": text, "annotations": []},
        },
        {"type": "response.output_item.done", "output_index": 0, "item": message(text)},
        {"type": "response.completed", "response": whole or response(message(text))},
    ]
    return numbered(events)


def call_events() -> list[dict[str, Any]]:
    """The events of a streamed function call."""
    started = {**HELLO, "status": "in_progress", "output": [], "usage": None}
    call = function_call(1, "get_weather", '{"city": "Paris"}')
    place = {"item_id": "fc_1", "output_index": 0}
    return numbered(
        [
            {"type": "response.created", "response": started},
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {**call, "arguments": "", "status": "in_progress"},
            },
            {"type": "response.function_call_arguments.delta", **place, "delta": '{"city":'},
            {"type": "response.function_call_arguments.delta", **place, "delta": ' "Paris"}'},
            {
                "type": "response.function_call_arguments.done",
                **place,
                "name": "get_weather",
                "arguments": '{"city": "Paris"}',
            },
            {"type": "response.output_item.done", "output_index": 0, "item": call},
            {"type": "response.completed", "response": response(call)},
        ]
    )


def numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events with their sequence numbers."""
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


TEXT_EVENTS = text_events("Hel", "lo", " there", "!")


def _background(request: Received) -> Reply:
    """Queued when it is created, in progress with nothing, whole when it is retrieved."""
    if request.line.startswith("GET"):
        return document(HELLO)
    return document(response(status="cancelled") if "/cancel" in request.line else QUEUED)


SCRIPTS: dict[str, Callable[[Received], Reply]] = {
    "r-text": always(document(HELLO)),
    "r-json": always(document(response(message('{"name": "Ada", "age": 36}')))),
    "r-tools": always(document(TOOLS)),
    "r-search": always(document(response(SEARCH, message("Sunny.")))),
    "r-refusal": always(
        document(
            response({**message(""), "content": [{"type": "refusal", "refusal": "I can't help with that."}]}),
        )
    ),
    "r-incomplete": always(
        document(
            response(REASONING, status="incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=USAGE)
        )
    ),
    "r-failed": always(
        document(response(status="failed", error={"code": "server_error", "message": "The model failed."}))
    ),
    "r-stream": always(stream(*TEXT_EVENTS, done=False, named=True)),
    "r-stream-json": always(stream(*text_events('{"name": "Ada", ', '"age": 36}'), done=False, named=True)),
    "r-stream-tools": always(stream(*call_events(), done=False, named=True)),
    "r-stream-cut": always(stream(*TEXT_EVENTS[:6], cut=True, named=True)),
    "r-stream-held": always(stream(*TEXT_EVENTS, done=False, hold=6, named=True)),
    "r-bad-request": always(document(ERROR, 400)),
    "r-background": _background,
}
