"""What a recorder may rely on when everything works: order, few requests, `completed` once, and flushes that tell."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from inline_snapshot import snapshot

from converra.config import Config
from converra.delivery.worker.loop import Mode, usual_mode
from converra.server.faults.switches import FaultMiddleware
from converra.wire.models import CLOSING_WORDS, Usage
from tests.delivery.harness import Held, Note, asleep, delivery, held, posts, queue, said, turn, words
from tests.patience import HANG, LONG, until

if TYPE_CHECKING:
    from pathlib import Path

    from converra.server.run import LocalServer


def test_a_conversation_that_ends_within_the_interval_costs_two_requests(server: LocalServer) -> None:
    """Create with the leading system and user messages, one append that completes; nothing is lost of any message."""
    sender = delivery(server, flush_interval=60)
    conversation = queue(sender, metadata={"sessionId": "s"}, company_name="ACME")
    opening = [said("system", "be kind", metadata={"messageId": "one"}), *turn(1)]
    opening[1] = said("user", "question 1", metadata={"messageId": "two"})
    conversation.append(opening)
    conversation.append(turn(2))
    conversation.end()
    assert sender.flush(LONG)
    create, append = (request.json() for request in server.requests)
    for message in append["messages"]:
        message["metadata"].pop("messageId")
    assert create == snapshot(
        {
            "promptId": "prompt",
            "content": '{"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"question 1"}],'
            '"metadata":{"sessionId":"s","messageDetails":'
            '{"0":{"metadata":{"messageId":"one"}},"1":{"metadata":{"messageId":"two"}}}}}',
            "status": "active",
            "llmModel": "gpt",
            "companyName": "ACME",
            "idempotencyKey": "key",
        }
    )
    facts = {"model": "gpt", "usage": {"promptTokens": 1, "completionTokens": 2}, "latencyMs": 3.5, "metadata": {}}
    assert append == {
        "messages": [
            {"role": "assistant", "content": "answer 1", **facts},
            {"role": "user", "content": "question 2", "metadata": {}},
            {"role": "assistant", "content": "answer 2", **facts},
        ],
        "status": "completed",
        "metadata": {"sessionId": "s", "sdkDelivered": 3},
    }
    assert conversation.id == Held(server).id
    assert sender.shutdown(LONG)


def test_a_conversation_that_no_create_diminishes_costs_one_request(server: LocalServer) -> None:
    """Only role, content, timestamp, model and tokens: all of it goes into a completed create."""
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", "hello"), said("assistant", "hi", model="gpt", tokens=3)])
    conversation.end()
    assert sender.shutdown(LONG)
    assert posts(server) == [("create", 200)]
    assert (Held(server).words, Held(server).status) == (["hello", "hi"], "completed")


def test_a_question_without_an_answer_is_abandoned(server: LocalServer) -> None:
    """Ended with no assistant turn and nothing sent yet: created as abandoned, with all that is known."""
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", "hello?", metadata={"error": {"type": "Timeout"}})])
    conversation.end()
    assert sender.shutdown(LONG)
    assert posts(server) == [("create", 200)]
    assert Held(server).status == "abandoned"
    assert Held(server).messages[0]["metadata"]["error"] == {"type": "Timeout"}


def test_nothing_recorded_means_nothing_sent(server: LocalServer) -> None:
    """A conversation without a message leaves no trace, and no thread is started for it."""
    before = set(threading.enumerate())
    sender = delivery(server)
    conversation = queue(sender)
    conversation.annotate({"a": 1})
    conversation.end()
    assert sender.flush(LONG)
    assert sender.shutdown(LONG)
    assert server.requests == []
    assert set(threading.enumerate()) <= before


def test_turns_are_sent_within_the_interval(server: LocalServer) -> None:
    """Nobody needs to flush: a turn is sent when it has waited for flush_interval, also the newest."""
    sender = delivery(server, flush_interval=0.05)
    conversation = queue(sender)
    conversation.append(turn(1))
    until(lambda: held(server) and Held(server).words == words(1))
    assert Held(server).status == "active"
    conversation.append(turn(2))
    until(lambda: Held(server).words == words(1, 2))
    assert sender.shutdown(LONG)


def test_the_newest_message_waits_for_the_next_one(server: LocalServer) -> None:
    """What has waited is sent without the newest message, which may be the last and then completes."""
    sender = delivery(server, flush_interval=3600)
    conversation = queue(sender)
    with asleep(sender):
        conversation.append(turn(1), at=time.monotonic() - 3600)
        conversation.append(turn(2))
    until(lambda: held(server) and len(Held(server).words) > 1)
    assert Held(server).words == [*words(1), "question 2"]
    conversation.end()
    assert sender.shutdown(LONG)
    assert (Held(server).words, Held(server).status) == (words(1, 2), "completed")


def test_the_end_is_carried_by_a_message_of_ours_where_none_is_left(server: LocalServer) -> None:
    """`completed` needs an append with a message: when all were sent, a system message says that it ended."""
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append(turn(1))
    assert sender.flush(LONG)
    conversation.end()
    conversation.end()
    assert sender.shutdown(LONG)
    assert (Held(server).words, Held(server).status) == ([*words(1), "Conversation ended."], "completed")
    assert sum(request.json().get("status") == "completed" for request in server.requests) == 1
    assert sender.stats().delivered == 2


def test_shutdown_completes_what_is_open_but_not_a_shared_session(server: LocalServer) -> None:
    """A session that other processes may go on with stays open."""
    sender = delivery(server)
    queue(sender, "own").append(turn(1))
    queue(sender, "shared", shared=True).append(turn(2))
    assert sender.shutdown(LONG)
    assert {one.words[-1]: one.status for one in held(server)} == {"answer 1": "completed", "answer 2": "active"}


def test_delivery_goes_on_after_shutdown(server: LocalServer) -> None:
    """instrument() again after shutdown(): later turns are delivered as the first ones were."""
    sender = delivery(server)
    for number in (1, 2, 3):
        conversation = queue(sender, str(number))
        conversation.append(turn(number))
        assert sender.shutdown(LONG)
    assert [one.words for one in held(server)] == [words(1), words(2), words(3)]
    assert sender.stats().delivered == 6


@pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])
def test_recording_goes_on_while_another_thread_shuts_down(
    server: LocalServer, tmp_path: Path, outbox: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is recorded between two steps of a shutdown is delivered, once, without another call."""
    sender = delivery(server, outbox=outbox and str(tmp_path / outbox), flush_interval=0.02)
    done = threading.Event()

    def record() -> None:
        for number in range(150):
            conversation = queue(sender, str(number))
            conversation.append(turn(number))
            conversation.end()
            time.sleep(0.005)
        done.set()

    thread = threading.Thread(target=record)
    thread.start()
    while not done.is_set():
        assert sender.shutdown(LONG)
    thread.join()
    until(lambda: sender.stats().pending == 0)
    told = [word for one in held(server) for word in one.words if not word.startswith("Conversation ")]
    assert sorted(told) == sorted(words(*range(150)))
    assert [message for message in caplog.messages if "cannot be used" in message] == []
    assert sender.shutdown(LONG)


