"""Messages of the Claude Agent SDK, read: prompts, answers in parts, results of runs. Pure.

The contents are those of the Messages API, whose readers read them. One answer of the model comes as several messages
with one id, a block each, and the same once more as events if the app has asked for partial messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import SourceMessage
from converra.integrations.anthropic.events import MessageEvents
from converra.integrations.anthropic.messages import answer_of
from converra.integrations.payload.deferred import deferred
from converra.integrations.payload.extras import kept
from converra.integrations.payload.fields import copied, fields, items, number, string

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.history.turn import Answer

SYNTHETIC = "<synthetic>"
"""The model of an answer that the CLI has made up: an error of the API in words."""

AGENTS = ("Task", "Agent")
"""Tools whose calls start a sub-agent."""

OF_RUN = {
    "total_cost_usd": "costUsd",
    "num_turns": "numTurns",
    "duration_ms": "durationMs",
    "duration_api_ms": "durationApiMs",
    "usage": "usage",
    "modelUsage": "modelUsage",
    "permission_denials": "permissionDenials",
    "structured_output": "structuredOutput",
    "subtype": "subtype",
    "terminal_reason": "terminalReason",
}
"""Fields of a result that are kept in `metadata.run` of the last answer of its run, and their names there."""

KEPT = (*OF_RUN, "is_error", "stop_reason", "api_error_status")
"""Fields of a result that its answer is read with."""
NO_RESULT: dict[str, Any] = {}

PLAIN = ("success", "completed")
"""Values of `subtype` and `terminal_reason` that say nothing new."""


class Parts:
    """One answer of the model, as far as it has arrived.

    If it continues one that is recorded (sub-agents had begun meanwhile), its counts are not recorded again.
    """

    def __init__(self, *, resumed: bool = False) -> None:
        self._resumed = resumed
        self._message: dict[str, Any] = {}
        self._content: list[Any] = []
        self._events: MessageEvents | None = None
        self._error: str | None = None
        self._result: dict[str, Any] | None = None
        self._alone = False

    @property
    def started(self) -> bool:
        """True once a token has arrived as an event."""
        return self._events is not None and self._events.started

    def event(self, event: Any) -> None:
        """Read one event of the stream; the events alone bring all there is."""
        if self._events is None:
            self._events = MessageEvents()
        self._events.feed(event)

    def message(self, data: dict[str, Any]) -> None:
        """Read one message with a part of the answer; counts and reason are those of the last part."""
        message = fields(data.get("message"))
        self._content += copied(items(message.get("content")))
        for name, value in message.items():
            if value is not None and name != "content":
                self._message[name] = value if value.__class__ is str else copied(value)
        self._error = string(data.get("error")) or self._error

    def result(self, result: dict[str, Any], *, alone: bool) -> None:
        """Take the facts of the run that ends with this answer; its usage if this was the run's only answer."""
        self._result = {name: copied(result[name]) for name in KEPT if result.get(name) is not None}
        self._alone = alone

    def whole(self) -> Answer:
        """Return the answer, to be read on a worker thread: what is kept of it are copies. A failure is read now."""
        if self._events is not None or self._error is not None or (self._result or NO_RESULT).get("is_error"):
            return self.answer()
        texts = (string(fields(block).get("text")) for block in self._content)
        return deferred([text for text in texts if text], lambda _: self.answer())

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        if self._events is None:
            answer = answer_of({**self._message, "content": self._content})
        else:
            answer = self._events.answer()
            answer.partial = answer.partial or not self._events.finished  # as after an interrupt
        if answer.model == SYNTHETIC:
            answer.model = None
        facts = dict(_failure(self._error, self._result))
        if self._result is not None:
            facts |= of_run(self._result)
            answer.finish_reason = answer.finish_reason or string(self._result.get("stop_reason"))
            if self._alone and fields(self._result.get("usage")).get("output_tokens"):
                answer.unread = copied(self._result["usage"])
        if self._resumed:
            answer.unread = None
        answer.metadata = {**(answer.metadata or {}), **facts} or None
        return answer


def _failure(error: str | None, result: dict[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """Yield `error`, if the model's answer or the run has failed."""
    if error is not None:
        yield "error", {"type": error}
    elif result is not None and result.get("is_error") is True:
        yield "error", failure_of(result)


def failure_of(result: dict[str, Any]) -> dict[str, Any]:
    """`metadata.error` of a run that has failed."""
    kind, status = string(result.get("subtype")), number(result.get("api_error_status"))
    return {"type": "api_error" if kind in (None, *PLAIN) else kind, **({"status": status} if status else {})}


def of_run(result: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a run, as metadata."""
    found = {OF_RUN[name]: kept(result[name]) for name in OF_RUN if result.get(name) and result[name] not in PLAIN}
    return {"run": found} if found else {}


def spoken(result: dict[str, Any]) -> tuple[SourceMessage, ...]:
    """Return the words of a result that no model has said: those of a command of the CLI."""
    words = string(result.get("result")) or ""
    return (SourceMessage("assistant", words),) if words.strip() else ()


def sub_agents(message: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the id of each call that starts a sub-agent, and the agent's name."""
    for item in items(message.get("content")):
        block = fields(item)
        if block.get("type") == "tool_use" and block.get("name") in AGENTS:
            call_id = string(block.get("id"))
            if call_id is not None:
                yield call_id, string(fields(block.get("input")).get("subagent_type"))


def instructions(prompt: Any) -> str | None:
    """Return the system prompt of the options, as far as it is the app's own."""
    own = fields(prompt)
    return string(prompt) or string(own.get("prompt")) or string(own.get("append"))
