"""Decorators that put a block around each call of a function: plain, coroutine, generator or asynchronous generator.

A generator is one conversation from its first step to its last. Between its steps the consumer's code runs, and there
the conversation is not active: a context variable that stays set would leak into that code.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from converra.process.context import Entered

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from types import TracebackType

F = TypeVar("F", bound="Callable[..., Any]")


class Block(Protocol):
    """A context manager around one call."""

    def __enter__(self) -> Any:
        """Begin the block and make it active."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the block; the exception passes."""


def decorated(function: F, block: Callable[[], Block]) -> F:
    """Wrap a function so that each call of it runs in a block of its own.

    Args:
        function: A function of any kind.
        block: Makes the block of one call.

    """
    if inspect.isasyncgenfunction(function):
        wrapper: Callable[..., Any] = _async_generator(function, block)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, block)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, block)
    else:
        wrapper = _plain(function, block)
    return functools.wraps(function)(wrapper)  # type: ignore[return-value]  # same signature by construction


def _plain(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return call


def _coroutine(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with block():
            return await function(*args, **kwargs)

    return call


def _generator(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        scope = block()
        with _Ended(scope):
            return (yield from _steps(function(*args, **kwargs), scope))

    return call


def _steps(inner: Generator[Any, Any, Any], scope: Block) -> Generator[Any, Any, Any]:
    step, value = inner.send, None
    while True:
        with _Step(scope):
            try:
                item = step(value)
            except StopIteration as stop:
                return stop.value
        try:
            value, step = (yield item), inner.send
        except GeneratorExit:
            with _Step(scope):
                inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, and handed on
            value, step = error, inner.throw


def _async_generator(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        scope, inner = block(), function(*args, **kwargs)
        with _Ended(scope):
            step = _first_step(inner)
            while True:
                with _Step(scope):
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                try:
                    step = inner.asend((yield item))
                except GeneratorExit:
                    with _Step(scope):
                        await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, and handed on
                    step = inner.athrow(error)

    return call


def _first_step(inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Take the first step unseen by the event loop, which closes every generator that it knows when it ends."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


class _Step:
    """Makes a block active while its generator runs, from one yield to the next."""

    def __init__(self, scope: Block) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        """Enter anew: the consumer may ask for the next step from another thread or task."""
        self._entered = Entered(self._scope)

    def __exit__(self, *error: object) -> None:
        self._entered.leave()


class _Ended:
    """Ends a block without having entered it: the steps enter it, each for itself."""

    def __init__(self, scope: Block) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        """Nothing is active yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._scope.__exit__(kind, error, traceback)
