"""`client.interactions`, read: its steps and events become the contents and parts of `generateContent`. Pure.

The provider keeps the history: a request names the interaction that it continues. Input and output are steps: words of
the user or the model, thoughts, calls, results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, Request, SourceMessage
from converra.integrations.google_genai import generate
from converra.integrations.google_genai.contents import GENERATE, whole
from converra.integrations.payload.extras import merged, unread
from converra.integrations.payload.fields import copied, fields, items, number, string
from converra.wire.json_safe import identifier, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERACTION = frozenset(
    {
        *("id", "object", "status", "model", "steps", "usage", "created", "updated", "role"),
        *("output_text", "output_image", "output_audio", "output_video", "continuation_token", "continuation_ids"),
        # copied from the request:
        *("input", "system_instruction", "tools", "generation_config", "previous_interaction_id", "cached_content"),
        *("response_format", "response_mime_type", "response_modalities", "safety_settings", "service_tier", "labels"),
        *("environment", "environment_id", "agent_config", "webhook_config", "store", "background"),
    }
)
"""Fields of an interaction that are read, or left out on purpose. All others are kept in metadata."""

ENDED = {"completed": "STOP", "requires_action": "STOP"}
"""States of an interaction that ended where the model wanted it to end."""

AT_WORK = ("queued", "in_progress")
"""States of an interaction of the background that is not over."""

COUNTS = {
    "total_input_tokens": "promptTokenCount",
    "total_output_tokens": "candidatesTokenCount",
    "total_thought_tokens": "thoughtsTokenCount",
    "total_cached_tokens": "cachedContentTokenCount",
    "total_tool_use_tokens": "toolUsePromptTokenCount",
    "total_tokens": "totalTokenCount",
}
MODALITIES = {
    "input_tokens_by_modality": "promptTokensDetails",
    "output_tokens_by_modality": "candidatesTokensDetails",
    "cached_tokens_by_modality": "cacheTokensDetails",
    "tool_use_tokens_by_modality": "toolUsePromptTokensDetails",
}
STEPS = ("user_input", "model_output", "thought", "function_call", "function_result")
"""Kinds of steps besides those of hosted tools, which end in `_call` or `_result`."""


def request(body: dict[str, Any]) -> Request:
    """Read the body of a call to `/interactions`. If it continues an interaction, all of its input is new."""
    contents = [content for step in _steps(body.get("input")) for content in _contents(step)]
    return Request(
        GENERATE,
        whole(contents),
        string(body.get("system_instruction")),
        string(body.get("model")) or string(body.get("agent")),
        string(body.get("previous_interaction_id")),
        items(body.get("tools")),
    )


def _steps(given: Any) -> list[Any]:
    """Return the input as steps: a text, a part or a list of parts is one of the user."""
    if isinstance(given, str):
        return [{"type": "user_input", "content": [{"type": "text", "text": given}]}]
    parts = list(items(given)) or ([given] if fields(given) else [])
    if all(_is_step(part) for part in parts):
        return parts
    return [{"type": "user_input", "content": parts}]


def _is_step(value: Any) -> bool:
    kind = string(fields(value).get("type")) or ""
    return kind in STEPS or kind.endswith(("_call", "_result"))


def _contents(step: Any) -> Iterator[dict[str, Any]]:
    own = fields(step)
    kind = own.get("type")
    if kind == "function_result":
        response = {"id": own.get("call_id"), "name": own.get("name"), "response": {"result": _result(own)}}
        yield {"role": "user", "parts": [{"functionResponse": response}]}
    elif kind == "user_input":
        yield {"role": "user", "parts": [_part(part) for part in items(own.get("content"))]}
    else:
        yield {"role": "model", "parts": list(_parts(own))}


def _result(own: dict[str, Any]) -> Any:
    """Return what a tool returned: its texts as one, or anything else as it is."""
    result = own.get("result")
    texts = [string(fields(part).get("text")) for part in items(result)]
    return "\n".join(text for text in texts if text) if texts and all(texts) else result


def _parts(own: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parts of a step that the model, or a tool of the provider, has made."""
    kind = string(own.get("type")) or ""
    if kind == "model_output":
        yield from map(_part, items(own.get("content")))
    elif kind == "thought":
        for part in items(own.get("summary")):
            yield {"text": string(fields(part).get("text")) or "", "thought": True}
    elif kind == "function_call":
        yield {"functionCall": {"id": own.get("id"), "name": own.get("name"), "args": own.get("arguments")}}
    elif kind.endswith("_call"):
        called = {"id": own.get("id"), "toolType": kind.removesuffix("_call"), "args": own.get("arguments")}
        yield {"toolCall": called}
    elif kind.endswith("_result"):
        call_id = own.get("call_id", own.get("id"))
        made = {"id": call_id, "toolType": kind.removesuffix("_result"), "response": {"result": _result(own)}}
        yield {"toolResponse": made}
    else:
        yield {"step": copied(own)}


def _part(value: Any) -> dict[str, Any]:
    own = fields(value)
    if own.get("type") == "text":
        more = {"citations": own["annotations"]} if own.get("annotations") else {}
        return {"text": string(own.get("text")) or "", **more}
    mime = own.get("mime_type") or own.get("type")
    if own.get("data"):
        return {"inlineData": {"data": own["data"], "mimeType": mime}}
    return {"fileData": {"fileUri": own["uri"], "mimeType": mime}} if own.get("uri") else {"content": copied(own)}


