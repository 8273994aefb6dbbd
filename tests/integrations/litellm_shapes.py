"""The ways in which an app calls litellm, as programs that tell all that the app can see.

A row names the function and the provider: openai and azure go through the openai client, the others through litellm's
own HTTP client. Both ways are run sync and async.
"""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is fetched at import

import litellm
import pydantic

from tests.integrations import scripted, uses
from tests.integrations.anthropic_scripts import SCRIPTS as ANTHROPIC_SCRIPTS
from tests.integrations.chat_scripts import SCRIPTS as CHAT_SCRIPTS
from tests.integrations.conformance import Shape, raised
from tests.integrations.openai_shapes import MESSAGES, TOOL
from tests.integrations.responses_scripts import SCRIPTS as RESPONSES_SCRIPTS
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.integrations.scripted import ScriptedModel

litellm.suppress_debug_info = True  # it prints
litellm.telemetry = False
HAS_CLOSE = hasattr(litellm.CustomStreamWrapper, "close")

SCRIPTS = {
    **CHAT_SCRIPTS,
    **RESPONSES_SCRIPTS,
    "held": lambda _request: scripted.stream(hold=0),
    **{f"a-{name}": script for name, script in ANTHROPIC_SCRIPTS.items()},
}

CHAT: dict[str, Any] = {"messages": MESSAGES}
RESPONSES: dict[str, Any] = {"input": "Hi", "instructions": "Be brief."}
STREAM: dict[str, Any] = {"stream": True}


class Row(NamedTuple):
    """A call and what becomes of its result."""

    name: str
    script: str
    arguments: dict[str, Any]
    model: str = "hosted_vllm/gpt-4"
    function: str = "completion"
    use: str = "value"
    turns: int = 1


VARYING = frozenset({"id", "created", "created_at", "completed_at", "response_ms"})
"""Fields that litellm makes up for each answer, somewhere in it."""


def view(value: Any) -> Any:
    """A result as plain data, with its exact type and without what differs from call to call."""
    if isinstance(value, pydantic.BaseModel):
        return type(value).__qualname__, _steady(value.model_dump(warnings=False))
    return _steady(value)


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(inner) for key, inner in value.items() if key not in VARYING}
    return [_steady(inner) for inner in value] if isinstance(value, list | tuple) else value


def arguments(model: ScriptedModel, row: Row) -> dict[str, Any]:
    """All that the function is called with."""
    base = model.base_url(row.script)
    base = base.removesuffix("/v1") if row.model.startswith("anthropic") else base
    return {"model": row.model, "api_base": base, "api_key": "k", "timeout": LONG, "max_retries": 0} | row.arguments


# -- the sync functions ------------------------------------------------------------------------------------------------


def _left(stream: Any) -> Any:
    seen = [view(next(stream)) for _ in range(2)]
    return seen, weakref.ref(stream)


SYNC: dict[str, Callable[[Any], Any]] = {**uses.sync(view), "left": _left}


def _gone(outcome: Any) -> Any:
    """Wait until nothing is left of a stream: threads of litellm still log its chunks."""
    match outcome:
        case (seen, weakref.ref() as stream):
            until(lambda: (gc.collect(), stream() is None)[1])
            return seen
    return outcome


def sync(row: Row) -> Callable[[ScriptedModel], Any]:
    """The row as a program of the sync functions."""

    def run(model: ScriptedModel) -> Any:
        try:
            return SYNC[row.use](getattr(litellm, row.function)(**arguments(model, row)))
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)

    return lambda model: _gone(run(model))


# -- the async functions -----------------------------------------------------------------------------------------------


async def close() -> None:
    """Close the connections that litellm keeps for the loop."""
    if hasattr(litellm, "close_litellm_async_clients"):
        await litellm.close_litellm_async_clients()


async def _async_left(stream: Any) -> Any:
    seen = [view(await anext(stream)) for _ in range(2)]
    return seen, weakref.ref(stream)


ASYNC: dict[str, Callable[[Any], Awaitable[Any]]] = {**uses.asynchronous(view), "left": _async_left}


def asynchronous(row: Row) -> Callable[[ScriptedModel], Any]:
    """The row as a program of the async functions."""

    async def main(model: ScriptedModel) -> Any:
        try:
            return await ASYNC[row.use](await getattr(litellm, f"a{row.function}")(**arguments(model, row)))
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)
        finally:
            await close()

    return lambda model: _gone(asyncio.run(main(model)))


def cancelled(row: Row, chunks: int) -> Callable[[ScriptedModel], Any]:
    """The row in a task that is cancelled while it waits: for the answer, or for more after some `chunks`."""

    async def main(model: ScriptedModel) -> Any:
        outcome = await uses.cancelled(
            model, lambda: getattr(litellm, f"a{row.function}")(**arguments(model, row)), chunks, view
        )
        await close()
        return outcome

    return lambda model: asyncio.run(main(model))


# -- the rows ----------------------------------------------------------------------------------------------------------


def _chat(name: str, script: str, use: str = "value", model: str = "hosted_vllm/gpt-4", **more: Any) -> Row:
    return Row(name, script, CHAT | more, model, use=use)


def _responses(name: str, script: str, use: str = "value", model: str = "openai/gpt-4", **more: Any) -> Row:
    return Row(f"responses-{name}", script, RESPONSES | more, model, "responses", use)


ROWS = (
    _chat("own-client", "text"),
    _chat("openai", "tools", model="openai/gpt-4", tools=[TOOL]),
    _chat("anthropic", "a-tools", model="anthropic/claude-test"),
    _chat("bad-request", "bad-request"),
    _chat("openai-stream", "stream-usage", "read", "openai/gpt-4", **STREAM, stream_options={"include_usage": True}),
    _chat("stream", "stream-usage", "read", **STREAM),
    _chat("stream-left", "stream", "left", **STREAM),
    *([_chat("stream-closed", "stream", "closed", **STREAM)] if HAS_CLOSE else []),
    _chat("stream-cut", "stream-cut", "read", **STREAM),
    _responses("create", "r-text"),
    _responses("stream", "r-stream", "read", **STREAM),
)


def _shapes() -> Iterator[Shape]:
    for row in ROWS:
        yield Shape(row.name, sync(row), row.turns)
        twin = None if row.name == "anthropic" else row.name  # litellm makes up an id for its answer
        yield Shape(f"async-{row.name}", asynchronous(row), row.turns, twin=twin)
    yield Shape("cancelled-request", cancelled(_chat("cancelled", "held", **STREAM), 0))
    yield Shape("cancelled-stream", cancelled(_chat("cancelled", "stream-held", **STREAM), 2))


SHAPES = tuple(_shapes())


def serve() -> Any:
    """The scripted model that the rows name."""
    return scripted.serve(SCRIPTS)
