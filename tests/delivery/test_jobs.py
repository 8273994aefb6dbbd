"""What waits to be assembled: done later, in order, by one thread at a time, and never waited for by a worker."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from converra.delivery.conversation_queue import ConversationQueue
from converra.delivery.header import Header
from converra.process import guard
from converra.process import jobs as backlog_module
from converra.process.jobs import OVERHEAD, SHARE, JobQueue
from tests.delivery.harness import delivery, turn, words
from tests.patience import HANG, LONG, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.delivery.delivery import Delivery
    from converra.server.run import LocalServer


@pytest.fixture
def sender(server: LocalServer) -> Iterator[Delivery]:
    """A delivery that looks for work only when it is woken, or once a second."""
    made = delivery(server, flush_interval=30.0)
    yield made
    made.shutdown(5)


Done = list[object]


def opened(sender: Delivery) -> ConversationQueue:
    return sender.open(Header(key="chat", prompt_id="p"))


def held(server: LocalServer) -> list[str]:
    """The words of all that the server has."""
    found, _ = server.store.conversations(limit=10)
    return [message["content"] for conversation in found for message in server.store.messages(conversation)]


class Chat:
    """Something that jobs change."""

    def __init__(self, jobs: JobQueue, done: Done) -> None:
        self.jobs = jobs
        self.done = done
        self.inside = False

    def turn(self, name: str) -> None:
        assert not self.inside
        self.done.append(name)

    def interrupted(self, name: str, other: Chat) -> None:
        """A job that a signal handler interrupts, which records something and wants everything done."""
        self.inside = True
        self.jobs.add(0.0, 0, Chat.turn, (self, "own"))
        self.jobs.add(0.0, 0, Chat.turn, (other, "other"))
        assert not self.jobs.work()
        self.inside = False
        self.done.append(name)


def test_jobs_of_one_conversation_are_done_in_order_and_never_inside_one_another() -> None:
    """A signal handler has what others said assembled; what goes on in the interrupted one follows afterwards."""
    jobs, done = JobQueue(), Done()
    chat, other = Chat(jobs, done), Chat(jobs, done)
    jobs.add(0.0, 0, Chat.interrupted, (chat, "interrupted", other))
    jobs.add(0.0, 0, Chat.turn, (chat, "second"))
    assert jobs.work()
    assert done == ["other", "interrupted", "second", "own"]
    assert not len(jobs)


def test_a_job_that_fails_is_told_and_the_next_one_is_done(caplog: pytest.LogCaptureFixture) -> None:
    """A bug of ours costs one turn, and is said."""
    guard.reset_log_limits()
    jobs, done = JobQueue(), Done()
    jobs.add(0.0, 0, list.pop, ([],))  # raises
    jobs.add(0.0, 0, list.append, (done, 1))
    jobs.work()
    assert done == [1]
    assert "converra failed while recording a turn: IndexError" in caplog.text


def test_what_waits_is_bounded_by_its_weight() -> None:
    """Past its share of the bound, whoever adds something works off more than it adds."""
    jobs, done = JobQueue(10 * OVERHEAD * SHARE), Done()
    for number in range(100):
        jobs.add(0.0, 0, list.append, (done, number))
        assert len(jobs) <= 10
    jobs.add(0.0, 10 * OVERHEAD, list.append, (done, 100))  # a heavy one does not wait behind light ones for long
    for number in range(101, 110):
        jobs.add(0.0, 0, list.append, (done, number))
    jobs.work()
    assert done == list(range(110))


def test_what_waits_long_is_done_by_callers() -> None:
    """Where all workers hang in requests, calls that go on assemble what is old."""
    jobs, done = JobQueue(), Done()
    jobs.add(0.0, 0, list.append, (done, 1))
    jobs.add(1.0, 0, list.append, (done, 2))
    assert done == []
    jobs.add(2.5, 0, list.append, (done, 3))
    assert done == [1, 2]


def test_a_fork_leaves_what_waits_to_the_parent() -> None:
    """A child process has neither the jobs nor a lock that some thread of the parent held."""
    jobs, done = JobQueue(), Done()
    jobs.add(0.0, 0, list.append, (done, 1))
    holder = threading.Thread(target=jobs.lock.acquire)
    holder.start()
    holder.join()
    jobs.reset()
    assert jobs.work()
    assert done == []


def test_a_flush_works_off_what_waits(server: LocalServer, sender: Delivery) -> None:
    """True means that also what nobody had assembled yet was delivered."""
    queue = opened(sender)
    sender.submit(time.monotonic(), 0, ConversationQueue.append, queue, turn(1))
    assert sender.flush(LONG)
    assert held(server) == words(1)


def test_a_worker_finds_what_nobody_flushes(server: LocalServer, sender: Delivery) -> None:
    """What ends is assembled and sent without anybody waiting for it."""
    queue = opened(sender)
    sender.submit(time.monotonic(), 0, ConversationQueue.append, queue, turn(1))
    sender.submit(time.monotonic(), 0, ConversationQueue.end, queue, wake=True)
    until(lambda: held(server), words(1))  # `stats` would do the work


def test_who_waits_for_a_flush_may_hold_the_lock(server: LocalServer, sender: Delivery) -> None:
    """A signal handler that has interrupted a caller inside, and flushes, does not wait for itself."""
    queue = opened(sender)
    began = time.monotonic()
    with sender.jobs.lock:
        for number in range(100):
            sender.submit(time.monotonic(), 0, ConversationQueue.append, queue, turn(number))
        assert sender.flush(LONG)
    assert time.monotonic() - began < HANG
    assert held(server) == words(*range(100))


def test_a_worker_never_waits_for_a_caller(server: LocalServer, sender: Delivery) -> None:
    """A thread that is stopped while it records holds up what it records, and not what is to be sent already."""
    other = opened(sender)
    other.append(turn("sent"))
    inside, leave = threading.Event(), threading.Event()

    def stopped() -> None:
        with sender.jobs.lock:
            inside.set()
            leave.wait(LONG)

    thread = threading.Thread(target=stopped)
    thread.start()
    inside.wait(LONG)
    sender.submit(time.monotonic(), 0, ConversationQueue.append, other, turn("waits"))
    began = time.monotonic()
    assert not sender.flush(0.3)
    assert time.monotonic() - began < HANG
    until(lambda: held(server), words("sent"))
    leave.set()
    thread.join()
    assert sender.flush(LONG)
    assert held(server) == words("sent", "waits")


def test_what_another_thread_is_at_is_waited_for() -> None:
    """A job that was taken from the queue and is not done yet is nothing that a flush may pass over."""
    jobs, done = JobQueue(), Done()
    inside, leave = threading.Event(), threading.Event()

    def slow(done: Done) -> None:
        inside.set()
        leave.wait(LONG)
        done.append(1)

    jobs.add(0.0, 0, slow, (done,))
    worker = threading.Thread(target=jobs.work)
    worker.start()
    inside.wait(LONG)
    assert not jobs.work(seconds=0.01)
    leave.set()
    assert jobs.work(seconds=LONG)
    assert done == [1]
    worker.join()


def test_a_worker_looks_again_in_a_while_where_another_thread_assembles(sender: Delivery) -> None:
    """And not at once, again and again, as long as that thread is at it."""
    queue = opened(sender)
    with sender.jobs.lock:
        sender.submit(time.monotonic(), 0, ConversationQueue.append, queue, turn(1))
        rests: list[float | None] = []
        worker = threading.Thread(target=lambda: rests.append(sender._flusher.turn()))
        worker.start()
        worker.join()
    (rest,) = rests
    assert rest is not None
    assert 0.0 < rest <= 0.01
    assert sender.flush(LONG)


def test_a_lock_that_stays_taken_is_left_to_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller waits for another thread's job no longer than a moment, and does not lose its own."""
    monkeypatch.setattr(backlog_module, "LOCK_SECONDS", 0.01)
    jobs, done = JobQueue(), Done()
    holder = threading.Thread(target=jobs.lock.acquire)
    holder.start()
    holder.join()
    jobs.add(0.0, 0, list.append, (done, 1))
    assert not jobs.work(seconds=0.01)
    assert done == []
    assert len(jobs) == 1
