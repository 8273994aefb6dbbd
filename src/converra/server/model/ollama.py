"""Ollama's chats: a request read, and a reply written whole or in the lines of a stream."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from converra.server.model.script import Asked, Tool, Turn
from converra.server.model.wire import ModelError, model_name, pieces, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.server.model.script import Reply, Use
    from converra.server.model.wire import Stamps

MEDIA_TYPE = "application/x-ndjson"

_ROLES = ("user", "assistant", "system", "tool")
_DONE = {"stop": "stop", "length": "length", "content_filter": "stop"}


def error_body(error: ModelError) -> dict[str, Any]:
    """An error answer in Ollama's shape."""
    return {"error": error.message}


def is_streamed(body: Mapping[str, Any]) -> bool:
    """Report whether the answer is a stream: Ollama's default, also with null."""
    return body.get("stream") is not False


def read(body: Mapping[str, Any]) -> Asked:
    """The request in neutral terms; ModelError for what Ollama would refuse."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise ModelError(400, "model is required")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ModelError(400, "messages are required: without one, Ollama loads the model and answers nothing")
    wanted = body.get("format")
    limit = (body.get("options") or {}).get("num_predict")
    return Asked(
        turns=[_turn(message) for message in messages],
        tools=[_tool(tool["function"]) for tool in body.get("tools") or () if "function" in tool],
        json_schema={"properties": {"answer": {"type": "string"}}} if wanted == "json" else wanted or None,
        limit=limit if limit and limit > 0 else None,
    )


def _turn(message: Any) -> Turn:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise ModelError(400, f"invalid role: a message's role is one of {', '.join(_ROLES)}")
    return Turn(message["role"], text_of(message.get("content")))


def _tool(given: Mapping[str, Any]) -> Tool:
    return Tool(given["name"], given.get("description") or "", given.get("parameters") or {})


class Chat:
    """One reply in the format of `/api/chat`."""

    def __init__(self, body: Mapping[str, Any], answer: Reply, stamps: Stamps) -> None:
        self._answer = answer
        now = datetime.fromtimestamp(stamps.now(), UTC).isoformat().replace("+00:00", "Z")
        self._head = {"model": model_name(body, answer), "created_at": now}

    def whole(self) -> dict[str, Any]:
        """The answer to a request with `stream: false`."""
        return self._part(_text(self._answer), thinking=self._answer.reasoning, uses=self._answer.uses) | self._facts()

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The lines of a stream; a call comes in one piece, and the counts in the last line."""
        for piece in pieces(self._answer.reasoning or ""):
            yield self._part(thinking=piece) | {"done": False}
        for piece in pieces(_text(self._answer)):
            yield self._part(piece) | {"done": False}
        for use in self._answer.uses:
            yield self._part(uses=[use]) | {"done": False}
        yield self._part() | self._facts()

    def _part(self, text: str = "", *, thinking: str | None = None, uses: list[Use] | None = None) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        message |= {"thinking": thinking} if thinking is not None else {}
        message |= {"tool_calls": [_call(use) for use in uses]} if uses else {}
        return {**self._head, "message": message}

    def _facts(self) -> dict[str, Any]:
        asked = self._answer.directives.get("usage")
        counts = {"prompt_eval_count": self._answer.prompt_tokens, "eval_count": self._answer.completion_tokens}
        if asked is not None and asked.argument == "none":
            counts = {}
        durations = {f"{name}_duration": 1_000_000 for name in ("total", "load", "prompt_eval", "eval")}
        ending = {"done": True, "done_reason": _DONE[self._answer.finish]}
        return ending | durations | counts | (asked.json() if asked else {})


def _text(answer: Reply) -> str:
    return answer.refusal or answer.text


def _call(use: Use) -> dict[str, Any]:
    try:
        given = json.loads(use.arguments or "{}")
    except ValueError:
        given = None
    given = given if isinstance(given, dict) else {"input": use.arguments}
    return {"function": {"name": use.name, "arguments": given}}


def words(event: tuple[str | None, dict[str, Any]]) -> str:
    """The text that a line adds to the answer."""
    return str((event[1].get("message") or {}).get("content") or "")


def encoded(event: tuple[str | None, dict[str, Any]]) -> bytes:
    """One line of a stream."""
    return msgspec.json.encode(event[1]) + b"\n"
