"""A block around each call of a function, whatever its kind: plain, coroutine, generator or asynchronous generator.

A generator is one conversation from its first step to its last. Between its steps the consumer's code runs, and there
the conversation is not active: a context variable that stays set would leak into it.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from converra.context import Entered

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import TracebackType

F = TypeVar("F", bound="Callable[..., Any]")


class Block(Protocol):
    """What is put around a call."""

    def __enter__(self) -> Any:
        """Begin, active."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; the exception passes."""


def decorated(function: F, block: Callable[[], Block]) -> F:
    """Wrap a function so that each call of it runs in a block of its own."""
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
        entered = Entered(scope)
        try:
            item = step(value)
        except StopIteration as stop:
            return stop.value
        finally:
            entered.leave()
        try:
            value, step = (yield item), inner.send
        except GeneratorExit:
            inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, and handed on
            value, step = error, inner.throw


def _async_generator(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        scope, inner = block(), function(*args, **kwargs)
        step, value = inner.asend, None
        with _Ended(scope):
            while True:
                entered = Entered(scope)
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    return
                finally:
                    entered.leave()
                try:
                    value, step = (yield item), inner.asend
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, and handed on
                    value, step = error, inner.athrow

    return call


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
