"""Every way in which an app calls Bedrock through boto3 and aiobotocore, as programs that tell all that it can see.

A row names what is called and how the result is used. A shape runs several rows, each of which is one turn: making a
client takes longer than all that it is asked.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import json
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import aiobotocore.session
import botocore
import botocore.config
import botocore.session
from botocore.response import StreamingBody

from tests.integrations import uses
from tests.integrations.bedrock_scripts import PICTURE, call, result, text
from tests.integrations.conformance import Shape, raised
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from tests.integrations.scripted import ScriptedModel


class Row(NamedTuple):
    """A call and what becomes of its result. The name of the model is that of the reply."""

    operation: str
    model: str
    use: str = "value"
    more: Mapping[str, Any] = MappingProxyType({})

    @property
    def arguments(self) -> dict[str, Any]:
        """The parameters of the call."""
        if self.operation.startswith("converse"):
            return {"modelId": self.model, "messages": [user("Hi")], "system": [text("Be brief.")], **self.more}
        return {"modelId": self.model, "body": json.dumps(self.more or CLAUDE_BODY)}


def user(*words: str) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": [text(each) for each in words]}


CLAUDE_BODY: dict[str, Any] = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 100,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "Hi"}],
}
TOOL: dict[str, Any] = {
    "toolSpec": {"name": "get_weather", "description": "Weather", "inputSchema": {"json": {"type": "object"}}}
}
MEDIA: list[Any] = [
    {
        "role": "user",
        "content": [
            {"image": {"format": "png", "source": {"bytes": PICTURE}}},
            {"document": {"format": "pdf", "name": "bill", "source": {"s3Location": {"uri": "s3://tents/bill.pdf"}}}},
            text("What is this?"),
        ],
    }
]
LOOP: list[Any] = [
    user("Weather?"),
    {"role": "assistant", "content": [call(city="Oslo")]},
    {"role": "user", "content": [result("tooluse_1", {"json": {"degrees": 7}})]},
]


# -- the clients -------------------------------------------------------------------------------------------------------


@functools.cache
def _session(module: Any) -> Any:
    session = module.get_session()
    session.set_credentials("key", "secret")
    return session


def _options(model: ScriptedModel, **config: Any) -> dict[str, Any]:
    settings = {"signature_version": botocore.UNSIGNED, "read_timeout": LONG, "retries": {"total_max_attempts": 1}}
    return {
        "region_name": "us-east-1",
        "endpoint_url": model.base_url("bedrock"),
        "config": botocore.config.Config(**{**settings, **config}),
    }


def client_for(model: ScriptedModel, **config: Any) -> Any:
    """A client of boto3's kind, without what differs from one request to the next."""
    client = _session(botocore.session).create_client("bedrock-runtime", **_options(model, **config))
    client.meta.events.register("before-send", _repeatable)
    return client


def async_client_for(model: ScriptedModel) -> Any:
    """A client of aiobotocore, to be entered."""
    return _session(aiobotocore.session).create_client("bedrock-runtime", **_options(model))


def _repeatable(request: Any, **_: Any) -> None:
    del request.headers["amz-sdk-invocation-id"]


# -- what the app sees -------------------------------------------------------------------------------------------------


def view(value: Any) -> Any:
    """A result as plain data, without the time at which it was sent; of what is read later, its type."""
    if not isinstance(value, dict):
        return value if isinstance(value, str | bytes | int | float | None) else type(value)
    held = {name: copy.deepcopy(one) if isinstance(one, dict) else view(one) for name, one in value.items()}
    held.get("ResponseMetadata", {}).get("HTTPHeaders", {}).pop("date", None)
    return held


def as_it_is(value: Any) -> Any:
    """An event of a stream, which is plain data."""
    return value


def _part(response: dict[str, Any]) -> Any:
    return response["stream"] if "stream" in response else response["body"]


def _closed(part: Any) -> Any:
    rest = iter(part)
    seen = [next(rest), next(rest)]
    part.close()
    part.close()
    return seen


def _dropped(part: Any) -> Any:
    seen = [next(iter(part))]
    del part
    gc.collect()
    return seen


def _managed(part: Any) -> Any:
    with part as raw:
        return type(raw), raw.read()


def _streamed(part: Any) -> Any:
    with part as raw:
        return b"".join(raw.stream(8))


def _partly(part: Any) -> Any:
    seen = part.read(7), part.readable(), part.tell()
    part.close()
    return seen


def _into(part: Any) -> Any:
    buffer = bytearray(1_000)
    counts: list[int] = []
    while count := part.readinto(memoryview(buffer)[sum(counts) :]):
        counts.append(count)
    return bytes(buffer), sum(counts)


SYNC: dict[str, Callable[[Any], Any]] = {
    **uses.sync(as_it_is),
    "closed": _closed,
    "dropped": _dropped,
    "whole": lambda part: (part.read(), part.read()),
    "json": json.load,
    "chunks": lambda part: list(part.iter_chunks(7)),
    "lines": lambda part: list(part.iter_lines()),
    "readlines": lambda part: part.readlines(),
    "managed": _managed,
    "streamed": _streamed,
    "partly": _partly,
    "into": _into,
}


def sync(rows: tuple[Row, ...]) -> Callable[[ScriptedModel], Any]:
    """The rows as a program of boto3's client."""

    def run(model: ScriptedModel) -> Any:
        client = client_for(model)
        try:
            return [_sync_row(client, row) for row in rows]
        finally:
            client.close()

    return _leaving_streams_open(run)


