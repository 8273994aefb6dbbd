"""Calls whose request ends with the beginning of the answer: both are recorded as one message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from converra.history.turn import SourceMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Answer
    from converra.integrations import CapturedCall


class PrefilledCall:
    """A call under way, which puts the prefill in front of what the model answers."""

    def __init__(self, call: CapturedCall, beginning: str, *, repeated: bool = False) -> None:
        self._call = call
        self._beginning = beginning
        self._repeated = repeated
        """The provider repeats the prefill in its answer."""

    def first_token(self) -> None:
        """Note the first token of the provider's."""
        self._call.first_token()

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Register an open stream."""
        self._call.streaming(lambda: self._whole(so_far()))

    def wait(self) -> None:
        """Record the question now and stay open."""
        self._call.wait()

    def end(self, answer: Answer, ended: float | None = None) -> None:
        """Record the turn."""
        self._call.end(self._whole(answer), ended)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the failure; without an answer, there is nothing to put the prefill in front of."""
        self._call.fail(error, None if answer is None else self._whole(answer))

    def _whole(self, answer: Answer) -> Answer:
        """Put the prefill in front of the first message; in front of one of its own if that is a hosted tool's.

        An answer that has not begun, or is an error alone, stays as it is: the model has continued nothing.
        """
        answer = answer.readable()
        if not (answer.is_begun and answer.messages):
            return answer
        first, *others = answer.messages
        if self._repeated and first.role == "assistant" and first.text.startswith(self._beginning):
            return answer
        if first.role == "assistant":
            answer.messages = (msgspec.structs.replace(first, text=self._beginning + first.text), *others)
        else:
            answer.messages = (SourceMessage("assistant", self._beginning), first, *others)
        return answer
