"""Streams, watched in place: the app gets the same `Stream` object that the SDK made.

Only its iterator is replaced, by a generator that reads each chunk as it passes. The end of a stream shows in three
places, each of which may be the only one: the iterator ends or raises, the HTTP response is closed (the SDK's stream
helpers close nothing else), or the stream is dropped and collected.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from converra.process.guard import guard, guarded, report

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from converra.history.turn import Answer
    from converra.integrations import CapturedCall

READING = "reading a chunk of a stream"


class Pieces(Protocol):
    """A streamed answer as far as it has arrived."""

    started: bool
    """The first token has arrived."""
    finished: bool
    """The model has finished: no token follows."""

    def feed(self, chunk: Any, /) -> None:
        """Read one chunk, keeping nothing but strings of it."""

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""


class Watcher(Protocol):
    """A reader of the chunks of a stream as they pass."""

    last: float | None
    """`time.perf_counter()` of the last chunk."""

    @property
    def see(self) -> Callable[[Any], None]:
        """Reads one chunk, and may raise."""

    def ended(self, error: BaseException | None = None) -> None:
        """Note that the iterator has ended: read to its end, closed by the app, or with an error."""

    def watch_drop(self, owner: Any) -> None:
        """Prepare for the stream's being collected before it has ended."""


class WatchedStream:
    """One open stream. It reads every chunk, and ends its call once, in whichever way the stream ends."""

    def __init__(self, call: CapturedCall, pieces: Pieces) -> None:
        self.see: Callable[[Any], None] = self._first
        """Reads one chunk, and may raise; the first token replaces it by a quicker function."""
        self._call = call
        self._pieces = pieces
        self.last: float | None = None
        """`time.perf_counter()` of the last chunk."""
        self._over = False
        self._shadowed: list[tuple[weakref.ref[Any], str]] = []
        self._finalizer: weakref.finalize[Any, Any] | None = None
        call.streaming(self.so_far)

    def so_far(self) -> Answer:
        """Return the answer so far, marked partial unless the model had finished."""
        answer = self._pieces.answer()
        answer.partial = answer.partial or not self._pieces.finished
        return answer

    def complete(self) -> None:
        """End the call: the stream was read to its end."""
        if self._end():
            self._call.end(self._pieces.answer(), self.last)

    def cut(self) -> None:
        """End the call: the app closed or dropped the stream."""
        if self._end():
            self._call.end(self.so_far(), self.last)

    def broken(self, error: BaseException) -> None:
        """Reading the stream raised."""
        if self._end():
            self._call.fail(error, self.so_far() if self._pieces.started else None)

    def ended(self, error: BaseException | None = None) -> None:
        """End the call as its iterator ended: read to its end, closed by the app, or with an error."""
        with guard("ending a stream"):
            if error is None:
                self.complete()
            elif isinstance(error, GeneratorExit):
                self.cut()
            else:
                self.broken(error)

    def closed(self, reading: Callable[[], bool]) -> None:
        """End the call of a closed stream, unless its iterator is `reading` just now."""
        with guard("ending a closed stream"):
            if not reading():
                self.cut()

    def watch_drop(self, owner: Any) -> None:
        """End the call when its stream is collected: never read, or left in the middle.

        From here on, nothing that this object holds may refer to the stream, or it would never be collected.
        """
        self._finalizer = weakref.finalize(owner, guarded("ending a dropped stream")(self.cut))
        self._finalizer.atexit = False  # at exit, the recorder asks for what has arrived

    def shadow(self, response: Any, name: str, method: Any) -> None:
        """Shadow a method of one response by `method`, until the stream ends."""
        setattr(response, name, method)
        self._shadowed.append((weakref.ref(response), name))

    def _end(self) -> bool:
        if self._over:
            return False
        self._over = True
        if self._finalizer is not None:
            self._finalizer.detach()
        for reference, name in self._shadowed:
            response = reference()
            with suppress(AttributeError):  # collected, or restored by another tool
                delattr(response, name)
        return True

    def _first(self, chunk: Any) -> None:
        self._pieces.feed(chunk)
        if self._pieces.started:
            self._call.first_token()
            self.see = self._pieces.feed


def watch_stream(stream: Any, watched: WatchedStream) -> None:
    """Watch a `Stream` or an `AsyncStream` of the SDK, whose HTTP response is closed by whatever closes the stream."""
    watch_iterator(stream, "_iterator", stream.response, watched)


def watch_iterator(stream: Any, name: str, closable: Any, watched: WatchedStream) -> None:
    """Watch a stream in the attribute that holds its iterator: all ways of reading the stream go through it.

    Args:
        stream: The app's object, in which the iterator is replaced.
        name: The attribute.
        closable: What is closed with the stream: a response with `close`, or with `aclose`, or the stream itself.
        watched: The stream's call.

    """
    watched.watch_drop(stream)
    chunks = getattr(stream, name)
    if hasattr(chunks, "__anext__"):
        tap: Any = _async_tap(chunks, lambda: watched)
        watch = _watch_aclose if hasattr(closable, "aclose") else watch_close
        watch(closable, watched, lambda: tap.ag_running)
    else:
        tap = tapping(chunks, watched)
        watch_close(closable, watched, lambda: tap.gi_running)
    setattr(stream, name, tap)


