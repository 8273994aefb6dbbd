"""At 60 requests a minute: hours of traffic in seconds, on a clock that jumps, against an API that counts requests."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from converra.api import retry
from converra.config import Config
from converra.delivery import delivery as delivering
from converra.delivery import stats
from converra.delivery.conversation_queue import FlushRequest
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header
from converra.delivery.worker import flusher as flushing
from converra.delivery.worker import loop
from converra.errors import RateLimitError
from tests.delivery.fake_api import FakeAPI
from tests.delivery.harness import turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.api.operations import Operation

PER_MINUTE = 60
LATENCY = 0.1


class Clock:
    """Stands in for the module `time`. Whatever was planned happens as it advances."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, happens: Callable[[], None]) -> None:
        self._planned.append((when, len(self._planned), happens))
        self._planned.sort(key=lambda row: row[:2])

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + max(seconds, 0.001)
        while self._planned and self._planned[0][0] <= until:
            when, _, happens = self._planned.pop(0)
            self.now = max(self.now, when)
            happens()
        self.now = until


class Limited(FakeAPI):
    """Answers so many requests in any minute. It `tells` about it always, when it refuses, or never."""

    def __init__(self, clock: Clock, tells: str) -> None:
        super().__init__(lambda: None)
        self._clock = clock
        self._tells = tells
        self._recent: deque[float] = deque()
        self.refused = 0
        self.completed: dict[str, float] = {}

    def send(self, operation: Operation[Any], *, timeout: float | None = None) -> Any:
        self._clock.sleep(LATENCY)
        now = self._clock.now
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        if len(self._recent) >= PER_MINUTE:
            self.refused += 1
            wait = {"retry-after": self._reset(now)} if self._tells != "never" else {}
            raise RateLimitError("slow down", status_code=429, headers=wait)
        self._recent.append(now)
        answer = super().send(operation, timeout=timeout)
        if self._tells == "always":
            left = str(PER_MINUTE - len(self._recent))
            self.limit_headers = {"ratelimit-remaining": left, "ratelimit-reset": self._reset(now)}
        for key, conversation in self.keys.items():
            if conversation.completions:
                self.completed.setdefault(key, now)
        return answer

    def _reset(self, now: float) -> str:
        return str(int(self._recent[0] + 60 - now) + 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (loop, flushing, delivering, stats):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.5)
    monkeypatch.setattr(retry, "MAX_DELAY", 8.0)
    monkeypatch.setattr(random, "SystemRandom", lambda: random.Random(1))
    return clock


def _sender(api: Limited) -> Delivery:
    sender = Delivery(Config(api_key="k", flush_interval=2.0), connect=lambda _key: api)
    sender._flusher.workers.closed = True  # everything happens on this thread
    return sender


def _work(sender: Delivery, clock: Clock, minutes: float) -> None:
    sender._flusher._work_here(FlushRequest(), clock.now + minutes * 60)


@pytest.mark.parametrize(("tells", "refused"), [("always", 0.01), ("when refused", 0.15), ("never", 0.2)])
def test_nearly_as_many_conversations_get_through_as_the_limit_allows(clock: Clock, tells: str, refused: float) -> None:
    """More end than two requests each allow: nine tenths of the best possible arrive, and few requests are in vain."""
    api = Limited(clock, tells)
    sender = _sender(api)

    def converse(number: int) -> None:
        queue = sender.open(Header(key=str(number), prompt_id="p"))
        for part in range(4):
            clock.at(clock.now + 5 * part, lambda part=part: queue.append(turn(f"{number}-{part}")))  # type: ignore[misc]
        clock.at(clock.now + 16, queue.end)

    minutes = 20
    for number in range(40 * minutes):
        clock.at(clock.now + number * 1.5, lambda number=number: converse(number))  # type: ignore[misc]
    _work(sender, clock, minutes)
    assert len(api.completed) >= 0.9 * minutes * PER_MINUTE / 2
    assert api.refused <= refused * minutes * PER_MINUTE


@pytest.mark.parametrize(("tells", "refused"), [("always", 0.01), ("when refused", 0.1), ("never", 0.3)])
def test_a_backlog_of_short_conversations_costs_a_request_each(clock: Clock, tells: str, refused: float) -> None:
    """Six hundred calls that have ended wait: nearly as many a minute get through as requests are allowed."""
    api = Limited(clock, tells)
    sender = _sender(api)
    for number in range(600):
        queue = sender.open(Header(key=str(number), prompt_id="p"))
        queue.append(turn(number))
        queue.end()
    _work(sender, clock, 1)
    assert len(api.completed) >= 0.97 * PER_MINUTE
    _work(sender, clock, 9)
    stored = [conversation for conversation in api.conversations if conversation.completions]
    assert len(stored) >= 0.93 * 10 * PER_MINUTE
    assert {conversation.completions for conversation in stored} == {1}
    assert api.requests <= 1.1 * len(api.conversations)
    assert api.refused <= refused * 10 * PER_MINUTE
    _work(sender, clock, 10)
    assert [len(conversation.whole) for conversation in api.conversations] == [2] * 600
    assert all("usage" in conversation.whole[1] for conversation in api.conversations)


@pytest.mark.parametrize("tells", ["always", "when refused", "never"])
def test_a_backlog_of_sessions_is_completed_one_by_one(clock: Clock, tells: str) -> None:
    """Other processes may join them, so each takes three requests; those that are begun are finished first."""
    api = Limited(clock, tells)
    sender = _sender(api)
    for number in range(100):
        queue = sender.open(Header(key=str(number), prompt_id="p", shared=True))
        queue.append(turn(number))
        queue.end()
    _work(sender, clock, 1)
    assert len(api.completed) >= 0.9 * PER_MINUTE / 3
    _work(sender, clock, 6)
    assert [len(conversation.whole) for conversation in api.conversations] == [2] * 100
    assert {conversation.completions for conversation in api.conversations} == {1}


def test_ended_conversations_go_first_and_open_ones_do_not_starve(clock: Clock) -> None:
    """A hundred long chats that never pause let those that end go before them, and are sent within minutes too."""
    api = Limited(clock, "when refused")
    sender = _sender(api)
    chats = [sender.open(Header(key=f"chat {number}", prompt_id="p")) for number in range(100)]

    def chat(minute: int) -> None:
        for number, queue in enumerate(chats):
            queue.append(turn(f"chat {number}-{minute}"))

    ended: dict[str, float] = {}

    def converse(number: int) -> None:
        queue = sender.open(Header(key=str(number), prompt_id="p"))
        queue.append(turn(number))
        queue.end()
        ended[str(number)] = clock.now

    minutes = 30
    for minute in range(6 * minutes):
        clock.at(clock.now + 10 * minute, lambda minute=minute: chat(minute))  # type: ignore[misc]
    for number in range(10 * minutes):
        clock.at(clock.now + 6 * number, lambda number=number: converse(number))  # type: ignore[misc]
    _work(sender, clock, minutes)
    waits = sorted(api.completed[key] - at for key, at in ended.items() if key in api.completed)
    stored = {key: len(api.keys[key].messages) for key in api.keys if key.startswith("chat")}
    assert len(waits) >= 0.9 * len(ended)
    assert waits[len(waits) // 2] < 60
    assert len(stored) == 100
    assert min(stored.values()) > 0.7 * 2 * 6 * minutes
