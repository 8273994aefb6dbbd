"""Every way in which an app calls the anthropic client, as programs that tell all that the app can see."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import anthropic
from anthropic.types import Message

from tests.integrations import openai_shapes
from tests.integrations.anthropic_scripts import SCRIPTS
from tests.integrations.conformance import Shape
from tests.integrations.openai_shapes import STREAM, Person, Row, view
from tests.integrations.stainless_shapes import ASYNC_USES, SYNC_USES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integrations.scripted import ScriptedModel

__all__ = ["SCRIPTS", "SHAPES"]

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
ASK: dict[str, Any] = {"model": "claude-test", "max_tokens": 64, "system": "Be brief.", "messages": MESSAGES}
TOOL: dict[str, Any] = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
PREFILLED = [*MESSAGES, {"role": "assistant", "content": "So"}]
RESULTS = [
    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7 degrees"},
    {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "noon"}], "is_error": True},
]


def _root(model: ScriptedModel, script: str) -> str:
    return model.base_url(script).removesuffix("/v1")


def client_for(model: ScriptedModel, script: str) -> anthropic.Anthropic:
    """A client of a script; without TLS, whose setting-up is most of what a client costs."""
    bare = anthropic.DefaultHttpxClient(verify=False)
    return anthropic.Anthropic(api_key="k", base_url=_root(model, script), max_retries=0, http_client=bare)


def async_client_for(model: ScriptedModel, script: str) -> anthropic.AsyncAnthropic:
    """The same, async."""
    bare = anthropic.DefaultAsyncHttpxClient(verify=False)
    return anthropic.AsyncAnthropic(api_key="k", base_url=_root(model, script), max_retries=0, http_client=bare)


# -- the stream helper -------------------------------------------------------------------------------------------------


def _texts(manager: Any) -> Any:
    with manager as stream:
        return list(stream.text_stream), view(stream.get_final_message()), stream.get_final_text()


async def _async_texts(manager: Any) -> Any:
    async with manager as stream:
        texts = [text async for text in stream.text_stream]
        return texts, view(await stream.get_final_message()), await stream.get_final_text()


def _final(manager: Any) -> Any:
    with manager as stream:
        return view(stream.get_final_message())


async def _async_final(manager: Any) -> Any:
    async with manager as stream:
        return view(await stream.get_final_message())


USES = {**SYNC_USES, "helper-final": _final, "helper-texts": _texts}
ALSO_ASYNC = {**ASYNC_USES, "helper-final": _async_final, "helper-texts": _async_texts}


# -- the rows --------------------------------------------------------------------------------------------------------


def _ask(name: str, script: str, use: str = "value", method: str = "messages.create", **more: Any) -> Row:
    return Row(name, script, method, ASK | more, use)


STREAMING = "messages.stream"
RAW = "messages.with_raw_response.create"
STREAMED = "messages.with_streaming_response.create"

ROWS = (
    _ask("create", "text"),
    _ask("blocks", "text", system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]),
    _ask("tools", "tools", tools=[TOOL]),
    _ask("reasoned", "reasoned", thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2048),
    _ask("searched", "searched", tools=[{"type": "web_search_20250305", "name": "web_search"}]),
    _ask("refused", "refused"),
    _ask("prefill", "text", messages=PREFILLED),
    _ask("prefill-stream", "stream", "read", messages=PREFILLED, **STREAM),
    _ask("extra-body", "text", extra_body={"model": "other", "top_k": 3}),
    _ask("tuple", "text", messages=tuple(MESSAGES)),
    _ask("omitted", "text", tools=anthropic.NOT_GIVEN, stop_sequences=anthropic.NOT_GIVEN),
    _ask("stream", "stream", "read", **STREAM),
    _ask("stream-tools", "stream-tools", "read", **STREAM, tools=[TOOL]),
    _ask("stream-reasoned", "stream-reasoned", "read", **STREAM),
    _ask("stream-searched", "stream-searched", "read", **STREAM),
    *[
        _ask(f"stream-{use}", "stream", use, **STREAM)
        for use in ("left", "closed", "dropped", "never", "thread", "twice")
    ],
    _ask("stream-cut", "stream-cut", "read", **STREAM),
    _ask("stream-error", "stream-error", "read", **STREAM),
    _ask("helper", "stream-tools", "helper", STREAMING, tools=[TOOL]),
    _ask("helper-left", "stream", "helper-left", STREAMING),
    _ask("helper-final", "stream", "helper-final", STREAMING),
    _ask("helper-texts", "stream", "helper-texts", STREAMING),
    _ask("helper-cut", "stream-cut", "helper", STREAMING),
    _ask("parse", "json", method="messages.parse", output_format=Person),
    _ask("parse-refused", "text", method="messages.parse", output_format=Person),
    _ask("helper-parse", "stream-json", "helper-final", STREAMING, output_format=Person),
    _ask("raw", "text", "raw", RAW),
    _ask("raw-unparsed", "text", "raw-unparsed", RAW),
    _ask("raw-stream", "stream", "raw-read", RAW, **STREAM),
    _ask("raw-stream-cut", "stream-cut", "raw-read", RAW, **STREAM),
    *[
        _ask(f"streaming-{use}", "text", f"streaming-{use}", STREAMED)
        for use in ("parse", "json", "text", "lines", "bytes", "unread")
    ],
    _ask("streaming-stream", "stream", "streaming-read", STREAMED, **STREAM),
    _ask("streaming-stream-lines", "stream", "streaming-lines", STREAMED, **STREAM),
    _ask("beta", "tools", method="beta.messages.create", betas=["mcp-client-2025-04-04"]),
    _ask("beta-stream", "stream", "read", "beta.messages.create", **STREAM),
    _ask("beta-helper", "stream", "helper", "beta.messages.stream"),
    _ask("beta-raw", "text", "raw", "beta.messages.with_raw_response.create"),
    _ask("bad-request", "bad-request"),
    _ask("bad-request-stream", "bad-request", "read", **STREAM),
    _ask("bad-request-helper", "bad-request", "helper", STREAMING),
    _ask("bad-request-raw", "bad-request", "raw", RAW),
    _ask("overloaded", "overloaded"),
    _ask("plain-text", "plain-text"),
    Row("post", "text", "post", {"path": "/v1/messages", "body": ASK, "cast_to": Message}),
    Row("post-object", "text", "post", {"path": "/v1/messages", "body": ASK, "cast_to": object}),
    Row("count", "count", "messages.count_tokens", {"model": "m", "messages": MESSAGES}, turns=0),
)


def exists(client: Any, row: Row) -> bool:
    """Whether this version of the client has a method, with all the parameters of the row."""
    if not openai_shapes.exists(client, row.path):
        return False
    return row.arguments.keys() <= inspect.signature(openai_shapes.method(client, row.path)).parameters.keys()


# -- what takes more than a row ----------------------------------------------------------------------------------------


def _history(first: Any) -> list[Any]:
    """The request that hands back an answer with its calls, and their results."""
    return [*MESSAGES, {"role": "assistant", "content": first.content}, {"role": "user", "content": RESULTS}]


def _handed_back(model: ScriptedModel) -> Any:
    """The loop of an agent, with the SDK's own blocks."""
    with client_for(model, "step") as client:
        first = client.messages.create(**ASK)
        return view(first), view(client.messages.create(**ASK | {"messages": _history(first)}))


