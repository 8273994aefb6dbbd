"""What Bedrock sends: answers of Converse, its binary event streams, and answers of models in their own formats."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.integrations import anthropic_scripts as claude
from tests.integrations.scripted import Received, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = {
    "inputTokens": 10,
    "outputTokens": 9,
    "totalTokens": 319,
    "cacheReadInputTokens": 100,
    "cacheWriteInputTokens": 200,
}
PLAIN_USAGE = {"inputTokens": 10, "outputTokens": 9, "totalTokens": 19}
REQUEST_ID = "5a1c7f2e-0000-4000-8000-000000000001"
COUNTS = (("x-amzn-bedrock-input-token-count", "10"), ("x-amzn-bedrock-output-token-count", "9"))
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def text(words: str) -> dict[str, Any]:
    """A block of text."""
    return {"text": words}


def call(call_id: str = "tooluse_1", name: str = "get_weather", **given: Any) -> dict[str, Any]:
    """A block that calls a tool of the app."""
    return {"toolUse": {"toolUseId": call_id, "name": name, "input": given}}


def result(call_id: str, *content: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A block with the result of a tool of the app."""
    return {"toolResult": {"toolUseId": call_id, "content": list(content), **more}}


def reasoning(words: str) -> dict[str, Any]:
    """A block of reasoning, signed."""
    return {"reasoningContent": {"reasoningText": {"text": words, "signature": "c2lnbmF0dXJl"}}}


REDACTED = {"reasoningContent": {"redactedContent": "ZW5jcnlwdGVk"}}
CITATION = {
    "title": "Tents",
    "sourceContent": [{"text": "It is green."}],
    "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 1}},
}
CITED = {"citationsContent": {"content": [{"text": "The tent is green."}], "citations": [CITATION]}}
PICTURED = {"image": {"format": "png", "source": {"bytes": base64.b64encode(PICTURE).decode()}}}
HOSTED = {
    "toolUse": {"toolUseId": "srv_1", "name": "nova_code_interpreter", "input": {"c": 1}, "type": "server_tool_use"}
}
RAN = {
    "toolResult": {
        "toolUseId": "srv_1",
        "content": [{"json": {"stdOut": "2"}}],
        "status": "success",
        "type": "nova_code_interpreter_result",
    }
}


def answer(*content: dict[str, Any], stop: str = "end_turn", usage: Any = PLAIN_USAGE, **more: Any) -> dict[str, Any]:
    """A whole answer of Converse."""
    message = {"role": "assistant", "content": list(content)}
    return {"output": {"message": message}, "stopReason": stop, "usage": usage, "metrics": {"latencyMs": 7}, **more}


