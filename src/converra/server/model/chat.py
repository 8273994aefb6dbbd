"""Chat completions: a request read, and a reply written whole or in chunks."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from converra.server.model.script import Asked, Tool, Turn, tokens
from converra.server.model.wire import FINGERPRINT, ModelError, fragments, model_name, pieces, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.server.model.script import Reply, Use
    from converra.server.model.wire import Stamps

MISTRAL_IDS = "cal"
"""Beginning of the ids of calls, which have nine characters."""

_ROLES = {"developer": "system", "function": "tool"}


def read(body: Mapping[str, Any]) -> Asked:
    """The request in neutral terms; ModelError for what OpenAI would refuse."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ModelError(
            400, "Missing required parameter: 'messages'.", code="missing_required_parameter", param="messages"
        )
    if not isinstance(body.get("model"), str):
        raise ModelError(400, "you must provide a model parameter")
    return Asked(
        turns=[_turn(message) for message in messages],
        tools=[*_tools(body.get("tools")), *_functions(body.get("functions"))],
        forced=_forced(body.get("tool_choice")),
        json_schema=_json_schema(body.get("response_format")),
        limit=body.get("max_completion_tokens") or body.get("max_tokens"),
    )


def _turn(message: Any) -> Turn:
    if not isinstance(message, dict) or "role" not in message:
        raise ModelError(400, "Each message is an object with a role.", param="messages")
    role = str(message["role"])
    return Turn(_ROLES.get(role, role), text_of(message.get("content")))


def _tools(given: Any) -> list[Tool]:
    functions = (tool.get("function") for tool in given or () if tool.get("type") == "function")
    return _functions(list(functions))


def _functions(given: Any) -> list[Tool]:
    return [Tool(each["name"], each.get("description") or "", each.get("parameters") or {}) for each in given or ()]


def _forced(choice: Any) -> str | None:
    if isinstance(choice, dict):
        return str((choice.get("function") or choice.get("custom") or {}).get("name"))
    return choice if choice in ("none", "required") else None


def _json_schema(response_format: Any) -> dict[str, Any] | None:
    kind = (response_format or {}).get("type")
    if kind == "json_schema":
        return dict(response_format["json_schema"].get("schema") or {"type": "object"})
    return {"properties": {"answer": {"type": "string"}}} if kind == "json_object" else None


