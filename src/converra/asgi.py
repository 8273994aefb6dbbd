"""Delivery when an ASGI server stops: `lifespan`, for FastAPI, Starlette and other frameworks with lifespans."""

from __future__ import annotations

import inspect
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, overload

from converra._default import shutdown
from converra.process.guard import guard
from converra.process.servers import run_off_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["lifespan"]

App = TypeVar("App")
State = TypeVar("State")


@overload
def lifespan(  # type: ignore[overload-overlap]  # an app may be callable, but not with an app
    app_or_lifespan: Callable[[App], AbstractAsyncContextManager[State]], /
) -> Callable[[App], AbstractAsyncContextManager[State]]: ...
@overload
def lifespan(app_or_lifespan: object, /) -> AbstractAsyncContextManager[None]: ...
def lifespan(app_or_lifespan: Any, /) -> Any:
    """Deliver what is recorded when the server stops, within the setting `shutdown_timeout`.

    Pass it to the framework, or wrap a lifespan of your own with it::

        app = FastAPI(lifespan=lifespan)
        app = FastAPI(lifespan=lifespan(my_lifespan))  # or as the outermost decorator of my_lifespan

    It calls `converra.shutdown()` after your lifespan has ended, in a thread, so that the event loop keeps running. The
    server may be started again. What your lifespan yields or raises is passed on unchanged.

    Args:
        app_or_lifespan: The app, when a framework calls this as its lifespan; or a lifespan to wrap: a function of the
            app that returns an asynchronous context manager, or an asynchronous generator function.

    Returns:
        For an app, an asynchronous context manager; for a lifespan, the wrapped one.

    """
    if not _is_lifespan(app_or_lifespan):
        return _delivering(app_or_lifespan, _nothing)
    if inspect.isasyncgenfunction(app_or_lifespan):
        app_or_lifespan = asynccontextmanager(app_or_lifespan)
    return _wrapped(app_or_lifespan)


@asynccontextmanager
async def _nothing(_app: Any) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _delivering(app: Any, own: Callable[[Any], AbstractAsyncContextManager[State]]) -> AsyncIterator[State]:
    try:
        async with own(app) as state:
            yield state
    finally:
        with guard("delivering when a server stops"):
            await run_off_loop(shutdown)


def _wrapped(own: Any) -> Any:
    def outer(app: Any) -> AbstractAsyncContextManager[Any]:
        return _delivering(app, own)

    return wraps(own)(outer) if inspect.isroutine(own) else outer


def _is_lifespan(thing: Any) -> bool:
    """Tell a lifespan, which is called with the app alone, from an app: no callable at all, or an ASGI application."""
    if inspect.isroutine(thing) or isinstance(thing, partial | type):
        return True
    if not callable(thing):
        return False
    try:
        inspect.signature(thing).bind(None)
    except (TypeError, ValueError):  # it needs more arguments, or has no signature
        return False
    return True
