"""A conversation as a person reads it in a terminal: who said what, and what each turn cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from converra.capture.console import visible
from converra.cli.plain import messages_of
from converra.cli.wording import facts, shown_call, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from converra.api.results import StoredConversation, StoredMessage

_STYLES = {"system": "dim", "user": "bold", "assistant": "green", "tool": "cyan"}


def chat(conversation: StoredConversation, last: int | None = None) -> RenderableType:
    """Its head line and its messages, or the last of them, in order.

    All of it is text: nothing is read as markup or as a control code.
    """
    table = Table.grid(padding=(0, 2))
    messages = messages_of(conversation)
    for message in messages[-last:] if last else messages:
        role = message.role or "?"
        table.add_row(_text(role, _STYLES.get(role, "")), Group(*_lines(message), ""))
    return Group(_head(conversation, messages), "", table)


def _head(conversation: StoredConversation, messages: Sequence[StoredMessage]) -> Text:
    usages = [message.usage for message in messages if message.usage]
    sent = sum(usage.prompt_tokens or 0 for usage in usages)
    received = sum(usage.completion_tokens or 0 for usage in usages)
    cost = f" · {tokens(sent, received)}" if usages else ""
    head = _text(f"{conversation.id}  ", "bold")
    head.append(_text(f"{conversation.status}", "green" if conversation.status == "completed" else "yellow"))
    head.append(_text(f"  {conversation.prompt_id}", "not bold"))
    return head.append(_text(f"\n{len(messages)} messages{cost}", "not bold"))


def _text(words: str, style: str = "") -> Text:
    return Text(visible(words), style)


def _lines(message: StoredMessage) -> Iterator[Text]:
    calls = message.tool_calls or []
    if message.content:
        names = ", ".join(call.name for call in calls if call.name) if message.role == "tool" else ""
        content = _indented(message.content) if message.role == "tool" else message.content
        yield _text(f"{names} returned {content}" if names else content)
    if message.role != "tool" or not message.content:
        yield from (_text(shown_call(call), "cyan") for call in calls)
    when = [f"{message.timestamp.astimezone():%H:%M:%S}"] if message.timestamp else []
    cost = " · ".join((*when, *facts(message)))
    if cost:
        yield _text(cost, "dim")


def _indented(content: str) -> str:
    """Lay out a tool's result if it is a JSON object or list; return any other as it is."""
    try:
        value = msgspec.json.decode(content) if content.lstrip()[:1] in ("{", "[") else None
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return content
    return content if not value else msgspec.json.format(content.strip(), indent=2)
