"""What `converra.conversation()` gives: a block, a decorator, and the conversation's public face."""

from __future__ import annotations

from collections.abc import Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from converra.capture.decorators import decorated
from converra.errors import InvalidArgumentError
from converra.process.context import Entered
from converra.process.guard import guard, report
from converra.wire import json_safe
from converra.wire.parsing import message_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from converra.capture.recording import Recording
    from converra.wire.models import ToolCall, Usage

F = TypeVar("F", bound="Callable[..., Any]")

START_SECONDS = 1.0
"""Longest wait for another thread that starts the conversation, which takes microseconds: it may be gone by a fork."""

MAX_ID = 512
"""Longest prompt id or session id, in characters."""


class Conversation:
    """One conversation: everything that happens while it is active is recorded in it.

    Usable as `with`, as `async with`, as a decorator of any kind of function (each call is a conversation of its own),
    or by hand with `complete()`. After the arguments have been checked nothing here raises.
    """

    def __init__(
        self,
        start: Callable[[Conversation], Recording | None],
        prompt_id: str,
        *,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        company_name: str | None = None,
        keep_open: bool = False,
    ) -> None:
        self.prompt_id = checked_id("prompt_id", prompt_id)
        self.session_id = None if session_id is None else checked_id("session_id", session_id)
        if company_name is not None and not isinstance(company_name, str):
            raise InvalidArgumentError(f"company_name is {type(company_name).__name__}, expected a string")
        if keep_open and session_id is None:
            raise InvalidArgumentError(
                "keep_open=True needs a session_id: nothing else could find the conversation again"
            )
        self.company_name = company_name
        self.keep_open = keep_open
        self.metadata = {} if metadata is None else checked_metadata(metadata)
        self._start = start
        self.recorded: Recording | None = None
        """Where it is recorded, once it has begun."""
        self._started = False
        self._starting = RLock()
        self._entered: list[Entered] = []

    def __repr__(self) -> str:
        return f"<converra conversation {self.id or '(not sent yet)'} of prompt {self.prompt_id!r}>"

    @property
    def id(self) -> str | None:
        """The server's id; None until the conversation has been opened there."""
        recording = self.recorded
        queue = None if recording is None else recording.opened
        return None if queue is None else queue.id

    def recording(self) -> Recording | None:
        """Where to record; None while capture is off or when this conversation was sampled out. For integrations."""
        if not self._started and self._starting.acquire(timeout=START_SECONDS):
            try:
                if not self._started:
                    try:
                        self.recorded = self._start(self)
                    except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
                        report("starting a conversation", error)
                    self._started = True
            finally:
                self._starting.release()
        return self.recorded

    def add_message(
        self,
        role: str,
        content: Any,
        *,
        model: str | None = None,
        latency_ms: float | None = None,
        usage: Usage | Mapping[str, Any] | None = None,
        tool_calls: list[ToolCall | dict[str, Any]] | None = None,
        timestamp: datetime | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a message by hand (API document, "Append Messages").

        `content` that is no string is made one. Raises InvalidArgumentError for an unknown role, for empty content
        where the role is not `tool`, and for fields of a wrong type.
        """
        fields = {
            "role": role,
            "content": _text(content),
            "model": model,
            "latency_ms": latency_ms,
            "usage": usage,
            "tool_calls": tool_calls,
            "timestamp": timestamp,
            "metadata": None if metadata is None else checked_metadata(metadata),
        }
        message = message_from(fields)
        message.content = json_safe.text(message.content)
        with guard("adding a message"):
            recording = self.recording()
            if recording is not None:
                recording.add(message)

    def update_metadata(self, **values: Any) -> None:
        """Merge into the conversation's metadata (API document, "Append Messages": a shallow merge)."""
        with guard("updating metadata"):
            recording = self.recording()
            if recording is not None:
                recording.annotate(checked_metadata(values))

    def complete(self) -> None:
        """End the conversation now. What was recorded is sent, `completed` is said once; later calls do nothing."""
        with guard("completing a conversation"):
            recording = self.recorded or self.recording()
            if recording is not None:
                recording.end()

    # -- as a block ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._entered.append(Entered(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        if error is not None and not isinstance(error, GeneratorExit):
            self.update_metadata(error={"type": type(error).__name__})
        if not self._entered:
            self._over()

    def _over(self) -> None:
        """The block is left: complete the conversation, or make it known to whoever goes on with it."""
        if not self.keep_open:
            self.complete()
        elif self.recorded is not None:
            self.recorded.send_now()

    def _leave(self) -> None:
        """Leave what was entered here: several threads may be inside at the same time."""
        if len(self._entered) > 1:
            self._leave_one()
        elif self._entered:  # a decorated generator enters and leaves with each step
            self._entered.pop().leave(for_good=not self.keep_open)

    def _leave_one(self) -> None:
        entered = next((e for e in self._entered if e.is_innermost), None) or next(reversed(self._entered), None)
        if entered is not None:
            self._entered.remove(entered)
            entered.leave(for_good=not self.keep_open)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    # -- as a decorator ------------------------------------------------------------------------------------------

    def another(self) -> Conversation:
        """A new conversation with the same arguments."""
        return Conversation(
            self._start,
            self.prompt_id,
            session_id=self.session_id,
            metadata=self.metadata,
            company_name=self.company_name,
            keep_open=self.keep_open,
        )

    def __call__(self, function: F) -> F:
        """Make each call of `function` a conversation; a generator is one from its first step to its last."""
        return decorated(function, self.another)


def checked_id(name: str, value: Any) -> str:
    """A prompt or session id; raises InvalidArgumentError for one that can never work."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} is {type(value).__name__}, expected a string")
    trimmed = value.strip()
    if not trimmed or len(trimmed) > MAX_ID or not trimmed.isprintable():
        raise InvalidArgumentError(f"{name} is {value[:40]!r}, expected 1 to {MAX_ID} printable characters")
    return trimmed


def checked_metadata(values: Any) -> dict[str, Any]:
    """Metadata as plain data; raises InvalidArgumentError for what is no mapping."""
    if not isinstance(values, Mapping):
        raise InvalidArgumentError(f"metadata is {type(values).__name__}, expected a mapping")
    return dict(json_safe.plain(values, described))


def described(value: Any) -> str:
    """The `repr` of an object, which may fail: then its type."""
    with guard("describing a value"):
        return repr(value)
    return json_safe.type_name(value)


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    plain = json_safe.plain(content, described)
    if isinstance(plain, str):
        return plain
    return msgspec.json.encode(plain).decode()
