"""When the next request may be sent at all: the budget of the API key, and the health of the API. Pure.

Requests are the scarce thing. Where the API says with an answer that the budget is spent, all conversations wait until
it is renewed. Else nothing is known until it refuses a request (429): then all wait as long as it asked, and afterwards
requests keep a distance that each further refusal doubles and each success shortens. When several conversations fail in
a row, the API and not a conversation is ill, and one request at a time finds out when it is well again. A refused key
(401, 403) leaves a slow probe.

For a while after the API has said that there are too many, requests are scarce: what can be said in one request is not
said in two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converra.delivery.protocol.progress import Progress

FIRST_DISTANCE = 0.1
"""Seconds between requests after the first refusal."""

LONGEST_DISTANCE = 2.0
RELAXING = 0.95
"""What a success leaves of the distance. Less, and one request in five would only find out that the limit holds."""

SCARCE_FOR = 60.0
"""Seconds for which requests count as scarce after a wait that the rate limit has asked for: its window is a minute."""

OUTAGE_AFTER = 3
"""So many conversations that fail in a row say that the API is ill."""

FIRST_PROBE = 15.0
"""Seconds until a refused key is tried again; doubled each time."""

SLOWEST_PROBE = 300.0


class RateLimiter:
    """One for all conversations of a delivery. Times are those of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.distance = 0.0
        self.refused_key = False
        self._not_before = 0.0
        self._scarce_until = 0.0
        self._well_at = 0.0
        self._last = 0.0
        self._probe = FIRST_PROBE
        self._failing: set[Progress] = set()

    @property
    def ill(self) -> bool:
        """Whether the API as a whole seems to be down."""
        return len(self._failing) >= OUTAGE_AFTER

    def ready_at(self, in_flight: int) -> float | None:
        """When the next request may go; None: not before one of those under way is answered."""
        if in_flight and (self.ill or self.refused_key):
            return None
        return max(self._not_before, self._well_at, self._last + self.distance)

    def is_ready(self, now: float, in_flight: int) -> bool:
        """Whether a request may go now."""
        ready = self.ready_at(in_flight)
        return ready is not None and ready <= now

    def scarce(self, now: float) -> bool:
        """Whether the rate limit decides how much can be sent."""
        return self.distance > 0 or now < self._scarce_until

    def sent(self, now: float) -> None:
        """Note that a request goes out now."""
        self._last = now

    def answered(self) -> None:
        """The API did what it was asked, or refused it for a reason of its own."""
        self.distance = self.distance * RELAXING if self.distance > FIRST_DISTANCE / 4 else 0.0
        self.refused_key = False
        self._probe = FIRST_PROBE
        self._failing.clear()
        self._well_at = 0.0

    def failed(self, progress: Progress, now: float, delay: float) -> None:
        """The API failed, or could not be reached."""
        self._failing.add(progress)
        if self.ill:
            self._well_at = max(self._well_at, now + delay)

    def limited(self, now: float, wait: float) -> None:
        """The API refused a request because there were too many."""
        self.spent(now, wait)
        self.distance = min(LONGEST_DISTANCE, max(FIRST_DISTANCE, self.distance * 2))

    def spent(self, now: float, wait: float) -> None:
        """The API said that no request is left for so long."""
        self._not_before = max(self._not_before, now + wait)
        self._scarce_until = self._not_before + SCARCE_FOR

    def refuse_key(self, now: float) -> None:
        """The API refused the key."""
        self.refused_key = True
        self._not_before = now + self._probe
        self._probe = min(SLOWEST_PROBE, self._probe * 2)

    def retry_key(self) -> None:
        """Try a refused key at once: somebody asks for a flush."""
        if self.refused_key or self.ill:
            self._not_before = self._well_at = 0.0

    def forget(self, progress: Progress) -> None:
        """The conversation is over."""
        self._failing.discard(progress)
