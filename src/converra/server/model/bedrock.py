"""Bedrock's Converse: a request read, and a reply written whole or in the events of AWS's binary streams."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from converra.server.model.script import Asked, Tool, Turn
from converra.server.model.wire import ModelError, fragments, pieces, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.server.model.script import Reply, Use
    from converra.server.model.wire import Stamps

MEDIA_TYPE = "application/vnd.amazon.eventstream"

_ERRORS = {
    400: "ValidationException",
    401: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "content_filtered"}
_ROLES = ("user", "assistant", "system")


def error_body(error: ModelError) -> dict[str, Any]:
    """An error answer in AWS's shape; AWS has the type in a header as well, and its clients read either."""
    return {"message": error.message, "__type": _ERRORS.get(error.status, "InternalServerException")}


def read(body: Mapping[str, Any]) -> Asked:
    """The request in neutral terms; ModelError for what Bedrock would refuse."""
    messages = body.get("messages") or []
    if not messages:
        raise ModelError(400, "A conversation must start with a user message.")
    asked = [turn for message in messages for turn in _turns(message)]
    if asked[-1].role == "assistant":  # a prefill: the answer continues it, so it is no answer of its own
        asked.pop()
    config = body.get("toolConfig") or {}
    return Asked(
        turns=[*([Turn("system", text_of(body["system"]))] if body.get("system") else []), *asked],
        tools=[_tool(tool["toolSpec"]) for tool in config.get("tools") or () if "toolSpec" in tool],
        forced=_forced(config.get("toolChoice") or {}),
        limit=(body.get("inferenceConfig") or {}).get("maxTokens"),
    )


def _turns(message: Mapping[str, Any]) -> Iterator[Turn]:
    content = message.get("content")
    if message.get("role") not in _ROLES or not isinstance(content, list):
        raise ModelError(400, "A message has a role and a list of content blocks.")
    results = [block["toolResult"] for block in content if "toolResult" in block]
    yield from (Turn("tool", _result(result.get("content"))) for result in results)
    words = text_of(content)
    if words or not results:
        yield Turn(message["role"], words)


def _result(content: Any) -> str:
    parts = content or ()
    return " ".join(json.dumps(part["json"]) if "json" in part else str(part.get("text") or "") for part in parts)


def _tool(given: Mapping[str, Any]) -> Tool:
    return Tool(given["name"], given.get("description") or "", (given.get("inputSchema") or {}).get("json") or {})


def _forced(choice: Mapping[str, Any]) -> str | None:
    return str(choice["tool"]["name"]) if "tool" in choice else "required" if "any" in choice else None


class Generation:
    """One reply in the format of Converse."""

    def __init__(self, answer: Reply, stamps: Stamps) -> None:
        self._answer = answer
        self._stamps = stamps
        self._content = list(self._blocks())

    @property
    def call_ids(self) -> list[str]:
        """The ids of its calls, as the viewer finds them in a recorded turn."""
        return [block["toolUse"]["toolUseId"] for block in self._content if "toolUse" in block]

    def whole(self) -> dict[str, Any]:
        """The answer to Converse."""
        message = {"role": "assistant", "content": self._content}
        return {"output": {"message": message}, "stopReason": self._stop(), **self._facts()}

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of ConverseStream."""
        yield "messageStart", {"role": "assistant"}
        for index, block in enumerate(self._content):
            begun, deltas = _divided(block)
            if begun is not None:
                yield "contentBlockStart", {"start": begun, "contentBlockIndex": index}
            for delta in deltas:
                yield "contentBlockDelta", {"delta": delta, "contentBlockIndex": index}
            yield "contentBlockStop", {"contentBlockIndex": index}
        yield "messageStop", {"stopReason": self._stop()}
        yield "metadata", self._facts()

    def _blocks(self) -> Iterator[dict[str, Any]]:
        answer = self._answer
        if answer.reasoning is not None:
            yield {"reasoningContent": {"reasoningText": {"text": answer.reasoning, "signature": "c3RhbmQtaW4="}}}
        yield from (each.json() for each in answer.directives.all("item"))
        if answer.text or answer.refusal is not None:
            yield {"text": answer.text or answer.refusal}
        yield from (self._call(use) for use in answer.uses)

    def _call(self, use: Use) -> dict[str, Any]:
        try:
            given = json.loads(use.arguments or "{}")
        except ValueError:
            given = None
        given = given if isinstance(given, dict) else {"input": use.arguments}
        return {"toolUse": {"toolUseId": self._stamps.id("tooluse_"), "name": use.name, "input": given}}

    def _stop(self) -> str:
        answer = self._answer
        if answer.refusal is not None:
            return "guardrail_intervened"
        return "tool_use" if answer.uses and answer.finish == "stop" else _STOPS[answer.finish]

    def _facts(self) -> dict[str, Any]:
        asked = self._answer.directives.get("usage")
        none = asked is not None and asked.argument == "none"
        given = 0 if none else self._answer.prompt_tokens
        said = 0 if none else self._answer.completion_tokens
        counts = {"inputTokens": given, "outputTokens": said, "totalTokens": given + said}
        return {"usage": counts | (asked.json() if asked else {}), "metrics": {"latencyMs": 1}}


def _divided(block: dict[str, Any]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the start of a block in a stream, if it has one, and the deltas that follow."""
    if "text" in block:
        return None, [{"text": piece} for piece in pieces(block["text"])]
    if "toolUse" in block:
        own = block["toolUse"]
        given = fragments(json.dumps(own["input"]))
        begun = {"toolUse": {"toolUseId": own["toolUseId"], "name": own["name"]}}
        return begun, [{"toolUse": {"input": piece}} for piece in given]
    thought = block.get("reasoningContent", {}).get("reasoningText")
    if thought is None:
        return None, [block]
    said = [{"reasoningContent": {"text": piece}} for piece in pieces(thought["text"])]
    return None, [*said, {"reasoningContent": {"signature": thought["signature"]}}]


# -- the events of a stream --------------------------------------------------------------------------------------------


def words(event: tuple[str | None, dict[str, Any]]) -> str:
    """The text that an event adds to the answer."""
    return str((event[1].get("delta") or {}).get("text") or "")


def encoded(event: tuple[str | None, dict[str, Any]]) -> bytes:
    """One message of an event stream: lengths, headers and payload, and a checksum of each part."""
    kind, fields = event
    of = "exception" if str(kind).endswith("Exception") else "event"
    headers = ((f":{of}-type", str(kind)), (":content-type", "application/json"), (":message-type", of))
    head = b"".join(map(_header, headers))
    payload = msgspec.json.encode(fields)
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _header(header: tuple[str, str]) -> bytes:
    name, value = header
    string = 7  # the type of its value
    return struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", string, len(value)) + value.encode()
