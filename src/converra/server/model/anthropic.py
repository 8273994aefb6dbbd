"""Anthropic's Messages API: a request read, and a reply written whole or in events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from converra.server.model.script import Asked, Tool, Turn, tokens
from converra.server.model.wire import ModelError, fragments, model_name, pieces, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.server.model.script import Reply, Use
    from converra.server.model.wire import Stamps

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_ROLES = ("user", "assistant", "system")


def error_body(error: ModelError) -> dict[str, Any]:
    """An error answer in Anthropic's shape."""
    return {"type": "error", "error": {"type": _ERRORS.get(error.status, "api_error"), "message": error.message}}


def read(body: Mapping[str, Any]) -> Asked:
    """The request in neutral terms; ModelError for what Anthropic would refuse."""
    messages = body.get("messages")
    for name, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if not isinstance(body.get(name), kind):
            raise ModelError(400, f"{name}: Field required")
    if not messages:
        raise ModelError(400, "messages: at least one message is required")
    system = [Turn("system", text_of(body["system"]))] if body.get("system") else []
    asked = [turn for at, message in enumerate(messages) for turn in _turns(at, message)]
    if asked[-1].role == "assistant":  # a prefill: the answer continues it, so it is no answer of its own
        asked.pop()
    return Asked(
        turns=[*system, *asked],
        tools=[_tool(tool) for tool in body.get("tools") or () if "input_schema" in tool],
        forced=_forced(body.get("tool_choice") or {}),
        json_schema=(((body.get("output_config") or {}).get("format")) or {}).get("schema"),
        limit=body["max_tokens"],
    )


def _turns(at: int, message: Any) -> Iterator[Turn]:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise ModelError(400, f"messages.{at}.role: Input should be 'user' or 'assistant'")
    content = message.get("content")
    if not content or not isinstance(content, str | list):
        raise ModelError(400, f"messages.{at}: all messages must have non-empty content")
    results = [block for block in content if isinstance(block, dict) and block.get("type") == "tool_result"]
    yield from (Turn("tool", text_of(result.get("content"))) for result in results)
    words = text_of(content)
    if words or not results:
        yield Turn(message["role"], words)


def _tool(given: Mapping[str, Any]) -> Tool:
    return Tool(given["name"], given.get("description") or "", given["input_schema"])


def _forced(choice: Mapping[str, Any]) -> str | None:
    kind = choice.get("type")
    return str(choice["name"]) if kind == "tool" else {"any": "required", "none": "none"}.get(str(kind))


def words(event: Mapping[str, Any]) -> str:
    """The text that an event adds to the answer."""
    return str((event.get("delta") or {}).get("text") or "") if event["type"] == "content_block_delta" else ""


class Message:
    """One reply in the format of the Messages API."""

    def __init__(self, body: Mapping[str, Any], answer: Reply, stamps: Stamps) -> None:
        self._answer = answer
        self._stamps = stamps
        self._content = list(self._blocks())
        self._head = {
            "id": stamps.id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": model_name(body, answer),
        }

    @property
    def call_ids(self) -> list[str]:
        """The ids of its calls, as the viewer finds them in a recorded turn."""
        return [block["id"] for block in self._content if block["type"] == "tool_use"]

    def whole(self) -> dict[str, Any]:
        """The answer to a request without `stream`."""
        return {**self._head, "content": self._content, **self._ending(), "usage": self._usage()}

    def events(self) -> Iterator[dict[str, Any]]:
        """The events of a stream. The counts in the last but one are those of the whole answer."""
        head: dict[str, Any] = {**self._head, "content": [], "stop_reason": None, "stop_sequence": None}
        yield {"type": "message_start", "message": {**head, "usage": self._usage() | {"output_tokens": 1}}}
        yield {"type": "ping"}
        for index, block in enumerate(self._content):
            began, deltas = _divided(block)
            yield {"type": "content_block_start", "index": index, "content_block": began}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        yield {"type": "message_delta", "delta": self._ending(), "usage": self._usage()}
        yield {"type": "message_stop"}

    def _blocks(self) -> Iterator[dict[str, Any]]:
        answer = self._answer
        if answer.reasoning is not None:
            yield {"type": "thinking", "thinking": answer.reasoning, "signature": "c3RhbmQtaW4="}
        yield from (each.json() for each in answer.directives.all("item"))
        if answer.text:
            yield {"type": "text", "text": answer.text, "citations": _citations(answer)} | self._extra()
        yield from (self._call(use) for use in answer.uses)

    def _extra(self) -> dict[str, Any]:
        return {name: value for each in self._answer.directives.all("extra") for name, value in each.json().items()}

    def _call(self, use: Use) -> dict[str, Any]:
        try:
            given = json.loads(use.arguments or "{}")
        except ValueError:
            given = None
        given = given if isinstance(given, dict) else {"input": use.arguments}
        return {"type": "tool_use", "id": self._stamps.id("toolu_"), "name": use.name, "input": given}

    def _ending(self) -> dict[str, Any]:
        answer = self._answer
        stop = "tool_use" if answer.uses and answer.finish == "stop" else _STOPS[answer.finish]
        ending: dict[str, Any] = {"stop_reason": stop, "stop_sequence": None}
        if answer.refusal is not None:
            details = {"type": "refusal", "category": None, "explanation": answer.refusal}
            ending |= {"stop_reason": "refusal", "stop_details": details}
        return ending

    def _usage(self) -> dict[str, Any]:
        """The counts, which Anthropic never leaves out: `[[usage:none]]` makes them zero."""
        asked = self._answer.directives.get("usage")
        none = asked is not None and asked.argument == "none"
        counts: dict[str, Any] = {
            "input_tokens": 0 if none else self._answer.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0 if none else self._answer.completion_tokens,
        }
        if self._answer.reasoning:
            counts["output_tokens_details"] = {"thinking_tokens": tokens(self._answer.reasoning)}
        return counts | (asked.json() if asked else {})


def _citations(answer: Reply) -> list[dict[str, Any]] | None:
    if not answer.directives.get("citation"):
        return None
    place = {"document_index": 0, "document_title": "Example", "start_char_index": 0, "end_char_index": 7}
    return [{"type": "char_location", "cited_text": "Example", "file_id": None, **place}]


def _divided(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as a stream begins it, and the deltas that follow; of an unknown kind, it comes at once."""
    kind = block["type"]
    if kind == "text":
        cited = [{"type": "citations_delta", "citation": each} for each in block["citations"] or ()]
        texts = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        return {**block, "text": "", "citations": None}, [*texts, *cited]
    if kind == "thinking":
        thought = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*thought, signed]
    if kind == "tool_use":
        given = fragments(json.dumps(block["input"])) if block["input"] else []
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *given)]
        return {**block, "input": {}}, deltas
    return block, []
