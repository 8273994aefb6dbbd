"""The delivery: takes in recorded messages, and has them sent."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from converra.config import is_fleet
from converra.delivery.conversation_queue import Annotate, Append, ConversationQueue, End, FlushRequest, SendNow
from converra.delivery.outbox.memory import MemoryOutbox
from converra.delivery.stats import Counters, Losses, Stats, totals
from converra.delivery.worker.flusher import Flusher
from converra.delivery.worker.loop import Mode, WorkLoop, usual_mode
from converra.process import exits, lifecycle, uwsgi
from converra.process.guard import log_limited
from converra.process.jobs import LOCK_SECONDS, JobQueue, PeriodicTasks
from converra.wire.models import FEEDBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from converra.config import Config
    from converra.delivery.header import Draft, Header
    from converra.delivery.outbox import Outbox
    from converra.delivery.worker.transport import Connection
    from converra.process.jobs import PeriodicTask

WAKE_EVERY = 64
"""Waiting jobs per wake-up of a worker; fewer wait until one polls."""

FLUSH_TIMEOUT = 30.0
"""Seconds that a flush may take by default."""

_BACKGROUND = Mode.BACKGROUND  # an attribute of an enum is slow to look up on Python 3.11


class Delivery:
    """Delivers the conversations of one configuration. Any thread may call any method; none raises at run time.

    Nothing starts until the first append, or `start`. `connect` makes the connection from a key, `open_connection` by
    default. A worker runs `periodic_task`. `jobs` assemble messages; they are this delivery's own by default.

    State is renewed as a whole, outbox and flusher together: in a forked child, and when a durable outbox is closed.
    `generation` counts these renewals where the messages recorded so far are left to another process.
    """

    def __init__(
        self,
        config: Config,
        *,
        connect: Callable[[str], Connection] | None = None,
        periodic_task: PeriodicTask | PeriodicTasks | None = None,
        jobs: JobQueue | None = None,
    ) -> None:
        self.config: Config = config
        self.jobs: JobQueue = JobQueue(config.max_pending_bytes) if jobs is None else jobs
        self._periodic_task = periodic_task
        self._connect = connect
        self.generation: int = 0
        self._start_postponed = False
        """`start` was called while uWSGI was loading the app."""
        self._begin(usual_mode(config), Counters(), MemoryOutbox(config.max_pending_bytes))
        exits.watch(self)

    def __repr__(self) -> str:
        return f"Delivery({self.config.base_url!r})"

    def _begin(self, mode: Mode, counters: Counters, memory: MemoryOutbox) -> None:
        self._counters = counters
        self._memory = memory
        self._outbox = self._new_outbox(memory)
        self._losses = Losses(self._outbox, counters)
        self._flusher: WorkLoop = self._new_flusher(mode, counters)
        self._flusher.owner = self
        self.started: bool = False
        """The flusher runs, and exit hooks are set."""
        self._gave_up_at = -1
        """Messages captured when delivery at an exit was last tried: without new ones it is not tried again."""
        self._lock_type: object = threading.Lock
        """The type of the locks in use. gevent and eventlet replace it when they patch `threading`."""

    def _new_outbox(self, memory: MemoryOutbox) -> Outbox:
        if self.config.outbox is None or is_fleet(self.config.outbox):
            return memory
        from converra.delivery.outbox.sqlite import SQLiteOutbox  # noqa: PLC0415 - most processes never need SQLite

        return SQLiteOutbox(self.config.outbox, memory, idle_timeout=self.config.idle_timeout)

    def _new_flusher(self, mode: Mode, counters: Counters) -> WorkLoop:
        config, task, jobs = self.config, self._periodic_task, self.jobs
        if not is_fleet(config.outbox):
            return Flusher(
                config, self._outbox, counters, self._losses, self._connect, mode=mode, periodic_task=task, jobs=jobs
            )
        from converra.delivery.fleet.joining import join  # noqa: PLC0415 - most processes are in no fleet

        return join(
            config, self._memory, counters, self._losses, self._connect, mode=mode, periodic_task=task, jobs=jobs
        )

    # -- recording -----------------------------------------------------------------------------------------------------

    def open(self, header: Header) -> ConversationQueue:
        """Return the queue of a new conversation. Nothing is sent until a message is appended."""
        return ConversationQueue(self, header)

    def submit(self, at: float, weight: int, call: Callable[..., None], *args: Any, wake: bool = False) -> None:
        """Run a job that assembles messages, mostly on a worker; see `JobQueue.add`.

        A worker that polls anyway finds it. Else one is woken if it is to `wake`, if all rest, or if many jobs wait.
        """
        lifecycle.check()
        if not self.started:
            self._start()
        waiting = self.jobs.add(at, weight, call, args)
        flusher = self._flusher
        if flusher.mode is _BACKGROUND:
            hint = flusher.wake_hint
            if not hint.watchful and (wake or hint.parked or waiting % WAKE_EVERY == 0):
                flusher.wake()
        else:
            self._assemble(flusher.mode, at)

    def add_task(self, task: PeriodicTask) -> None:
        """Have a worker run another periodic task."""
        present = self._periodic_task
        self._periodic_task = self._flusher.periodic_task = task if present is None else PeriodicTasks(present, task)

    def nudge(self) -> None:
        """Have a worker look at the periodic tasks now."""
        lifecycle.check()
        if not self.started:
            self._start()
        self._flusher.wake()

    @property
    def can_wait(self) -> bool:
        """True where a worker records what is held back for a moment; else the caller must do it at once."""
        return self._flusher.mode < Mode.CALLER_SENDS

    @property
    def waits_at_end(self) -> bool:
        """True where a caller that ends a conversation waits until it is delivered."""
        return self._flusher.mode >= Mode.CALLER_WAITS

    def _assemble(self, mode: Mode, now: float) -> None:
        """Do a worker's part in the caller, as far as the mode asks for it."""
        if mode >= Mode.CALLER_SENDS and self._periodic_task is not None and self._periodic_task.wanted:
            self._periodic_task.turn(now)
        self.jobs.work()
        if mode is Mode.LOADING:
            self._send_all()

    def append(self, queue: ConversationQueue, drafts: Sequence[Draft], at: float | None = None) -> None:
        """See `ConversationQueue.append`."""
        lifecycle.check()
        if not self.started:
            self._start()
        with self.jobs.lock:
            if queue.generation != self.generation:
                queue.fork()
            if queue.annotations:
                self._use_without_messages(queue)
            queue.used = True
            items = self._outbox.put(queue, drafts)
            flusher = self._flusher
            if items is not None:
                flusher.commands.append(Append(queue, items, time.monotonic() if at is None else at))
        hint = flusher.wake_hint
        if hint.parked and not hint.watchful:
            flusher.wake()

    def annotate(
        self, queue: ConversationQueue, metadata: Mapping[str, Any], *, alone: bool = False, soon: bool = False
    ) -> None:
        """See `ConversationQueue.annotate`. Before the first message it goes into the header.

        But an API that has the shared session already does not merge a header, so what the app has set is posted after.
        """
        lifecycle.check()
        with self.jobs.lock:
            if queue.generation != self.generation:
                queue.fork()
            if alone and FEEDBACK not in metadata:
                queue.annotations |= metadata
            if queue.used:
                self._post_note(queue, metadata, alone=alone, soon=soon)
            elif not (alone and queue.header.shared):
                queue.begin_with(metadata)
            elif soon:
                self._use_without_messages(queue, soon=True)

    def _post_note(
        self, queue: ConversationQueue, metadata: Mapping[str, Any], *, alone: bool, soon: bool = False
    ) -> None:
        self._gave_up_at = -1
        if alone and not self.started:
            self._start()
        self._flusher.commands.append(Annotate(queue, *self._outbox.note(queue, metadata), alone, soon))
        if soon:
            self._flusher.wake()

    def _use_without_messages(self, queue: ConversationQueue, *, soon: bool = False) -> None:
        if queue.annotations and queue.header.shared and not queue.used:
            queue.used = True
            self._post_note(queue, queue.annotations, alone=True, soon=soon)

    def send_now(self, queue: ConversationQueue) -> None:
        """Send a queue's messages and metadata now. Returns at once, unless the mode has the caller wait."""
        with self.jobs.lock:
            if queue.generation != self.generation:
                return
            self._use_without_messages(queue)
            if queue.used:
                self._flusher.post(SendNow(queue))
        if queue.used and self._flusher.mode >= Mode.CALLER_WAITS:
            self.flush(self.config.shutdown_timeout)

    def end(self, queue: ConversationQueue, *, always: bool = False) -> None:
        """Complete a queue's conversation; see `ConversationQueue.end`."""
        lifecycle.check()
        with self.jobs.lock:
            if queue.generation != self.generation:
                queue.fork()
            if queue.annotations:
                self._use_without_messages(queue)
            if not (queue.used or always):
                return
            if not self.started:
                self._start()
            if self._outbox.file is not None:
                self._outbox.file.end(queue, always=always)
            self._flusher.post(End(queue, always))
        if self._flusher.mode >= Mode.CALLER_WAITS:
            self.flush(self.config.shutdown_timeout)

    def look_up(self, queue: ConversationQueue) -> None:
        """Look for the id of a queue's conversation, which a relay opens; returns at once."""
        self._flusher.look_up(queue)

    # -- start ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Deliver what an earlier process left in the durable outbox; does nothing without one."""
        if self.config.outbox is not None and not self.started:
            if uwsgi.is_loading():
                self._start_postponed = True
            else:
                self._start()

    def resume(self) -> None:
        """Start now if `start` was called while uWSGI was loading the app."""
        if self._start_postponed:
            self._start_postponed = False
            self.start()

    def _start(self) -> None:
        if self._lock_type is not threading.Lock and not self._counts().pending:
            self._renew_locks()
        if self._flusher.mode is Mode.LOADING:  # this process may be the first worker by now
            self._flusher.switch(usual_mode(self.config))
        self.started = True
        exits.arm(self)
        if uwsgi.is_loading():
            self._leave_to_callers(Mode.LOADING)
        elif uwsgi.runs_threads():
            self._flusher.workers.start()
        else:
            log_limited("uwsgi", uwsgi.NO_THREADS)
            self._leave_to_callers(Mode.CALLER_SENDS)

    def _leave_to_callers(self, mode: Mode) -> None:
        self._flusher.switch(mode)
        self.jobs.work()

    def _renew_locks(self) -> None:
        """Replace locks made before gevent patched `threading`: they would block all green threads at once."""
        self.jobs.renew_lock()
        self._renew(0)

    def _send_all(self) -> None:
        """Send what was recorded while uWSGI loads the app, and close all files and sockets: it will be forked."""
        lifecycle.complete_implicit()
        until = time.monotonic() + self.config.shutdown_timeout
        if not self._stop(until, delivered=self.flush(self.config.shutdown_timeout)):
            log_limited("loading", uwsgi.NOT_SENT, self._counters.last_error or "none")

    def refuse(self, count: int) -> None:
        """Count messages that could not be taken in, as dropped."""
        self._memory.refuse(count)

    # -- flush and stop ------------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None, *, ends: bool = False, delivered: bool = False) -> bool:
        """Send everything that waits; with `ends`, complete open conversations too.

        Returns True only if all of it was delivered within `timeout` seconds (default: `FLUSH_TIMEOUT`). In a fleet,
        handed over is enough, unless it is to be `delivered`.
        """
        lifecycle.check()
        seconds = FLUSH_TIMEOUT if timeout is None else timeout
        until = time.monotonic() + seconds
        assembled = self.jobs.work(seconds=max(0.0, min(seconds, LOCK_SECONDS)))
        lost = self._outbox.dropped + self._counters.rejected
        request = self._ask(ends=ends)
        complete = request is None or self._flusher.wait(request, until)
        if delivered and complete and self.started:
            complete = self._flusher.delivered(until)
        return complete and assembled and self._outbox.dropped + self._counters.rejected == lost

    def shutdown(self, timeout: float | None = None) -> bool:
        """Complete open conversations, send everything and stop. A later append starts delivery again.

        Returns True only if all was delivered within `timeout` seconds (default: `shutdown_timeout`).
        """
        seconds = self.config.shutdown_timeout if timeout is None else timeout
        until = time.monotonic() + seconds
        return self._stop(until, delivered=self.flush(seconds, ends=True))

    def _stop(self, until: float, *, delivered: bool) -> bool:
        with self.jobs.lock:
            undelivered = self.stats().pending - self._memory.elsewhere
            if delivered and undelivered > 0:  # recorded meanwhile, as after a shutdown: delivery continues
                return True
            flusher, self.started = self._flusher, False
            flusher.workers.stop()
            if self._outbox.durable:
                self._renew(max(0, undelivered), owing=bool(self._flusher.owing))
        flusher.close(until - time.monotonic(), idle=delivered)
        self._gave_up_at = self._outbox.captured
        return delivered

    def _renew(self, undelivered: int, *, owing: bool = False) -> None:
        """Record into a new outbox from now on, while the file is being closed.

        The file keeps the `undelivered` messages, and the metadata of conversations that are `owing`, for the next
        process that opens it, perhaps this one. Sending them from memory as well would double them.
        """
        if undelivered or owing:
            self.generation += 1
        self._begin(self._flusher.mode, self._counters, self._memory.emptied(undelivered))

    def _ask(self, *, ends: bool) -> FlushRequest | None:
        """Request a flush; None if nothing was ever recorded."""
        if not (self.started or self._flusher.commands or self._counts().pending or self._flusher.owing):
            return None
        if not self.started and self._flusher.mode < Mode.CALLER_SENDS:
            self._start()
        request = FlushRequest(ends=ends)
        self._flusher.post(request)
        return request

    # -- exit and fork -------------------------------------------------------------------------------------------------

    def begin_exit(self, *, finalising: bool) -> FlushRequest | None:
        """Begin to deliver everything before the process ends; None if there is nothing, or it was tried in vain.

        While Python is `finalising`, no thread can be started any more. What other exit handlers still record then is
        sent by the caller, at the end of each conversation.
        """
        self.jobs.work()  # conversations that have ended so far are sent together, not one after the other
        if finalising:
            self._flusher.switch(max(self._flusher.mode, Mode.CALLER_SENDS))
        return None if self._gave_up_at == self._outbox.captured else self._ask(ends=True)

    def finish_exit(self, flush_request: FlushRequest | None, until: float) -> None:
        """Wait for that request until a time of the monotonic clock, and log what could not be delivered."""
        if flush_request is not None:
            self._flusher.wait(flush_request, until)
        if self.started:
            self._flusher.leave(until)
        self._gave_up_at = self._outbox.captured
        keyless = self.config.api_key_now() is None
        pending, owing = self.stats().pending, len(self._flusher.owing)
        self._losses.total(pending, owing, kept=self._outbox.durable, keyless=keyless)

    def after_fork(self) -> None:
        """Start clean in a child process: it sends nothing of the parent's, and uses none of its sockets or locks."""
        self.generation += 1
        self.jobs.reset()
        self._flusher.abandon()
        self._begin(usual_mode(self.config), Counters(), MemoryOutbox(self.config.max_pending_bytes))

    # -- statistics ----------------------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Return the counters, after the waiting jobs have been assembled."""
        lifecycle.check()
        self.jobs.work()
        return self._counts()

    def _counts(self) -> Stats:
        """Return the counters; a job that cannot be assembled at present counts as one message."""
        return totals(self._counters, self._outbox, jobs=len(self.jobs), sending=self._flusher.sending)
