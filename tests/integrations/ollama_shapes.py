"""The ways in which an app calls the ollama client, and what its server answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import inspect
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import ollama

from tests.integrations import uses
from tests.integrations.conformance import Shape, raised
from tests.integrations.openai_shapes import view
from tests.integrations.scripted import Received, Reply, always, document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integrations.scripted import ScriptedModel

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
FACTS: dict[str, Any] = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 9_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": 21,
    "eval_count": 9,
}
HEAD: dict[str, Any] = {"model": "llama3.2", "created_at": "2026-01-01T00:00:00Z"}
WORDS = ("Hel", "lo", " there", "!")
CALL = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}


def said(content: str = "", *, facts: Any = FACTS, **more: Any) -> dict[str, Any]:
    """A whole answer of a chat, or a chunk of one."""
    return {**HEAD, "message": {"role": "assistant", "content": content, **more}, **facts}


def generated(response: str = "", *, facts: Any = FACTS, **more: Any) -> dict[str, Any]:
    """The same of `generate`."""
    return {**HEAD, "response": response, **more, **facts}


OPEN = {"done": False}
CHUNKS = [*[said(word, facts=OPEN) for word in WORDS], said()]
THOUGHT = [said(thinking=piece, facts=OPEN) for piece in ("Weigh", "ing it.")]
CALLED = [said("", facts=OPEN, tool_calls=[CALL]), said()]
GENERATED = [*[generated(word, facts=OPEN) for word in WORDS], generated(context=[1, 2, 3])]


def lines(*chunks: dict[str, Any], **more: Any) -> Reply:
    """A stream: a JSON document on each line."""
    pieces = tuple(json.dumps(chunk).encode() + b"\n" for chunk in chunks)
    return Reply(pieces, content_type="application/x-ndjson", **more)


SCRIPTS: dict[str, Callable[[Received], Reply]] = {
    "text": always(document(said("Hello there!"))),
    "thought": always(document(said("Yes.", thinking="Weighing it."))),
    "tools": always(document(said(tool_calls=[CALL, CALL]))),
    "length": always(document(said("Hel", facts={**FACTS, "done_reason": "length"}))),
    "logprobs": always(document(said("Hi", facts={**FACTS, "logprobs": [{"token": "Hi", "logprob": -0.5}]}))),
    "stream": always(lines(*CHUNKS)),
    "stream-thought": always(lines(*THOUGHT, *CHUNKS)),
    "stream-tools": always(lines(*CALLED)),
    "stream-cut": always(lines(*CHUNKS[:2], cut=True)),
    "stream-error": always(lines(*CHUNKS[:2], {"error": "the model has crashed"})),
    "stream-held": always(lines(*CHUNKS, hold=2)),
    "generate": always(document(generated("Hello there!", thinking="Weighing it.", context=[1, 2, 3]))),
    "picture": always(document(generated(image=base64.b64encode(PNG).decode()))),
    "generated": always(lines(*GENERATED)),
    "missing": always(document({"error": "model not found"}, 404)),
    "loaded": always(document(said(facts={"done": True, "done_reason": "load"}))),
    "embedded": always(document({"model": "e", "embeddings": [[0.5]]})),
}

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "llama3.2", "messages": MESSAGES}
PROMPT: dict[str, Any] = {"model": "llama3.2", "prompt": "Hi", "system": "Be brief."}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
RETURNED = [
    *MESSAGES,
    {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
    {"role": "tool", "content": "rainy", "tool_name": "get_weather"},
]


class Row(NamedTuple):
    """A call and what becomes of its result."""

    name: str
    script: str
    method: str
    arguments: dict[str, Any]
    use: str = "value"
    turns: int = 1


def chat(name: str, script: str, **more: Any) -> Row:
    return Row(f"chat-{name}", script, "chat", CHAT | more)


def streamed(name: str, script: str, use: str = "read", turns: int = 1, **more: Any) -> Row:
    return Row(f"stream-{name}", script, "chat", CHAT | {"stream": True} | more, use, turns)


ROWS = (
    chat("text", "text"),
    chat("objects", "text", messages=[ollama.Message(role="user", content="Hi")]),
    chat("thought", "thought", think=True),
    chat("tools", "tools", tools=[TOOL]),
    chat("returned", "text", messages=RETURNED),
    chat("picture", "text", messages=[{"role": "user", "content": "See", "images": [PNG]}]),
    chat("length", "length"),
    chat("logprobs", "logprobs"),
    chat("format", "text", format="json", options={"temperature": 0}),
    chat("missing", "missing"),
    streamed("text", "stream"),
    streamed("thought", "stream-thought", think=True),
    streamed("tools", "stream-tools", tools=[TOOL]),
    streamed("left", "stream", "left"),
    streamed("closed", "stream", "closed"),
    streamed("dropped", "stream", "dropped"),
    streamed("never", "stream", "never", 0),
    streamed("thread", "stream", "thread"),
    streamed("thrown", "stream", "thrown"),
    streamed("cut", "stream-cut"),
    streamed("error", "stream-error"),
    streamed("missing", "missing"),
    Row("generate", "generate", "generate", PROMPT),
    Row("generate-picture", "picture", "generate", PROMPT),
    Row("generate-images", "generate", "generate", PROMPT | {"images": [PNG], "context": [1, 2, 3]}),
    Row("generate-stream", "generated", "generate", PROMPT | {"stream": True}, "read"),
    Row("load", "loaded", "chat", CHAT | {"messages": []}, turns=0),
    Row("embed", "embedded", "embed", {"model": "e", "input": "Hi"}, turns=0),
)


# -- the sync client ---------------------------------------------------------------------------------------------------


def _facts(stream: Any) -> Any:
    return type(stream), stream.__name__, stream.__qualname__


def _first(stream: Any, count: int) -> list[Any]:
    return [view(next(stream)) for _ in range(count)]


def _thrown(stream: Any) -> Any:
    return _first(stream, 1), stream.throw(KeyError("the app's"))


SYNC: dict[str, Callable[[Any], Any]] = {
    **uses.sync(view),
    "read": lambda stream: (_facts(stream), list(map(view, stream))),
    "never": _facts,
    "thrown": _thrown,
}


def sync(row: Row) -> Callable[[ScriptedModel], Any]:
    """The row as a program of the sync client."""

    def run(model: ScriptedModel) -> Any:
        client = ollama.Client(model.base_url(row.script).removesuffix("/v1"), verify=False)
        try:
            return SYNC[row.use](getattr(client, row.method)(**row.arguments))
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)
        finally:
            client._client.close()

    return lambda model: _collected(row, run(model))


UNREAD = ("left", "dropped", "never")


def _collected(row: Row, outcome: Any) -> Any:
    """The outcome, after what was left of a stream has been collected."""
    if row.use in UNREAD:
        gc.collect()
    return outcome


# -- the async client --------------------------------------------------------------------------------------------------


async def _all(stream: Any) -> list[Any]:
    return [view(chunk) async for chunk in stream]


async def _async_first(stream: Any, count: int) -> list[Any]:
    return [view(await anext(stream)) for _ in range(count)]


async def _async_left(stream: Any) -> Any:
    async with contextlib.aclosing(stream):
        return view(await anext(stream))


async def _async_thrown(stream: Any) -> Any:
    return await _async_first(stream, 1), await stream.athrow(KeyError("the app's"))


async def _now(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


ASYNC: dict[str, Callable[[Any], Any]] = {
    **uses.asynchronous(view),
    "read": lambda stream: _with_facts(stream, _all(stream)),
    "left": _async_left,
    "never": _facts,
    "thrown": _async_thrown,
}


async def _with_facts(stream: Any, reading: Any) -> Any:
    return _facts(stream), await reading


def asynchronous(row: Row) -> Callable[[ScriptedModel], Any]:
    """The row as a program of the async client."""

    async def main(model: ScriptedModel) -> Any:
        client = ollama.AsyncClient(model.base_url(row.script).removesuffix("/v1"), verify=False)
        try:
            return await _now(ASYNC[row.use](await getattr(client, row.method)(**row.arguments)))
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)
        finally:
            if row.use in UNREAD:
                gc.collect()
                await asyncio.sleep(0)  # the loop closes a stream that was dropped
            await client._client.aclose()

    return lambda model: _collected(row, asyncio.run(main(model)))


HAS_THINK = "think" in inspect.signature(ollama.Client.chat).parameters


def _shapes() -> Iterator[Shape]:
    for row in ROWS if HAS_THINK else [row for row in ROWS if "think" not in row.arguments]:
        yield Shape(row.name, sync(row), row.turns)
        yield Shape(f"async-{row.name}", asynchronous(row), row.turns, twin=row.name)


SHAPES = tuple(_shapes())
