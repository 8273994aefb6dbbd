"""One line for one message: for people, and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from converra.capture.console import visible
from converra.cli.wording import facts, shown_call

if TYPE_CHECKING:
    from converra.api.results import StoredMessage
    from converra.cli.feed import FeedMessage

MAX_TEXT = 160
_COLOURS = {"system": "bright_black", "user": "cyan", "assistant": "green", "tool": "yellow"}


def line(said: FeedMessage, *, colour: bool) -> str:
    """Prompt, the last letters of the conversation's id, who, what, and what it cost."""
    where = f"{said.conversation.prompt_id} {said.conversation.id[-4:]}"
    if said.message is None:
        return f"{visible(where)}  {said.conversation.status}"
    role = f"{said.message.role or '?':>9}"
    role = click.style(role, fg=_COLOURS.get(said.message.role or "")) if colour else role
    cost = " · ".join(facts(said.message))
    return "  ".join(filter(None, (visible(where), role, _words(said.message), f"({visible(cost)})" if cost else "")))


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
