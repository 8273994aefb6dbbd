"""The object that `converra.conversation()` returns: a block, a decorator, and a handle to the conversation."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Event, RLock
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from converra.capture.decorators import decorated
from converra.capture.feedback import checked
from converra.capture.insights import NOT_COMPLETED, checked_seconds
from converra.capture.spec import ConversationSpec, checked_id, checked_metadata, described
from converra.errors import InvalidArgumentError
from converra.process import waits
from converra.process.context import Entered
from converra.process.guard import guard, log_limited, report
from converra.wire import json_safe, notebook
from converra.wire.models import USER_ID, message_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from converra.api.results import Insights
    from converra.capture.recording import Recording
    from converra.capture.routing import Router
    from converra.wire.models import MessageParam, Role, ToolCall, Usage, UsageParam

F = TypeVar("F", bound="Callable[..., Any]")

START_SECONDS = 1.0
"""Seconds to wait for another thread that starts the conversation. A fork may have left that thread behind."""


class Conversation:
    """One conversation. Model calls are recorded in it while it is active.

    Use it as `with` or `async with`; as a decorator of any kind of function, where each call is a conversation of its
    own; or by hand, with `complete()`. Once the arguments are checked, no method raises for what happens at run time.

    Attributes:
        id: The server's id; None until the conversation was opened there. With a Redis outbox a relay opens it: the
            first look starts a search, and later ones return what it has found.
        prompt_id: The prompt that it belongs to.
        session_id: The id under which other processes can join it, or None.
        user_id: The app's user whose conversation it is, or None.
        metadata: The metadata that it is opened with.

    """

    def __init__(
        self,
        router: Router,
        prompt_id: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        company_name: str | None = None,
        keep_open: bool = False,
    ) -> None:
        self.prompt_id: str = checked_id("prompt_id", prompt_id)
        self.session_id: str | None = None if session_id is None else checked_id("session_id", session_id)
        self.user_id: str | None = None if user_id is None else checked_id("user_id", user_id)
        if company_name is not None and not isinstance(company_name, str):
            raise InvalidArgumentError(f"company_name is {type(company_name).__name__}, expected a string")
        if keep_open and session_id is None:
            raise InvalidArgumentError(
                "keep_open=True needs a session_id: nothing else could find the conversation again"
            )
        self.company_name: str | None = json_safe.name(company_name) if company_name else None
        """The customer; None for a blank name, which the API rejects with the whole conversation."""
        self.keep_open: bool = keep_open
        self.metadata: dict[str, Any] = {} if metadata is None else checked_metadata(metadata)
        self._router = router
        self.recorded: Recording | None = None
        """The recording behind it, once it has begun."""
        self._started = False
        self._starting = RLock()
        self._entered: list[Entered] = []

    def __repr__(self) -> str:
        return f"<converra conversation {self.id or '(not sent yet)'} of prompt {self.prompt_id!r}>"

    def _repr_html_(self) -> str:
        """Show the conversation in a notebook. Its messages are at the API: read them with the client."""
        facts = {
            "id": self.id or "not sent yet",
            "prompt_id": self.prompt_id,
            "session_id": self.session_id,
            "user_id": self.user_id,
            "company_name": self.company_name,
            **{f"metadata.{name}": value for name, value in self.metadata.items()},
        }
        rows = [[name, str(value)] for name, value in facts.items() if value is not None]
        return notebook.table("converra conversation", ("", ""), rows)

    @property
    def id(self) -> str | None:
        """The server's id (API document, "Create Conversation"); None until the conversation was opened there."""
        recording = self.recorded
        queue = None if recording is None else recording.opened
        return None if queue is None else queue.id

    def recording(self) -> Recording | None:
        """Return the recording behind it; None if capture is off or it was sampled out. For integrations."""
        starting = self._starting
        if not self._started and (starting.acquire(blocking=False) or waits.lock(starting, START_SECONDS)):
            try:
                if not self._started:
                    try:
                        user = {} if self.user_id is None else {USER_ID: self.user_id}
                        self.recorded = self._router.for_block(
                            ConversationSpec(self.prompt_id, self.session_id, self.metadata | user, self.company_name)
                        )
                    except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
                        report("starting a conversation", error)
                    self._started = True
            finally:
                self._starting.release()
        return self.recorded

    def add_message(
        self,
        role: Role,
        content: Any,
        *,
        model: str | None = None,
        latency_ms: float | None = None,
        usage: Usage | UsageParam | None = None,
        tool_calls: Sequence[ToolCall | Mapping[str, Any]] | None = None,
        timestamp: datetime | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a message by hand (API document, "Append Messages").

        Args:
            role: `user`, `assistant`, `system` or `tool`.
            content: The text. Anything else is stored as JSON; only a `tool` message may be empty.
            model: The model that wrote the message.
            latency_ms: Duration of the call or tool run, in milliseconds.
            usage: Token counts: `{"prompt_tokens": …, "completion_tokens": …}`.
            tool_calls: Calls of an assistant, `{"id": …, "name": …, "arguments": …}`; or the one that a `tool` message
                answers, with `id` and `name`.
            timestamp: When the message was written: an ISO 8601 string or a datetime. Default: the time of the call.
            metadata: A mapping that is stored with the message.

        Raises:
            InvalidArgumentError: The role is unknown, the content is empty, or a field has a wrong type.

        Example:
            >>> conversation.add_message("assistant", "It is sent.", model="gpt-4o", latency_ms=412)

        """
        called = datetime.now(UTC)
        fields: MessageParam = {
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
                recording.add(message, called)

    def update_metadata(self, **values: Any) -> None:
        """Merge into the conversation's metadata, with the next message (API document, "Append Messages").

        Without a next message it is sent with the end, by `flush()`, or when a block with `keep_open` is left: a system
        message "Metadata updated." carries it then. Of a conversation that nothing else is recorded in, it is sent only
        if that has a `session_id`: another process may have recorded in it.

        Args:
            **values: The fields to set. The merge is shallow: a field replaces the whole earlier value of that name.

        """
        with guard("updating metadata"):
            recording = self.recording()
            if recording is not None:
                recording.annotate(checked_metadata(values), alone=True, soon=self.keep_open and not self._entered)

    def feedback(self, score: float | None = None, *, comment: str | None = None, key: str = "user") -> None:
        """Record what somebody thought of the conversation (API document, "Append Messages": `metadata`).

        The API has no endpoint for it: the conversation's metadata holds it in `feedback`, under `key`. It is sent with
        the next message or with the end. In a session that is kept open, and on a conversation that is completed, a
        system message carries it; an API that takes nothing after the end refuses that, which is logged.

        Args:
            score: A finite number or a bool, on a scale of your own: `1` and `0` for a thumb up or down.
            comment: The words of the judge. `redact` gets them like a message of the user.
            key: Whose judgement it is, or of what kind, such as `user` or `accuracy`: 1 to 512 printable characters. A
                later judgement with the same key replaces the earlier one.

        Raises:
            InvalidArgumentError: There is neither score nor comment, or an argument has a wrong type.

        Example:
            >>> conversation.feedback(1, comment="Solved it at once.")

        """
        given, called = checked(key, score, comment), datetime.now(UTC)
        with guard("recording feedback"):
            recording = self.recording()
            if recording is not None:
                recording.rate(given, called, carried=not self.keep_open)

    def wait_for_insights(self, timeout: float = 60.0) -> Insights | None:
        """Wait until the analysis of the conversation is there (API document, "Get Conversation Insights").

        Call it once the conversation is completed: after its block, or after `complete()`. What waits is sent first,
        then the API is asked, at growing intervals.

        Args:
            timeout: Seconds that this may take at most.

        Returns:
            The insights; None if there are none in time, which is logged with the reason.

        Raises:
            InvalidArgumentError: The timeout is no number, is negative, or has no end.

        Example:
            >>> found = conversation.wait_for_insights(timeout=30)
            >>> print(found.sentiment if found else "not analysed yet")

        """
        return self._insights(checked_seconds(timeout), Event())

    async def insights(self, timeout: float = 60.0) -> Insights | None:  # noqa: ASYNC109 - as `wait_for_insights`
        """Wait for the insights without blocking the event loop, of asyncio or trio; see `wait_for_insights`."""
        from anyio import CapacityLimiter, to_thread  # noqa: PLC0415 - heavy, and nothing else needs it

        seconds, stopping = checked_seconds(timeout), Event()
        try:
            return await to_thread.run_sync(
                self._insights, seconds, stopping, abandon_on_cancel=True, limiter=CapacityLimiter(1)
            )
        finally:
            stopping.set()

    def _insights(self, seconds: float, stopping: Event) -> Insights | None:
        recording = self.recording()
        if recording is None:
            return None
        if not (recording.ending or self.keep_open):
            log_limited("insights early", NOT_COMPLETED)
            return None
        return self._router.insights.wait(self, seconds, stopping)

    def complete(self) -> None:
        """Complete the conversation, also one that is kept open, once the calls under way in it are over.

        What was recorded is sent, the last request with the status `completed`. Calling it again does nothing. What is
        recorded later is dropped, with a warning.
        """
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
        if len(self._entered) > 1:
            self._leave_innermost()
        elif self._entered:  # empty in a decorated generator, whose steps enter and leave for themselves
            self._entered.pop().leave(for_good=not self.keep_open)
        if error is not None and not isinstance(error, GeneratorExit):
            self._note_error(error)
        if self._entered:
            return
        if not self.keep_open:
            self.complete()
        elif self.recorded is not None:
            self.recorded.send_now()  # another process may continue it

    def _note_error(self, error: BaseException) -> None:
        """Record the error of a block in the metadata; one in which nothing was recorded is not sent for that."""
        with guard("updating metadata"):
            recording = self.recording()
            if recording is not None:
                recording.annotate({"error": {"type": type(error).__name__}}, alone=recording.is_begun)

    def _leave_innermost(self) -> None:
        """Leave the scope that was entered here: several threads may be inside at the same time."""
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
        """Make a new conversation with the same arguments."""
        return Conversation(
            self._router,
            self.prompt_id,
            session_id=self.session_id,
            user_id=self.user_id,
            metadata=self.metadata,
            company_name=self.company_name,
            keep_open=self.keep_open,
        )

    def __call__(self, function: F) -> F:
        """Make each call of a function a conversation of its own.

        Args:
            function: A plain function, coroutine function, generator function or asynchronous generator function. A
                generator is one conversation from its first step to its last.

        Returns:
            The wrapped function, with the same signature.

        """
        return decorated(function, self.another)


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    plain = json_safe.plain(content, described)
    if isinstance(plain, str):
        return plain
    return msgspec.json.encode(plain).decode()
