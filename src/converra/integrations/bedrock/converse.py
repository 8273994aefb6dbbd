"""Converse, read: its parameters as boto3 takes them, its answers as boto3 has parsed them. Pure.

What a block means is read as in the Messages API (`blocks.py`), which has the same kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, Dialect, Request, SourceMessage
from converra.integrations.anthropic import messages
from converra.integrations.bedrock.blocks import CACHE_POINT, MODEL, blocks, texts
from converra.integrations.payload.fields import digest, fields, fingerprint_parts, items, string
from converra.integrations.payload.media import embeds
from converra.integrations.payload.usage import any_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.history.turn import Counts

COUNTS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cacheReadInputTokens": "cache_read_input_tokens",
    "cacheWriteInputTokens": "cache_creation_input_tokens",
}
NOT_KEPT = ("totalTokens", "inputTokenCount", "outputTokenCount", "totalTokenCount", "cacheReadInputTokenCount")
"""Counts that say the same again."""

RESPONSE = frozenset({"ResponseMetadata", "output", "stopReason", "usage", "metrics"})
"""Fields of an answer that are read, or left out on purpose. All others are kept in metadata."""

UNSTABLE = ("reasoningContent", CACHE_POINT)
"""Blocks that apps leave out, or move, when they resend a message."""

PATHS = ("application-inference-profile", "prompt", "provisioned-model", "custom-model", "imported-model")
"""Resources whose name alone does not say what they are."""


def request(params: dict[str, Any]) -> Request:
    """Read the parameters of a call. A prefill is left out: the answer begins with it."""
    model = model_name(params.get("modelId"))
    sent = items(params.get("messages"))
    if prefill(sent):
        sent = sent[:-1]
    managed = _managed(model, params)
    return Request(
        CONVERSE,
        [managed, *sent] if managed else sent,
        texts(params.get("system")),
        model,
        None,
        items(fields(params.get("toolConfig")).get("tools")),
    )


def prefill(sent: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the last message as one of the Messages API if the answer continues it, else nothing."""
    last = fields(sent[-1]) if sent else {}
    if last.get("role") != MODEL:
        return []
    translated = [{"role": MODEL, "content": blocks(last.get("content"), MODEL)}]
    return translated if messages.prefill(translated) else []


def model_name(given: Any) -> str | None:
    """Return the model that an id or an ARN names, without the region and the account of an ARN."""
    name = string(given)
    if name is None or not name.startswith("arn:"):
        return name
    resource = name.split(":", 5)[-1]
    kind, _, rest = resource.partition("/")
    return resource if kind in PATHS else rest or resource


def _managed(model: str | None, params: dict[str, Any]) -> dict[str, Any] | None:
    """Return a message for a prompt that the provider keeps: its name, and the values of its variables."""
    if model is None or not model.startswith("prompt/"):
        return None
    values = fields(params.get("promptVariables"))
    lines = [f"[prompt: {model.partition('/')[2]}]", *(f"{name}: {_value(values[name])}" for name in values)]
    return {"role": "user", "content": [{"text": "\n".join(lines)}]}


def _value(given: Any) -> str:
    return string(fields(given).get("text")) or ""


# -- one message -------------------------------------------------------------------------------------------------------


def read(message: Any) -> tuple[SourceMessage, ...]:
    """Read one message of a request; most have one text, and nothing else."""
    own = fields(message)
    role = string(own.get("role")) or ""
    try:
        (only,) = own["content"]
        text = only["text"]
        if text and text.__class__ is str and len(only) == 1 and role and not (role == MODEL and embeds(text)):
            return (SourceMessage(role, text),)
    except (KeyError, TypeError, ValueError):  # several blocks, one of another kind, or an odd shape
        pass
    return messages.read({"role": role, "content": blocks(own.get("content"), role)}) if role else ()


def fingerprint(sent: Sequence[Any]) -> list[int]:
    """Digests of all messages, in order; reasoning and cache points have no part in them."""
    return fingerprint_parts(sent, "content", _digest)


def _digest(message: Any) -> int:
    own = fields(message)
    marks: list[Any] = []
    for block in map(fields, items(own.get("content"))):
        called, answered = fields(block.get("toolUse")), fields(block.get("toolResult"))
        if "text" in block:
            marks.append(string(block["text"]))
        elif called:
            marks.append((string(called.get("toolUseId")), string(called.get("name"))))
        elif answered:
            marks.append(("result", string(answered.get("toolUseId")), digest(answered.get("content"))))
        elif not any(name in block for name in UNSTABLE):
            marks.append(digest(block))
    return hash((string(own.get("role")), *marks))


def echo(source: SourceMessage) -> dict[str, Any]:
    """Build an answer as most apps resend it, as far as fingerprints read it."""
    said = [{"text": source.text}] if source.text or not source.calls else []
    called = [{"toolUse": {"toolUseId": call.id, "name": call.name}} for call in source.calls]
    return {"role": MODEL, "content": [*said, *called]}


CONVERSE = Dialect("bedrock.converse", fingerprint, read, echo)


# -- answers -----------------------------------------------------------------------------------------------------------


def answer(response: Any) -> Answer:
    """Read a whole answer. Its only id is that of the request.

    Most have one text and nothing else: they have a way of their own, at a third of the price.
    """
    try:
        (block,) = response["output"]["message"]["content"]
        text, counted, name = block["text"], response["usage"], response["ResponseMetadata"]["RequestId"]
        if len(block) == 1 and text.__class__ is str and response.keys() <= RESPONSE and not embeds(text):
            source = (SourceMessage(MODEL, text),)
            reason, unread = response["stopReason"], any_snapshot(counted)
            return Answer(source, finish_reason=reason, response_id=name, unread=unread, read=_counted)
    except (KeyError, TypeError, ValueError):  # more than a text, or an odd shape
        pass
    own = fields(response)
    found = {name: value for name, value in own.items() if name not in RESPONSE}
    content = fields(fields(own.get("output")).get("message")).get("content")
    return messages.answer_of(
        {
            **found,
            "id": fields(own.get("ResponseMetadata")).get("RequestId"),
            "content": blocks(content, MODEL),
            "stop_reason": own.get("stopReason"),
            "usage": counts(fields(own.get("usage"))),
        }
    )


def _counted(reported: dict[str, Any] | None) -> Counts:
    return messages.counts(counts(reported or {}))


def counts(reported: dict[str, Any]) -> dict[str, Any] | None:
    """Return the token usage under the names of the Messages API, which counts in the same way."""
    return {COUNTS.get(name, name): reported[name] for name in reported if name not in NOT_KEPT} or None
