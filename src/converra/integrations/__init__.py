"""Integrations: what teaches `converra` one library, and the Protocols by which they reach the recorder.

An integration is an `Integration` object, found by the entry-point group `converra.integrations`. Another package
registers one in the same way::

    [project.entry-points."converra.integrations"]
    mylib = "mypackage.converra:INTEGRATION"

Around each model call it does three things. All are guarded, and none may change the call::

    call = capture.begin(request)          # before; None when nothing is to be recorded
    result = wrapped(*args, **kwargs)      # alone on its line: the app's call
    call.end(answer)                       # or call.fail(exception); only the first of them counts

To add a provider, read this first:

=====================  ===============================================================================================
step                   where
=====================  ===============================================================================================
1. Find the seam       The one method that every call of the SDK passes, with the body that is sent to the API: name it
                       in a `PatchPoint` row (`patching.py`). Never import the SDK: `install` is given its module.
2. Write the rows      One `Endpoint` per address that makes conversation turns, in a `Seam` (`stainless/request.py`),
                       as in `openai/__init__.py`. SDKs made by Stainless (openai, anthropic, groq, together) share the
                       rest: `stainless/stream.py` taps streams, `stainless/background.py` continues queued answers.
3. Write the readers   Pure functions in a package of the provider's name: the request → `Request`, the answer →
                       `Answer`, a class that puts chunks together (`Pieces`), and a `Dialect` to read one message
                       (`history/turn.py`). Models: `openai/chat.py`, `openai/chat_chunks.py`. Build them from
                       `payload/`: `fields` (objects without running their code; `fingerprint`), `parts` and `media`
                       (content), `tool_calls`, `usage`, `extras` (unread fields).
4. Register            An entry in `catalogue.py`, and a row with its facts in `docs/reference/captured.md`. In
                       `pyproject.toml`: the extra, the readers in the contract `pure`, the package in `shared-readers`,
                       a contract `door-…` for the SDK.
5. Prove it            A subclass of `Conformance` (`tests/integrations/conformance.py`), with a `Shape` for each way to
                       call the SDK, as in `test_openai_conformance.py`; `combined` makes few tests of many shapes, as
                       in `test_mistralai.py`. The SDK's own tests must not change: `scripts/upstream_suites.py`.
=====================  ===============================================================================================

A framework that has callbacks instead of a seam is modelled on `langchain/`: `handler.py` receives the callbacks,
`runs.py` holds the state, `claims.py` keeps the client below from recording the same call a second time. A framework
that calls a captured client, and keeps its session in a context variable, needs only a reader in `sessions.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from converra.history.turn import Answer, Request, Scope, SourceMessage


class CapturedCall(Protocol):
    """One model call under way, in the conversation in which it was started. No method raises."""

    def first_token(self) -> None:
        """Note that the first part of the answer has arrived; only the first call counts."""

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Register an open stream, whose answer is recorded as partial if the process ends first.

        `so_far` reads what has arrived; it may be called from any thread.
        """

    def wait(self) -> None:
        """Record the question now and stay open: the answer comes much later, if at all."""

    def end(self, answer: Answer, ended: float | None = None) -> None:
        """Record the turn. Only the first `end` or `fail` of a call counts, from any thread.

        `ended` is the `time.perf_counter()` of the last chunk if that is earlier than now (a dropped stream is noticed
        late), and NaN if the duration is unknown. A finaliser may call this at any moment, also while the same thread
        is inside the recorder: an implementation must not wait for a lock that is not reentrant.
        """

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the request with its error, and the `answer` as far as it had arrived."""


class RejectableCall(CapturedCall, Protocol):
    """A call as `Capture.begin` starts it. Its answer may be rejected after its end."""

    def rejecter(self, answer: Answer) -> Callable[[BaseException], None]:
        """Return a function that records why the app could not read the `answer` that this call has ended with.

        An output parser may raise after the call, while the message already waits to be sent or is on disk.
        """


class Capture(Protocol):
    """The recorder, as integrations see it. No method raises."""

    @property
    def active(self) -> bool:
        """False once capture is switched off: wrappers that could not be removed then do nothing."""

    def begin(self, request: Request) -> RejectableCall | None:
        """Start a call; None if it belongs to no conversation or an outer layer records it."""

    def record_tool_result(self, source: SourceMessage, scope: Scope, at: float) -> None:
        """Record the result of a tool that a framework ran outside of a model call.

        It goes into the recording of the framework's run, or else of its session. Without either, nothing is recorded:
        the next request resends the result. `at` is seconds since the epoch.
        """

    def pause(self, scope: Scope, *, paused: bool = True) -> None:
        """Keep the conversation of a paused run open: another process may resume the run.

        With `paused=False` the run has ended without a pause, and its conversation ends as all others do.
        """

    def complete(self, scope: Scope) -> None:
        """Complete the conversation of a framework's session, which the user has ended; not that of a block."""


class Patched(NamedTuple):
    """One row of the report: what was patched, or the reason why not."""

    target: str
    state: str
    """patched | waiting (for the import) | skipped"""
    why: str | None = None


class Integration(NamedTuple):
    """The integration of one library.

    `install` runs once `module` is imported, again whenever it is imported anew or reloaded, and may be called again
    at any time. `uninstall` undoes all of it.
    """

    name: str
    module: str
    install: Callable[[ModuleType, Capture], list[Patched]]
    uninstall: Callable[[], None]
    parts: tuple[str, ...] = ()
    """Further modules whose import triggers `install`: those from which `module` takes what is patched."""
    captures: bool = True
    """False if the integration captures nothing and only warns; the report then does not list it as waiting."""
    package: str | None = None
    """Name of the library's distribution, if it is known."""
    since: str | None = None
    """Oldest version of the library that is supported."""
