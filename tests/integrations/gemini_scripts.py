"""Gemini's answers for tests: by the local server's stand-in model, and as real traffic was found to have them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from converra.server.model import gemini, script
from converra.server.model.wire import ModelError, Stamps
from tests.integrations.scripted import Received, Reply, always, document, stream

if TYPE_CHECKING:
    from collections.abc import Callable

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(64))).decode()

USAGE: dict[str, Any] = {
    "promptTokenCount": 21,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 4,
    "cachedContentTokenCount": 16,
    "totalTokenCount": 30,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 13}, {"modality": "IMAGE", "tokenCount": 8}],
}


def answered(*parts: dict[str, Any], finish: str | None = "STOP", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """A whole answer with one candidate, or a chunk; `more` are fields of the candidate."""
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0, **more}
    if finish:
        candidate["finishReason"] = finish
    head = {"modelVersion": "gemini-2.5-flash", "responseId": "r-1"}
    return {"candidates": [candidate], **({"usageMetadata": usage} if usage else {}), **head}


def chunk(*parts: dict[str, Any], finish: str | None = None, completion: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk; its counts are those so far."""
    counts = {"promptTokenCount": 21, "totalTokenCount": 21 + completion}
    return answered(*parts, finish=finish, usage=counts | {"candidatesTokenCount": completion}, **more)


TEXT_CHUNKS = [
    chunk({"text": "Weighing it.", "thought": True}),
    *[chunk({"text": word}, completion=number) for number, word in enumerate(("Hel", "lo", " there", "!"), 1)],
    chunk({"text": "", "thoughtSignature": "c2lnbmVk"}, finish="STOP", completion=5),
]
CODE: list[dict[str, Any]] = [
    {"text": "Let me count."},
    {"executableCode": {"language": "PYTHON", "code": "print(6 * 7)"}},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42\n"}},
    {"text": "It is 42."},
]
GROUNDED: dict[str, Any] = {
    "groundingMetadata": {
        "webSearchQueries": ["tent sizes"],
        "groundingChunks": [{"web": {"uri": "https://example.com/tents", "title": "Tents"}}],
        "searchEntryPoint": {"renderedContent": "<div>" + "x" * 6_000 + "</div>"},
    },
    "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}],
}
ERROR = {"error": {"code": 400, "message": "Invalid value at 'contents'", "status": "INVALID_ARGUMENT"}}


INTERACTION: dict[str, Any] = {
    "id": "int-1",
    "object": "interaction",
    "model": "gemini-3-flash",
    "usage": {
        "total_input_tokens": 7,
        "total_output_tokens": 4,
        "total_thought_tokens": 2,
        "total_tokens": 13,
        "input_tokens_by_modality": [{"modality": "text", "tokens": 7}],
    },
}
STEPS: list[dict[str, Any]] = [
    {"type": "thought", "summary": [{"type": "text", "text": "Hm."}], "signature": "c2ln"},
    {"type": "model_output", "content": [{"type": "text", "text": "Hello there!"}]},
]
CALLING: dict[str, Any] = {"type": "function_call", "id": "c1", "name": "get_weather", "arguments": {"city": "Paris"}}


def interaction(*steps: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    """A whole interaction."""
    return {**INTERACTION, "status": status, "steps": list(steps)}


def _delta(index: int, kind: str, **delta: Any) -> dict[str, Any]:
    return {"event_type": "step.delta", "index": index, "delta": {"type": kind, **delta}}


def _start(index: int, kind: str, **step: Any) -> dict[str, Any]:
    return {"event_type": "step.start", "index": index, "step": {"type": kind, **step}}


EVENTS = [
    {
        "event_type": "interaction.created",
        "interaction": {"id": "int-1", "status": "in_progress", "model": "gemini-3-flash"},
    },
    _start(0, "thought"),
    _delta(0, "thought_summary", content={"type": "text", "text": "Hm."}),
    {"event_type": "step.stop", "index": 0},
    _start(1, "model_output"),
    *[_delta(1, "text", text=word) for word in ("Hel", "lo", " there!")],
    {"event_type": "step.stop", "index": 1},
    _start(2, "function_call", id="c1", name="get_weather", arguments={}),
    *[_delta(2, "arguments_delta", arguments=piece) for piece in ('{"city": ', '"Paris"}')],
    {"event_type": "step.stop", "index": 2},
    {"event_type": "interaction.completed", "interaction": {**INTERACTION, "status": "requires_action"}},
]


def _stand_in(request: Received) -> Reply:
    """The stand-in's answer, with the ids of a server that has just been started."""
    model, _, method = request.line.split()[1].rpartition("/")[2].partition("?")[0].partition(":")
    body = request.json
    if not method.endswith("enerateContent"):
        return document({"totalTokens": 3})
    answer = script.reply(gemini.read(body))
    failed = answer.directives.get("error")
    if failed:
        error = ModelError(int(failed.argument), "The stand-in was asked for an error.")
        return document(gemini.error_body(error), error.status)
    generation = gemini.Generation(model, body, answer, Stamps())
    return stream(*generation.chunks(), done=False) if method.startswith("stream") else document(generation.whole())


SCRIPTS: dict[str, Callable[[Received], Reply]] = {
    "stand-in": _stand_in,
    "code": always(document(answered(*CODE))),
    "image": always(document(answered({"text": "A tent:"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}))),
    "grounded": always(document(answered({"text": "Two metres."}, **GROUNDED))),
    "thoughts": always(document(answered({"text": "Hm.", "thought": True}, {"text": "Yes."}))),
    "filtered": always(document({**answered(finish="SAFETY"), "candidates": [{"finishReason": "SAFETY", "index": 0}]})),
    "json": always(document(answered({"text": '{"name": "Ada", "age": 36}'}))),
    "stream": always(stream(*TEXT_CHUNKS, done=False)),
    "stream-cut": always(stream(*TEXT_CHUNKS[:3], done=False, cut=True)),
    "stream-held": always(stream(*TEXT_CHUNKS, done=False, hold=3)),
    "stream-error": always(stream(*TEXT_CHUNKS[:3], {"error": ERROR["error"] | {"code": 503}}, done=False)),
    "stream-code": always(stream(*[chunk(part) for part in CODE], chunk(finish="STOP"), done=False)),
    "held": always(Reply((json.dumps(answered({"text": "Late."})).encode(),), hold=0)),
    "plain-text": always(Reply((b"<html>gateway</html>",), content_type="text/html")),
    "interaction": always(document(interaction(*STEPS))),
    "interaction-calls": always(document(interaction(CALLING, status="requires_action"))),
    "interaction-bad": always(document({"error": {"code": "invalid_request", "message": "no"}}, 400)),
    "events": always(stream(*EVENTS, done=False)),
    "events-cut": always(stream(*EVENTS[:7], done=False, cut=True)),
    "empty": always(Reply((b"",))),
}
