"""Messages as Anthropic sends them: whole, in events, and broken off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.integrations.scripted import Received, Reply, document, stream

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 200,
    "cache_read_input_tokens": 100,
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 4},
    "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
    "service_tier": "priority",
}
PLAIN_USAGE = {"input_tokens": 10, "output_tokens": 9}


def text(words: str, **more: Any) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": words, **more}


def call(call_id: str = "toolu_1", name: str = "get_weather", **given: Any) -> dict[str, Any]:
    """A block that calls a tool of the app."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def result(call_id: str, content: Any, **more: Any) -> dict[str, Any]:
    """A block with the result of a tool of the app."""
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


THINKING = {"type": "thinking", "thinking": "The user greets.", "signature": "c2lnbmF0dXJl"}
REDACTED = {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather Oslo"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "title": "Oslo",
            "url": "https://example.com/oslo",
            "encrypted_content": "QUJD" * 100,
            "page_age": "1 day",
        }
    ],
}
CITATION = {
    "type": "web_search_result_location",
    "cited_text": "7 degrees",
    "url": "https://example.com/oslo",
    "title": "Oslo",
    "encrypted_index": "QUJD" * 100,
}


def message(*content: dict[str, Any], stop: str | None = "end_turn", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """A whole answer."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
        **more,
    }


def events(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream that brings an answer, as the provider divides it."""
    counts = {**(whole["usage"] or {}), "output_tokens": 1}
    head = {**whole, "content": [], "stop_reason": None, "stop_sequence": None, "usage": counts}
    head.pop("stop_details", None)
    end = {name: whole[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in whole}
    return [
        {"type": "message_start", "message": head},
        {"type": "ping"},
        *[event for index, block in enumerate(whole["content"]) for event in _of_block(index, block)],
        {
            "type": "message_delta",
            "delta": end,
            "usage": {"output_tokens": (whole["usage"] or {}).get("output_tokens")},
        },
        {"type": "message_stop"},
    ]


def _of_block(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    began, deltas = _divided(block)
    return [
        {"type": "content_block_start", "index": index, "content_block": began},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _divided(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "text":
        cited = [{"type": "citations_delta", "citation": each} for each in block.get("citations") or ()]
        return {**block, "text": "", "citations": None}, [*_deltas("text_delta", "text", block["text"]), *cited]
    if block["type"] == "thinking":
        thought = _deltas("thinking_delta", "thinking", block["thinking"])
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {"type": "thinking", "thinking": "", "signature": ""}, [*thought, signed]
    if block["type"] in ("tool_use", "server_tool_use"):
        given = json.dumps(block["input"]) if block["input"] else ""
        return {**block, "input": {}}, [
            {"type": "input_json_delta", "partial_json": ""},
            *_deltas("input_json_delta", "partial_json", given),
        ]
    return block, []


def _deltas(kind: str, field: str, words: str) -> list[dict[str, Any]]:
    return [{"type": kind, field: words[at : at + 5]} for at in range(0, len(words), 5)]


PERSON = '{"name": "Ada", "age": 36}'
TEXT = message(text("Good day."), usage=PLAIN_USAGE)
TOOLS = message(text("Let me look."), call(city="Oslo"), call("toolu_2", "get_time"), stop="tool_use")
REASONED = message(THINKING, REDACTED, text("Good day."))
SEARCHED = message(
    text("I will search."), SEARCH, FOUND, text("It is "), text("7 degrees.", citations=[CITATION]), text(" Cold.")
)
REFUSED = message(
    stop="refusal",
    stop_details={"type": "refusal", "category": "cyber", "explanation": "This request is not allowed."},
)
PAUSED = message(text("I will search."), SEARCH, stop="pause_turn")
RESUMED = message(FOUND, text("It is 7 degrees."))
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def _stream(whole: dict[str, Any], upto: int | None = None, *more: dict[str, Any], cut: bool = False) -> Reply:
    return stream(*events(whole)[:upto], *more, done=False, named=True, cut=cut)


SCRIPTS: dict[str, Callable[[Received], Reply]] = {
    "text": lambda _: document(TEXT),
    "tools": lambda _: document(TOOLS),
    "reasoned": lambda _: document(REASONED),
    "searched": lambda _: document(SEARCHED),
    "refused": lambda _: document(REFUSED),
    "json": lambda _: document(message(text(PERSON))),
    "length": lambda _: document(message(text("Good"), stop="max_tokens")),
    "stream": lambda _: _stream(TEXT),
    "stream-tools": lambda _: _stream(TOOLS),
    "stream-reasoned": lambda _: _stream(REASONED),
    "stream-searched": lambda _: _stream(SEARCHED),
    "stream-json": lambda _: _stream(message(text(PERSON))),
    "stream-cut": lambda _: _stream(TEXT, 4, cut=True),
    "stream-error": lambda _: _stream(TEXT, 4, ERROR),
    "bad-request": lambda _: document(
        {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}, 400
    ),
    "overloaded": lambda _: document(ERROR, 529),
    "plain-text": lambda _: Reply((b"good day",), content_type="text/plain"),
    "step": lambda request: document(TEXT if "tool_result" in request.body.decode() else TOOLS),
    "count": lambda _: document({"input_tokens": 3}),
    "models": lambda _: document({"data": [], "has_more": False, "first_id": None, "last_id": None}),
}
