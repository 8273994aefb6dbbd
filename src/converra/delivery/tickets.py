"""A flush that somebody waits for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.delivery.progress import Progress


class Ticket:
    """Done when every conversation has come as far as it was when the flush was asked for."""

    def __init__(self, *, ends: bool = False) -> None:
        self.ends = ends
        """Whether open conversations end with it."""
        self.marks: dict[Progress, int] = {}
        self._done = threading.Event()
        self.complete = False

    @property
    def done(self) -> bool:
        """Whether nobody needs to wait any more."""
        return self._done.is_set()

    def start(self, progresses: Iterable[Progress]) -> None:
        """Remember what is to be waited for."""
        self.marks = {progress: progress.received for progress in progresses}

    def check(self) -> bool:
        """Whether it is over; tells the one who waits."""
        for progress in [p for p, mark in self.marks.items() if p.settled(mark)]:
            del self.marks[progress]
        if not self.marks:
            self.finish(complete=True)
        return not self.marks

    def finish(self, *, complete: bool) -> None:
        """Tell the one who waits."""
        self.complete = complete
        self._done.set()

    def wait(self, timeout: float) -> bool:
        """Wait; True where everything was worked off in time."""
        self._done.wait(timeout)
        return self.complete