def watch_generator(chunks: Any, watched: Watcher, *, closes: bool = False) -> Any:
    """Return a generator around a bare one, sync or async, for an SDK whose streams cannot be watched in place.

    With `closes`, closing it closes an async one as well, as it did without us.
    """
    if hasattr(chunks, "__anext__"):
        around: Any = _async_tap(chunks, lambda: watched, closes=closes)
    else:
        around = _tap(chunks, lambda: watched)
    watched.watch_drop(around)
    return _named_alike(around, chunks)


def watch_lazy_generator(chunks: Any, call: CapturedCall, pieces: Callable[[], Pieces]) -> Any:
    """Return a generator around a bare one that sends its request when it is first read.

    The call's time begins then. A generator that is never read has sent nothing: its call is forgotten.
    """
    made: list[weakref.ref[Any]] = []

    def begin() -> Watcher:
        with guard("starting to watch a stream"):
            unread.detach()
            _tell(call, "sent")
            watched, owner = WatchedStream(call, pieces()), made[0]()
            if owner is not None:
                watched.watch_drop(owner)
            return watched
        return _Unwatched()

    around: Any = _async_tap(chunks, begin, closes=True) if hasattr(chunks, "__anext__") else _tap(chunks, begin)
    made.append(weakref.ref(around))
    unread = weakref.finalize(around, guarded("forgetting a stream that was never read")(_tell), call, "unsent")
    unread.atexit = False
    return _named_alike(around, chunks)


def _tell(call: CapturedCall, event: str) -> None:
    """Tell a call that its request is sent now, or never was; a Capture of another package may not listen."""
    listener = getattr(call, event, None)
    if listener is not None:
        listener()


class _Unwatched:
    """Stands for a stream that is not to be recorded."""

    last: float | None = None

    def see(self, chunk: Any) -> None:
        """Do nothing with a chunk."""

    def ended(self, error: BaseException | None = None) -> None:
        """Do nothing at the end."""

    def watch_drop(self, owner: Any) -> None:
        """Do nothing when it is collected."""


def _named_alike(around: Any, chunks: Any) -> Any:
    around.__name__, around.__qualname__ = chunks.__name__, chunks.__qualname__
    return around


def watch_body(response: Any, watched: WatchedStream) -> None:
    """Watch an HTTP response whose body has not been read: all ways of reading one take its decoded bytes."""
    watched.watch_drop(response)
    taps: list[Any] = []
    for name, tap in (("iter_bytes", _tap), ("aiter_bytes", _async_tap)):
        watched.shadow(response, name, _tapped(getattr(response, name), tap, taps, watched))
    watch_close(response, watched, lambda: any(tap.gi_running for tap in taps if hasattr(tap, "gi_running")))
    _watch_aclose(response, watched, lambda: any(tap.ag_running for tap in taps if hasattr(tap, "ag_running")))


def _tapped(original: Callable[..., Any], tap: Callable[..., Any], taps: list[Any], watched: WatchedStream) -> Any:
    def read(*args: Any, **kwargs: Any) -> Any:
        chunks = original(*args, **kwargs)
        taps.append(tap(chunks, lambda: watched))
        return taps[-1]

    return read


def tapping(chunks: Iterator[Any], watched: Watcher) -> Generator[Any, None, None]:
    """Return the chunks of a stream that is read once, watched; the call ends as they end."""
    return _tap(chunks, lambda: watched)


def _tap(chunks: Iterator[Any], begin: Callable[[], Watcher]) -> Generator[Any, None, None]:
    """Yield the chunks, each of which the stream that `begin` returns has seen."""
    watched = begin()
    try:
        for chunk in chunks:
            try:
                watched.see(chunk)
            except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
                report(READING, error)
            watched.last = perf_counter()
            yield chunk
    except BaseException as error:
        watched.ended(error)
        raise
    watched.ended()


async def _async_tap(chunks: Any, begin: Callable[[], Watcher], *, closes: bool = False) -> AsyncGenerator[Any, None]:
    """Yield the chunks as `_tap` does; with `closes`, closing this generator closes theirs, as it did without us."""
    watched = begin()
    try:
        async for chunk in chunks:
            try:
                watched.see(chunk)
            except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
                report(READING, error)
            watched.last = perf_counter()
            yield chunk
    except BaseException as error:
        watched.ended(error)
        raise
    finally:
        if closes:
            await chunks.aclose()
    watched.ended()


def watch_close(response: Any, watched: WatchedStream, reading: Callable[[], bool], name: str = "close") -> None:
    """Notice that the response is closed. If it is being read, its reader notices, and knows more."""
    close = getattr(response, name)

    def closing() -> Any:
        watched.closed(reading)
        return close()

    watched.shadow(response, name, closing)


def _watch_aclose(response: Any, watched: WatchedStream, reading: Callable[[], bool]) -> None:
    aclose = response.aclose

    async def closing() -> Any:
        watched.closed(reading)
        return await aclose()

    watched.shadow(response, "aclose", closing)
