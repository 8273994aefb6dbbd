"""Lookups of the API's ids: a relay saves the id of a conversation in the engine, and its producer reads it from there.

Only conversations whose id the app asks for cost a command: a caller marks one, and a worker looks it up.
"""

from __future__ import annotations

import math
import time
import weakref
from typing import TYPE_CHECKING

from converra.delivery.fleet import entry

if TYPE_CHECKING:
    from converra.delivery.conversation_queue import ConversationQueue
    from converra.delivery.fleet.engine import Engine

FIRST_REST, LAST_REST = 0.1, 5.0
"""Seconds between two looks for ids that were asked for; doubled each time."""

WANTED_SECONDS = 60.0
"""Seconds for which an id is looked for after it was asked for: no relay may be running."""

AT_ONCE = 500
"""Ids of one command pipeline."""


class Lookups:
    """The conversations of this process whose id is not known. `engine` has the ids.

    Each step on the dicts is a single one in C, so that callers and workers need no lock.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unknown: dict[int, weakref.ref[ConversationQueue]] = {}
        self._wanted: dict[int, float] = {}
        """Of these, the ones that were asked for, with the monotonic time at which the search ends."""
        self._look_at = 0.0
        self._rest = FIRST_REST

    def add(self, queue: ConversationQueue) -> None:
        """Note a conversation that a relay will open. It is forgotten once the app has dropped it."""
        key = id(queue)
        self._unknown[key] = weakref.ref(queue, lambda _: self._forget(key))

    def _forget(self, key: int) -> None:
        self._unknown.pop(key, None)
        self._wanted.pop(key, None)

    def want(self, queue: ConversationQueue) -> bool:
        """Ask for an id; return True if a worker must be woken to look for it."""
        key = id(queue)
        if key in self._wanted:
            return False
        if key not in self._unknown:  # handed over before a shutdown
            self.add(queue)
        self._wanted[key] = time.monotonic() + WANTED_SECONDS
        self._look_at, self._rest = 0.0, FIRST_REST
        return True

    def rest(self, now: float) -> float:
        """Return the seconds until the next look, infinity if no id is wanted."""
        return max(0.0, self._look_at - now) if self._wanted else math.inf

    def look(self, now: float) -> None:
        """Look for the ids that were asked for, if it is time. Raises AwayError."""
        if not self._wanted or now < self._look_at:
            return
        self._look_at, self._rest = now + self._rest, min(LAST_REST, self._rest * 2)
        wanted = list(self._wanted.items())
        for key, until in wanted:
            if until <= now:
                self._wanted.pop(key, None)
        self._find([key for key, _ in wanted])

    def find_all(self) -> None:
        """Look for the ids of all conversations that the app still has. Raises AwayError."""
        keys = list(self._unknown)
        for at in range(0, len(keys), AT_ONCE):
            self._find(keys[at : at + AT_ONCE])

    def _find(self, keys: list[int]) -> None:
        alive = [(key, queue) for key in keys if (ref := self._unknown.get(key)) is not None and (queue := ref())]
        lanes = self._engine.lanes()
        places = [(entry.place_of(queue.header.key) % lanes, queue.header.key) for _, queue in alive]
        for (key, queue), found in zip(alive, self._engine.conversation_ids(places), strict=True):
            if found is not None:
                queue.found_id = found
                self._forget(key)
