"""What an integration is, and what it may ask of the recorder.

An integration teaches `converra` one library. It is an object with a `name`, the `module` it waits for, and two
functions; it is found through the entry-point group `converra.integrations`, ours like anybody's::

    [project.entry-points."converra.integrations"]
    mylib = "mypackage.converra:INTEGRATION"

Around every model call it does three things, all of which are guarded and none of which may change the call::

    call = capture.begin(request)          # before; None when nothing is to be recorded
    result = wrapped(*args, **kwargs)      # alone on its line: the app's call
    call.end(answer)                       # or call.fail(exception), at most one of them counts
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from converra.history.turn import Answer, Request, Scope, SourceMessage


class CapturedCall(Protocol):
    """One model call under way. It remembers the conversation it was started in."""

    def first_token(self) -> None:
        """Note that the first part of the answer has arrived (once; later calls are ignored)."""

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Say that the answer comes in pieces; `so_far` reads what has arrived, and may be called from any thread.

        The recorder asks it when the process ends before the stream does: it is the registry of open streams.
        """

    def wait(self) -> None:
        """Record the question now, and stay open: the answer comes much later, if at all."""

    def end(self, answer: Answer, ended: float | None = None) -> None:
        """Record the turn. Only the first `end` or `fail` of a call counts, from whichever thread.

        `ended` is the `time.perf_counter()` of the last chunk, where that was earlier than now (a stream that was
        dropped is noticed late), and NaN where nobody knows how long the call took. A finaliser may call this at any
        moment, also while the same thread is inside the recorder: it must not wait for a lock that is not reentrant.
        """

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the request with its error, and whatever of the answer had arrived. Never re-raises."""


class Capture(Protocol):
    """What the recorder offers to integrations. No method raises."""

    @property
    def active(self) -> bool:
        """False once capture is switched off: wrappers that could not be removed then do nothing."""

    def begin(self, request: Request) -> CapturedCall | None:
        """Start a call; None when it belongs to no conversation or is claimed by an outer layer."""

    def record_tool_result(self, source: SourceMessage, scope: Scope, at: float) -> None:
        """Record what was said outside of a model call: the result of a tool that a framework ran.

        It goes where the framework's run is recorded, or where its session is; where only history could tell that,
        nothing is recorded: the next call resends it. `at` is seconds since the epoch.
        """

    def pause(self, scope: Scope, *, paused: bool = True) -> None:
        """Keep the conversation of a paused run open: another process may be the one that goes on with it.

        With `paused=False`, the run has ended without a pause, and its conversation ends as all others do.
        """


class Patched(NamedTuple):
    """One row of the report: what was patched, or why not."""

    target: str
    state: str
    """patched | waiting (for the import) | skipped"""
    why: str | None = None


class Integration(NamedTuple):
    """One library's integration.

    `install` runs once the module is imported, again whenever it is imported anew or reloaded, and may be called again
    at any time. `uninstall` undoes all of it.
    """

    name: str
    module: str
    install: Callable[[ModuleType, Capture], list[Patched]]
    uninstall: Callable[[], None]
    parts: tuple[str, ...] = ()
    """More modules to install in when they are imported: where `module` takes from them what is patched."""
    captures: bool = True
    """False where nothing is captured, and only that is noticed: the report does not promise it."""
