"""A fleet: processes hand their turns over to a real Redis server, and relays deliver them, whatever happens."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from converra.capture.recorder import Recorder
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.fleet import dead, joining, lanes, scripts, shipper, stream
from converra.delivery.fleet.engine import AwayError, Reading
from converra.delivery.fleet.entry import Entry, Packed
from converra.delivery.fleet.entry import encode as encode_entry
from converra.delivery.fleet.ledger import Held, Ledger, opened
from converra.delivery.fleet.rate import FairSchedule, account_of
from converra.delivery.fleet.url import parse
from converra.delivery.header import Header
from converra.delivery.protocol.progress import Opening, Progress
from converra.wire.json_safe import encode
from converra.wire.models import Message
from tests.delivery.harness import Note, held, posts, said, turn, words
from tests.fleet.redis_server import redis_server
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converra.delivery.fleet.redis_engine import RedisEngine
    from converra.delivery.fleet.relay import Relay
    from converra.server.run import LocalServer

    Closing = Callable[[Callable[[], object]], None]


def config(api: LocalServer, outbox: str, **settings: Any) -> Config:
    usual = {"api_key": "k", "base_url": api.base_url, "flush_interval": 0.05, "relay": "none", "timeout": LONG}
    return Config(**{**usual, "outbox": outbox, **settings})


def producer(api: LocalServer, outbox: str, closing: Closing, **settings: Any) -> Delivery:
    made = Delivery(config(api, outbox, **settings))
    closing(lambda: made.shutdown(0.2))
    return made


def relay(api: LocalServer, outbox: str, closing: Closing, **settings: Any) -> Relay:
    made = joining.relay_of(config(api, outbox, **settings), parse(outbox))
    closing(lambda: made.stop(LONG))
    made.start()
    return made


def engine(outbox: str, closing: Closing) -> RedisEngine:
    made = joining.engine_of(parse(outbox))
    closing(made.close)
    return made


def record(sender: Delivery, key: str, *turns: int | str, ended: bool = True, **fields: Any) -> Any:
    queue = sender.open(Header(key=key, prompt_id="prompt", **fields))
    for each in turns:
        queue.append(turn(each))
    if ended:
        queue.end()
    return queue


def stored(api: LocalServer) -> dict[str, tuple[str, list[str]]]:
    """Status and texts of each conversation, by the first text."""
    return {each.words[0]: (each.status, each.words) for each in held(api)}


# -- handing over ------------------------------------------------------------------------------------------------------


def test_turns_are_handed_over_and_then_delivered(api: LocalServer, outbox: str, closing: Closing) -> None:
    """A flush is True once Redis has everything; one that is to be delivered waits for the API; counters tell both."""
    sender = producer(api, outbox, closing)
    queue = record(sender, "a", 1, ended=False, metadata={"team": "x"})
    queue.annotate({"late": {1, 2}})
    record(sender, "b")  # nothing was recorded in it: nothing is sent
    assert sender.flush(LONG)
    assert held(api) == []
    counted = sender.stats()
    assert (counted.captured, counted.handed_over, counted.pending, counted.delivered) == (2, 2, 0, 0)
    assert not sender.flush(0.1, delivered=True)
    made = relay(api, outbox, closing)
    assert sender.flush(LONG, delivered=True)
    queue.append(turn(2))
    queue.end()
    record(sender, "c", 3)
    assert sender.flush(LONG, delivered=True)
    until(lambda: stored(api), {"question 1": ("completed", words(1, 2)), "question 3": ("completed", words(3))})
    first = next(each for each in held(api) if each.words[0] == "question 1")
    assert first.metadata is not None
    assert (first.metadata["team"], sorted(first.metadata["late"])) == ("x", [1, 2])
    assert [message["usage"] for message in first.messages if message["role"] == "assistant"] != []
    assert made.counters.delivered == 6
    until(lambda: [lane.entries for lane in made.engine.state()], [0, 0, 0, 0])


def test_a_process_sends_inline_and_completes_what_is_open(api: LocalServer, outbox: str, closing: Closing) -> None:
    """By default nothing else is needed; a shutdown completes open conversations, and gives the lanes back at once."""
    sender = producer(api, outbox, closing, relay="inline")
    sender.start()
    record(sender, "a", 1, 2, ended=False)
    assert sender.shutdown(LONG)
    other = producer(api, outbox, closing, relay="inline")
    record(other, "b", 3)
    assert other.flush(LONG, delivered=True)
    until(lambda: stored(api), {"question 1": ("completed", words(1, 2)), "question 3": ("completed", words(3))})
    assert until(lambda: engine(outbox, closing).take([0, 1, 2, 3], "me", 1) == [])  # the other one holds them
    assert other.shutdown(LONG)
    assert engine(outbox, closing).take([0, 1, 2, 3], "me", 1) == [0, 1, 2, 3]


def test_an_ended_conversation_continues_in_a_further_one(api: LocalServer, outbox: str, closing: Closing) -> None:
    """Turns that come after the end are delivered, also if another relay has to find out what was there."""
    sender = producer(api, outbox, closing)
    first = relay(api, outbox, closing)
    queue = record(sender, "a", 1)
    until(lambda: stored(api), {"question 1": ("completed", words(1))})
    first.stop(LONG)
    queue.append(turn(2))
    queue.end()
    relay(api, outbox, closing)
    assert sender.flush(LONG, delivered=True)
    found = held(api)
    assert [(each.status, each.words) for each in found] == [("completed", words(1)), ("completed", words(2))]
    assert (found[1].metadata or {})["continues"] == found[0].id
    assert queue.id == found[0].id  # the one that the app saw first
    assert sender.shutdown(LONG)
    sender.start()
    again = sender.open(queue.header)
    assert again.id is None  # nothing was recorded in it
    again.used = True
    assert until(lambda: again.id) == found[0].id


def test_a_producer_learns_the_ids_of_its_conversations(api: LocalServer, outbox: str, closing: Closing) -> None:
    """Once the app asks: the first look starts a search on a worker, and a flush to the API ends with all ids known."""
    sender = producer(api, outbox, closing)
    asked = record(sender, "a", 1, ended=False)
    asked_calls: list[int] = []
    reader = sender._flusher._engine  # type: ignore[attr-defined]
    read = reader.conversation_ids

    def counted(places: Any) -> Any:
        asked_calls.append(len(places))
        return read(places)

    reader.conversation_ids = counted
    assert sender.flush(LONG)
    assert asked_calls == []  # no command for an id that the app does not want
    assert asked.id is None
    until(lambda: asked_calls)
    relay(api, outbox, closing)
    assert until(lambda: asked.id) == held(api)[0].id
    flushed, dropped = record(sender, "b", 2), record(sender, "c", 3)
    del dropped
    asked_calls.clear()
    assert sender.flush(LONG, delivered=True)
    assert asked_calls == [1]  # neither the known one, nor the one that the app has dropped
    assert flushed.found_id == next(each.id for each in held(api) if each.words[0] == "question 2")


def test_insights_and_late_feedback(api: LocalServer, outbox: str, closing: Closing) -> None:
    """Insights are asked for by the id that a relay has saved; feedback after the end reaches the same conversation."""
    recorder = Recorder(config(api, outbox))
    closing(lambda: recorder.shutdown(LONG))
    relay(api, outbox, closing)
    with recorder.conversation("p") as conversation:
        conversation.add_message("user", "Where is it?")
        conversation.add_message("assistant", "It arrives on Tuesday.")
    found = conversation.wait_for_insights(LONG)
    assert found is not None
    assert (found.conversation_id, bool(found.summary)) == (conversation.id, True)
    conversation.feedback(score=1)
    assert recorder.delivery.flush(LONG, delivered=True)
    (stored_one,) = held(api)
    assert stored_one.id == conversation.id
    assert stored_one.metadata is not None
    assert stored_one.metadata["feedback"]["user"]["score"] == 1


def test_metadata_of_all_processes_of_a_session_is_kept(api: LocalServer, outbox: str, closing: Closing) -> None:
    """That with which a process joins, and its feedback, although another one has opened the conversation."""
    relay(api, outbox, closing)
    for name in ("first", "second", "third"):
        recorder = Recorder(config(api, outbox))
        closing(lambda recorder=recorder: recorder.shutdown(LONG))  # type: ignore[misc]
        with recorder.conversation("p", session_id="s", keep_open=True, metadata={name: True}) as conversation:
            if name == "first":
                conversation.add_message("user", "Where is it?")
            conversation.feedback(1, key=name)
        assert recorder.delivery.flush(LONG, delivered=True)
    (stored_one,) = held(api)
    assert stored_one.words[1:] == [f"Feedback ({name}): 1" for name in ("first", "second", "third")]
    assert stored_one.metadata["first"] is stored_one.metadata["second"] is stored_one.metadata["third"] is True
    assert sorted(stored_one.metadata["feedback"]) == ["first", "second", "third"]


# -- Redis is away -----------------------------------------------------------------------------------------------------


def test_the_spill_file_keeps_what_redis_cannot(api: LocalServer, tmp_path: Path, closing: Closing) -> None:
    """While Redis is down, full, or was never there; in order; also what a process that has ended has left."""
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        spill = tmp_path / "spill.db"
        outbox = f"{server.url}?lanes=4&spill={spill}"
        early = producer(api, outbox, closing)
        server.kill()
        queue = record(early, "a", 1, ended=False)
        assert not early.flush(0.3)
        until(lambda: early.stats().pending_bytes, 0)
        assert (early.stats().pending, early.stats().dropped) == (2, 0)
        server.start()
        queue.append(turn(2))
        assert early.flush(LONG)
        assert early.stats().handed_over == 4
        server.kill()
        queue.append(turn(3))
        record(early, "b", 4)
        assert not early.shutdown(0.5)
        server.start()
        late = producer(api, outbox, closing)
        late.start()
        assert until(lambda: late.stats().handed_over) == 4
        relay(api, outbox, closing)
        expected = {"question 1": words(1, 2, 3), "question 4": words(4)}
        until(lambda: {first: found for first, (_, found) in stored(api).items()}, expected)
        assert [path.name for path in tmp_path.iterdir() if path.suffix == ".lock"] == []


def test_a_full_redis_counts_as_away(api: LocalServer, tmp_path: Path, closing: Closing) -> None:
    """What it refuses is spilled, and handed over once it has room."""
    with redis_server() as server:
        late = producer(api, f"{server.url}?lanes=4&spill={tmp_path / 'spill.db'}", closing)
        record(late, "a", 4)
        assert late.flush(LONG)
        full = engine(server.url, closing)
        with full._connected() as redis:
            redis.config_set("maxmemory", "1")
        record(late, "c", 5)
        assert not late.flush(0.3)
        assert "used memory" in str(late.stats().last_error)
        with full._connected() as redis:
            redis.config_set("maxmemory", "0")
        assert late.flush(LONG)
        assert late.stats().handed_over == 4


def test_without_a_spill_file_memory_is_bounded_and_what_is_dropped_is_counted(
    api: LocalServer, closing: Closing
) -> None:
    """No call waits for a Redis that does not answer; what has room in memory is handed over in order afterwards."""
    with redis_server() as server:
        sender = producer(api, f"{server.url}?lanes=4", closing, max_pending_bytes=10_000)
        record(sender, "a", 1)
        assert sender.flush(LONG)
        server.pause()
        began = time.perf_counter()
        for number in range(100):
            record(sender, f"b{number}", number)
        spent = time.perf_counter() - began
        server.resume()
        assert spent < 2.0  # no call has waited for the answer that took longer
        assert not sender.flush(LONG) or sender.stats().dropped
        until(lambda: sender.stats().pending, 0)
        counted = sender.stats()
        assert counted.captured == 202
        assert counted.dropped > 0
        assert counted.handed_over + counted.dropped == 202


def test_a_batch_whose_answer_is_lost_is_delivered_once(api: LocalServer, outbox: str, closing: Closing) -> None:
    """It is handed over again, and relays skip what they have seen, also a relay that starts later."""
    sender = producer(api, outbox, closing)
    lost = iter([True, True, False, True])
    original = sender._flusher._engine.hand_over  # type: ignore[attr-defined]

    def losing(parcels: Any) -> Any:
        answers = original(parcels)
        return [AwayError("lost") for _ in answers] if next(lost, False) else answers

    sender._flusher._engine.hand_over = losing  # type: ignore[attr-defined]
    queue = record(sender, "a", 1, ended=False)
    assert sender.flush(LONG)
    queue.append(turn(2))
    assert sender.flush(LONG)
    state = engine(outbox, closing)
    assert sum(lane.entries for lane in state.state()) == 5
    shipping: Any = sender._flusher
    with shipping._lock, pytest.MonkeyPatch.context() as patch:  # it rests while a sign of life cannot be given
        patch.setattr(shipping._engine, "beat", lambda *_: (_ for _ in ()).throw(AwayError("lost")))
        patch.setattr(shipping, "_beat_at", 0.0)
        assert shipping._next() > 0
    first = relay(api, outbox, closing)
    assert sender.flush(LONG, delivered=True)
    first.stop(LONG)
    queue.end()
    relay(api, outbox, closing)
    assert sender.flush(LONG, delivered=True)
    assert stored(api) == {"question 1": ("completed", [*words(1, 2), "Conversation ended."])}


# -- relays ------------------------------------------------------------------------------------------------------------


def test_a_successor_settles_the_request_of_a_dead_relay(
    api: LocalServer, outbox: str, closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The append was stored and its answer never read: the successor reads it back, and sends only what is missing."""
    monkeypatch.setattr(lanes, "LEASE_SECONDS", 0.3)
    sender = producer(api, outbox, closing)
    queue = record(sender, "a", 1, ended=False)
    first = relay(api, outbox, closing, timeout=0.3)
    until(lambda: [each.words for each in held(api)], [words(1)])
    until(lambda: sum(lane.entries for lane in first.engine.state()), 0)
    api.faults.add("append", "hang", when="after", times=1)
    queue.append(turn(2))
    queue.append(turn(3))
    until(lambda: api.faults.fired[("append", "hang")], 1)
    first.lanes.abandon()  # as if it were dead: nothing is renewed, read, or saved any more
    first.outbox._by_progress.clear()
    queue.append(turn(4))
    queue.end()
    second = relay(api, outbox, closing, timeout=0.3)
    assert sender.flush(LONG, delivered=True)
    assert stored(api) == {"question 1": ("completed", words(1, 2, 3, 4))}
    assert second.counters.readbacks == 1


