"""A chat with one record, shown in short lines: `3 user: Hi (replaces 1)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.fold import fold
from converra.history.record import Record, take_snapshot
from converra.history.turn import Answer, Request, SourceMessage, SourceToolCall
from converra.integrations.openai.chat import CHAT
from converra.integrations.openai.chat import call as read_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.history.fold import NewMessage
    from converra.history.record import Snapshot
    from converra.history.turn import Dialect

Message = dict[str, Any]


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str | None, *calls: Message) -> Message:
    message: Message = {"role": "assistant", "content": text}
    return {**message, "tool_calls": list(calls)} if calls else message


def call(call_id: str, name: str = "search", arguments: str = "{}") -> Message:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, text: str) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def answered(*parts: str | Message | SourceMessage, response_id: str | None = None) -> Answer:
    """An answer of a text, of tool calls, of both, or of given source messages."""
    given = tuple(part for part in parts if isinstance(part, SourceMessage))
    text = "".join(part for part in parts if isinstance(part, str))
    calls = tuple(read_call(part) for part in parts if isinstance(part, dict))
    source = given or (SourceMessage("assistant", text, calls),)
    return Answer(messages=source, response_id=response_id)


class Chat:
    """One conversation. Every call gives the lines of its new messages."""

    def __init__(self, *, shared: bool = False, dialect: Dialect = CHAT) -> None:
        self.record = Record(shared=shared)
        self.dialect = dialect

    def begin(
        self, messages: Sequence[Any], *, previous: str | None = None, instructions: str | None = None
    ) -> Snapshot:
        request = Request(dialect=self.dialect, messages=messages, previous=previous, instructions=instructions)
        return take_snapshot(self.record, request)

    def end(
        self, snapshot: Snapshot, *answer: str | Message | SourceMessage, response_id: str | None = None
    ) -> list[str]:
        return [line(new) for new in fold(self.record, snapshot, answered(*answer, response_id=response_id))]

    def ask(
        self,
        messages: Sequence[Any],
        *answer: str | Message | SourceMessage,
        previous: str | None = None,
        instructions: str | None = None,
        response_id: str | None = None,
    ) -> list[str]:
        snapshot = self.begin(messages, previous=previous, instructions=instructions)
        return self.end(snapshot, *answer, response_id=response_id)

    def fail(self, messages: Sequence[Any], *, previous: str | None = None) -> list[str]:
        return [line(new) for new in fold(self.record, self.begin(messages, previous=previous), None)]


def line(new: NewMessage) -> str:
    """A new message in one line."""
    source = new.source
    calls = "".join(f" [{_call(c)}]" for c in source.calls)
    of = f" {source.call_id or ''}/{source.name or ''}" if source.call_id or source.name else ""
    notes = [f"thread {new.thread}"] if new.thread else []
    notes += [f"replaces {new.replaces}"] if new.replaces is not None else []
    notes += ["learned"] if new.already_known else []
    words = f" {source.text}" if source.text else ""
    return f"{new.number} {source.role}{of}:{words}{calls}" + (f" ({', '.join(notes)})" if notes else "")


def _call(made: SourceToolCall) -> str:
    arguments = made.arguments if made.arguments not in (None, "", "{}") else ""
    return f"{made.id or '-'}/{made.name}{arguments}"
