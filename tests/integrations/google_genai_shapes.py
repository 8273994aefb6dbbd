"""Every way in which an app calls the google-genai client, as programs that tell all that the app can see.

A row names what is called and how the result is used; both clients run it, each in its own manner.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

import google.oauth2.credentials
import pydantic
from google import genai
from google.genai import types

from tests.integrations import uses
from tests.integrations.conformance import Shape, make_models_once, raised
from tests.integrations.gemini_scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.integrations.scripted import ScriptedModel

__all__ = ["SCRIPTS", "SHAPES"]

HAS_RAW = "should_return_http_response" in types.GenerateContentConfig.model_fields
SENDS_AT_ONCE = not HAS_RAW
"""Old versions send an async stream's request before it is read, and do not raise on an error inside of one."""
HAS_INTERACTIONS = importlib.util.find_spec("google.genai._gaos") is not None
if HAS_INTERACTIONS:
    make_models_once("google.genai._gaos.utils.serializers")
HAS_CLOSE = hasattr(genai.Client, "close")
MODEL = "gemini-2.5-flash"
QUIET: dict[str, Any] = {"automatic_function_calling": {"disable": True}}
WEATHER = '[[tool:get_weather {"city": "Paris"}]] [[then]] [[say:It is sunny in Paris.]]'


