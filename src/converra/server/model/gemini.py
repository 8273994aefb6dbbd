"""Gemini's `generateContent`: a request read, and a reply written whole or in chunks."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from converra.server.model.script import Asked, Tool, Turn, tokens
from converra.server.model.wire import ModelError, model_name, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.server.model.script import Reply, Use
    from converra.server.model.wire import Stamps

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_WITH_IDS = re.compile(r"gemini-(?:[3-9]|\d\d)")
"""Models that give their function calls an id; older ones give none."""


def error_body(error: ModelError) -> dict[str, Any]:
    """An error answer in Google's shape."""
    status = _STATUSES.get(error.status, "UNKNOWN")
    return {"error": {"code": error.status, "message": error.message, "status": status}}


def read(body: Mapping[str, Any]) -> Asked:
    """The request in neutral terms; ModelError for what Google would refuse."""
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise ModelError(400, "* GenerateContentRequest.contents: contents is not specified")
    settings = body.get("generationConfig") or {}
    instruction = body.get("systemInstruction") or {}
    system = [Turn("system", _text(instruction))] if instruction else []
    return Asked(
        turns=[*system, *(turn for content in contents for turn in _turns(content))],
        tools=[tool for each in body.get("tools") or () for tool in _functions(each.get("functionDeclarations"))],
        forced=_forced((body.get("toolConfig") or {}).get("functionCallingConfig") or {}),
        json_schema=_json_schema(settings),
        limit=settings.get("maxOutputTokens"),
    )


def _turns(content: Any) -> Iterator[Turn]:
    if not isinstance(content, dict) or not isinstance(content.get("parts"), list):
        raise ModelError(400, "* GenerateContentRequest.contents: each content has parts")
    role = content.get("role") or "user"
    if role not in ("user", "model", "function"):
        raise ModelError(400, "Please use a valid role: user, model.")
    results = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
    yield from (Turn("tool", _result(result.get("response"))) for result in results)
    if not results or _text(content):
        yield Turn("assistant" if role == "model" else "user", _text(content))


def _text(content: Mapping[str, Any]) -> str:
    return " ".join(part["text"] for part in content.get("parts") or () if part.get("text")).strip()


def _result(response: Any) -> str:
    """The words that a function returned, which SDKs wrap in an object."""
    own = response.get("result", response) if isinstance(response, dict) else response
    return own if isinstance(own, str) else json.dumps(own)


def _functions(given: Any) -> list[Tool]:
    return [Tool(each["name"], each.get("description") or "", _schema_of(each)) for each in given or ()]


def _schema_of(function: Mapping[str, Any]) -> dict[str, Any]:
    return dict(
        function.get("parametersJsonSchema")
        or function.get("parameters_json_schema")
        or _lowered(function.get("parameters") or {})
    )


