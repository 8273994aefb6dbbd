"""The conversations that a test produced, as typed objects."""

from __future__ import annotations

from typing import Any

import msgspec

from converra.wire.models import Message, Status, ToolCall, tool_call


class CapturedConversation(msgspec.Struct, kw_only=True):
    """One conversation, as it would have been sent.

    `metadata` is the user's own and the declared tools; what the SDK says of itself is left out.
    """

    prompt_id: str
    session_id: str | None = None
    company_name: str | None = None
    status: Status = "active"
    messages: list[Message] = []
    metadata: dict[str, Any] = {}

    @property
    def said(self) -> list[tuple[str, str]]:
        """Role and content of each message."""
        return [(message.role, message.content) for message in self.messages]

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls that the model made, in order, without the results that refer to them."""
        calls = (tool_call(call) for message in self.messages for call in message.tool_calls or ())
        return [call for call in calls if call.arguments is not msgspec.UNSET]

    @property
    def answers(self) -> list[str]:
        """Texts of the assistant's messages."""
        return [message.content for message in self.messages if message.role == "assistant"]

    def __str__(self) -> str:
        """The conversation as a person reads it, for the message of a failed test."""
        session = f", session {self.session_id}" if self.session_id else ""
        lines = [f"conversation of {self.prompt_id}{session}: {self.status}"]
        return "\n".join([*lines, *(f"  {message.role:>9}: {_brief(message)}" for message in self.messages)])


class Capture:
    """The conversations of one test, in the order of their first messages."""

    def __init__(self) -> None:
        self.conversations: list[CapturedConversation] = []

    @property
    def messages(self) -> list[Message]:
        """The messages of all conversations, one conversation after the other."""
        return [message for conversation in self.conversations for message in conversation.messages]

    def only(self, *, prompt_id: str | None = None, session_id: str | None = None) -> CapturedConversation:
        """Give the one conversation (of this prompt, of this session); raises AssertionError for none, and for more."""
        wanted = {"prompt_id": prompt_id, "session_id": session_id}
        asked = {name: value for name, value in wanted.items() if value is not None}
        found = [c for c in self.conversations if all(getattr(c, name) == value for name, value in asked.items())]
        if len(found) != 1:
            of = "".join(f" of {name} {value!r}" for name, value in asked.items())
            raise AssertionError(f"expected one conversation{of}, found {len(found)}; {self}")
        return found[0]

    def __str__(self) -> str:
        """All conversations as a person reads them."""
        shown = "\n".join(str(conversation) for conversation in self.conversations)
        return f"captured:\n{shown}" if shown else "nothing was captured"


def _brief(message: Message) -> str:
    calls = "".join(f"[{tool_call(call).name}]" for call in message.tool_calls or ())
    return " ".join(filter(None, (calls, message.content)))