def test_metadata_is_merged_with_the_next_request(server: LocalServer) -> None:
    """What is annotated later reaches the conversation; the caller may change its dict afterwards."""
    sender = delivery(server)
    conversation = queue(sender, metadata={"a": 1, "b": 1})
    conversation.append(turn(1))
    assert sender.flush(LONG)
    own = {"b": 2, "odd": {1, 2}}
    conversation.annotate(own)
    own["b"] = 3
    conversation.end()
    assert sender.shutdown(LONG)
    metadata = Held(server).metadata
    assert (metadata["a"], metadata["b"], metadata["odd"]) == (1, 2, [1, 2])


@pytest.mark.parametrize("durable", [False, True])
def test_a_message_that_redaction_drops_is_not_missed(durable: bool, server: LocalServer, tmp_path: Path) -> None:
    """It is neither sent nor waited for, nor counted."""
    sender = delivery(server, outbox=str(tmp_path / "outbox") if durable else None)
    conversation = queue(sender)
    conversation.append([Note(None), *turn(1), Note(None)])
    conversation.end()
    assert sender.shutdown(LONG)
    assert Held(server).words == words(1)
    stats = sender.stats()
    assert (stats.captured, stats.delivered, stats.pending, stats.pending_bytes) == (2, 2, 0, 0)


@pytest.mark.parametrize("durable", [False, True])
def test_a_draft_that_breaks_costs_no_other(durable: bool, server: LocalServer, tmp_path: Path) -> None:
    """A failure of our own in one message is told and counted, and the others go through."""

    class Broken:
        size = 1
        already_known = False

        def message(self) -> None:
            raise RuntimeError("broken")

    sender = delivery(server, outbox=str(tmp_path / "outbox") if durable else None)
    conversation = queue(sender)
    conversation.append([Broken(), *turn(1)])
    conversation.end()
    assert not sender.shutdown(LONG)
    assert Held(server).words == words(1)
    stats = sender.stats()
    assert (stats.captured, stats.delivered, stats.rejected, stats.pending, stats.pending_bytes) == (3, 2, 1, 0, 0)


