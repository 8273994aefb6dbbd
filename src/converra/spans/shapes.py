"""Requests and answers in the shape of a provider's API, as emitters without conventions put them on spans. Pure.

The shapes are those of Chat Completions and Responses (OpenAI), Messages (Anthropic) and generateContent (Gemini), or
a plain text. Our own integrations read them; this module recognises them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from converra.history.turn import Answer, SourceMessage
from converra.integrations.anthropic import messages as anthropic
from converra.integrations.google_genai import contents, generate
from converra.integrations.openai import chat, items, responses
from converra.integrations.payload.fields import items as listed
from converra.integrations.payload.fields import string
from converra.integrations.payload.usage import usage, usage_details
from converra.spans.dialects import genai
from converra.spans.messages import ROLES, as_text, own

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MESSAGES = ("messages", "input", "contents", "prompt")
"""Fields of a request that hold its messages."""

SPEAKERS = (None, "assistant", "model", "ai")
"""Roles of the messages of an answer; an item of another kind than a message has none."""

BLOCKS = frozenset({"tool_use", "tool_result", "thinking"})
"""Kinds of blocks that only Anthropic's messages have."""


class Asked(NamedTuple):
    """A request: its messages in order, system messages first."""

    messages: tuple[SourceMessage, ...] = ()
    tools: Sequence[Any] = ()
    model: str | None = None


def asked(value: Any) -> Asked:
    """Read a request: a body, a list of messages, one message, or a text."""
    body = own(value)
    field = next((name for name in MESSAGES if name in body), None)
    if field is None:
        return Asked(tuple(_messages(value)))
    instructions = _instructions(body)
    given = body[field]
    messages = tuple(_messages(contents.whole(listed(given)) if field == "contents" else given))
    tools = listed(body.get("tools"))
    declared = generate.declared(tools) if field == "contents" else tools
    return Asked((*instructions, *messages), declared, string(body.get("model")))


def _instructions(body: dict[str, Any]) -> tuple[SourceMessage, ...]:
    """Read the system prompt where it stands beside the messages."""
    for name in ("system", "instructions", "system_instruction", "systemInstruction"):
        text = _text(body.get(name))
        if text:
            return (SourceMessage("system", text),)
    return ()


def _text(value: Any) -> str:
    """Return a text, or that of parts."""
    if isinstance(value, str):
        return value
    parts = listed(value) or listed(own(value).get("parts"))
    return "\n".join(text for part in parts if (text := string(part) or string(own(part).get("text"))))


def _messages(value: Any) -> Iterable[SourceMessage]:
    """Yield the messages of a list, of one message, or of a text of the user."""
    if isinstance(value, str):
        if value:
            yield SourceMessage("user", value)
        return
    for one in listed(value) or ([value] if own(value) else []):
        if isinstance(one, str):
            yield SourceMessage("user", one)
        else:
            yield from message(one)


def message(value: Any) -> tuple[SourceMessage, ...]:
    """Read one message in the shape of any provider; another object becomes a user's message of its JSON."""
    given = own(value)
    parts = listed(given.get("parts"))
    if parts:
        return genai.message(given) if any("type" in own(part) for part in parts) else contents.read(given)
    if "role" not in given or given.get("type") in ("reasoning", "function_call", "function_call_output"):
        return items.read(given) if items.known(given) else (SourceMessage("user", as_text(value)),)
    if any(own(block).get("type") in BLOCKS for block in listed(given.get("content"))):
        return anthropic.read(given)
    role = given["role"]
    return chat.read({**given, "role": ROLES[role]} if role in ROLES else given)


def answered(value: Any) -> Answer:
    """Read an answer: a body, a message of the assistant, items of Responses, or a text."""
    if isinstance(value, str):
        return Answer((SourceMessage("assistant", value),)) if value else Answer()
    answer = _body(own(value))
    if answer is None:
        many = listed(value)
        if many and all(own(one).get("role") in SPEAKERS for one in many):
            answer = Answer(tuple(source for one in many for source in _spoken(one)))
        else:
            answer = Answer((SourceMessage("assistant", as_text(value)),)) if value else Answer()
    answer.settle()  # spans are read off the app's thread
    return answer


def _body(body: dict[str, Any]) -> Answer | None:
    """Read the body of an answer, or one message; None for anything else."""
    if "choices" in body:
        return chat.any_answer(body)
    if "candidates" in body:
        return generate.answer(body)
    if isinstance(body.get("output"), list | tuple):
        return responses.answer_of(body, body["output"])
    if body.get("type") == "message" and "stop_reason" in body:
        return anthropic.answer_of(body)
    return Answer(message(_as_answer(body))) if body and body.get("role") in SPEAKERS[1:] else None


def _as_answer(body: dict[str, Any]) -> dict[str, Any]:
    """Return a message of the assistant without the envelope of a Responses item."""
    return {name: field for name, field in body.items() if name not in ("id", "status", "type", "phase")}


def _spoken(value: Any) -> tuple[SourceMessage, ...]:
    if isinstance(value, str):
        return (SourceMessage("assistant", value),)
    given = own(value)
    if items.known(given) and given.get("type") != "message":
        return items.read(given)
    return message(_as_answer({"role": "assistant", **given}))


def counted(value: Any) -> dict[str, Any]:
    """Return token usage and its details as fields of an `Answer`, from counts under any provider's names."""
    reported = own(value)
    return {"usage": usage(reported), "usage_details": usage_details(reported)} if reported else {}
