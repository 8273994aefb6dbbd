"""The claude-agent-sdk integration: `query()` and `ClaudeSDKClient`, whose model calls are made by another program.

The SDK starts Claude Code's CLI and exchanges lines of JSON with it. All of that passes one object, `Query`:

=========================  ===========================================================================================
its method                 what is read there
=========================  ===========================================================================================
`start`                    from here on, each line that is written to the transport: the prompts
`receive_messages`         each message before it is parsed; apps never get what this returns, so that a generator
                           around it watches it (see `patching.py`)
`close`                    the end, also of a session whose messages the app has not read
=========================  ===========================================================================================

`runs.py` divides what passes into calls of the model.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.integrations import Patched, catalogue
from converra.integrations.claude_agent.messages import instructions
from converra.integrations.claude_agent.runs import Session
from converra.integrations.patch_groups import PatchGroups
from converra.integrations.patching import Patches, PatchPoint, watch_calls
from converra.integrations.stainless.stream import watch_generator
from converra.process.guard import guard, guarded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from converra.integrations import Capture


class _Watched(NamedTuple):
    """A `Query` under observation: its session, and what puts its transport's method back."""

    session: Session
    undo: Callable[[], None]
    finalizer: Any


_watched: weakref.WeakKeyDictionary[Any, _Watched] = weakref.WeakKeyDictionary()
_on: list[Capture] = []
"""The capture, while the integration is installed: sessions outlive its removal."""


def _capture() -> Capture | None:
    return _on[-1] if _on else None


def _nothing() -> None:
    """Stand for the removal of what could not be installed."""


def _session_of(query: Any) -> Session:
    """Return the session of a `Query`, watched from its first use on."""
    watched = _watched.get(query)
    if watched is None:
        transport = query.transport
        options = getattr(transport, "_options", None)
        session = Session(_capture, instructions(getattr(options, "system_prompt", None)))
        undo: Callable[[], None] = _nothing
        with guard("watching what an agent is asked"):
            undo = watch_calls(transport, "write", session.written)
        finalizer = weakref.finalize(query, session.close)
        finalizer.atexit = False  # at exit, the recorder asks for what has arrived
        watched = _watched[query] = _Watched(session, undo, finalizer)
    return watched.session


def start(_capture: Capture, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    """Watch a `Query` before it writes anything."""
    _session_of(args[0])


class _Received(msgspec.Struct, frozen=True, eq=False):
    """A call of `receive_messages`."""

    _session: Session

    def returned(self, result: Any) -> Any:
        """Return a generator around the messages."""
        return watch_generator(result, self._session)

    def raised(self, error: BaseException) -> None:
        """Note that the messages could not be received."""
        self._session.ended(error)


def receive(_capture: Capture, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> _Received:
    """Watch the messages of a `Query`."""
    return _Received(_session_of(args[0]))


class _Closing(msgspec.Struct, frozen=True, eq=False):
    """A `Query` that is being closed."""

    _query: Any

    def returned(self, result: Any) -> None:  # noqa: ARG002 - as `Patches` calls it
        """End its session, and put back the method of its transport."""
        watched = _watched.pop(self._query, None)
        if watched is not None:
            watched.finalizer.detach()
            watched.undo()
            watched.session.close()

    def raised(self, error: BaseException) -> None:  # noqa: ARG002 - as above
        """End its session all the same."""
        self.returned(None)


def close(_capture: Capture, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> _Closing:
    """End the session of a `Query` once it is closed."""
    return _Closing(args[0])


_QUERY = catalogue.CLAUDE_AGENT.module
_patches = PatchGroups(
    (_QUERY, Patches((PatchPoint("Query", "start", coroutine=True, bound=True),), start)),
    (_QUERY, Patches((PatchPoint("Query", "receive_messages", bound=True),), receive)),
    (_QUERY, Patches((PatchPoint("Query", "close", coroutine=True, bound=True),), close)),
)


def install(module: ModuleType, capture: Capture) -> list[Patched]:
    """Patch the three methods."""
    _on[:] = [capture]
    return _patches.install(module, capture)


@guarded("removing the claude-agent-sdk integration")
def uninstall() -> None:
    """Put all originals back, those of open transports too."""
    _on.clear()
    _patches.uninstall()
    for watched in list(_watched.values()):
        watched.finalizer.detach()
        watched.undo()
    _watched.clear()


INTEGRATION = catalogue.CLAUDE_AGENT.integration(install, uninstall)
