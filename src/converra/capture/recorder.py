"""The recorder: the public verbs, and the wiring of the parts behind them.

The parts know only what lies below them::

    Recorder ── Conversation ─┐
        │ ───── CallCapture ──┴─ Router ── Recording ── Assembler ── ConversationQueue
        │                          └────── Registry          (delivery)
        └────── Delivery ── PeriodicTask ─────┘ which the registry sets to wanted
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.capture.console import show
from converra.capture.handle import Conversation
from converra.capture.privacy import Privacy
from converra.capture.registry import Registry
from converra.capture.reports import Report
from converra.capture.routing import CallCapture, Router
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.process import context, exits, lifecycle, servers
from converra.process.guard import guard, log_limited
from converra.process.jobs import JobQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from converra.delivery.stats import Stats
    from converra.delivery.worker.transport import Connection
    from converra.integrations import Integration
    from converra.process.jobs import PeriodicTask

    class Source(Protocol):
        """An object that records turns later than they happen."""

        def release(self) -> None:
            """Record all of them now."""

        def after_fork(self) -> None:
            """Forget them in a child process: they are the parent's."""


UNKNOWN_INTEGRATION = "converra: the setting integrations (CONVERRA_INTEGRATIONS) names %r: %s"


class Recorder:
    """Everything that one configuration captures and delivers; an ordinary object: tests make their own.

    Args:
        config: The settings; by default those of no argument and no environment.
        delivery: Where recorded messages go; by default to the API that the settings name.
        connect: Makes the connection to the API from a key; by default one by HTTP.

    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        delivery: Delivery | None = None,
        connect: Callable[[str], Connection] | None = None,
    ) -> None:
        self.config: Config = config or Config()
        jobs = JobQueue(self.config.max_pending_bytes) if delivery is None else delivery.jobs
        self._registry = Registry(jobs, self.config.idle_timeout)
        self.sources: tuple[Source, ...] = ()
        """Those that hand over turns later than they happen; see `add_source`."""
        if delivery is None:
            delivery = Delivery(self.config, connect=connect, periodic_task=self._registry.sweeper, jobs=jobs)
        self.delivery: Delivery = delivery
        privacy: Privacy | None = None
        if not self.config.capture_content or self.config.redact is not None:
            privacy = Privacy(capture_content=self.config.capture_content, redact=self.config.redact)
        self._router = Router(self.config, self._registry, delivery, privacy, show if self.config.console else None)
        self.capture: CallCapture = CallCapture(self._router)
        """The side of this recorder that integrations see."""
        self._integrations: dict[str, Integration] = {}
        lifecycle.add_recorder(self)

    @property
    def active(self) -> bool:
        """True while calls are captured."""
        return self.capture.active

    # -- switching on and off ----------------------------------------------------------------------------------------

    def instrument(self) -> Report:
        """Patch every imported library that has an integration, and the others on import.

        Returns:
            One row for each patch point: patched, waiting for its import, or skipped and why.

        """
        if not self.config.enabled:
            return Report([])
        from converra.integrations import discovery, patching, uncaptured  # noqa: PLC0415 - wrapt is heavy, and only needed here

        chosen = discovery.chosen(self.config.integrations or ())
        for integration in chosen.wanted:
            self._integrations.setdefault(integration.name, integration)
        self.capture.active = any(integration.captures for integration in chosen.wanted)
        servers.hook()
        for module in exits.SERVER_MODULES:
            patching.when_imported(module, exits.on_server_import)
        with guard("adopting undelivered messages of an earlier process"):
            self.delivery.start()
        with uncaptured.NOTICES.in_one_line():
            rows = [
                row
                for integration in self._integrations.values()
                for row in patching.switch_on(integration, self.capture)
            ]
            rows += uncaptured.watch(list(self._integrations.values()), chosen.left_out)
        for row in chosen.unknown:
            log_limited(f"integration:{row.target}", UNKNOWN_INTEGRATION, row.target, row.why)
        return Report([*rows, *chosen.unknown])

    def uninstrument(self) -> None:
        """Put every original back. Open conversations stay open, and can be written to by hand."""
        self.capture.active = False
        if self._integrations:
            from converra.integrations import patching, uncaptured  # noqa: PLC0415 - as in `instrument`

            for name in list(self._integrations):
                patching.switch_off(self._integrations.pop(name))
            if not lifecycle.is_capturing():
                for module in exits.SERVER_MODULES:
                    patching.forget_import(module)
                uncaptured.NOTICES.forget()
        if not lifecycle.is_capturing():
            servers.unhook()

    def add_source(self, source: Source, task: PeriodicTask) -> None:
        """Add a source that holds turns back; a worker runs its `task` while it is wanted."""
        self.sources = (*self.sources, source)
        self.delivery.add_task(task)

    # -- conversations -----------------------------------------------------------------------------------------------

    def conversation(
        self,
        prompt_id: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        company_name: str | None = None,
        keep_open: bool = False,
    ) -> Conversation:
        """Make a conversation: a block, a decorator, or an object to complete by hand.

        Args:
            prompt_id: The prompt that it belongs to: 1 to 512 printable characters.
            session_id: An id under which other processes join the same conversation; like a prompt id.
            user_id: The app's user whose conversation it is; like a prompt id. It becomes `metadata.userId`.
            metadata: A mapping that it is opened with (API document, "Create Conversation").
            company_name: The customer that it belongs to.
            keep_open: Don't complete it when its block is left. Needs a `session_id`.

        Returns:
            The conversation. Nothing is sent before something is recorded in it.

        Raises:
            InvalidArgumentError: An argument can never work, such as an empty prompt id.

        """
        return Conversation(
            self._router,
            prompt_id,
            session_id=session_id,
            user_id=user_id,
            metadata=metadata,
            company_name=company_name,
            keep_open=keep_open,
        )

    def current_conversation(self) -> Conversation | None:
        """Return the conversation that is active in this context, or None."""
        current: Conversation | None = context.active()
        return current

    def complete(self, prompt_id: str, session_id: str) -> None:
        """Complete a session that was kept open, also one that another process has opened.

        Args:
            prompt_id: The prompt id that it was opened with.
            session_id: The session id that it was opened with.

        """
        conversation = self.conversation(prompt_id, session_id=session_id)
        recording = conversation.recording()
        if recording is not None:
            recording.end(always=True)

    # -- delivery ------------------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None, *, delivered: bool = False) -> bool:
        """Send everything that waits.

        Args:
            timeout: Seconds that it may take at most; by default 30.
            delivered: With a Redis outbox: wait for the API as well, not for Redis alone.

        Returns:
            True only if everything was delivered in time; with a Redis outbox, if Redis has everything.

        """
        if self.sources:
            self.release()
        return self.delivery.flush(timeout, delivered=delivered)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Complete what is open, send everything and stop. Recording something later starts delivery again.

        Sessions that are kept open stay open for other processes.

        Args:
            timeout: Seconds that it may take at most; by default the setting `shutdown_timeout`.

        Returns:
            True only if everything was delivered in time.

        """
        self.release()
        self._registry.close()
        return self.delivery.shutdown(self.config.shutdown_timeout if timeout is None else timeout)

    def stats(self) -> Stats:
        """Count the captured messages by what has become of them, and what redaction replaced."""
        withheld = getattr(self.config.redact, "withheld", None)
        stats = self.delivery.stats()
        return msgspec.structs.replace(stats, withheld=dict(withheld)) if isinstance(withheld, dict) else stats

    # -- what the hooks of this process call ---------------------------------------------------------------------------

    def sweep(self) -> None:
        """Complete the conversations without an explicit end that were silent for `idle_timeout` seconds."""
        self._registry.sweep()

    def close(self) -> None:
        """Record what has arrived of open streams, and complete what has no explicit end: the process is ending.

        A turn that comes later continues its conversation in a further one that names it.
        """
        self.release()
        self._registry.close(exiting=True)

    def complete_implicit(self) -> None:
        """Complete the implicit conversations."""
        self._registry.complete_implicit()

    def after_fork(self) -> None:
        """Start clean in a child process."""
        self._registry.after_fork()
        for source in self.sources:
            source.after_fork()

    def release(self) -> None:
        """Record the turns that sources hold back."""
        for source in self.sources:
            with guard("recording the spans that are held back"):
                source.release()