def _async_handed_back(model: ScriptedModel) -> Any:
    async def main() -> Any:
        async with async_client_for(model, "step") as client:
            first = await client.messages.create(**ASK)
            return view(first), view(await client.messages.create(**ASK | {"messages": _history(first)}))

    return asyncio.run(main())


def _generator(model: ScriptedModel) -> Any:
    with client_for(model, "text") as client:
        return view(client.messages.create(**ASK | {"messages": (each for each in MESSAGES)}))


def _async_generator(model: ScriptedModel) -> Any:
    async def main() -> Any:
        async with async_client_for(model, "text") as client:
            return view(await client.messages.create(**ASK | {"messages": (each for each in MESSAGES)}))

    return asyncio.run(main())


def _runner(model: ScriptedModel) -> Any:
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather."""
        return f"7 degrees in {city}"

    @anthropic.beta_tool
    def get_time() -> str:
        """The time."""
        return "noon"

    with client_for(model, "step") as client:
        tools = [get_weather, get_time]
        return [view(each) for each in client.beta.messages.tool_runner(**ASK | {"tools": tools})]


def _takes_generators() -> bool:
    """Whether this version sends a generator; earlier ones fail to encode it."""
    return int(anthropic.__version__.split(".")[0]) >= 1


def _programs() -> Iterator[Shape]:
    yield Shape("handed-back", _handed_back, turns=2)
    yield Shape("async-handed-back", _async_handed_back, turns=2, twin="handed-back")
    if _takes_generators():
        yield Shape("generator", _generator)
        yield Shape("async-generator", _async_generator, twin="generator")
    if hasattr(anthropic, "beta_tool"):
        yield Shape("tool-runner", _runner, turns=2)


def _shapes() -> Iterator[Shape]:
    with anthropic.Anthropic(api_key="k") as client:
        rows = [row for row in ROWS if exists(client, row)]
    for row in rows:
        yield Shape(row.name, openai_shapes.sync(row, client_for, USES), row.turns)
        run = openai_shapes.asynchronous(row, async_client_for, ALSO_ASYNC)
        yield Shape(f"async-{row.name}", run, row.turns, twin=row.name)
    yield from _programs()


SHAPES = tuple(_shapes())