def _leaving_streams_open(run: Callable[[ScriptedModel], Any]) -> Callable[[ScriptedModel], Any]:
    """The program, after which the streams are collected that it has left open, as an app may do."""

    def running(model: ScriptedModel) -> Any:
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            outcome = run(model)
            gc.collect()
        return outcome

    return running


def _sync_row(client: Any, row: Row) -> Any:
    try:
        found = getattr(client, row.operation)(**row.arguments)
        seen = view(found)
        return seen if row.use == "value" else (seen, SYNC[row.use](_part(found)))
    except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
        return raised(error)


# -- aiobotocore -------------------------------------------------------------------------------------------------------


async def _async_closed(part: Any) -> Any:
    rest = aiter(part)
    seen = [await anext(rest), await anext(rest)]
    part.close()
    part.close()
    return seen


async def _async_dropped(part: Any) -> Any:
    seen = [await anext(aiter(part))]
    del part
    gc.collect()
    return seen


async def _async_managed(part: Any) -> Any:
    async with part as same:
        return type(same), await same.read()


async def _async_whole(part: Any) -> Any:
    return await part.read(), await part.read()


async def _async_chunks(part: Any) -> Any:
    return [chunk async for chunk in part.iter_chunks(7)]


async def _async_lines(part: Any) -> Any:
    return [line async for line in part.iter_lines()]


async def _async_partly(part: Any) -> Any:
    seen = await part.read(7)
    part.close()
    return seen


ASYNC: dict[str, Callable[[Any], Awaitable[Any]]] = {
    **uses.asynchronous(as_it_is),
    "closed": _async_closed,
    "dropped": _async_dropped,
    "whole": _async_whole,
    "json": _async_whole,
    "chunks": _async_chunks,
    "lines": _async_lines,
    "readlines": lambda part: part.readlines(),
    "managed": _async_managed,
    "streamed": _async_managed,
    "partly": _async_partly,
    "into": uses.asynchronous(as_it_is)["read"],
}


def asynchronous(rows: tuple[Row, ...]) -> Callable[[ScriptedModel], Any]:
    """The rows as a program of aiobotocore's client."""

    async def main(model: ScriptedModel) -> Any:
        async with async_client_for(model) as client:
            client.meta.events.register("before-send", _repeatable)
            return [await _async_row(client, row) for row in rows]

    return _leaving_streams_open(lambda model: asyncio.run(main(model)))


async def _async_row(client: Any, row: Row) -> Any:
    try:
        found = await getattr(client, row.operation)(**row.arguments)
        seen = view(found)
        return seen if row.use == "value" else (seen, await ASYNC[row.use](_part(found)))
    except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
        return raised(error)


def cancelled(row: Row, events: int) -> Callable[[ScriptedModel], Any]:
    """The row in a task that is cancelled while it waits: for the answer, or for more after all `events` that come."""

    async def main(model: ScriptedModel) -> Any:
        async with async_client_for(model) as client:
            client.meta.events.register("before-send", _repeatable)

            async def start() -> Any:
                return (await getattr(client, row.operation)(**row.arguments))["stream"]

            return await uses.cancelled(model, start, events, as_it_is)

    return _leaving_streams_open(lambda model: asyncio.run(main(model)))


# -- the rows ----------------------------------------------------------------------------------------------------------

INTO = "into" if hasattr(StreamingBody, "readinto") else "whole"  # old versions cannot
INVOKE, CHUNKS, EVENTS = "invoke_model", "invoke_model_with_response_stream", "converse_stream"

GROUPS: dict[str, tuple[Row, ...]] = {
    "converse": (
        Row("converse", "text"),
        Row("converse", "tools", more={"toolConfig": {"tools": [TOOL]}}),
        Row("converse", "rich", more={"messages": MEDIA}),
        Row("converse", "ran", more={"messages": LOOP}),
        Row("converse", "guarded"),
        Row("converse", "invalid"),
        Row("converse", "throttled"),
        Row("converse", "text", more={"messages": "no list"}),
        Row("converse", "text", more={"messages": 7}),
    ),
    "streams": (
        *(Row(EVENTS, f"stream{name}", "read") for name in ("", "-tools", "-rich", "-ran", "-guarded", "-error")),
        *(Row(EVENTS, "stream", use) for use in ("closed", "dropped", "left", "never", "thread")),
        Row(EVENTS, "stream-failed", "read"),
        Row(EVENTS, "throttled", "read"),
    ),
    "invoke": (
        *(Row(INVOKE, "claude", use) for use in ("whole", "json", "chunks", "lines", "readlines", "read")),
        *(Row(INVOKE, "claude", use) for use in ("managed", "streamed", "partly", INTO, "never")),
        Row(INVOKE, "invalid", "whole"),
    ),
    "chunks": (
        *(Row(CHUNKS, f"claude-stream{name}", "read") for name in ("", "-tools", "-error")),
        *(Row(CHUNKS, "claude-stream", use) for use in ("closed", "dropped", "never")),
    ),
}
CUT = (Row(EVENTS, "stream-cut", "read"), Row(INVOKE, "claude-cut", "whole"))
"""The two libraries raise different exceptions."""


def _shapes() -> Iterator[Shape]:
    for name, rows in GROUPS.items():
        yield Shape(name, sync(rows), len(rows))
        yield Shape(f"async-{name}", asynchronous(rows), len(rows), twin=name)
    yield Shape("cut", sync(CUT), len(CUT))
    yield Shape("async-cut", asynchronous(CUT), len(CUT))
    yield Shape("cancelled-request", cancelled(Row("converse", "held"), 0))
    yield Shape("cancelled-stream", cancelled(Row(EVENTS, "stream-held"), 3))


SHAPES = tuple(_shapes())
