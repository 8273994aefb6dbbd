"""A capture that keeps what integrations tell it, for tests to look at."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.turn import SourceToolCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Answer, Request, Scope, SourceMessage


class RecordedCall:
    """One call: its request as it was read at once, and how it ended."""

    def __init__(self, request: Request, calls: list[RecordedCall] | None = None) -> None:
        self.request = request
        self._calls = calls
        self.asked: tuple[SourceMessage, ...] = tuple(
            source for m in request.messages for source in request.dialect.read(m)
        )
        self.fingerprints = request.dialect.fingerprint(request.messages)
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.ended: float | None = None
        self.first_tokens = 0
        self.so_far: Callable[[], Answer] | None = None
        self.ends = 0
        self.waits = 0
        self.rejections: list[BaseException] = []

    def first_token(self) -> None:
        self.first_tokens += 1

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        self.so_far = so_far

    def wait(self) -> None:
        self.waits += 1

    def unsent(self) -> None:
        if self._calls is not None:
            self._calls.remove(self)

    def end(self, answer: Answer, ended: float | None = None) -> None:
        self.ends += 1
        self.answer, self.ended = answer, ended

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        self.ends += 1
        self.error, self.answer = error, answer

    def rejecter(self, answer: Answer) -> Callable[[BaseException], None]:
        assert answer is self.answer
        return self.rejections.append

    def facts(self) -> dict[str, Any]:
        """Everything that does not depend on time, as plain data without what is empty."""
        record: dict[str, Any] = {"asked": [bare(source) for source in self.asked]}
        for name in ("instructions", "model", "previous"):
            if getattr(self.request, name) is not None:
                record[name] = getattr(self.request, name)
        if self.error is not None:
            record["error"] = type(self.error).__name__
        if self.answer is not None:
            record["answer"] = bare(settled(self.answer))
        return record


def settled(answer: Answer) -> Answer:
    """With what its reading had put off."""
    answer.settle()
    return answer


def bare(struct: Any) -> Any:
    """A struct as plain data, without the fields that are empty."""
    if isinstance(struct, SourceToolCall):  # empty arguments are not the same as none
        return {name: value for name, value in msgspec.structs.asdict(struct).items() if value is not None}
    if isinstance(struct, msgspec.Struct):
        pairs = ((name, bare(getattr(struct, name))) for name in struct.__struct_fields__)
        return {name: value for name, value in pairs if value or type(value) is int}
    if isinstance(struct, tuple) and hasattr(struct, "_asdict"):
        return {name: value for name, value in struct._asdict().items() if value is not None}
    if isinstance(struct, list | tuple):
        return [bare(item) for item in struct]
    return struct


class RecordingCapture:
    """Every call that was begun, in order."""

    def __init__(self) -> None:
        self.active = True
        self.wanted = True
        """False: `begin` declines, as it does for a call that belongs to no conversation."""
        self.calls: list[RecordedCall] = []
        self.completed: list[str | None] = []
        self._lock = threading.Lock()

    def begin(self, request: Request) -> RecordedCall | None:
        if not self.wanted:
            return None
        call = RecordedCall(request, self.calls)
        with self._lock:
            self.calls.append(call)
        return call

    def record_tool_result(self, source: SourceMessage, scope: Scope, started: float) -> None:
        """A client's integration has nothing to say outside of calls."""

    def pause(self, scope: Scope, *, paused: bool = True) -> None:
        """Nor does it know of interrupted runs."""

    def complete(self, scope: Scope) -> None:
        """A session that its framework has ended."""
        self.completed.append(scope.session)

    def only(self) -> RecordedCall:
        """The one call that there was."""
        (call,) = self.calls
        assert call.ends <= 1, "a call ends once"
        return call

    def settle(self) -> None:
        """Have streams that were dropped collected, if any were."""
        if any(call.ends == 0 for call in self.calls):
            gc.collect()

    def facts(self) -> list[dict[str, Any]]:
        return [call.facts() for call in self.calls]