class Person(pydantic.BaseModel):
    """What structured answers are parsed into."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """Look up the weather of a city."""
    return f"sunny in {city}"


get_weather.__annotations__ = {"city": str, "return": str}  # old versions read them as they stand


class Row(NamedTuple):
    """A call and what becomes of its result."""

    name: str
    script: str
    path: str
    """The method, from the client down."""
    arguments: dict[str, Any]
    use: str = "value"
    turns: int = 1
    vertex: bool = False


# -- what the app sees -------------------------------------------------------------------------------------------------


def view(value: Any) -> Any:
    """A result as plain data, with its exact type; without the time at which it was sent."""
    if isinstance(value, pydantic.BaseModel):
        held = value.model_dump(warnings=False)
        for name in ("sdk_http_response", "http_headers"):
            headers = held.get(name) or {}
            (headers.get("headers") or headers).pop("date", None)
            (headers.get("headers") or headers).pop("Date", None)
        return type(value).__qualname__, held
    return value if isinstance(value, str | bytes | int | None) else type(value)


def interact(name: str, script: str = "interaction", use: str = "value", **more: Any) -> Row:
    """A row that begins an interaction."""
    arguments = {"model": "gemini-3-flash", "input": "Hi", "system_instruction": "Be brief.", **more}
    return Row(f"interaction-{name}", script, "interactions.create", arguments, use)


def client_for(model: ScriptedModel, row: Row) -> Any:
    """A client of the scripted model."""
    return genai.Client(**options(model, row))


def options(model: ScriptedModel, row: Row) -> dict[str, Any]:
    """Options of a client."""
    http: dict[str, Any] = {"base_url": model.base_url(row.script).removesuffix("/v1")}
    if row.vertex:
        credentials = google.oauth2.credentials.Credentials(token="t")  # type: ignore[no-untyped-call]
        return {"vertexai": True, "project": "p", "location": "l", "credentials": credentials, "http_options": http}
    return {"api_key": "k", "http_options": http}


# -- the sync client ---------------------------------------------------------------------------------------------------


def _sync_managed(stream: Any) -> Any:
    with stream:
        return [view(next(iter(stream)))]


def _sync_chat(chat: Any) -> Any:
    answers = [view(chat.send_message(WEATHER)), view(chat.send_message("Thanks!"))]
    return answers, [view(content) for content in chat.get_history()]


def _sync_chat_stream(chat: Any) -> Any:
    chunks = [view(c) for text in ("[[reasoning]] Hello", "Thanks!") for c in chat.send_message_stream(text)]
    return chunks, [view(content) for content in chat.get_history()]


SYNC: dict[str, Callable[[Any], Any]] = {
    **uses.sync(view),
    "parsed": lambda answer: (view(answer), view(answer.parsed)),
    "managed": _sync_managed,
    "chat": _sync_chat,
    "chat-stream": _sync_chat_stream,
}


UNREAD = ("never", "dropped", "managed")


def _collected(row: Row, outcome: Any) -> Any:
    """The outcome, after what was left of a stream has been collected: else its end would fall into another test."""
    if row.use in UNREAD:
        gc.collect()
    return outcome


def sync(row: Row) -> Callable[[ScriptedModel], Any]:
    """The row as a program of the sync client."""

    def run(model: ScriptedModel) -> Any:
        client = client_for(model, row)
        try:
            return SYNC[row.use](_method(client, row.path)(**row.arguments))
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)
        finally:
            if HAS_CLOSE:
                client.close()

    return lambda model: _collected(row, run(model))


# -- the async client --------------------------------------------------------------------------------------------------


async def _all(chunks: AsyncIterator[Any]) -> list[Any]:
    return [view(chunk) async for chunk in chunks]


async def _async_left(stream: Any) -> Any:
    async with contextlib.aclosing(stream):
        return view(await anext(stream))


async def _async_managed(stream: Any) -> Any:
    async with stream:
        return [view(await anext(aiter(stream)))]


async def _async_chat(chat: Any) -> Any:
    answers = [view(await chat.send_message(WEATHER)), view(await chat.send_message("Thanks!"))]
    return answers, [view(content) for content in chat.get_history()]


async def _async_chat_stream(chat: Any) -> Any:
    chunks: list[Any] = []
    for text in ("[[reasoning]] Hello", "Thanks!"):
        chunks += await _all(await chat.send_message_stream(text))
    return chunks, [view(content) for content in chat.get_history()]


async def _async_parsed(answer: Any) -> Any:
    return view(answer), view(answer.parsed)


ASYNC: dict[str, Callable[[Any], Awaitable[Any]]] = {
    **uses.asynchronous(view),
    "parsed": _async_parsed,
    "left": _async_left,
    "managed": _async_managed,
    "chat": _async_chat,
    "chat-stream": _async_chat_stream,
}


def asynchronous(row: Row) -> Callable[[ScriptedModel], Any]:
    """The row as a program of the async client."""

    async def main(model: ScriptedModel) -> Any:
        client = client_for(model, row)
        try:
            result = _method(client.aio, row.path)(**row.arguments)
            return await ASYNC[row.use](await result if asyncio.iscoroutine(result) else result)
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)
        finally:
            await close_async(client)

    return lambda model: _collected(row, asyncio.run(main(model)))


async def close_async(client: Any) -> None:
    if HAS_CLOSE:
        client.close()
        await client.aio.aclose()
    else:
        await client.aio._api_client._async_httpx_client.aclose()


def cancelled(row: Row, chunks: int) -> Callable[[ScriptedModel], Any]:
    """The row in a task that is cancelled while it waits: for the answer, or for more after all `chunks` that come."""

    async def main(model: ScriptedModel) -> Any:
        client = client_for(model, row)
        outcome = await uses.cancelled(model, lambda: _method(client.aio, row.path)(**row.arguments), chunks, view)
        await close_async(client)
        return outcome

    return lambda model: asyncio.run(main(model))


def _method(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


# -- the rows ----------------------------------------------------------------------------------------------------------


def _row(name: str, contents: Any = "Where is my order 4711?", script: str = "stand-in", **more: Any) -> Row:
    config = {"system_instruction": "Be brief.", **QUIET, **more.pop("config", {})}
    arguments = {"model": MODEL, "contents": contents, "config": config}
    return Row(name, script, "models.generate_content", arguments, **more)


def _stream(name: str, script: str = "stream", use: str = "read", **more: Any) -> Row:
    row = _row(f"stream-{name}", more.pop("contents", "Hi"), script, **more)
    return row._replace(path="models.generate_content_stream", use=use)


TOOLS: dict[str, Any] = {"tools": [get_weather]}
CALLING: dict[str, Any] = {"config": {"tools": [get_weather], "automatic_function_calling": {"disable": False}}}
MEDIA = [
    types.Content(
        role="user",
        parts=[
            types.Part.from_bytes(data=b"\xfb\xff\xfe a picture", mime_type="image/png"),
            types.Part.from_uri(file_uri="gs://tents/a.pdf", mime_type="application/pdf"),
            types.Part.from_text(text="What is this?"),
        ],
    )
]
RESULT = [
    types.Content(role="user", parts=[types.Part.from_text(text="Weather?")]),
    types.Content(role="model", parts=[types.Part.from_function_call(name="get_weather", args={"city": "Paris"})]),
    types.Content(
        role="user", parts=[types.Part.from_function_response(name="get_weather", response={"result": "sunny"})]
    ),
]

STREAM: dict[str, Any] = {"stream": True}
WORDS_AND_PICTURE = [{"type": "text", "text": "See"}, {"type": "image", "data": "aGk=", "mime_type": "image/png"}]
RETURNED = [{"type": "function_result", "call_id": "c1", "name": "get_weather", "result": "sunny"}]
INTERACTIONS = (
    interact("text"),
    interact("calls", "interaction-calls", tools=[{"type": "function", "name": "get_weather"}]),
    interact("media", input=WORDS_AND_PICTURE),
    interact("result", input=RETURNED, previous_interaction_id="int-0"),
    interact("bad-request", "interaction-bad"),
    interact("stream", "events", "read", **STREAM),
    interact("stream-left", "events", "managed", **STREAM),
    interact("stream-dropped", "events", "dropped", **STREAM),
    interact("stream-never", "events", "never", **STREAM),
    interact("stream-thread", "events", "thread", **STREAM),
    interact("stream-cut", "events-cut", "read", **STREAM),
)

ROWS = (
    _row("text"),
    _row("dict", [{"role": "user", "parts": [{"text": "Hello"}]}]),
    _row("media", MEDIA),
    _row("result", RESULT),
    _row("tools", WEATHER, config=TOOLS),
    _row("tools-with-ids", WEATHER, config=TOOLS)._replace(
        arguments={"model": "gemini-3-flash", "contents": WEATHER, "config": {**QUIET, **TOOLS}}
    ),
    _row("functions-called", WEATHER, turns=2, **CALLING),
    _row("candidates", "[[say:Heads.]]", config={"candidate_count": 2}),
    _row("blocked", "[[refuse]]"),
    _row("length", "[[words:40]]", config={"max_output_tokens": 5}),
    _row("filtered", script="filtered"),
    _row("thoughts", script="thoughts"),
    _row("code", script="code"),
    _row("image", script="image"),
    _row("grounded", script="grounded"),
    _row(
        "json",
        script="json",
        use="parsed",
        config={"response_mime_type": "application/json", "response_schema": Person},
    ),
    _row("bad-request", "[[error:400]]"),
    _row("unavailable", "[[error:503]]"),
    _row("plain-text", script="plain-text"),
    _row("empty", script="empty"),
    _row("vertex", vertex=True),
    _row("vertex-functions-called", WEATHER, turns=2, vertex=True, **CALLING),
    _stream("text"),
    _stream("stand-in", "stand-in", contents="Where is my order 4711?"),
    _stream("code", "stream-code"),
    _stream("functions-called", "stand-in", contents=WEATHER, turns=2, **CALLING),
    _stream("blocked", "stand-in", contents="[[refuse]]"),
    _stream("candidates", "stand-in", contents="[[say:Heads it is.]]", config={"candidate_count": 2}),
    _stream("left", use="left"),
    _stream("closed", use="closed"),
    _stream("dropped", use="dropped"),
    _stream("never", use="never", turns=0),
    _stream("thread", use="thread"),
    _stream("cut", "stream-cut"),
    _stream("error", "stream-error"),
    _stream("bad-request", "stand-in", contents="[[error:400]]"),
    _stream("vertex", vertex=True),
    Row("chat", "stand-in", "chats.create", {"model": MODEL, "config": TOOLS}, "chat", 3),
    Row("chat-stream", "stand-in", "chats.create", {"model": MODEL}, "chat-stream", 2),
    Row("count-tokens", "stand-in", "models.count_tokens", {"model": MODEL, "contents": "Hi"}, turns=0),
    *(INTERACTIONS if HAS_INTERACTIONS else ()),
    *([_row("raw", config={"should_return_http_response": True})] if HAS_RAW else []),
)


def _shapes() -> Iterator[Shape]:
    for row in ROWS:
        yield Shape(row.name, sync(row), row.turns)
        if row.name == "stream-never" and SENDS_AT_ONCE:
            yield Shape(f"async-{row.name}", asynchronous(row), 1)
        elif row.name == "stream-cut":  # where aiohttp is installed, the async client's error is aiohttp's
            yield Shape(f"async-{row.name}", asynchronous(row), row.turns)
        else:
            yield Shape(f"async-{row.name}", asynchronous(row), row.turns, twin=row.name)
    yield Shape("cancelled-request", cancelled(_stream("cancelled", "held"), 0))
    yield Shape("cancelled-stream", cancelled(_stream("cancelled", "stream-held"), 3))


SHAPES = tuple(_shapes())
