"""Conversations in forms of others: the messages of OpenAI's API, its fine-tuning, and ShareGPT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.cli.plain import messages_of
from converra.wire.models import is_added

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converra.api.results import StoredConversation, StoredMessage, StoredToolCall

_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}


def fine_tuning(conversations: Sequence[StoredConversation]) -> str:
    """One conversation on each line: `{"messages": …, "tools": …}`, as OpenAI's fine-tuning takes it.

    It ends with the last answer; a conversation without one is left out. Tools are declared by name: their parameters
    are not recorded.
    """
    return "".join(_line(each) for each in map(_example, conversations) if each["messages"])


def sharegpt(conversations: Sequence[StoredConversation]) -> str:
    """One conversation on each line: `{"id": …, "conversations": [{"from": …, "value": …}]}`."""
    return "".join(
        _line({"id": each.id, "conversations": [turn for message in _spoken(each) for turn in _turns(message)]})
        for each in conversations
    )


def chat_messages(conversation: StoredConversation) -> list[dict[str, Any]]:
    """Return the messages as a request of OpenAI's Chat Completions has them."""
    return [_message(message) for message in _spoken(conversation)]


def declared_tools(conversation: StoredConversation) -> list[dict[str, Any]]:
    """Return the tools that were declared, by name."""
    names = (conversation.metadata or {}).get("tools")
    return [{"type": "function", "function": {"name": name}} for name in names or () if isinstance(name, str)]


def _example(conversation: StoredConversation) -> dict[str, Any]:
    messages = chat_messages(conversation)
    while messages and (messages[-1]["role"] != "assistant" or "tool_calls" in messages[-1]):
        messages.pop()
    tools = declared_tools(conversation)
    return {"messages": messages} | ({"tools": tools} if tools else {})


def _spoken(conversation: StoredConversation) -> Iterator[StoredMessage]:
    """The messages without those that a recorder has added: the end, and feedback."""
    for message in messages_of(conversation):
        if message.role and not is_added(message.role, message.content, message.metadata):
            yield message


def _message(message: StoredMessage) -> dict[str, Any]:
    calls = message.tool_calls or []
    if _is_result(message):
        return {"role": "tool", "tool_call_id": calls[0].id if calls else None, "content": message.content}
    if calls:
        made = [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": _text(c)}} for c in calls]
        return {"role": "assistant", "content": message.content or None, "tool_calls": made}
    return {"role": message.role, "content": message.content}


def _turns(message: StoredMessage) -> Iterator[dict[str, str]]:
    if _is_result(message):
        yield {"from": "observation", "value": message.content}
        return
    if message.content:
        yield {"from": _SPEAKERS.get(message.role, message.role), "value": message.content}
    for call in message.tool_calls or ():
        value = msgspec.json.encode({"name": call.name, "arguments": call.arguments}).decode()
        yield {"from": "function_call", "value": value}


def _is_result(message: StoredMessage) -> bool:
    """Tell a tool's result, which may be empty, from the turn of a model that only calls tools, with arguments."""
    calls = message.tool_calls or ()
    return message.role == "tool" and (bool(message.content) or all(call.arguments is None for call in calls))


def _text(call: StoredToolCall) -> str:
    return call.arguments if isinstance(call.arguments, str) else msgspec.json.encode(call.arguments or {}).decode()


def _line(value: Any) -> str:
    return msgspec.json.encode(value).decode() + "\n"