def _lowered(schema: Any) -> Any:
    """A schema with the types of JSON Schema in place of Google's, which are in capitals."""
    if isinstance(schema, list):
        return [_lowered(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    lowered = {key: _lowered(value) for key, value in schema.items()}
    return lowered | ({"type": lowered["type"].lower()} if isinstance(lowered.get("type"), str) else {})


def _forced(config: Mapping[str, Any]) -> str | None:
    mode, names = config.get("mode"), list(config.get("allowedFunctionNames") or ())
    if mode == "ANY":
        return str(names[0]) if len(names) == 1 else "required"
    return "none" if mode == "NONE" else None


def _json_schema(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    if settings.get("responseMimeType") != "application/json":
        return None
    schema = settings.get("responseJsonSchema") or settings.get("responseSchema")
    return dict(_lowered(schema)) if schema else {"properties": {"answer": {"type": "string"}}}


def words(candidate: Mapping[str, Any]) -> list[str]:
    """The texts of the first candidate, without its thoughts."""
    parts = candidate["content"].get("parts") or ()
    return [part["text"] for part in parts if "text" in part and not part.get("thought") and candidate["index"] == 0]


class Generation:
    """One reply in the format of `generateContent`."""

    def __init__(self, model: str, body: Mapping[str, Any], answer: Reply, stamps: Stamps) -> None:
        self._answer = answer
        self._candidates = (body.get("generationConfig") or {}).get("candidateCount") or 1
        self._head = {"modelVersion": model_name({"model": model}, answer), "responseId": stamps.id("genai-")}
        with_ids = _WITH_IDS.search(model) is not None
        self._calls = [_call(use, stamps.id("fc_") if with_ids else None) for use in answer.uses]

    @property
    def call_ids(self) -> list[str]:
        """The ids of its function calls, as the viewer finds them in a recorded turn."""
        return [str(call["functionCall"].get("id")) for call in self._calls]

    def whole(self) -> dict[str, Any]:
        """The answer to a request without a stream; a refusal is a prompt that was blocked."""
        if self._answer.refusal is not None:
            return self._blocked()
        candidates = [self._candidate(self._parts(index), index, last=True) for index in range(self._candidates)]
        return {"candidates": candidates, **self._usage(self._completion_tokens), **self._head}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The events of a stream. Each has the counts so far; the last has the finish reason."""
        if self._answer.refusal is not None:
            yield self._blocked()
            return
        for index in range(self._candidates):
            split = [piece for part in self._parts(index) for piece in _split(part)] or [{"text": ""}]
            for number, part in enumerate(split, 1):
                last = number == len(split)
                tokens_so_far = self._completion_tokens if last else min(number, self._completion_tokens)
                candidate = self._candidate([part], index, last=last)
                yield {"candidates": [candidate], **self._usage(tokens_so_far), **self._head}

    @property
    def _completion_tokens(self) -> int:
        return (self._answer.completion_tokens - self._thought_tokens) * self._candidates

    @property
    def _thought_tokens(self) -> int:
        return tokens(self._answer.reasoning or "")

    def _parts(self, index: int) -> list[dict[str, Any]]:
        answer, parts = self._answer, []
        if answer.reasoning is not None:
            parts.append({"text": answer.reasoning, "thought": True})
        parts += [each.json() for each in answer.directives.all("item")]
        if answer.directives.get("audio"):
            parts.append({"inlineData": {"mimeType": "audio/wav", "data": base64.b64encode(bytes(1600)).decode()}})
        elif answer.text:
            parts.append({"text": answer.text if index == 0 else f"{answer.text} (candidate {index + 1})"})
        return [*parts, *self._calls]

    def _candidate(self, parts: list[dict[str, Any]], index: int, *, last: bool) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
        if not parts:
            candidate["content"] = {"role": "model"}
        if last:
            candidate["finishReason"] = _FINISHES[self._answer.finish]
            if self._answer.directives.get("citation"):
                candidate["citationMetadata"] = {"citationSources": [_citation(self._answer)]}
            for extra in self._answer.directives.all("extra"):
                candidate |= extra.json()
        return candidate

    def _blocked(self) -> dict[str, Any]:
        feedback = {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": self._answer.refusal}
        return {"promptFeedback": feedback, **self._usage(0), **self._head}

    def _usage(self, completion: int) -> dict[str, Any]:
        """The counts as Google sends them: without those that are zero."""
        asked = self._answer.directives.get("usage")
        if asked and asked.argument == "none":
            return {}
        prompt, thought = self._answer.prompt_tokens, self._thought_tokens
        counts = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": completion,
            "totalTokenCount": prompt + completion + thought,
            "thoughtsTokenCount": thought,
        }
        found: dict[str, Any] = {name: count for name, count in counts.items() if count}
        found["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]
        return {"usageMetadata": found | (asked.json() if asked else {})}


def _call(use: Use, call_id: str | None) -> dict[str, Any]:
    try:
        arguments = json.loads(use.arguments or "{}")
    except ValueError:
        arguments = {"input": use.arguments}
    call = {"name": use.name, "args": arguments}
    return {"functionCall": call | ({"id": call_id} if call_id else {})}


def _split(part: dict[str, Any]) -> list[dict[str, Any]]:
    """A part in the pieces of a stream: a text word by word, anything else at once."""
    return [part | {"text": piece} for piece in pieces(part["text"])] if part.get("text") else [part]


def _citation(answer: Reply) -> dict[str, Any]:
    return {"startIndex": 0, "endIndex": len(answer.text), "uri": "https://example.com/", "title": "Example"}
