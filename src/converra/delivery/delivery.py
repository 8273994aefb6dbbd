"""Where recorded messages go: `Delivery` opens lanes, takes messages in, and has them sent."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from converra.config import freezes_between_calls
from converra.delivery import exits
from converra.delivery.conversation_queue import ConversationQueue
from converra.delivery.outbox.memory import MemoryOutbox
from converra.delivery.stats import Counters, DeliveryStats, Losses, totals
from converra.delivery.worker.commands import Command
from converra.delivery.worker.flusher import Flusher
from converra.delivery.worker.transport import open_connection
from converra.process import identity, uwsgi
from converra.process.guard import log_limited
from converra.process.jobs import LOCK_SECONDS, JobQueue
from converra.process.periodic import NO_TASK, PeriodicTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from converra.config import Config
    from converra.delivery.header import Draft, Header
    from converra.delivery.outbox import Outbox
    from converra.delivery.worker.commands import FlushRequest
    from converra.delivery.worker.transport import Connection

__all__ = ["ConversationQueue", "Delivery", "DeliveryStats"]

WAKE_EVERY = 64
"""So many jobs at a time wake a worker; fewer wait until one looks around."""

FLUSH_TIMEOUT = 30.0
"""Seconds that a flush may take when no other number is given."""


class Delivery:
    """Any thread may call any method; none raises for what happens at run time.

    Nothing starts until the first append, or `start`. `connect` makes the connection from a key; tests put their own
    there. `periodic_task` is done by a worker now and then.
    """

    def __init__(
        self,
        config: Config,
        *,
        connect: Callable[[str], Connection] | None = None,
        periodic_task: PeriodicTask = NO_TASK,
        jobs: JobQueue | None = None,
    ) -> None:
        self.config = config
        self.jobs = JobQueue(config.max_pending_bytes) if jobs is None else jobs
        self._periodic_task = periodic_task
        self._connect = connect or self._connection
        self.generation = 0
        """Counts the forks since this was made: what was recorded before one is the parent's."""
        self._loading = False
        """uWSGI loads the app in this process, and will fork it."""
        self._postponed = False
        """`start` was called meanwhile."""
        self._begin()
        exits.watch(self)

    def __repr__(self) -> str:
        return f"Delivery({self.config.base_url!r})"

    def _begin(self, counters: Counters | None = None, memory: MemoryOutbox | None = None) -> None:
        self._counters = counters or Counters()
        self._memory = memory or MemoryOutbox(self.config.max_pending_bytes)
        self._outbox = self._new_outbox(self._memory)
        self._losses = Losses(self._outbox, self._counters)
        self._flusher = Flusher(
            self.config,
            self._outbox,
            self._counters,
            self._losses,
            self._connect,
            periodic_task=self._periodic_task,
            jobs=self.jobs,
        )
        self.started = False
        """Workers run, and the ends of the process are prepared for."""
        self._gave_up_at = -1
        self._made_with: object = threading.Lock
        """gevent and eventlet replace it."""
        self._send_by_thread()

    def _new_outbox(self, memory: MemoryOutbox) -> Outbox:
        if self.config.outbox is None:
            return memory
        from converra.delivery.outbox.sqlite import SQLiteOutbox  # noqa: PLC0415 - most never need SQLite

        return SQLiteOutbox(self.config.outbox, memory, idle_timeout=self.config.idle_timeout)

    def _connection(self, api_key: str) -> Connection:
        return open_connection(api_key, self.config.base_url, self.config.timeout)

    # -- lanes ---------------------------------------------------------------------------------------------------------

    def open(self, header: Header) -> ConversationQueue:
        """Make a lane for one conversation; nothing is sent until something is appended."""
        return ConversationQueue(self, header)

    def submit(self, at: float, weight: int, call: Callable[..., None], *args: Any, wake: bool = False) -> None:
        """Have a job done that assembles something, mostly by a worker; see `Backlog.add`.

        A worker that is not watchful anyway is woken where one is to be done `wake`, or many wait.
        """
        identity.check()
        if not self.started:
            self._start()
        waiting = self.jobs.add(at, weight, call, args)
        wake_hint = self._flusher.wake_hint
        if self.direct:
            if self._flusher.workers.closed:
                self._periodic_task.turn(at)  # no worker does it
            self.jobs.work()
            if self._loading:
                self._send_all()
        elif not wake_hint.watchful and (wake or wake_hint.parked or waiting % WAKE_EVERY == 0):
            self._flusher.wake()

    def append(self, queue: ConversationQueue, drafts: Sequence[Draft], at: float | None = None) -> None:
        """Add messages to a lane; they have waited since `at`, by the monotonic clock."""
        identity.check()
        if not self.started:
            self._start()
        with self.jobs.lock:
            if queue.generation != self.generation:
                queue.fork()
            queue.used = True
            items = self._outbox.put(queue, drafts)
            flusher = self._flusher
            if items is not None:
                flusher.commands.append(Command("append", queue, items, time.monotonic() if at is None else at))
        if flusher.wake_hint.parked and not flusher.wake_hint.watchful:
            flusher.wake()

    def annotate(self, queue: ConversationQueue, metadata: Mapping[str, Any]) -> None:
        """Merge into the metadata of a lane's conversation."""
        identity.check()
        with self.jobs.lock:
            if queue.generation != self.generation:
                queue.fork()
            if queue.used:
                self._flusher.commands.append(Command("annotate", queue, self._outbox.note(queue, metadata)))
            else:
                queue.begin_with(metadata)

    def send_now(self, queue: ConversationQueue) -> None:
        """Send what waits in a lane now, and wait for nothing; where nothing runs in the background, send it here."""
        if queue.used and queue.generation == self.generation:
            self._flusher.post(Command("send_now", queue))
            if self._at_once:
                self._flush(self.config.shutdown_timeout)

    def end(self, queue: ConversationQueue, *, always: bool = False) -> None:
        """Complete a lane's conversation."""
        identity.check()
        with self.jobs.lock:
            if queue.generation != self.generation:
                queue.fork()
            if not (queue.used or always):
                return
            if not self.started:
                self._start()
            self._outbox.end(queue, always=always)
            self._flusher.post(Command("end", queue, always))
        if self._at_once:
            self._flush(self.config.shutdown_timeout)

    def start(self) -> None:
        """Deliver what an earlier process has left in the durable outbox; without one there is nothing to start."""
        if self.config.outbox is not None and not self.started:
            if uwsgi.is_loading():
                self._postponed = True
            else:
                self._start()

    def resume(self) -> None:
        """Start now if `start` was called while uWSGI was loading the app."""
        if self._postponed:
            self._postponed = False
            self.start()

    def _start(self) -> None:
        if self._made_with is not threading.Lock and not self._counts().pending:
            self._renew_locks()
        if self._loading:  # perhaps no more: this process may be the first worker
            self._send_by_thread()
        self._loading = uwsgi.is_loading()
        self.started = True
        exits.arm(self)
        if self._loading:
            self._send_here()
        elif uwsgi.runs_threads():
            self._flusher.workers.start()
        else:
            log_limited("uwsgi", uwsgi.NO_THREADS)
            self._send_here()

    def _renew_locks(self) -> None:
        """Replace locks that were made before gevent patched `threading`: they would stop all green threads at once."""
        self.jobs.renew_lock()
        self._renew(0)

    def _send_by_thread(self) -> None:
        self._flusher.workers.closed = False
        self._at_once = freezes_between_calls()
        """What ends is sent by the caller, before it goes on."""
        self.direct = self._at_once or self.config.outbox is not None or self.config.console
        """What is recorded is assembled by the caller, before it goes on."""

    def _send_here(self) -> None:
        """Have the callers send what they record: no thread can run."""
        self._flusher.workers.closed = self._at_once = self.direct = True
        self.jobs.work()

    def _send_all(self) -> None:
        """Send what was recorded while uWSGI loads the app, and close all files and sockets: it will be forked."""
        exits.complete_implicit()
        until = time.monotonic() + self.config.shutdown_timeout
        if not self._stop(until, delivered=self._flush(self.config.shutdown_timeout)):
            log_limited("loading", uwsgi.NOT_SENT, self._counters.last_error or "none")

    # -- flush and stop ------------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Send everything that waits; True only if all of it was delivered within `timeout` seconds."""
        return self._flush(FLUSH_TIMEOUT if timeout is None else timeout)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Complete what is open, send everything and stop. A later append starts anew."""
        seconds = self.config.shutdown_timeout if timeout is None else timeout
        until = time.monotonic() + seconds
        return self._stop(until, delivered=self._flush(seconds, ends=True))

    def _stop(self, until: float, *, delivered: bool) -> bool:
        with self.jobs.lock:
            left = self.stats().pending - self._memory.elsewhere
            if delivered and left > 0:  # it was recorded meanwhile, as after a shutdown: delivery goes on
                return True
            flusher, self.started = self._flusher, False
            flusher.workers.stop()
            if self._outbox.durable:
                self._renew(max(0, left))
        flusher.close(until - time.monotonic(), idle=delivered)
        self._gave_up_at = self._outbox.captured
        return delivered

    def _renew(self, left: int) -> None:
        """Record into a new outbox from now on, while the file is being closed.

        What is `left` in it is for whoever opens it next, perhaps us: sent from memory as well, it would be doubled.
        """
        closed, at_once = self._flusher.workers.closed, self._at_once
        self.generation += 1 if left else 0
        self._begin(self._counters, self._memory.emptied(left))
        self._flusher.workers.closed, self._at_once = closed, at_once

    def _flush(self, timeout: float, *, ends: bool = False) -> bool:
        identity.check()
        until = time.monotonic() + timeout
        assembled = self.jobs.work(seconds=max(0.0, min(timeout, LOCK_SECONDS)))
        lost = self._lost()
        flush_request = self._ask(ends=ends)
        return (
            (flush_request is None or self._flusher.wait(flush_request, until)) and assembled and self._lost() == lost
        )

    def _ask(self, *, ends: bool) -> FlushRequest | None:
        """Ask for a flush; None where nothing was ever recorded."""
        if not self.started and not self._flusher.commands and not self._counts().pending:
            return None
        if not self.started and not self._flusher.workers.closed:
            self._start()
        return self._flusher.ask(ends=ends)

    def _lost(self) -> int:
        return self._outbox.dropped + self._counters.rejected

    def begin_exit(self, *, finalising: bool) -> FlushRequest | None:
        """Begin to deliver what the process leaves behind; None where there is nothing, or it was tried in vain.

        Where Python is `finalising`, no thread can be started any more; what is still recorded then, by other exit
        handlers, is delivered as each conversation ends.
        """
        self.jobs.work()  # what has ended so far is sent together, not one conversation after the other
        self._flusher.workers.closed |= finalising
        self._at_once, self.direct = self._at_once or finalising, self.direct or finalising
        return None if self._gave_up_at == self._outbox.captured else self._ask(ends=True)

    def finish_exit(self, flush_request: FlushRequest | None, until: float) -> None:
        """Wait for that, and say what could not be delivered."""
        if flush_request is not None:
            self._flusher.wait(flush_request, until)
        self._gave_up_at = self._outbox.captured
        keyless = self.config.api_key_now() is None
        self._losses.total(self.stats().pending, kept=self._outbox.durable, keyless=keyless)

    def after_fork(self) -> None:
        """Start clean in a child process: nothing of the parent's is sent, and none of its sockets or locks is used."""
        self.generation += 1
        self.jobs.after_fork()
        self._flusher.abandon()
        self._begin()

    def stats(self) -> DeliveryStats:
        """What has become of everything so far."""
        identity.check()
        self.jobs.work()
        return self._counts()

    def _counts(self) -> DeliveryStats:
        """As `stats`, but what cannot be assembled just now counts as one message a job."""
        return totals(self._counters, self._outbox, jobs=len(self.jobs))
