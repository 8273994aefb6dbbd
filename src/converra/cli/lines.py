"""One line for one message or rejected request: for people, and for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec

from converra.capture.console import visible
from converra.cli.wording import facts, shown_call

if TYPE_CHECKING:
    from converra.api.results import StoredMessage
    from converra.cli.feed import FeedMessage
    from converra.server.store.records import RequestLine

MAX_TEXT = 160
_COLOURS = {"system": "bright_black", "user": "cyan", "assistant": "green", "tool": "yellow"}


def line(said: FeedMessage, *, colour: bool) -> str:
    """Format time, prompt, a part of the id that commands accept, role, words and cost."""
    where = f"{_clock(said.at)} {said.conversation.prompt_id} {said.label}"
    if said.message is None:
        return f"{visible(where)}  {said.conversation.status}"
    role = f"{said.message.role or '?':>9}"
    role = click.style(role, fg=_COLOURS.get(said.message.role or "")) if colour else role
    cost = " · ".join(facts(said.message))
    return "  ".join(filter(None, (visible(where), role, _words(said.message), f"({visible(cost)})" if cost else "")))


def rejection(request: RequestLine, *, colour: bool) -> str:
    """Format time, request, status and reason of a rejected request."""
    word = click.style("rejected", fg="red") if colour else "rejected"
    target = f"{request.method} {request.path.partition('?')[0]}"
    status = "no answer" if request.status is None else str(request.status)
    why = " ".join(filter(None, (request.reason, f"(fault: {request.fault})" if request.fault else "")))
    return f"{_clock(request.received_at)} {word}  {_short(f'{target}: {status}')}{f'  {_short(why)}' if why else ''}"


def json_rejection(request: RequestLine) -> str:
    """Encode a rejected request as a JSON object."""
    known = {name: getattr(request, name) for name in ("method", "path", "status", "reason", "fault")}
    return msgspec.json.encode(
        {"rejected": {name: value for name, value in known.items() if value is not None}}
    ).decode()


def is_answer(message: StoredMessage) -> bool:
    """Return True if a model has answered with this message: each answer is one turn."""
    calls = message.role == "tool" and any(call.arguments is not None for call in message.tool_calls or ())
    return message.role == "assistant" or calls


def _clock(at: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at / 1000))


def json_line(said: FeedMessage) -> str:
    """The conversation and the message as a JSON object; without a message where the conversation ends."""
    known = {
        "conversationId": said.conversation.id,
        "promptId": said.conversation.prompt_id,
        "status": said.conversation.status,
        "message": said.message.to_dict() if said.message else None,
    }
    return msgspec.json.encode({name: value for name, value in known.items() if value is not None}).decode()


def _words(message: StoredMessage) -> str:
    if message.role == "tool" and message.content:
        names = ", ".join(call.name for call in message.tool_calls or () if call.name)
        return _short(f"{names} returned {message.content}" if names else message.content)
    return _short(" ".join(filter(None, (message.content, *map(shown_call, message.tool_calls or ())))))


def _short(text: str) -> str:
    words = visible(" ".join(text.split()))
    return words if len(words) <= MAX_TEXT else f"{words[: MAX_TEXT - 1]}…"