def test_many_conversations_from_many_threads_arrive_once_and_in_order(server: LocalServer) -> None:
    """Fifty conversations, four threads each writing to all of them in turn."""
    sender = delivery(server, flush_interval=0.05)
    queues = [queue(sender, f"key {number}") for number in range(50)]

    def write(thread: int) -> None:
        for number in range(5):
            for one in queues:
                one.append([said("user", f"{thread} {number}"), said("assistant", f"{thread} {number}", tokens=1)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in queues:
        one.end()
    assert sender.shutdown(LONG)
    found = held(server)
    assert len(found) == 50
    for conversation in found:
        written = [word for word in conversation.words if word != CLOSING_WORDS]  # there if the end came late
        assert len(written) == 40
        for number in range(4):
            mine = [word for word in written if word.startswith(f"{number} ")]
            assert mine == [f"{number} {step}" for step in range(5) for _ in range(2)]
    assert (sender.stats().delivered, sender.stats().pending_bytes) == (2000, 0)


def test_one_slow_conversation_does_not_hold_up_the_others(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the API hangs on one conversation, others get through."""
    released = threading.Event()

    async def hang(self: FaultMiddleware, _fault: Any, _answer: Any, scope: Any, *_: Any) -> None:
        while not released.is_set():  # noqa: ASYNC110 - another thread is waited for
            await asyncio.sleep(0.01)
        self.connections.reset(scope)

    monkeypatch.setattr(FaultMiddleware, "_hang", hang)
    server.faults.add("create", "hang")
    sender = delivery(server)
    slow, quick = queue(sender, "slow"), queue(sender, "quick")
    slow.append(turn(1))
    slow.end()
    until(lambda: server.faults.fired)
    quick.append(turn(2))
    quick.end()
    until(lambda: held(server) and Held(server).status == "completed")
    assert [one.words for one in held(server)] == [words(2)]
    released.set()
    assert sender.shutdown(LONG)
    assert sorted(one.words for one in held(server)) == [words(1), words(2)]


def test_flush_does_not_wait_for_the_interval(server: LocalServer) -> None:
    """An explicit flush sends at once, and the message held back as well."""
    sender = delivery(server, flush_interval=3600)
    queue(sender).append(turn(1))
    assert sender.flush(LONG)
    assert Held(server).words == words(1)
    assert sender.shutdown(LONG)


def test_flush_of_a_hung_server_keeps_to_its_timeout(server: LocalServer) -> None:
    """It says False in time; what waits is not lost by it."""
    server.faults.add("any", "hang", times=None)
    sender = delivery(server, timeout=1)
    queue(sender).append(turn(1))
    began = time.monotonic()
    assert not sender.flush(0.3)
    assert time.monotonic() - began < HANG
    assert sender.stats().pending == 2
    server.faults.clear()
    assert sender.shutdown(LONG)
    assert Held(server).words == words(1)


def test_a_host_that_does_not_answer_is_named_within_seconds(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody finds out at the end that nothing has arrived: a warning, and `last_error`, name host and reason."""
    sender = delivery(server, base_url="http://127.0.0.1:9/api/v1", flush_interval=0.0)
    queue(sender).append(turn(1))
    until(lambda: bool(caplog.messages))
    reason = "no answer from 127.0.0.1:9: connection refused"
    assert caplog.messages == [f"converra: delivery failed; messages wait and are retried: {reason}"]
    assert sender.stats().last_error == reason
    sender.shutdown(0)


def test_a_proxy_that_cannot_be_used_is_named(
    server: LocalServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with the environment is said, and nothing is lost by it."""
    monkeypatch.setenv("HTTP_PROXY", "nonsense://proxy")
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append(turn(1))
    assert not sender.flush(LONG)
    assert "cannot be used: Unknown scheme for proxy URL" in caplog.text
    assert caplog.messages[0].endswith(str(sender.stats().last_error))
    monkeypatch.delenv("HTTP_PROXY")
    conversation.end()
    assert sender.shutdown(LONG)
    assert Held(server).words == words(1)


def test_waits_are_interruptible(server: LocalServer) -> None:
    """A shutdown does not wait out a long Retry-After."""
    server.faults.add("any", "status", status=503, headers={"Retry-After": "300"}, times=None)
    sender = delivery(server)
    queue(sender).append(turn(1))
    assert not sender.flush(0.3)
    began = time.monotonic()
    assert not sender.shutdown(0.3)
    assert time.monotonic() - began < HANG


def test_flush_inside_a_logging_handler_does_not_wait_for_itself(server: LocalServer) -> None:
    """Whatever a user's handler calls on our own thread returns."""
    answers: list[bool] = []
    sender = delivery(server)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            queue(sender, "logged").append(turn(9))
            answers.append(sender.flush(LONG))

    handler = Handler()
    logging.getLogger("converra").addHandler(handler)
    try:
        server.faults.add("create", "status", status=404)
        conversation = queue(sender)
        conversation.append(turn(1))
        conversation.end()
        began = time.monotonic()
        assert not sender.flush(LONG)
        assert time.monotonic() - began < HANG
        assert answers == [False]
    finally:
        logging.getLogger("converra").removeHandler(handler)
    sender.shutdown(5)


def test_the_outbox_is_bounded_and_losses_are_counted_and_said(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Past max_pending_bytes the newest turns are dropped: counted, and said once a minute at most."""
    server.faults.add("any", "status", status=500, times=None)
    sender = delivery(server, max_pending_bytes=100_000, flush_interval=0.05)
    conversation = queue(sender)
    with asleep(sender):  # a worker that looked in between would count the first losses only
        for number in range(200):
            conversation.append([said("user", f"{number} {'x' * 1000}")])
    stats = sender.stats()
    assert stats.captured == 200
    assert stats.dropped == 200 - stats.pending
    assert 60 < stats.pending < 75
    assert stats.pending_bytes <= 100_000
    until(lambda: "were dropped" in caplog.text)
    server.faults.clear()
    assert not sender.shutdown(0)
    assert sender.flush(LONG)
    assert [record for record in caplog.messages if "were dropped" in record] == [
        f"converra: {stats.dropped} messages were dropped, {stats.dropped} in all: the outbox is full. "
        + caplog.messages[0].partition("full. ")[2]
    ]
    assert [word.split()[0] for word in Held(server).words if word[0].isdigit()] == [
        str(n) for n in range(stats.pending)
    ]
    sender.shutdown(5)


def test_the_caller_waits_for_nobody(server: LocalServer) -> None:
    """An append costs microseconds, whatever state the API is in."""
    server.faults.add("any", "hang", times=None)
    sender = delivery(server, flush_interval=0)
    conversation = queue(sender)
    conversation.append(turn(0))
    until(lambda: server.faults.fired)
    drafts = [turn(number) for number in range(1000)]
    began = time.thread_time()
    for draft in drafts:
        conversation.append(draft)
    assert time.thread_time() - began < 0.1
    server.faults.clear()
    sender.shutdown(0)


def test_tokens_survive_where_an_answer_comes_first(server: LocalServer) -> None:
    """A chat that begins with an assistant's answer opens with words of ours, so that its usage is kept."""
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("assistant", "welcome", usage=Usage(1, 2))])
    conversation.end()
    assert sender.shutdown(LONG)
    assert Held(server).words == ["Conversation started.", "welcome"]
    assert Held(server).messages[1]["usage"] == {"promptTokens": 1, "completionTokens": 2}


def test_what_comes_after_the_end_goes_on_in_a_further_conversation(server: LocalServer) -> None:
    """A stream that ends after its block is not lost."""
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append(turn(1))
    conversation.end()
    assert sender.flush(LONG)
    conversation.append(turn(2))
    assert sender.shutdown(LONG)
    first, second = held(server)
    assert (first.words, second.words) == (words(1), words(2))
    assert second.metadata["continues"] == first.id
    assert second.status == "completed"


@pytest.mark.parametrize(
    ("settings", "environ", "mode"),
    [
        ({}, {}, Mode.BACKGROUND),
        ({"console": True}, {}, Mode.CALLER_ASSEMBLES),
        ({"outbox": "outbox.sqlite3"}, {}, Mode.CALLER_ASSEMBLES),
        ({"outbox": "outbox.sqlite3"}, {"AWS_LAMBDA_FUNCTION_NAME": "f"}, Mode.CALLER_WAITS),
    ],
)
def test_settings_and_environment_decide_what_callers_do(
    settings: dict[str, Any], environ: dict[str, str], mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers do everything by default; a durable outbox is written by the caller, and Lambda's callers wait."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert usual_mode(Config(**settings)) is mode