def test_a_former_holder_neither_reads_nor_saves_nor_sends(
    api: LocalServer, outbox: str, closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that was frozen finds its lanes taken when it wakes; all it had is sent by the other, once."""
    frozen = relay(api, outbox, closing)
    until(lambda: len(frozen.lanes.held()), 4)
    frozen.lanes._stop.set()  # frozen: its leases run out
    with frozen.engine._connected() as redis:  # type: ignore[attr-defined]
        redis.delete(*[frozen.engine._key(lane, "lease") for lane in range(4)])  # type: ignore[attr-defined]
    second = relay(api, outbox, closing)
    until(lambda: len(second.lanes.held()), 2)  # it still counts as alive: each has its share
    second.engine.take([0, 1, 2, 3], second.lanes.token, 10)
    for number in range(4):
        second.lanes._lanes.setdefault(number, lanes.Lane(number))
    sender = producer(api, outbox, closing)
    for number in range(8):
        record(sender, f"k{number}", number)
    assert sender.flush(LONG, delivered=True)
    until(lambda: [lane.lost for lane in frozen.lanes._lanes.values()], [True] * 4)
    assert frozen.counters.requests == 0
    assert stored(api) == {f"question {number}": ("completed", words(number)) for number in range(8)}


def test_lanes_are_balanced(api: LocalServer, outbox: str, closing: Closing) -> None:
    """Each relay has its share of the lanes, and one that stops leaves its own to the others at once."""
    first = relay(api, outbox, closing)
    until(lambda: len(first.lanes.held()), 4)
    second = relay(api, outbox, closing)
    until(lambda: (len(first.lanes.held()), len(second.lanes.held())), (2, 2))
    first.stop(LONG)
    until(lambda: len(second.lanes.held()), 4)
    only = joining.relay_of(config(api, outbox), parse(outbox), lanes=range(1, 2))
    closing(lambda: only.stop(LONG))
    only.start()
    second.stop(LONG)
    until(lambda: [lane.number for lane in only.lanes.held()], [1])


def test_conversations_of_a_dead_process_are_completed(
    api: LocalServer, outbox: str, closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `idle_timeout`; those of one that lives and only says nothing stay open."""
    monkeypatch.setattr(shipper, "DEAD_AFTER", 0.5)
    monkeypatch.setattr(shipper, "BEAT_SECONDS", 0.05)
    killed, alive = producer(api, outbox, closing), producer(api, outbox, closing)
    record(killed, "dead", 1, ended=False)
    record(alive, "alive", 2, ended=False)
    assert killed.flush(LONG)
    killed._flusher.workers.stop()  # as if it were killed: nothing is said any more
    relay(api, outbox, closing, idle_timeout=0.2)
    until(lambda: stored(api).get("question 1"), ("completed", [*words(1), "Conversation ended."]))
    assert stored(api)["question 2"][0] != "completed"


def test_a_rejected_message_is_set_aside_and_can_be_retried(api: LocalServer, outbox: str, closing: Closing) -> None:
    """With its reason; the others are delivered."""
    sender = producer(api, outbox, closing)
    queue = sender.open(Header(key="a", prompt_id="prompt"))
    unreadable = Message(role="nonsense", content="?", metadata={"messageId": "unreadable"})  # type: ignore[arg-type]
    queue.append([said("user", "fine"), Note(unreadable), said("user", "", metadata={"messageId": "empty"})])
    queue.append([said("assistant", "fine, too", latency_ms=1.0)])
    queue.end()
    made = relay(api, outbox, closing)
    until(
        lambda: [(each.status, each.words) for each in held(api)],
        [("completed", ["Conversation started.", "fine", "fine, too"])],
    )
    state = engine(outbox, closing)
    found = {each.id: each.message for each in dead.find(state)}
    assert sorted(found) == ["empty", "unreadable"]
    assert "content" in found["empty"].reason
    assert "cannot be read" in found["unreadable"].reason
    assert made.counters.rejected == 1


def test_a_stuck_conversation_does_not_hold_up_its_lane(
    api: LocalServer, outbox: str, closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others of the lane are delivered; no more is read than the backlog allows, and all of it arrives in the end."""
    monkeypatch.setattr(stream, "BACKLOG", 3)
    monkeypatch.setattr(stream, "READ_AT_ONCE", 2)
    outbox = outbox.replace("lanes=4", "lanes=1")
    sender = producer(api, outbox, closing)
    record(sender, "a", 0, ended=False)
    made = relay(api, outbox, closing)
    until(lambda: len(held(api)), 1)
    until(lambda: sum(lane.entries for lane in made.engine.state()), 0)
    stuck = next(iter(api.store.conversations()[0])).id
    original = made.flusher._transport.connection
    assert original is not None
    send = original.send

    def refusing(operation: Any, **kwargs: Any) -> Any:
        if stuck in operation.path and not released.is_set():
            raise TimeoutError("stuck")
        return send(operation, **kwargs)

    released = threading.Event()
    monkeypatch.setattr(original, "send", refusing)
    record(sender, "a", 1)
    for number in range(2, 12):
        record(sender, f"b{number}", number)
    until(lambda: len(held(api)), 11)
    assert made.lanes.held()[0].outstanding <= 4
    released.set()
    assert sender.flush(LONG, delivered=True)
    assert stored(api)["question 0"] == ("completed", words(0, 1))


# -- the rate limit ----------------------------------------------------------------------------------------------------


def test_all_processes_keep_to_one_limit_and_one_retry_after(outbox: str, closing: Closing) -> None:
    """No window of a minute has more requests than the limit; what one process is asked to wait, all of them do."""
    shared = [engine(outbox, closing) for _ in range(2)]
    account = account_of("key")
    assert account == account_of("key") != account_of("other")
    limit = 6000
    granted: list[float] = []

    def ask(each: RedisEngine) -> None:
        while time.monotonic() < end:
            wait = each.admit(account, limit)
            if wait:
                time.sleep(min(wait, 0.05))
            else:
                granted.append(time.monotonic())

    began = time.monotonic()
    end = began + 1.0
    threads = [threading.Thread(target=ask, args=(each,)) for each in shared * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    burst = limit // 60
    gap = scripts.WINDOW / (limit - burst + 1)
    assert len(granted) <= burst + (granted[-1] - began) / gap + 1
    shared[0].block(account, 0.5)
    shared[1].block(account, 0.1)  # the longer one holds
    assert 0.1 < shared[1].admit(account, limit) <= 0.5
    assert shared[1].admit("another account", limit) == 0
    shared[0].learn("third", 60)
    assert [shared[1].admit("third", 0) > 0 for _ in range(2)] == [False, True]
    assert shared[0].admit("unlimited", 0) == shared[0].admit("unlimited", 0) == 0


def test_a_limit_in_the_url_holds_all_relays_back(api: LocalServer, outbox: str, closing: Closing) -> None:
    """Two relays send no more than the limit allows, ended conversations first; a 429 stops both."""
    outbox += "&limit=600"
    api.faults.rate_limit(600)
    api.faults.add("create", "status", status=429, headers={"Retry-After": "0.3"}, times=1)
    sender = producer(api, outbox, closing)
    for number in range(12):
        record(sender, f"k{number}", number)
    made = [relay(api, outbox, closing) for _ in range(2)]
    assert sender.flush(LONG, delivered=True)
    assert [status for _, status in posts(api)].count(429) == 1
    assert stored(api) == {f"question {number}": ("completed", words(number)) for number in range(12)}
    assert sum(each.rate.waits for each in made) > 0


def test_lanes_take_turns_and_ended_conversations_go_first() -> None:
    """However many wait in one lane."""
    schedule = FairSchedule()
    made = []
    for number, (lane, ended) in enumerate([(0, False), (0, True), (0, True), (0, True), (1, True), (2, False)]):
        progress = Progress(Header(key=str(number), prompt_id="p"))
        progress.lane, progress.ended = lane, ended
        schedule.put(progress, 0.0, -100.0 if ended else 0.0)
        made.append(progress)
    assert schedule.next_at() == 0.0
    order, left = [], []
    while (taken := schedule.take(1.0))[0] is not None:
        order.append(int(taken[0].header.key))
        left.append(taken[1])
    assert order == [1, 4, 2, 3, 0, 5]
    assert left == [5, 4, 3, 2, 1, 0]
    schedule.put(made[0], 5.0, 0.0)
    assert (schedule.planned, schedule.next_at()) == ([made[0]], 5.0)
    schedule.drop(made[0])
    assert schedule.next_at() is None


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_turns_of_one_session_from_several_machines_keep_their_order_of_time(
    api: LocalServer, outbox: str, closing: Closing
) -> None:
    """By when they were recorded, not by when they reached Redis; what a machine has only read is not repeated."""
    first, second = (producer(api, outbox, closing) for _ in range(2))
    session: dict[str, Any] = {"shared": True, "metadata": {"sessionId": "s"}}
    queues = [record(each, "p:s", ended=False, **session) for each in (first, second)]
    now = time.monotonic()
    queues[1].append(turn(2), now - 1)
    assert second.flush(LONG)
    known = turn(1)
    queues[0].append(known, now - 2)
    queues[0].append(turn(3), now)
    assert first.flush(LONG)
    made = relay(api, outbox, closing)
    assert second.flush(LONG, delivered=True)
    until(lambda: [each.words for each in held(api)], [words(1, 2, 3)])
    for note in (copies := turn(3)):
        note.already_known = True
    queues[1].append([*copies, *turn(4)])
    assert second.flush(LONG, delivered=True)
    until(lambda: [each.words for each in held(api)], [words(1, 2, 3, 4)])
    queues[0].end(always=True)
    assert first.flush(LONG, delivered=True)
    assert [(each.status, each.words[:-1]) for each in held(api)] == [("completed", words(1, 2, 3, 4))]
    assert made.counters.withheld == 2


def test_an_entry_that_cannot_be_read_is_set_aside(api: LocalServer, outbox: str, closing: Closing) -> None:
    """The others of its lane are delivered."""
    outbox = outbox.replace("lanes=4", "lanes=1")
    sender = producer(api, outbox, closing)
    state = engine(outbox, closing)
    assert state.lanes() == 1
    with state._connected() as redis:
        redis.xadd(state._key(0, "t"), {"e": b"nonsense"})
    record(sender, "a", 1)
    relay(api, outbox, closing)
    assert sender.flush(LONG, delivered=True)
    until(lambda: state.state()[0].dead, 1)
    assert stored(api) == {"question 1": ("completed", words(1))}
    assert state.take([0], "other", 1) == []
    assert state.read([Reading(0, "other", None, 1)])[0].lost
    (found,) = dead.find(state)
    with pytest.raises(dead.UnreadableError):
        dead.retry(state, found)
    once = Entry(key="b", prompt_id="p", producer="x", number=1, at=0.0, messages=[], notes={"seen": True})
    readable = found._replace(message=msgspec.structs.replace(found.message, raw=encode_entry(once)))
    dead.retry(state, readable)  # as a version would that can read it
    assert state.state()[0].dead == 0
    until(lambda: state.state()[0].entries, 0)


def test_what_is_delivered_of_an_entry_stays_so_for_each_further_holder() -> None:
    """A holder that dies before the entry is done leaves it to the next, and that one to another."""
    notes = [said("user", "a", metadata={"messageId": "m0"}), said("user", "b", metadata={"messageId": "m1"})]
    packed = [Packed(encode(note.message()), f"m{number}", 0.0) for number, note in enumerate(notes)]
    one = Entry(key="k", prompt_id="p", producer="x", number=1, at=0.0, messages=packed)
    first = Held(lanes.Lane(0), "k", opened(one))
    assert first.take("1-0", one, 0.0, 10) == 0
    progress = first.progress
    progress.entries.extend(message for _, message in progress.arrived)
    progress.arrived.clear()
    progress.opened("id", Opening(entries=1, status="active"), ours=True)
    first.settle()
    saved = first.ledger
    for _ in range(3):
        further = Held(lanes.Lane(0), "k", msgspec.msgpack.decode(msgspec.msgpack.encode(saved), type=Ledger))
        further.take("1-0", one, 0.0, 10)
        further.settle()
        saved = further.ledger
        assert (saved.gone, [message.id for _, message in further.progress.arrived]) == (["m0"], ["m1"])
        assert further.done == {}
