"""A chat with one record, told in short lines: `3 user: Hi (replaces 1)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.fold import fold
from converra.history.record import Record
from converra.history.snapshot import freeze
from converra.history.turn import Answer, Call, Request, Said
from converra.integrations.openai.chat import CHAT
from converra.integrations.openai.chat import call as read_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.history.fold import Heard
    from converra.history.snapshot import View
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


def answered(*parts: str | Message | Said, response_id: str | None = None) -> Answer:
    """An answer of a text, of tool calls, of both, or of whatever was said."""
    given = tuple(part for part in parts if isinstance(part, Said))
    text = "".join(part for part in parts if isinstance(part, str))
    calls = tuple(read_call(part) for part in parts if isinstance(part, dict))
    said = given or (Said("assistant", text, calls),)
    return Answer(said=said, response_id=response_id)


class Chat:
    """One conversation. Every call gives the lines of its new messages."""

    def __init__(self, *, shared: bool = False, dialect: Dialect = CHAT) -> None:
        self.record = Record(shared=shared)
        self.dialect = dialect

    def begin(self, messages: Sequence[Any], *, previous: str | None = None, instructions: str | None = None) -> View:
        request = Request(dialect=self.dialect, messages=messages, previous=previous, instructions=instructions)
        return freeze(self.record, request)

    def end(self, view: View, *answer: str | Message | Said, response_id: str | None = None) -> list[str]:
        return [line(heard) for heard in fold(self.record, view, answered(*answer, response_id=response_id))]

    def ask(
        self,
        messages: Sequence[Any],
        *answer: str | Message | Said,
        previous: str | None = None,
        instructions: str | None = None,
        response_id: str | None = None,
    ) -> list[str]:
        view = self.begin(messages, previous=previous, instructions=instructions)
        return self.end(view, *answer, response_id=response_id)

    def fail(self, messages: Sequence[Any], *, previous: str | None = None) -> list[str]:
        return [line(heard) for heard in fold(self.record, self.begin(messages, previous=previous), None)]


def line(heard: Heard) -> str:
    """A new message in one line."""
    said = heard.said
    calls = "".join(f" [{_call(c)}]" for c in said.calls)
    of = f" {said.call_id or ''}/{said.name or ''}" if said.call_id or said.name else ""
    notes = [f"thread {heard.thread}"] if heard.thread else []
    notes += [f"replaces {heard.replaces}"] if heard.replaces is not None else []
    notes += ["learned"] if heard.learned else []
    words = f" {said.text}" if said.text else ""
    return f"{heard.number} {said.role}{of}:{words}{calls}" + (f" ({', '.join(notes)})" if notes else "")


def _call(made: Call) -> str:
    arguments = made.arguments if made.arguments not in (None, "", "{}") else ""
    return f"{made.id or '-'}/{made.name}{arguments}"
