"""The setting `console`: one line on standard error for each captured message, without control characters."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from converra.config import refuses_colour
from converra.process.guard import guard
from converra.wire.models import tool_call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from converra.history.draft import Draft, ManualDraft
    from converra.wire.models import Message

COLOURS = {"system": "2", "user": "36", "assistant": "32", "tool": "33"}
MAX_TEXT = 200

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421, 0x9B: 0x241B}
_CONTROLS = dict.fromkeys(range(0x80, 0xA0), 0x2426) | _PICTURES
"""Control characters → their Unicode pictures; those without one → the picture of a substitute."""


def visible(text: str) -> str:
    """Replace control characters by visible ones: a message must not steer the terminal."""
    return text.translate(_CONTROLS)


def in_colour(stream: TextIO) -> bool:
    """Return True if the stream is a terminal and colours are not refused (`NO_COLOR`)."""
    return stream.isatty() and not refuses_colour()


def show(drafts: Sequence[Draft | ManualDraft]) -> None:
    """Print the messages, after redaction, in colour on a terminal."""
    with guard("printing turns to the console"):
        for draft in drafts:
            message = draft.message()
            if message is not None:
                print(_line(message, colour=in_colour(sys.stderr)), file=sys.stderr)  # noqa: T201 - what it is for


def _line(message: Message, *, colour: bool) -> str:
    role = f"{message.role:>9}"
    if colour:
        role = f"\x1b[{COLOURS[message.role]}m{role}\x1b[0m"
    text = " ".join(message.content.split())
    text = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
    calls = " ".join(f"[{tool_call(call).name}]" for call in message.tool_calls or ())
    return " ".join(filter(None, ("converra", role, visible(calls), visible(text), _facts(message))))


def _facts(message: Message) -> str:
    facts = []
    if message.usage is not None:
        facts.append(f"{message.usage.prompt_tokens or 0}+{message.usage.completion_tokens or 0} tokens")
    if message.latency_ms is not None:
        facts.append(f"{message.latency_ms:.0f} ms")
    return f"({', '.join(facts)})" if facts else ""
