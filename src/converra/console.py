"""One line per message on standard error while it is captured (the setting `console`)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from converra.guard import guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.conversation.draft import Draft, Written
    from converra.conversation.models import Message

COLOURS = {"system": "2", "user": "36", "assistant": "32", "tool": "33"}
MAX_TEXT = 200


def show(drafts: Sequence[Draft | Written]) -> None:
    """Print the messages, after redaction, in colour on a terminal."""
    with guard("printing turns to the console"):
        for draft in drafts:
            message = draft.message()
            if message is not None:
                print(_line(message, colour=sys.stderr.isatty()), file=sys.stderr)  # noqa: T201 - what it is for


def _line(message: Message, *, colour: bool) -> str:
    role = f"{message.role:>9}"
    if colour:
        role = f"\x1b[{COLOURS[message.role]}m{role}\x1b[0m"
    words = " ".join(message.content.split())
    words = words if len(words) <= MAX_TEXT else f"{words[: MAX_TEXT - 1]}…"
    calls = " ".join(f"[{call.name}]" for call in message.tool_calls or ())
    return " ".join(filter(None, ("converra", role, calls, words, _facts(message))))


def _facts(message: Message) -> str:
    facts = []
    if message.usage is not None:
        facts.append(f"{message.usage.prompt_tokens or 0}+{message.usage.completion_tokens or 0} tokens")
    if message.latency_ms is not None:
        facts.append(f"{message.latency_ms:.0f} ms")
    return f"({', '.join(facts)})" if facts else ""