def events(whole: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The events of ConverseStream that bring an answer, as the provider divides it."""
    content = whole["output"]["message"]["content"]
    facts = {name: value for name, value in whole.items() if name not in ("output", "stopReason")}
    return [
        ("messageStart", {"role": "assistant"}),
        *[event for index, block in enumerate(content) for event in _of_block(index, block)],
        ("messageStop", {"stopReason": whole["stopReason"]}),
        ("metadata", facts),
    ]


def _of_block(index: int, block: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    begun, deltas = _divided(block)
    at = {"contentBlockIndex": index}
    return [
        *([("contentBlockStart", {"start": begun, **at})] if begun else []),
        *[("contentBlockDelta", {"delta": delta, **at, "p": "abcdefgh"[: n % 9]}) for n, delta in enumerate(deltas)],
        ("contentBlockStop", at),
    ]


def _divided(block: dict[str, Any]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:  # noqa: PLR0911 - a table
    (kind, value), *_ = block.items()
    if kind == "text":
        return None, [{"text": piece} for piece in _pieces(value)]
    if kind == "toolUse":
        begun = {name: value[name] for name in value if name != "input"}
        return {kind: begun}, [{kind: {"input": piece}} for piece in _pieces(json.dumps(value["input"]))]
    if kind == "toolResult":
        begun = {name: value[name] for name in value if name != "content"}
        return {kind: begun}, [{kind: [each]} for each in value["content"]]
    if kind == "citationsContent":
        said = "".join(each["text"] for each in value["content"])
        return None, [
            *({"text": piece} for piece in _pieces(said)),
            *({"citation": each} for each in value["citations"]),
        ]
    if kind == "image":
        return {kind: {"format": value["format"]}}, [{kind: {"source": value["source"]}}]
    thought = value.get("reasoningText")
    if thought is None:
        return None, [{kind: value}]
    return None, [*({kind: {"text": piece}} for piece in _pieces(thought["text"])), {kind: {"signature": "c2ln"}}]


def _pieces(words: str) -> list[str]:
    return [words[at : at + 5] for at in range(0, len(words), 5)]


# -- the binary format -------------------------------------------------------------------------------------------------


def encoded(kind: str, fields: dict[str, Any], *, of: str = "event") -> bytes:
    """One message of an event stream: lengths, headers, payload, and a checksum of each part."""
    headers = {f":{of}-type": kind, ":content-type": "application/json", ":message-type": of}
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    payload = json.dumps(fields).encode()
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _stream(pieces: list[bytes], *, cut: bool = False, hold: int | None = None) -> Reply:
    headers = (("x-amzn-requestid", REQUEST_ID),)
    return Reply(tuple(pieces), 200, "application/vnd.amazon.eventstream", cut, hold, headers)


def stream(whole: dict[str, Any], upto: int | None = None, *more: bytes, **ending: Any) -> Reply:
    """The events of an answer of Converse, or the first of them and what follows."""
    return _stream([*[encoded(kind, fields) for kind, fields in events(whole)[:upto]], *more], **ending)


def chunks(documents: list[dict[str, Any]], *more: bytes, **ending: Any) -> Reply:
    """Events of the model's own API, each in a chunk; the last holds the provider's counts."""
    *first, last = documents
    last = {**last, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 10, "outputTokenCount": 9}}
    bodies = [base64.b64encode(json.dumps(each).encode()).decode() for each in (*first, last)]
    return _stream([*[encoded("chunk", {"bytes": body}) for body in bodies], *more], **ending)


def document(value: Any, status: int = 200, error: str | None = None, *, counted: bool = False) -> Reply:
    """A JSON answer with its length, as the provider sends it; of InvokeModel, with counts of tokens in the headers."""
    named = (("x-amzn-errortype", error),) if error else ()
    headers = (("x-amzn-requestid", REQUEST_ID), *named, *(COUNTS if counted else ()))
    return Reply((json.dumps(value).encode(),), status, headers=headers, sized=True)


THROTTLED = encoded("throttlingException", {"message": "Too many tokens"}, of="exception")
TEXT = answer(text("Good day."))
TOOLS = answer(text("Let me look."), call(city="Oslo"), call("tooluse_2", "get_time"), stop="tool_use")
RICH = answer(reasoning("The user greets."), REDACTED, text("It is 2. "), CITED, PICTURED, usage=USAGE)
RAN_CODE = answer(text("I will run it."), HOSTED, RAN, text("It is 2."))
GUARDED = answer(
    text("Sorry, I cannot talk about that."),
    stop="guardrail_intervened",
    trace={"guardrail": {"actionReason": "Guardrail blocked."}},
)
NOVA = {**TEXT, "usage": {**PLAIN_USAGE, "cacheReadInputTokenCount": 0}}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "openai.gpt-oss-20b-1:0",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Good day."}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19},
}
LLAMA = {"generation": "Good day.", "prompt_token_count": 10, "generation_token_count": 9, "stop_reason": "stop"}


def _retried(request: Received) -> Reply:
    """A failure for the first attempt of a call, an answer for the second."""
    headers = {name.lower(): value for name, value in request.headers}
    first = "attempt=1" in headers["amz-sdk-request"]
    return document({"message": "busy"}, 503, "ServiceUnavailableException") if first else document(TEXT)


REPLIES: dict[str, Callable[[Received], Reply]] = {
    "text": lambda _: document(TEXT),
    "tools": lambda _: document(TOOLS),
    "rich": lambda _: document(RICH),
    "ran": lambda _: document(RAN_CODE),
    "guarded": lambda _: document(GUARDED),
    "invalid": lambda _: document({"message": "no"}, 400, "ValidationException"),
    "throttled": lambda _: document({"message": "slow down"}, 429, "ThrottlingException"),
    "retried": _retried,
    "stream": lambda _: stream(TEXT),
    "stream-tools": lambda _: stream(TOOLS),
    "stream-rich": lambda _: stream(RICH),
    "stream-ran": lambda _: stream(RAN_CODE),
    "stream-guarded": lambda _: stream(GUARDED),
    "stream-cut": lambda _: stream(TEXT, 2, cut=True),
    "stream-error": lambda _: stream(TEXT, 2, THROTTLED),
    "stream-failed": lambda _: stream(TEXT, 0, THROTTLED),
    "stream-held": lambda _: stream(TEXT, hold=3),
    "held": lambda _: document(TEXT)._replace(sized=False, hold=0),
    "claude": lambda _: document(claude.TEXT, counted=True),
    "claude-tools": lambda _: document(claude.TOOLS),
    "claude-cut": lambda _: Reply((b'{"id": "msg_1", ',), cut=True),
    "claude-stream": lambda _: chunks(claude.events(claude.TEXT)),
    "claude-stream-tools": lambda _: chunks(claude.events(claude.TOOLS)),
    "claude-stream-error": lambda _: chunks(claude.events(claude.TEXT)[:4], THROTTLED),
    "nova": lambda _: document(NOVA),
    "nova-stream": lambda _: chunks([{kind: fields} for kind, fields in events(NOVA)]),
    "chat": lambda _: document(CHAT),
    "llama": lambda _: document(LLAMA),
}
"""By the id of the model; a colon in it, or an ARN before it, changes nothing."""


def _routed(request: Received) -> Reply:
    model = unquote(request.line.split()[1].split("/")[-2])
    return REPLIES[model.rpartition("/")[2].partition(":")[0]](request)


SCRIPTS: dict[str, Callable[[Received], Reply]] = {"bedrock": _routed}
