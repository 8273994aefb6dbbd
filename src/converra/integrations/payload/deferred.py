"""A finished stream whose chunks wait as text or bytes, and are parsed on a worker thread."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - msgspec reads the annotation at run time
from typing import Any

from converra.history.turn import Answer, SourceMessage

UNREAD = (SourceMessage("assistant"),)
"""The messages of an answer that is not parsed yet."""


class DeferredAnswer(Answer):
    """An answer in its chunks (`unread`), which are parsed by `load` when its messages are needed."""

    load: Callable[[Any], Answer] | None = None

    @property
    def weight(self) -> int:
        """Approximate number of characters that it keeps alive."""
        return super().weight if self.load is None else sum(map(len, self.unread))

    def readable(self) -> Answer:
        """Parse the chunks now."""
        load, self.load = self.load, None
        if load is not None:
            found = load(self.unread)
            for name in found.__struct_fields__:
                setattr(self, name, getattr(found, name))
        return self

    def settle(self) -> None:
        """Parse the chunks, and read the usage."""
        self.readable()
        super().settle()


def deferred(chunks: list[Any], load: Callable[[Any], Answer]) -> DeferredAnswer:
    """Return the answer that `load` reads from the chunks of a finished stream."""
    return DeferredAnswer(UNREAD, unread=chunks, load=load)
