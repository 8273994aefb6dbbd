"""A conversation as a person reads it in a terminal: who said what, and what each turn cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from converra.api.results import Conversation, StoredMessage, StoredToolCall

_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421, 0x9B: 0x241B}
"""Control characters as the pictures of themselves: what somebody said must not steer the terminal."""

_STYLES = {"system": "dim", "user": "bold", "assistant": "green", "tool": "cyan"}


def chat(conversation: Conversation) -> RenderableType:
    """Its head line and its messages, in order. All of it is text: nothing is read as markup or as a control code."""
    table = Table.grid(padding=(0, 2))
    for message in conversation.messages or []:
        role = message.role or "?"
        table.add_row(_text(role, _STYLES.get(role, "")), Group(*_lines(message), ""))
    return Group(_head(conversation), "", table)


def _head(conversation: Conversation) -> Text:
    messages = conversation.messages or []
    usages = [message.usage for message in messages if message.usage]
    sent = sum(usage.prompt_tokens or 0 for usage in usages)
    received = sum(usage.completion_tokens or 0 for usage in usages)
    head = _text(f"{conversation.id}  ", "bold")
    head.append(_text(f"{conversation.status}", "green" if conversation.status == "completed" else "yellow"))
    head.append(_text(f"  {conversation.prompt_id}", "not bold"))
    return head.append(_text(f"\n{len(messages)} messages · {sent} tokens in, {received} out", "not bold"))


def visible(words: str) -> str:
    """Words in which control characters are shown instead of obeyed."""
    return words.translate(_CONTROLS)


def _text(words: str, style: str = "") -> Text:
    return Text(visible(words), style)


def _lines(message: StoredMessage) -> Iterator[Text]:
    calls = message.tool_calls or []
    if message.content:
        names = ", ".join(call.name for call in calls if call.name) if message.role == "tool" else ""
        yield _text(f"{names} returned {message.content}" if names else message.content)
    if message.role != "tool" or not message.content:
        yield from (_text(shown_call(call), "cyan") for call in calls)
    cost = " · ".join(facts(message))
    if cost:
        yield _text(cost, "dim")


def shown_call(call: StoredToolCall) -> str:
    """A tool call as one would write it."""
    arguments = call.arguments
    if isinstance(arguments, dict):
        shown = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    else:
        shown = "" if arguments is None else str(arguments)
    return f"calls {call.name}({shown})"


def facts(message: StoredMessage) -> Iterator[str]:
    """Model, tokens and latency, as far as they are known."""
    metadata: dict[str, Any] = message.metadata or {}
    first = metadata.get("timeToFirstTokenMs")
    if message.model:
        yield message.model
    if message.usage:
        yield f"{message.usage.prompt_tokens} tokens in, {message.usage.completion_tokens} out"
    if message.latency_ms is not None:
        yield f"{message.latency_ms:.0f} ms" + (f", first token after {first:.0f} ms" if first is not None else "")
    if metadata.get("partial"):
        yield "cut short"
    if error := metadata.get("error"):
        yield f"failed: {error.get('type') if isinstance(error, dict) else error}"
