"""Each emitter's spans, as they were recorded from the real package, read as the calls that its program made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from converra.spans.dialects import read
from converra.spans.names import names
from converra.spans.reading import ModelCall, ToolRun
from tests.otel.recorded import NAMES, spans

if TYPE_CHECKING:
    from converra.history.turn import SourceMessage
    from converra.spans.span import Span

SYSTEM = ("system", "You answer questions about orders.")
ASKED = ("user", 'Where is order 7? [[tool:get_order {"id": 7}]][[then]][[say It is on its way.]]')
CALLED = ("assistant", "", "get_order", {"id": 7})
RESULT = ("tool", {"status": "shipped"})
SHIPPED = ("tool", {"id": 7, "status": "shipped"})
ANSWERED = ("assistant", "It is on its way.")
THANKS = ("user", "Thanks! [[say You are welcome.]]")
WELCOME = ("assistant", "You are welcome.")
FAILING = ("user", "Fail [[error:400 x]]")

WHOLE = [SYSTEM, ASKED, CALLED, SHIPPED, ANSWERED, THANKS, WELCOME]
SHORT = [SYSTEM, ASKED, CALLED, RESULT, ANSWERED, THANKS, WELCOME]
ADK = [("system", f'{SYSTEM[1]}\n\nYou are an agent. Your internal name is "support".'), *WHOLE[1:]]
RESPONSES = [("system", "Be brief."), ("user", "Hello [[say Hi.]]"), ("assistant", "Hi.")]

GPT, GEMINI = "gpt-4o-stand-in", "gemini-2.5-flash-stand-in"

CHATS: dict[str, tuple[list[Any], ...]] = {
    "adk-events": (ADK[:3], ADK[:5], ADK),
    "adk-legacy": (ADK[:3], ADK[:5], ADK),
    "agent-framework": (WHOLE[:3], WHOLE[:5], WHOLE),
    "langfuse": (SHORT[:3], SHORT[:5], SHORT, [FAILING], RESPONSES),
    "mlflow": (SHORT[:3], SHORT[:5], SHORT, [FAILING], RESPONSES),
    "openllmetry": (SHORT[:3], SHORT[:5], SHORT),
    "strands": (WHOLE[:3], WHOLE[:5], WHOLE),
    "vercel-6": (WHOLE[:3], WHOLE[:5], WHOLE, [SYSTEM, RESPONSES[1], RESPONSES[2]], [FAILING]),
    "vercel-7": (WHOLE[:3], WHOLE[:5], [SYSTEM, ASKED, ANSWERED, THANKS, WELCOME], [SYSTEM, FAILING]),
}
"""Request and answer of each call. Version 7 of the Vercel AI SDK gives its app the last answer of a run alone."""

Facts = tuple[str | None, tuple[int | None, int | None] | None, str | None, str | None, str | None]

OPENAI: list[Facts] = [
    (GPT, (47, 8), "tool_calls", "chatcmpl-000001", None),
    (GPT, (68, 6), "stop", "chatcmpl-000002", None),
    (GPT, (91, 4), "stop", "chatcmpl-000003", None),
]
SHORTER: list[Facts] = [OPENAI[0], (GPT, (62, 6), "stop", "chatcmpl-000002", None), (GPT, (85, 4), *OPENAI[2][2:])]

FACTS: dict[str, list[Facts]] = {
    "adk-events": [
        (None, (60, 8), "stop", None, None),
        (None, (81, 6), "stop", None, None),
        (None, (104, 4), "stop", None, None),
    ],
    "adk-legacy": [
        (GEMINI, (60, 8), "stop", None, None),
        (GEMINI, (81, 6), "stop", None, None),
        (GEMINI, (104, 4), "stop", None, None),
    ],
    "agent-framework": OPENAI,
    "langfuse": [
        (GPT, (47, 8), None, None, None),
        (GPT, (62, 6), None, None, None),
        (GPT, (85, 4), "stop", None, None),
        (None, None, None, None, "Error"),
        (GPT, (17, 2), None, None, None),
    ],
    "mlflow": [
        *SHORTER,
        (None, None, None, None, "BadRequestError"),
        (GPT, (17, 2), "completed", "resp_000001", None),
    ],
    "openllmetry": SHORTER,
    "strands": [
        (None, (47, 8), "tool_calls", None, None),
        (None, (68, 6), "stop", None, None),
        (None, (91, 4), "stop", None, None),
    ],
    "vercel-6": [
        *OPENAI,
        (GPT, (20, 2), "stop", "resp_000001", None),
        (None, None, None, None, "AI_APICallError"),
    ],
    "vercel-7": [
        *OPENAI[:2],
        (GPT, (70, 4), "stop", "chatcmpl-000003", None),
        (None, None, None, None, "AI_APICallError"),
    ],
}
"""Model, token usage, finish reason and id of each answer, and the type of the error in its place."""

SESSIONS = {name: {"chat-7"} for name in ("adk-events", "adk-legacy", "strands", "vercel-6", "vercel-7")}
SESSIONS["langfuse"] = {"chat-7", "chat-8"}


def _calls(name: str) -> list[tuple[Span, ModelCall]]:
    found = [(span, read(span)) for span in sorted(spans(name), key=lambda span: span.started)]
    return [(span, call) for span, call in found if isinstance(call, ModelCall)]


def _chat(messages: tuple[SourceMessage, ...]) -> list[Any]:
    """Return role and text of each message; results, and arguments that are text, as what their JSON says."""
    return [_said(message) for message in messages]


def _said(message: SourceMessage) -> tuple[Any, ...]:
    if message.role == "tool":
        return ("tool", json.loads(message.text))
    called = [(c.name, json.loads(c.arguments) if isinstance(c.arguments, str) else c.arguments) for c in message.calls]
    return (message.role, message.text, *(one for call in called for one in call))


@pytest.mark.parametrize("name", NAMES)
def test_an_emitters_spans_are_the_calls_of_its_program(name: str) -> None:
    """Every call of the model is read once, word for word, and spans around it make none."""
    calls = _calls(name)
    chats = tuple(_chat((*call.messages, *(call.answer.messages if call.answer else ()))) for _, call in calls)
    assert chats == CHATS[name]


@pytest.mark.parametrize("name", NAMES)
def test_an_emitters_facts_are_read(name: str) -> None:
    """Model, token usage, finish reason, the id of the answer, and the class of an error."""
    found: list[Facts] = []
    for _, call in _calls(name):
        answer, error = call.answer, call.failure.type if call.failure else None
        counted = answer.usage if answer else None
        usage = (counted.prompt_tokens, counted.completion_tokens) if counted else None
        found.append(
            (answer.model, usage, answer.finish_reason, answer.response_id, error)
            if answer
            else (None, None, None, None, error)
        )
    assert found == FACTS[name]


@pytest.mark.parametrize("name", ["strands", "vercel-6", "vercel-7"])
def test_the_time_to_the_first_token_is_read(name: str) -> None:
    """In milliseconds, whichever unit the emitter has chosen: it is a part of the call's duration."""
    timed = [(call.first_token_ms, span.seconds * 1000) for span, call in _calls(name) if call.first_token_ms]
    assert len(timed) == {"strands": 3}.get(name, 1)
    assert all(duration / 10 < first <= duration + 1 for first, duration in timed)


@pytest.mark.parametrize("name", NAMES)
def test_tools_and_sessions_are_read(name: str) -> None:
    """A tool's span names the call that it answers and has its result; sessions stand on the call or around it."""
    found = list(spans(name))
    runs = [run for run in map(read, found) if isinstance(run, ToolRun)]
    assert {session for span in found if (session := names(span).session)} == SESSIONS.get(name, set())
    for run in runs:
        assert run.name == "get_order"
        assert run.call_id is not None
        assert name == "adk-events" or json.loads(run.result or "") == {"id": 7, "status": "shipped"}
