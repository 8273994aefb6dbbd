"""Order in shared sessions: messages that a dead process has left are sent before those that this process adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converra.delivery.protocol.progress import Progress


class Inheritance:
    """The orphans of shared sessions, oldest first, and the conversations that wait for them, by idempotency key."""

    def __init__(self) -> None:
        self._orphans: dict[str, list[Progress]] = {}
        self._behind: dict[str, set[Progress]] = {}

    def add(self, orphan: Progress) -> None:
        """Take in an orphan, unless its conversation is not shared or nothing of it waits."""
        if orphan.header.shared and orphan.depth:
            self._orphans.setdefault(orphan.header.key, []).append(orphan)

    def goes_before(self, progress: Progress) -> bool:
        """Return True if something older of its session waits; `after` returns it once that is sent."""
        if not self._orphans:
            return False
        key = progress.header.key
        for orphan in self._orphans.get(key, ()):
            if orphan is progress:
                return False
            if orphan.depth:
                self._behind.setdefault(key, set()).add(progress)
                return True
        return False

    def after(self, progress: Progress) -> set[Progress]:
        """Return what waited for a conversation, if nothing of it waits any more."""
        key = progress.header.key
        if not progress.orphan or progress.depth or key not in self._orphans:
            return set()
        left = [orphan for orphan in self._orphans.pop(key) if orphan is not progress]
        if left:
            self._orphans[key] = left
        return self._behind.pop(key, set())
