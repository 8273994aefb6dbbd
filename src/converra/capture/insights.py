"""Waiting for the insights of a conversation: the API makes them some time after it is completed."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Protocol

from converra.api import retry
from converra.errors import (
    AuthenticationError,
    ConverraError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from converra.process import waits
from converra.process.guard import guard, log_limited
from converra.process.telemetry import suppressed

if TYPE_CHECKING:
    import threading

    from converra.api.results import Insights
    from converra.config import Config
    from converra.delivery.delivery import Delivery


class Identified(Protocol):
    """Has an id at the API once it is delivered."""

    @property
    def id(self) -> str | None:
        """The API's id, or None."""


FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds between two questions; they grow, since each is a request of the rate limit that delivery needs as well."""

GROWTH = 1.6

HURRY_SECONDS = 2.0
"""Seconds of one flush: another conversation that cannot be delivered must not use up the time for this one."""

NOT_COMPLETED = "converra: there are no insights of a conversation that is not completed: leave its block first."
NOT_DELIVERED = "converra: there are no insights: the conversation did not arrive at the API in time. Last error: %s"
NOT_YET = "converra: there are no insights of conversation %s yet. Last answer: %s"
NO_KEY = "converra: there are no insights without an API key: set CONVERRA_API_KEY."


class InsightsReader:
    """Reads insights back, with the key and the address that delivery sends to. It never raises for what happens."""

    def __init__(self, config: Config, delivery: Delivery) -> None:
        self._config = config
        self._delivery = delivery

    def wait(self, source: Identified, seconds: float, stopping: threading.Event) -> Insights | None:
        """Deliver the conversation, and ask for its insights until they are there.

        Args:
            source: Has the API's id once the conversation is delivered.
            seconds: The longest that this may take.
            stopping: Set when the caller does not wait any longer.

        Returns:
            The insights; None if there are none in time, which is logged with the reason.

        """
        with guard("waiting for insights"):
            return self._wait(source, time.monotonic() + seconds, stopping)
        return None

    def _wait(self, source: Identified, until: float, stopping: threading.Event) -> Insights | None:
        key = self._config.api_key_now()
        if key is None:
            log_limited("insights key", NO_KEY)
            return None
        done = False
        while not done and not stopping.is_set() and (left := until - time.monotonic()) > 0:
            done = self._delivery.flush(min(left, HURRY_SECONDS), delivered=True) or source.id is not None
        found = source.id
        if found is None:
            log_limited("insights undelivered", NOT_DELIVERED, self._delivery.stats().last_error or "none")
            return None
        return self._ask(found, key, until, stopping)

    def _ask(self, conversation_id: str, key: str, until: float, stopping: threading.Event) -> Insights | None:
        from converra.api.client import Converra  # noqa: PLC0415 - httpx is heavy, and delivery does without it

        wait, problem = FIRST_WAIT, "none"
        asked: float | None = None
        with suppressed(), Converra(api_key=key, base_url=self._config.base_url, max_retries=0) as client:
            while not stopping.is_set() and (left := until - time.monotonic()) > 0:
                try:
                    return client.conversations.insights(conversation_id, timeout=min(self._config.timeout, left))
                except (AuthenticationError, PermissionDeniedError) as error:
                    problem = str(error)
                    break
                except NotFoundError as error:
                    problem, asked = str(error), None
                except ConverraError as error:
                    problem, asked = str(error), retry.retry_after(error, time.time())
                waits.event(stopping, min(until, time.monotonic() + (asked or wait)))
                wait = min(wait * GROWTH, LONGEST_WAIT)
        log_limited("insights", NOT_YET, conversation_id, problem)
        return None


def checked_seconds(value: Any) -> float:
    """Return the longest time to wait, in seconds.

    Raises:
        InvalidArgumentError: It is no number, is negative, or has no end.

    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidArgumentError(f"timeout is {value!r:.40}, expected seconds")
    return float(value)
