"""litellm's streams, observed by their methods: each is an object of its own class, which the app gets and iterates.

A stream takes over the turn of its call when it is made, or with its first chunk if the request is only sent then. The
router's streams stand around another one, which has the turn.
"""

from __future__ import annotations

import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.integrations.litellm import reading
from converra.integrations.litellm.calls import ATTEMPTS, CACHED, Attempt, begin, is_custom
from converra.integrations.stainless.stream import WatchedStream, watch_generator

if TYPE_CHECKING:
    from converra.integrations import Capture


class Open:
    """One stream under way, and each chunk of it that the app waits for."""

    __slots__ = ("__weakref__", "reading", "watched")

    def __init__(self, watched: WatchedStream) -> None:
        self.watched: WatchedStream = watched
        self.reading: bool = False
        """The app waits for a chunk: litellm closes a stream by itself before it reports its end."""

    def returned(self, result: Any) -> None:
        """Read the chunk."""
        self.reading = False
        watched = self.watched
        watched.see(result)
        watched.last = perf_counter()

    def raised(self, error: BaseException) -> None:
        """End the turn: the stream is over, or broken."""
        self.reading = False
        over = isinstance(error, StopIteration | StopAsyncIteration)
        self.watched.ended(None if over else error)


OPEN: dict[int, Open] = {}
"""By the identity of the stream, until it is collected: a lookup by a weak reference costs five times more."""


def _taken_over(stream: Any, attempt: Attempt | None) -> Open | None:
    if attempt is None or attempt.call is None:
        return None
    watched = WatchedStream(attempt.call, reading.pieces(stream, attempt.read))
    watched.watch_drop(stream)
    found = OPEN[id(stream)] = Open(watched)
    weakref.finalize(stream, OPEN.pop, id(stream), None).atexit = False
    return found


class Made:
    """A stream that is being made."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def returned(self, result: Any) -> None:  # noqa: ARG002 - `__init__` returns nothing
        """Have it take over the turn of its call, if its request is sent already."""
        _taken_over(self._stream, ATTEMPTS.take(self._stream.logging_obj))

    def raised(self, error: BaseException) -> None:
        """Do nothing: the call fails."""


def made(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Made:  # noqa: ARG001 - as `Patches` calls it
    """Observe the initialisation of a stream."""
    return Made(args[0])


class First:
    """The first chunk of a stream whose request is only sent with it."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def returned(self, result: Any) -> None:
        """Have the stream take over the turn of its call, and read the chunk."""
        found = _taken_over(self._stream, ATTEMPTS.take(self._stream.logging_obj))
        if found is not None:
            found.returned(result)

    def raised(self, error: BaseException) -> None:
        """Do nothing: the call has failed."""


def read(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Open | First:  # noqa: ARG001 - as `Patches` calls it
    """Observe `__next__` and `__anext__`. A stream that passes no `pre_call` begins its turn with its first chunk."""
    found = OPEN.get(id(args[0])) or _begun(capture, args[0])
    if found is None:
        return First(args[0])
    found.reading = True
    return found


def _begun(capture: Capture, stream: Any) -> Open | None:
    if stream.logging_obj not in ATTEMPTS:
        provider = stream.custom_llm_provider
        if provider == CACHED:
            return _taken_over(stream, begin(capture, stream.logging_obj, cacheHit=True))
        if is_custom(provider):
            return _taken_over(stream, begin(capture, stream.logging_obj))
    return None


def closed(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - as `Patches` calls it
    """End the turn of a stream that the app closes."""
    found = OPEN.get(id(args[0]))
    if found is not None:
        found.watched.closed(lambda: found.reading)


class Relayed(NamedTuple):
    """A stream in Anthropic's format, which litellm hands on as bytes: a bare generator."""

    log: Any

    def returned(self, result: Any) -> Any:
        """Return a generator around it, which takes over the turn of its call."""
        attempt = ATTEMPTS.take(self.log)
        if attempt is None or attempt.call is None:
            return None
        return watch_generator(result, WatchedStream(attempt.call, reading.StreamedMessage(attempt.read)), closes=True)

    def raised(self, error: BaseException) -> None:
        """Do nothing: the call fails."""


def relayed(_capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Relayed:
    """Observe what makes the generator, of the answer's bytes or of the chunks of another provider."""
    return Relayed(kwargs.get("litellm_logging_obj") or getattr(args[0], "litellm_logging_obj", None))
