"""The conversations that a test produced, as typed objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from converra.capture.console import visible
from converra.wire.models import Message, Status, ToolCall, tool_call

if TYPE_CHECKING:
    from collections.abc import Callable


class CapturedConversation(msgspec.Struct, kw_only=True):
    """One conversation, as it would have been sent.

    Attributes:
        prompt_id: The prompt.
        session_id: The session, or None.
        company_name: The customer's company, or None.
        status: "active", "completed" or "abandoned".
        messages: The messages, in order.
        metadata: The metadata of the app, and the declared tools; what the SDK adds about itself is left out.

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

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        """The conversation as a person reads it, for the report of a failed test."""
        session = f", session {self.session_id}" if self.session_id else ""
        lines = [f"conversation of {self.prompt_id}{session}: {self.status}"]
        lines += [f"  {message.role:>9}: {_shown(message)}" for message in self.messages]
        return visible("\n".join(lines))


class Capture:
    """The conversations of one test, in the order of their first messages."""

    def __init__(self) -> None:
        self._kept: list[CapturedConversation] = []
        """The conversations as far as they are recorded."""
        self._release: Callable[[], None] | None = None
        """Has the recorder record what it holds back, such as the turns of OpenTelemetry's spans."""

    @property
    def conversations(self) -> list[CapturedConversation]:
        """The conversations so far."""
        if self._release is not None:
            self._release()
        return self._kept

    @property
    def messages(self) -> list[Message]:
        """The messages of all conversations, one conversation after the other."""
        return [message for conversation in self.conversations for message in conversation.messages]

    def only(self, *, prompt_id: str | None = None, session_id: str | None = None) -> CapturedConversation:
        """Return the one conversation, of this prompt and this session if they are given.

        Args:
            prompt_id: Count only conversations of this prompt.
            session_id: Count only conversations of this session.

        Raises:
            AssertionError: There is not exactly one; the message shows all conversations.

        """
        __tracebackhide__ = True
        wanted = {"prompt_id": prompt_id, "session_id": session_id}
        asked = {name: value for name, value in wanted.items() if value is not None}
        found = [c for c in self.conversations if all(getattr(c, name) == value for name, value in asked.items())]
        if len(found) != 1:
            of = "".join(f" of {name} {value!r}" for name, value in asked.items())
            raise AssertionError(f"expected one conversation{of}, found {len(found)}; {self}")
        return found[0]

    def __repr__(self) -> str:
        return f"<Capture of {len(self.conversations)} conversations, {len(self.messages)} messages>"

    def __str__(self) -> str:
        """All conversations as a person reads them."""
        shown = "\n".join(str(conversation) for conversation in self.conversations)
        return f"captured:\n{shown}" if shown else "nothing was captured"


def _shown(message: Message) -> str:
    """The text of a message and its tool calls: those that the model makes as calls, that of a result as its name."""
    calls = [tool_call(call) for call in message.tool_calls or ()]
    made = [f"{call.name}({_arguments(call)})" for call in calls if call.arguments is not msgspec.UNSET]
    answered = [f"{call.name} ->" for call in calls if call.arguments is msgspec.UNSET]
    text = message.content.replace("\n", "\n" + 13 * " ")
    return " ".join(filter(None, (*answered, text, *made)))


def _arguments(call: ToolCall) -> str:
    if not isinstance(call.arguments, dict):
        return str(call.arguments)
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
