"""What apps do with the stream that a client returns, for any client: the common uses of the rows of its shapes.

Each returns what the app saw, made comparable by the client's own `view`.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integrations.scripted import ScriptedModel

    View = Callable[[Any], Any]
    Use = Callable[[Any], Any]


def sync(view: View) -> dict[str, Use]:
    """The uses of a sync stream, by name."""

    def first(stream: Any) -> list[Any]:
        return [view(next(stream)) for _ in range(2)]

    def left(stream: Any) -> Any:
        for chunk in stream:
            return view(chunk)
        return None

    def closed(stream: Any) -> Any:
        seen = first(stream)
        stream.close()
        stream.close()
        return seen, list(stream)

    def dropped(stream: Any) -> Any:
        seen = first(stream)
        del stream
        gc.collect()
        return seen

    def in_thread(stream: Any) -> Any:
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: seen.extend(map(view, stream)))
        thread.start()
        thread.join()
        return seen

    return {
        "value": view,
        "read": lambda stream: (type(stream), list(map(view, stream))),
        "left": left,
        "closed": closed,
        "dropped": dropped,
        "never": type,
        "thread": in_thread,
    }


def asynchronous(view: View) -> dict[str, Callable[[Any], Awaitable[Any]]]:
    """The uses of an async stream, by name."""

    async def first(stream: Any) -> list[Any]:
        return [view(await anext(stream)) for _ in range(2)]

    async def everything(stream: Any) -> list[Any]:
        return [view(chunk) async for chunk in stream]

    async def read(stream: Any) -> Any:
        return type(stream), await everything(stream)

    async def left(stream: Any) -> Any:
        async for chunk in stream:
            return view(chunk)
        return None

    async def closed(stream: Any) -> Any:
        seen = await first(stream)
        await stream.aclose()
        await stream.aclose()
        return seen, await everything(stream)

    async def dropped(stream: Any) -> Any:
        seen = await first(stream)
        del stream
        gc.collect()
        return seen

    async def in_task(stream: Any) -> Any:
        return await asyncio.create_task(everything(stream))

    return {
        "value": _awaited(view),
        "read": read,
        "left": left,
        "closed": closed,
        "dropped": dropped,
        "never": _awaited(type),
        "thread": in_task,
    }


def _awaited(function: Callable[[Any], Any]) -> Callable[[Any], Awaitable[Any]]:
    async def use(result: Any) -> Any:
        return function(result)

    return use


async def cancelled(model: ScriptedModel, start: Callable[[], Awaitable[Any]], chunks: int, view: View) -> Any:
    """What a task has seen that is cancelled while it waits: for the answer, or for more after some `chunks`.

    Args:
        model: The server, which holds its answer back.
        start: Makes the call, and returns its stream.
        chunks: How many come; 0: not even the answer does.
        view: Makes a chunk comparable.

    """
    seen: list[Any] = []
    waiting, before = asyncio.Event(), len(model.received)

    async def read() -> None:
        async for chunk in await start():
            seen.append(view(chunk))
            if len(seen) == chunks:
                waiting.set()

    task = asyncio.create_task(read())
    if chunks:
        await waiting.wait()
    else:
        await asyncio.to_thread(until, lambda: len(model.received) > before)
    await asyncio.sleep(0)
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    return seen[:chunks], type(ended)  # one more may have arrived before the task is cancelled
