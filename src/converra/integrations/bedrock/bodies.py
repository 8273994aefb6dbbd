"""Answers of InvokeModel: a `StreamingBody`, watched in place while the app reads it in whichever way.

boto3's body reads an urllib3 response, which the app itself gets by `with body as …`; all ways end in three of its
methods. aiobotocore's body reads an aiohttp response, whose reader takes no attributes, so here the body's own method
is shadowed, and that of the response.
"""

from __future__ import annotations

import inspect
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from converra.integrations.stainless.stream import tapping, watch_close
from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.integrations.stainless.stream import WatchedStream

UNKNOWN = -1
"""The length of a body that does not announce it."""

CLOSING = ("close", "aclose", "release")
"""Methods that close a body of aiobotocore, or the response that an old one stands for."""


def watch(body: Any, watched: WatchedStream, length: Any) -> None:
    """Watch a body until it is read to its end, closed or dropped.

    Args:
        body: The `StreamingBody` of the answer.
        watched: The call, which reads bytes.
        length: The length that the answer announces, if it does.

    """
    raw = getattr(body, "__wrapped__", None) or body._raw_stream  # noqa: SLF001 - old bodies of aiobotocore are proxies
    if isinstance(raw, io.BytesIO):  # a stub's
        with guard("reading the body of a stub"):
            watched.see(raw.getvalue()[raw.tell() :])
        watched.complete()
        return
    watched.watch_drop(body)
    reader = _Reader(watched, int(length) if str(length).isdecimal() else UNKNOWN)
    if not hasattr(type(body), "__aiter__"):
        reader.shadow(raw, "read")
        reader.shadow(raw, "read1")
        if hasattr(raw, "read_chunked"):
            chunked = raw.read_chunked
            watched.shadow(raw, "read_chunked", lambda *args, **kwargs: tapping(chunked(*args, **kwargs), watched))
        watch_close(raw, watched, lambda: reader.reading)
        return
    reader.shadow_async(body, "read")
    if inspect.iscoroutinefunction(getattr(raw, "read", None)):
        reader.shadow_async(raw, "read")
    for name in CLOSING:
        if hasattr(body, name):
            watch_close(body, watched, lambda: reader.reading, name)


class _Reader:
    """The methods that read one body. One may call another; then only the outer one sees the bytes."""

    def __init__(self, watched: WatchedStream, length: int) -> None:
        self.reading: bool = False
        self._watched = watched
        self._length = length
        self._seen = 0

    def shadow(self, owner: Any, name: str) -> None:
        """Shadow a method that returns bytes."""
        original: Callable[..., bytes] | None = getattr(owner, name, None)
        if original is None:
            return

        def read(*args: Any, **kwargs: Any) -> bytes:
            if self.reading:
                return original(*args, **kwargs)
            with self._outermost():
                data = original(*args, **kwargs)
            self._saw(data, args[0] if args else kwargs.get("amt"))
            return data

        self._watched.shadow(owner, name, read)

    def shadow_async(self, owner: Any, name: str) -> None:
        """Shadow a coroutine function that returns bytes."""
        original = getattr(owner, name)

        async def read(*args: Any, **kwargs: Any) -> bytes:
            if self.reading:
                return await original(*args, **kwargs)  # type: ignore[no-any-return]  # bytes
            with self._outermost():
                data: bytes = await original(*args, **kwargs)
            self._saw(data, args[0] if args else kwargs.get("amt"))
            return data

        self._watched.shadow(owner, name, read)

    @contextmanager
    def _outermost(self) -> Iterator[None]:
        """Mark a method as the outer one while it reads, and note its failure."""
        self.reading = True
        try:
            yield
        except BaseException as error:
            self._watched.ended(error)
            raise
        finally:
            self.reading = False

    def _saw(self, data: bytes, asked: Any) -> None:
        """Read some bytes; an answer without bytes, unless none were asked for, is the end."""
        with guard("reading a part of a body"):
            self._seen += len(data)
            if data:
                self._watched.see(data)
            to_the_end = not isinstance(asked, int) or asked < 0
            if to_the_end or self._seen == self._length or (asked and not data):
                self._watched.complete()
