"""Requests are the scarce thing: under a rate limit everything arrives, ended conversations first, nobody starves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header
from converra.delivery.protocol.batching import HEAD_START, due_at, rank
from converra.delivery.protocol.progress import Progress, State
from converra.delivery.worker.schedule import RateLimiter, Schedule
from tests.api.scripted import answer, scripted
from tests.delivery.harness import delivery, held, posts, queue, said, turn, words
from tests.patience import LONG, until

if TYPE_CHECKING:
    from converra.server.run import LocalServer


def _progress(key: str = "k") -> Progress:
    return Progress(Header(key=key, prompt_id="p"))


def test_a_rate_limit_delays_and_loses_nothing(server: LocalServer) -> None:
    """Ten conversations through a keyhole of eight requests in five seconds."""
    server.faults.rate_limit(8, seconds=5.0)
    sender = delivery(server)
    for number in range(10):
        one = queue(sender, str(number))
        one.append([said("user", f"question {number}"), said("assistant", f"answer {number}", tokens=1)])
        one.end()
    assert sender.shutdown(LONG)
    assert sorted(tuple(one.words) for one in held(server)) == sorted(tuple(words(n)) for n in range(10))
    refused = [status for _, status in posts(server) if status == 429]
    assert 1 <= len(refused) < 10


def test_a_backlog_behind_a_rate_limit_costs_a_request_for_each_conversation(server: LocalServer) -> None:
    """Once the limit is met, whoever has ended is sent whole: nearly as many get through as requests are allowed."""
    server.faults.rate_limit(8, seconds=0.4)
    sender = delivery(server, flush_interval=0.02)
    for number in range(24):
        one = queue(sender, str(number))
        one.append(turn(number))
        one.end()
    assert sender.shutdown(40)
    found = held(server)
    assert sorted(one.words for one in found) == sorted(words(number) for number in range(24))
    assert {one.status for one in found} == {"completed"}
    assert all(one.messages[1]["usage"] == {"promptTokens": 1, "completionTokens": 2} for one in found)
    answered = [kind for kind, status in posts(server) if status == 200]
    assert answered.count("create") == 24
    assert answered.count("append") <= 12  # for those that were opened before the limit was met, and the last one


def test_batches_grow_while_requests_wait(server: LocalServer) -> None:
    """What is recorded during a Retry-After goes with one request."""
    server.faults.add("any", "status", status=429, headers={"Retry-After": "1"})
    sender = delivery(server, flush_interval=0)
    one = queue(sender)
    one.append(turn(0))
    until(lambda: posts(server), [("create", 429)])
    for number in range(1, 50):
        one.append(turn(number))
    one.end()
    assert sender.shutdown(LONG)
    assert posts(server) == [("create", 429), ("create", 200), ("append", 200)]


def test_after_a_refusal_requests_keep_a_distance_that_successes_shorten() -> None:
    """The budget is learned from what the API says."""
    pace = RateLimiter()
    assert pace.ready_at(0) == 0
    pace.last = 10.0
    pace.limited(10.0, 5.0)
    assert pace.ready_at(3) == 15.0
    pace.last = 15.0
    first = pace.distance
    assert pace.ready_at(0) == 15.0 + first
    pace.limited(15.0, 0.0)
    assert pace.distance == 2 * first
    for _ in range(100):
        pace.answered()
    assert pace.distance == 0


def test_an_ill_api_is_asked_by_one_request_at_a_time() -> None:
    """When several conversations fail in a row it is not about them; one success ends it."""
    pace = RateLimiter()
    for number in range(2):
        pace.failed(_progress(str(number)), 1.0, 8.0)
        assert not pace.is_outage
    pace.failed(_progress("third"), 1.0, 8.0)
    assert pace.ready_at(1) is None
    assert pace.ready_at(0) == 9.0
    pace.answered()
    assert pace.ready_at(1) == 0


def test_one_conversation_that_fails_again_and_again_holds_up_no_other() -> None:
    """It is the conversation that is ill, not the API."""
    pace, bad = RateLimiter(), _progress()
    for _ in range(9):
        pace.failed(bad, 1.0, 8.0)
    assert pace.ready_at(2) == 0


def test_a_refused_key_is_probed_more_and_more_slowly() -> None:
    """15 s, 30 s, … 5 minutes; a flush may try at once."""
    pace = RateLimiter()
    waits = []
    for _ in range(7):
        pace.refuse_key(0.0)
        waits.append(pace.ready_at(0))
    assert waits == [15, 30, 60, 120, 240, 300, 300]
    assert pace.ready_at(1) is None
    pace.retry_key()
    assert pace.ready_at(0) == 0


def test_ended_conversations_go_first_then_the_oldest() -> None:
    """But not for ever: one that has waited minutes longer goes before an ended one. Begun ones are finished first."""
    schedule = Schedule()
    waiting = {"old": 5.0, "new": 9.0, "ended": 50.0, "ended, begun": 51.0, "ancient": 50.0 - HEAD_START - 1}
    for key, since in waiting.items():
        progress = _progress(key)
        progress.arrived.append((since, None))
        progress.ended = key.startswith("ended")
        progress.state.id = "conv" if key.endswith("begun") else None
        due = due_at(progress, 0.0)
        assert due is not None
        schedule.put(progress, due, rank(progress))
    order = [schedule.take(400.0) for _ in range(6)]
    assert [(one and one.header.key, others) for one, others in order] == [
        *(("ended, begun", 4), ("ancient", 3), ("ended", 2), ("old", 1), ("new", 0), (None, 0)),
    ]


def test_the_schedule_counts_the_latest_plan_only() -> None:
    """Planned anew, later or not at all: what was planned before does not come up."""
    schedule = Schedule()
    one, two = _progress("1"), _progress("2")
    schedule.put(one, 5.0, 0.0)
    schedule.put(two, 6.0, 0.0)
    assert schedule.next_at() == 5.0
    schedule.put(one, 9.0, 0.0)
    assert (schedule.next_at(), schedule.planned) == (6.0, [one, two])
    assert schedule.take(5.5) == (None, 0)
    schedule.put(one, 9.5, 0.0)
    assert schedule.take(7.0) == (two, 0)
    schedule.put(two, 8.0, 0.0)
    schedule.drop(two)
    assert schedule.take(8.5) == (None, 0)
    schedule.put(two, 8.0, 1.0)
    schedule.put(one, 1.0, 0.0)
    assert schedule.take(8.5) == (one, 1)
    schedule.drop(two)
    assert schedule.next_at() is None


def test_an_answer_that_says_so_is_the_last_for_a_while() -> None:
    """Headers that tell of a spent budget are believed before a request is refused."""
    with scripted(answer({"id": "c"}, X_RateLimit_Remaining="0", X_RateLimit_Reset="1"), answer({"id": "c"})) as server:
        sender = Delivery(Config(api_key="k", base_url=server.base_url, flush_interval=0.0))
        one = queue(sender)
        one.append(turn(1))
        one.end()
        began = time.monotonic()
        assert sender.shutdown(LONG)
        assert time.monotonic() - began >= 1
    assert [asked.method for asked in server.asked] == ["POST", "POST"]


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        pytest.param({}, None, id="nothing waits"),
        pytest.param({"arrived": 10.0}, 12.0, id="waits for the interval"),
        pytest.param({"arrived": 10.0, "retry_at": 30.0}, 30.0, id="failed a moment ago"),
        pytest.param({"arrived": 10.0, "ended": True}, 0.0, id="ended"),
        pytest.param({"arrived": 10.0, "send_now": True}, 0.0, id="a flush asks for it"),
        pytest.param({"ended": True}, None, id="ended without a message"),
        pytest.param({"ended": True, "always": True}, 0.0, id="ended whatever was recorded here"),
        pytest.param({"ended": True, "state": State(id="c")}, 0.0, id="ended with all sent"),
        pytest.param({"ended": True, "state": State(id="c", closed=True)}, None, id="over"),
        pytest.param({"state": State(id="c", opener_unknown=True)}, 0.0, id="who opened it is not known"),
    ],
)
def test_when_a_conversation_is_due(setup: dict[str, object], expected: float | None) -> None:
    """The interval for open ones, at once for what has ended, was asked for or is in question."""
    progress = _progress()
    for name, value in setup.items():
        if name == "arrived":
            progress.arrived.append((float(str(value)), None))
        else:
            setattr(progress, name, value)
    assert due_at(progress, 2.0) == expected
