"""Every way in which an app calls the openai client, as programs that tell all that the app can see.

A row names what is called and how the result is used; both clients run it, each in its own manner.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import openai
import pydantic
from openai.types.chat import ChatCompletion

from tests.integrations.chat_scripts import SCRIPTS as CHAT_SCRIPTS
from tests.integrations.conformance import Shape, raised
from tests.integrations.responses_scripts import SCRIPTS as RESPONSES_SCRIPTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from tests.integrations.scripted import ScriptedModel

    Run = Callable[[ScriptedModel], Any]

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES}
RESPONSES: dict[str, Any] = {"model": "gpt-5-mini", "input": "Hi", "instructions": "Be brief."}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "strict": True, "parameters": {"type": "object", "properties": {}}},
}


class Person(pydantic.BaseModel):
    """What structured answers are parsed into."""

    name: str
    age: int


class Row(NamedTuple):
    """A call and what becomes of its result."""

    name: str
    script: str
    path: str
    """The method, from the client down."""
    arguments: dict[str, Any]
    use: str = "value"
    turns: int = 1


# -- what the app sees -------------------------------------------------------------------------------------------------


def view(value: Any) -> Any:
    """A result as plain data, with its exact type."""
    if isinstance(value, pydantic.BaseModel):
        return type(value).__qualname__, value.model_dump(warnings=False), value.model_extra
    if isinstance(value, list):
        return [view(item) for item in value]
    if isinstance(value, str | bytes | int | None):
        return value
    parsed = getattr(value, "__dict__", {})
    return type(value), sorted(parsed)


def client_for(model: ScriptedModel, script: str) -> openai.OpenAI:
    """A client of a script; without TLS, whose setting-up is most of what a client costs."""
    bare = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(api_key="k", base_url=model.base_url(script), max_retries=0, http_client=bare)


def async_client_for(model: ScriptedModel, script: str) -> openai.AsyncOpenAI:
    """The same, async."""
    bare = openai.DefaultAsyncHttpxClient(verify=False)
    return openai.AsyncOpenAI(api_key="k", base_url=model.base_url(script), max_retries=0, http_client=bare)


# -- the sync client ---------------------------------------------------------------------------------------------------


def _sync_manager(manager: Any, events: int) -> Any:
    seen: list[Any] = []
    with manager as helper:
        for number, event in enumerate(helper, 1):
            seen.append(view(event))
            if number == events:
                break
    return seen


def _sync_final(manager: Any) -> Any:
    with manager as helper:
        helper.until_done()
        final = getattr(helper, "get_final_completion", None) or helper.get_final_response
        return view(final())


def _sync_first(stream: Any, count: int) -> list[Any]:
    return [view(next(stream)) for _ in range(count)]


def _sync_left(stream: Any) -> Any:
    with stream:
        return _sync_first(stream, 2)


def _sync_closed(stream: Any) -> Any:
    seen = _sync_first(stream, 2)
    stream.close()
    stream.close()
    return seen, stream.response.is_closed, sorted(vars(stream.response))


def _sync_dropped(stream: Any) -> Any:
    seen = _sync_first(stream, 2)
    stream.response.close()
    del stream
    gc.collect()
    return seen


def _sync_in_thread(stream: Any) -> Any:
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(view(c) for c in stream))
    thread.start()
    thread.join()
    return seen


def _sync_twice(stream: Any) -> Any:
    return [view(c) for c in stream], [view(c) for c in stream]


def _sync_raw(raw: Any) -> Any:
    return (
        type(raw),
        raw.status_code,
        raw.headers["content-type"],
        raw.text,
        view(raw.parse()),
        raw.parse() is raw.parse(),
    )


def _sync_streaming(manager: Any, read: Callable[[Any], Any]) -> Any:
    with manager as raw:
        before = raw.is_closed
        result = read(raw)
    return type(raw), before, result, raw.is_closed, "iter_bytes" in vars(raw.http_response)


SYNC: dict[str, Callable[[Any], Any]] = {
    "value": view,
    "read": lambda stream: (type(stream), [view(c) for c in stream]),
    "left": _sync_left,
    "closed": _sync_closed,
    "dropped": _sync_dropped,
    "never": lambda stream: stream.response.close(),
    "thread": _sync_in_thread,
    "twice": _sync_twice,
    "helper": lambda manager: _sync_manager(manager, 0),
    "helper-left": lambda manager: _sync_manager(manager, 2),
    "helper-final": _sync_final,
    "raw": _sync_raw,
    "raw-unparsed": lambda raw: (type(raw), raw.headers["content-type"]),
    "raw-read": lambda raw: (type(raw.parse()), [view(c) for c in raw.parse()]),
    "raw-lines": lambda raw: list(raw.http_response.iter_lines()),
    "streaming-parse": lambda manager: _sync_streaming(manager, lambda raw: view(raw.parse())),
    "streaming-json": lambda manager: _sync_streaming(manager, lambda raw: raw.json()),
    "streaming-text": lambda manager: _sync_streaming(manager, lambda raw: raw.text()),
    "streaming-lines": lambda manager: _sync_streaming(manager, lambda raw: list(raw.iter_lines())),
    "streaming-bytes": lambda manager: _sync_streaming(manager, lambda raw: b"".join(raw.iter_bytes(7))),
    "streaming-unread": lambda manager: _sync_streaming(manager, lambda raw: raw.status_code),
    "streaming-read": lambda manager: _sync_streaming(manager, lambda raw: [view(c) for c in raw.parse()]),
}


def sync(row: Row, connect: Callable[..., Any] = client_for, uses: Mapping[str, Any] = SYNC) -> Run:
    """The row as a program of the sync client."""

    def run(model: ScriptedModel) -> Any:
        with connect(model, row.script) as client:
            try:
                return uses[row.use](method(client, row.path)(**row.arguments))
            except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
                return raised(error)

    return run


# -- the async client --------------------------------------------------------------------------------------------------


async def _async_manager(manager: Any, events: int) -> Any:
    seen: list[Any] = []
    async with manager as helper:
        number = 0
        async for event in helper:
            number += 1
            seen.append(view(event))
            if number == events:
                break
    return seen


async def _async_final(manager: Any) -> Any:
    async with manager as helper:
        await helper.until_done()
        final = getattr(helper, "get_final_completion", None) or helper.get_final_response
        return view(await final())


async def _all(chunks: AsyncIterator[Any]) -> list[Any]:
    return [view(chunk) async for chunk in chunks]


async def _async_first(stream: Any, count: int) -> list[Any]:
    return [view(await anext(stream)) for _ in range(count)]


async def _async_left(stream: Any) -> Any:
    async with stream:
        return await _async_first(stream, 2)


async def _async_closed(stream: Any) -> Any:
    seen = await _async_first(stream, 2)
    await stream.close()
    await stream.close()
    return seen, stream.response.is_closed, sorted(vars(stream.response))


async def _async_dropped(stream: Any) -> Any:
    seen = await _async_first(stream, 2)
    await stream.response.aclose()
    del stream
    gc.collect()
    return seen


async def _async_read(stream: Any) -> Any:
    return type(stream), await _all(stream)


async def _async_in_task(stream: Any) -> Any:
    return await asyncio.create_task(_all(stream))


async def _async_twice(stream: Any) -> Any:
    return await _all(stream), await _all(stream)


async def _async_never(stream: Any) -> Any:
    return await stream.response.aclose()


async def _async_raw_read(raw: Any) -> Any:
    return type(raw.parse()), await _all(raw.parse())


async def _async_raw_lines(raw: Any) -> Any:
    return [line async for line in raw.http_response.aiter_lines()]


async def _async_streaming(manager: Any, read: Callable[[Any], Awaitable[Any]]) -> Any:
    async with manager as raw:
        before = raw.is_closed
        result = await read(raw)
    return type(raw), before, result, raw.is_closed, "aiter_bytes" in vars(raw.http_response)


async def _parse(raw: Any) -> Any:
    return view(await raw.parse())


async def _parse_stream(raw: Any) -> Any:
    return await _all(await raw.parse())


async def _lines(raw: Any) -> Any:
    return [line async for line in raw.iter_lines()]


async def _bytes(raw: Any) -> Any:
    return b"".join([piece async for piece in raw.iter_bytes(7)])


async def _status(raw: Any) -> Any:
    return raw.status_code


async def _view(value: Any) -> Any:
    return view(value)


async def _async_raw(raw: Any) -> Any:
    return _sync_raw(raw)


async def _async_raw_unparsed(raw: Any) -> Any:
    return type(raw), raw.headers["content-type"]


ASYNC: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "value": _view,
    "read": _async_read,
    "left": _async_left,
    "closed": _async_closed,
    "dropped": _async_dropped,
    "never": _async_never,
    "thread": _async_in_task,
    "twice": _async_twice,
    "helper": lambda manager: _async_manager(manager, 0),
    "helper-left": lambda manager: _async_manager(manager, 2),
    "helper-final": _async_final,
    "raw": _async_raw,
    "raw-unparsed": _async_raw_unparsed,
    "raw-read": _async_raw_read,
    "raw-lines": _async_raw_lines,
    "streaming-parse": lambda manager: _async_streaming(manager, _parse),
    "streaming-json": lambda manager: _async_streaming(manager, lambda raw: raw.json()),
    "streaming-text": lambda manager: _async_streaming(manager, lambda raw: raw.text()),
    "streaming-lines": lambda manager: _async_streaming(manager, _lines),
    "streaming-bytes": lambda manager: _async_streaming(manager, _bytes),
    "streaming-unread": lambda manager: _async_streaming(manager, _status),
    "streaming-read": lambda manager: _async_streaming(manager, _parse_stream),
}


def asynchronous(row: Row, connect: Callable[..., Any] = async_client_for, uses: Mapping[str, Any] = ASYNC) -> Run:
    """The row as a program of the async client."""

    async def main(model: ScriptedModel) -> Any:
        async with connect(model, row.script) as client:
            try:
                result = method(client, row.path)(**row.arguments)
                managed = row.use.startswith(("helper", "streaming"))
                return await uses[row.use](result if managed else await result)
            except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
                return raised(error)

    return lambda model: asyncio.run(main(model))


def method(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


# -- the rows ----------------------------------------------------------------------------------------------------------

STREAM: dict[str, Any] = {"stream": True}
PARSE: dict[str, Any] = {"response_format": Person}


def _chat(name: str, script: str, use: str = "value", method: str = "create", **more: Any) -> Row:
    return Row(f"chat-{name}", script, f"chat.completions.{method}", CHAT | more, use)


def _responses(name: str, script: str, use: str = "value", method: str = "create", **more: Any) -> Row:
    return Row(f"responses-{name}", script, f"responses.{method}", RESPONSES | more, use)


ROWS = (
    _chat("create", "text"),
    _chat("tools", "tools", tools=[TOOL]),
    _chat("two", "two", n=2),
    _chat("refusal", "refusal"),
    _chat("extra-body", "text", extra_body={"model": "other", "top_k": 3}),
    _chat("tuple", "text", messages=tuple(MESSAGES)),
    _chat("parse", "json", method="parse", **PARSE),
    _chat("parse-tools", "tools", method="parse", tools=[TOOL]),
    _chat("parse-length", "length", method="parse", **PARSE),
    _chat("parse-refused", "no-json", method="parse", **PARSE),
    Row("chat-beta-parse", "json", "beta.chat.completions.parse", CHAT | PARSE),
    Row("chat-beta-stream", "stream-json", "beta.chat.completions.stream", CHAT | PARSE, "helper"),
    _chat("stream", "stream", "read", **STREAM),
    _chat("stream-usage", "stream-usage", "read", **STREAM, stream_options={"include_usage": True}),
    _chat("stream-tools", "stream-tools", "read", **STREAM, tools=[TOOL]),
    _chat("stream-left", "stream", "left", **STREAM),
    _chat("stream-closed", "stream", "closed", **STREAM),
    _chat("stream-dropped", "stream", "dropped", **STREAM),
    _chat("stream-never", "stream", "never", **STREAM),
    _chat("stream-thread", "stream", "thread", **STREAM),
    _chat("stream-twice", "stream", "twice", **STREAM),
    _chat("stream-cut", "stream-cut", "read", **STREAM),
    _chat("stream-error", "stream-error", "read", **STREAM),
    _chat("helper", "stream-json", "helper", method="stream", **PARSE),
    _chat("helper-left", "stream-json", "helper-left", method="stream", **PARSE),
    _chat("helper-final", "stream-json", "helper-final", method="stream", **PARSE),
    _chat("raw", "text", "raw", method="with_raw_response.create"),
    _chat("raw-unparsed", "text", "raw-unparsed", method="with_raw_response.create"),
    _chat("raw-parse", "json", "raw", method="with_raw_response.parse", **PARSE),
    _chat("raw-parse-length", "length", "raw", method="with_raw_response.parse", **PARSE),
    _chat("raw-stream", "stream", "raw-read", method="with_raw_response.create", **STREAM),
    _chat("raw-stream-cut", "stream-cut", "raw-read", method="with_raw_response.create", **STREAM),
    _chat("raw-stream-lines", "stream-tools", "raw-lines", method="with_raw_response.create", **STREAM),
    *[
        _chat(f"streaming-{use}", "text", f"streaming-{use}", method="with_streaming_response.create")
        for use in ("parse", "json", "text", "lines", "bytes", "unread")
    ],
    _chat("streaming-stream", "stream", "streaming-read", method="with_streaming_response.create", **STREAM),
    _chat("streaming-stream-lines", "stream", "streaming-lines", method="with_streaming_response.create", **STREAM),
    Row("client-raw", "text", "with_raw_response.chat.completions.create", CHAT, "raw"),
    Row("client-raw-stream", "stream", "with_raw_response.chat.completions.create", CHAT | STREAM, "raw-read"),
    Row("client-streaming", "text", "with_streaming_response.chat.completions.create", CHAT, "streaming-parse"),
    Row("beta-create", "text", "beta.chat.completions.create", CHAT),
    _chat("omitted", "text", tools=openai.NOT_GIVEN, stop=openai.NOT_GIVEN, temperature=openai.NOT_GIVEN),
    _chat("bad-request", "bad-request"),
    _chat("bad-request-stream", "bad-request", "read", **STREAM),
    _chat("bad-request-raw", "bad-request", "raw", method="with_raw_response.create"),
    _chat("error-in-200", "error-in-200"),
    _chat("plain-text", "plain-text"),
    Row("chat-post", "text", "post", {"path": "/chat/completions", "body": CHAT, "cast_to": ChatCompletion}),
    Row("chat-post-object", "text", "post", {"path": "/chat/completions", "body": CHAT, "cast_to": object}),
    Row("completions", "legacy", "completions.create", {"model": "davinci", "prompt": "Hi"}),
    Row("completions-stream", "legacy-stream", "completions.create", {"model": "d", "prompt": "Hi", **STREAM}, "read"),
    _responses("create", "r-text"),
    _responses("items", "r-text", input=[{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]),
    _responses("tools", "r-tools"),
    _responses("search", "r-search"),
    _responses("refusal", "r-refusal"),
    _responses("incomplete", "r-incomplete"),
    _responses("failed", "r-failed"),
    _responses("parse", "r-json", method="parse", text_format=Person),
    _responses("stream", "r-stream", "read", **STREAM),
    _responses("stream-tools", "r-stream-tools", "read", **STREAM),
    _responses("stream-left", "r-stream", "left", **STREAM),
    _responses("stream-cut", "r-stream-cut", "read", **STREAM),
    _responses("helper", "r-stream-json", "helper", method="stream", text_format=Person),
    _responses("helper-left", "r-stream", "helper-left", method="stream"),
    _responses("helper-final", "r-stream", "helper-final", method="stream"),
    _responses("raw", "r-text", "raw", method="with_raw_response.create"),
    _responses("raw-stream", "r-stream", "raw-read", method="with_raw_response.create", **STREAM),
    _responses("streaming-json", "r-text", "streaming-json", method="with_streaming_response.create"),
    _responses("bad-request", "r-bad-request"),
    Row("beta-responses", "r-text", "beta.responses.create", RESPONSES),
    Row("models", "models", "models.list", {}, turns=0),
    Row("embeddings", "embeddings", "embeddings.create", {"model": "e", "input": "Hi"}, turns=0),
)


def exists(client: Any, path: str) -> bool:
    """Whether this version of the client has a method."""
    try:
        return callable(method(client, path))
    except AttributeError:
        return False


def _shapes() -> Iterator[Shape]:
    with openai.OpenAI(api_key="k") as client:
        for row in ROWS:
            if exists(client, row.path):
                yield Shape(row.name, sync(row), row.turns)
                yield Shape(f"async-{row.name}", asynchronous(row), row.turns, twin=row.name)


SHAPES = tuple(_shapes())
SCRIPTS = CHAT_SCRIPTS | RESPONSES_SCRIPTS