class Completion:
    """One reply in the format of chat completions.

    Mistral's differs: ids of calls have nine characters, and the text beside them is empty, not null. In a stream a
    call comes in one piece, and the counts with the last choice.
    """

    def __init__(self, body: Mapping[str, Any], answer: Reply, stamps: Stamps, *, mistral: bool = False) -> None:
        self._answer = answer
        self._mistral = mistral
        self._choices = [_choice(answer, index, stamps, mistral=mistral) for index in range(body.get("n") or 1)]
        self._head = {
            "id": stamps.id("chatcmpl-"),
            "created": stamps.now(),
            "model": model_name(body, answer),
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        }
        self._include_usage = bool((body.get("stream_options") or {}).get("include_usage"))

    def whole(self) -> dict[str, Any]:
        """The answer to a request without `stream`."""
        usage = self._usage()
        answer = {**self._head, "object": "chat.completion", "choices": self._choices}
        return answer | {"usage": usage} if usage else answer

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The events of a stream; choices interleave, and usage comes last where it was asked for."""
        if self._answer.directives.get("azure"):
            yield self._chunk([], prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}])
        streams = [_deltas(choice, whole_calls=self._mistral) for choice in self._choices]
        usage, steps = self._usage(), max(map(len, streams))
        for step in range(steps):
            for choice, deltas in zip(self._choices, streams, strict=True):
                if step < len(deltas):
                    finish = choice["finish_reason"] if step == len(deltas) - 1 else None
                    counts = {"usage": usage} if self._mistral and usage and step == steps - 1 else {}
                    yield self._chunk(
                        [{"index": choice["index"], "delta": deltas[step], "logprobs": None, "finish_reason": finish}],
                        running=step + 1,
                        **counts,
                    )
        if self._include_usage and usage and not self._mistral:
            yield self._chunk([], usage=usage)

    def _chunk(self, choices: list[dict[str, Any]], *, running: int = 0, **fields: Any) -> dict[str, Any]:
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        if self._answer.directives.get("running-usage"):
            return chunk | {"usage": _counted(self._answer.prompt_tokens, running)} | fields
        return chunk | ({"usage": None} if self._include_usage else {}) | fields

    def _usage(self) -> dict[str, Any] | None:
        asked = self._answer.directives.get("usage")
        if asked and asked.argument == "none":
            return None
        completion = self._answer.completion_tokens * len(self._choices)
        return _counted(self._answer.prompt_tokens, completion, self._answer) | (asked.json() if asked else {})


def _counted(prompt: int, completion: int, answer: Reply | None = None) -> dict[str, Any]:
    reasoning = tokens((answer.reasoning if answer else None) or "")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _choice(answer: Reply, index: int, stamps: Stamps, *, mistral: bool) -> dict[str, Any]:
    message = _message(answer, index, stamps, mistral=mistral)
    finish = answer.finish
    if finish == "stop" and answer.uses:
        finish = "function_call" if "function_call" in message else "tool_calls"  # type: ignore[assignment] # the wire's own
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}


def _message(answer: Reply, index: int, stamps: Stamps, *, mistral: bool) -> dict[str, Any]:
    text = answer.text if index == 0 else f"{answer.text} (choice {index + 1})"
    no_words = answer.refusal is not None or (answer.uses and not answer.text)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": ("" if mistral else None) if no_words else text,
        "refusal": answer.refusal,
        "annotations": _annotations(answer),
    }
    if mistral:
        message["tool_calls"] = None
    message |= _tool_calls(answer.uses, stamps, MISTRAL_IDS if mistral else "call_")
    if answer.reasoning is not None:
        message["reasoning_content"] = answer.reasoning
    if answer.directives.get("audio"):
        message |= {"content": None, "audio": _audio(text, stamps)}
    for extra in answer.directives.all("extra"):
        message |= extra.json()
    return message


def _tool_calls(uses: list[Use], stamps: Stamps, prefix: str) -> dict[str, Any]:
    legacy = next((use for use in uses if use.kind == "legacy"), None)
    if legacy:
        return {"function_call": {"name": legacy.name, "arguments": legacy.arguments}}
    return {"tool_calls": [_tool_call(use, stamps.id(prefix)) for use in uses]} if uses else {}


def _tool_call(use: Use, call_id: str) -> dict[str, Any]:
    if use.kind == "custom":
        return {"id": call_id, "type": "custom", "custom": {"name": use.name, "input": use.arguments}}
    function = {"name": use.name, "arguments": use.arguments}
    return {"id": call_id, "type": "function", "function": function}


def _annotations(answer: Reply) -> list[dict[str, Any]]:
    if not answer.directives.get("citation"):
        return []
    cited = {"url": "https://example.com/", "title": "Example", "start_index": 0, "end_index": len(answer.text)}
    return [{"type": "url_citation", "url_citation": cited}]


def _audio(text: str, stamps: Stamps) -> dict[str, Any]:
    """A second of silence, and the words."""
    silence = base64.b64encode(bytes(1600)).decode()
    return {"id": stamps.id("audio_"), "data": silence, "expires_at": stamps.now() + 3600, "transcript": text}


def _deltas(choice: dict[str, Any], *, whole_calls: bool) -> list[dict[str, Any]]:
    """A message in the pieces of a stream; the last one is empty and carries the finish reason."""
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "" if message["content"] is not None else None}]
    deltas += [{"reasoning_content": piece} for piece in pieces(message.get("reasoning_content") or "")]
    deltas += [{"content": piece} for piece in pieces(message["content"] or "")]
    deltas += [{"refusal": piece} for piece in pieces(message["refusal"] or "")]
    deltas += _audio_deltas(message.get("audio"))
    for index, call in enumerate(message.get("tool_calls") or ()):
        deltas += [{"tool_calls": [{**call, "index": index}]}] if whole_calls else _call_deltas(index, call)
    if called := message.get("function_call"):
        deltas.append({"function_call": {"name": called["name"], "arguments": ""}})
        deltas += [{"function_call": {"arguments": piece}} for piece in fragments(called["arguments"])]
    if message["annotations"]:
        deltas.append({"annotations": message["annotations"]})
    return [*deltas, {}]


def _call_deltas(index: int, call: dict[str, Any]) -> list[dict[str, Any]]:
    kind, field = ("custom", "input") if call["type"] == "custom" else ("function", "arguments")
    opening = {**call, "index": index, kind: {**call[kind], field: ""}}
    rest = [{"index": index, kind: {field: piece}} for piece in fragments(call[kind][field])]
    return [{"tool_calls": [part]} for part in (opening, *rest)]


def _audio_deltas(audio: dict[str, Any] | None) -> list[dict[str, Any]]:
    if audio is None:
        return []
    said = [{"audio": {"id": audio["id"], "transcript": piece}} for piece in pieces(audio["transcript"])]
    return [
        *said,
        {"audio": {"id": audio["id"], "data": audio["data"]}},
        {"audio": {"expires_at": audio["expires_at"]}},
    ]