def answer(interaction: Any) -> Answer:
    """Read a whole interaction."""
    own = fields(interaction)
    status = string(own.get("status"))
    if status is None:
        return Answer(metadata={"error": {"type": string(fields(own.get("error")).get("code")) or "EmptyResponse"}})
    parts = [part for step in map(fields, items(own.get("steps"))) if _is_answer(step) for part in _parts(step)]
    found = generate.answer(
        {
            "candidates": [{"content": {"parts": parts}, "finishReason": ENDED.get(status, status)}],
            "usageMetadata": _counts(fields(own.get("usage"))),
            "modelVersion": own.get("model") or own.get("agent"),
            "responseId": identifier(own.get("id")),
        }
    )
    found.metadata = merged(found.metadata, unread(own, INTERACTION | {"agent"})) or None
    return found


def of_background(interaction: Any) -> Answer:
    """Read an interaction of the background, which may not be over yet; its id is in the metadata then."""
    found = answer(interaction)
    if fields(interaction).get("status") in AT_WORK:
        found.metadata = {**(found.metadata or {}), "responseId": found.response_id}
    return found


def interaction_id(path: str) -> str | None:
    """Return the id of the interaction that a path ends with."""
    *_, collection, name = ("", "", *path.split("/"))
    return name or None if collection == "interactions" else None


def _is_answer(step: dict[str, Any]) -> bool:
    return step.get("type") not in ("user_input", "function_result")


def _counts(reported: dict[str, Any]) -> dict[str, Any]:
    """Return the counts under the names of `generateContent`. Thoughts may be among the output tokens."""
    counts = {name: reported[own] for own, name in COUNTS.items() if number(reported.get(own)) is not None}
    prompt, said, thought, used, total = (number(reported.get(name)) or 0 for name in _TOTALS)
    if thought and total == prompt + said + used:
        counts["candidatesTokenCount"] = said - thought
    for own, name in MODALITIES.items():
        counts[name] = [
            {"modality": str(one.get("modality")).upper(), "tokenCount": one.get("tokens", one.get("token_count"))}
            for one in map(fields, items(reported.get(own)))
        ]
    return counts


_TOTALS = (
    *("total_input_tokens", "total_output_tokens", "total_thought_tokens", "total_tool_use_tokens"),
    "total_tokens",
)


class InteractionEvents:
    """The events of one streamed interaction so far."""

    def __init__(self) -> None:
        self.started: bool = False
        """The first step has begun."""
        self.finished: bool = False
        """The interaction has ended."""
        self._interaction: dict[str, Any] = {}
        self._steps: dict[Any, dict[str, Any]] = {}
        self._failed: dict[str, Any] | None = None

    def feed(self, event: Any) -> None:
        """Read one event."""
        own = fields(event)
        kind = string(own.get("event_type")) or ""
        if kind == "step.start":
            self.started = True
            self._steps[own.get("index")] = copied(own.get("step"))
        elif kind == "step.delta":
            self.started = True
            _add(self._steps.setdefault(own.get("index"), {"type": "model_output"}), fields(own.get("delta")))
        elif kind == "error":
            self._failed = copied(own.get("error"))
        elif "interaction" in own:
            self._interaction.update(copied(own["interaction"]))
            self.finished = kind == "interaction.completed"

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        if not self._interaction and not self._steps:
            return Answer(messages=(SourceMessage("assistant"),))
        steps = items(self._interaction.get("steps")) or [_closed(step) for step in self._steps.values()]
        found = answer({"status": "completed", **self._interaction, "steps": steps})
        if not self.finished:
            found.finish_reason = None
        if self._failed is not None:
            error = {"type": string(self._failed.get("code")) or "error"}
            found.metadata = merged({"error": error}, found.metadata or {})
        return found


def _add(step: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add one delta to its step: pieces of text, of a thought, of arguments; anything else replaces."""
    kind = delta.get("type")
    if kind == "text":
        step.setdefault("texts", []).append(string(delta.get("text")) or "")
    elif kind == "thought_summary":
        step.setdefault("summary", []).append(copied(delta.get("content")))
    elif kind == "arguments_delta":
        step.setdefault("fragments", []).append(string(delta.get("arguments")) or "")
    elif kind == "text_annotation":
        step.setdefault("annotations", []).extend(items(copied(delta.get("annotations"))))
    elif kind in ("image", "audio", "video", "document"):
        step.setdefault("media", []).append(copied(delta))
    elif kind != "thought_signature":
        step.update({name: value for name, value in copied(delta).items() if name != "type"})


def _closed(step: dict[str, Any]) -> dict[str, Any]:
    """Return a step as it would be without streaming."""
    texts, fragments = step.get("texts"), step.get("fragments")
    content = [*items(step.get("content"))]
    if texts:
        content.append({"type": "text", "text": joined(texts), "annotations": step.get("annotations")})
    content += items(step.get("media"))
    arguments = {"arguments": joined(fragments)} if fragments else {}
    return {**step, **({"content": content} if content else {}), **arguments}
