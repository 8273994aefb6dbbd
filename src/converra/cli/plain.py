"""Conversations as plain text and as Markdown: for pipes, files and pull requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from converra.api.results import StoredMessage
from converra.capture.console import visible
from converra.cli.wording import facts, shown_call
from converra.errors import InvalidArgumentError
from converra.transcript import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.api.results import StoredConversation


def conversation_lines(conversation: StoredConversation, last: int | None = None) -> Iterator[str]:
    """A head line, and each message, or the last of them, with a line for who, its words, its calls and its cost."""
    yield visible(f"{conversation.id}  {conversation.status}  {conversation.prompt_id}")
    messages = list(said(conversation))
    for role, text in messages[-last:] if last else messages:
        yield ""
        yield f"{visible(role)}:"
        yield from (f"  {line}" for line in visible(text).splitlines())


def said(conversation: StoredConversation) -> Iterator[tuple[str, str]]:
    """Role and words of each message."""
    for message in messages_of(conversation):
        yield message.role or "?", words(message)


def messages_of(conversation: StoredConversation) -> list[StoredMessage]:
    """The messages, whichever of its forms the API shows the conversation in."""
    return conversation.messages or _of_content(conversation.content or "")


def _of_content(content: str) -> list[StoredMessage]:
    try:
        messages = parse(content).messages if content else ()
    except InvalidArgumentError:  # neither form, but words all the same
        return [StoredMessage.from_dict({"role": "content", "content": content})]
    return [StoredMessage.from_dict(msgspec.to_builtins(message)) for message in messages]


def words(message: StoredMessage) -> str:
    """Lines of a message: text, tool calls, and its cost last."""
    cost = " · ".join(facts(message))
    return "\n".join(filter(None, (*spoken(message), f"({cost})" if cost else "")))


def spoken(message: StoredMessage) -> Iterator[str]:
    """Text and tool calls of a message; for a tool result the text alone, as its call precedes it."""
    if message.content:
        yield message.content
    if message.role != "tool" or not message.content:
        yield from map(shown_call, message.tool_calls or ())


def markdown(message: StoredMessage) -> str:
    """One message as a Markdown block: the role, and the words quoted, so that no mark-up of theirs gets out."""
    cost = " · ".join(facts(message))
    quoted = "\n".join(f"> {line}".rstrip() for line in visible("\n".join(spoken(message))).splitlines())
    return f"**{visible(message.role or '?')}**{f' ({visible(cost)})' if cost else ''}\n\n{quoted}\n"
