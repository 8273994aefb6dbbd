"""The ways in which an app calls the mistralai client, and what the API answers."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from tests.integrations import openai_shapes
from tests.integrations.chat_scripts import SCRIPTS as CHAT_SCRIPTS
from tests.integrations.chat_scripts import TEXT_CHUNKS, WORDS, chunk, completion, tool_call
from tests.integrations.conformance import Shape, make_models_once
from tests.integrations.openai_shapes import Row
from tests.integrations.responses_scripts import SCRIPTS as RESPONSES_SCRIPTS
from tests.integrations.scripted import Received, Reply, always, document, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integrations.scripted import ScriptedModel

PACKAGE = "mistralai" if importlib.util.find_spec("mistralai.basesdk") else "mistralai.client"
"""Where the client is; the second in version 1."""
Mistral: Any = vars(importlib.import_module(f"{PACKAGE}.sdk"))["Mistral"]
make_models_once(f"{PACKAGE}.utils.serializers")
HAS_CONVERSATIONS = importlib.util.find_spec(f"{PACKAGE}.conversations") is not None
HAS_RESPONSES = importlib.util.find_spec(f"{PACKAGE}.responses") is not None

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "mistral-small-latest", "messages": MESSAGES}
AGENT: dict[str, Any] = {"agent_id": "ag_1", "messages": MESSAGES[1:]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
START: dict[str, Any] = {"inputs": "Hi", "model": "mistral-medium-latest", "instructions": "Be brief."}
APPEND: dict[str, Any] = {
    "conversation_id": "conv_1",
    "inputs": [{"type": "function.result", "tool_call_id": "call_1", "result": "sunny"}],
}
PREFIXED = [*MESSAGES, {"role": "assistant", "content": "Hello", "prefix": True}]
MEDIA = [
    {"type": "text", "text": "See"},
    {"type": "image_url", "image_url": "data:image/png;base64,aGVsbG8="},
    {"type": "document_url", "document_url": "https://example.com/a.pdf", "document_name": "a.pdf"},
    {"type": "input_audio", "input_audio": "aGVsbG8gaGVsbG8="},
]
THOUGHT: list[Any] = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Weighing it."}]},
    {"type": "text", "text": "It is said"},
    {"type": "reference", "reference_ids": [1, 2]},
    {"type": "text", "text": " so."},
]
CITED: list[Any] = [
    *THOUGHT[:2],
    {"type": "tool_reference", "tool": "web_search", "title": "Tents", "url": "https://x.com/t"},
]

USAGE = {"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30, "connector_tokens": 7}
OUTPUT = {"type": "message.output", "role": "assistant", "model": "mistral-medium-2508", "agent_id": "ag_1", "id": "m1"}
CALL = {"type": "function.call", "tool_call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'}
SEARCH = {"type": "tool.execution", "name": "web_search", "arguments": '{"query": "x"}', "id": "t1", "info": {"n": 3}}


def conversation(*outputs: dict[str, Any]) -> Reply:
    """A whole answer of a conversation."""
    return document(
        {"object": "conversation.response", "conversation_id": "conv_1", "outputs": outputs, "usage": USAGE}
    )


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


def said(piece: Any, index: int = 0) -> dict[str, Any]:
    facts = {"id": "m1", "output_index": index, "content_index": 0, "model": "mistral-medium-2508", "role": "assistant"}
    return event("message.output.delta", content=piece, **facts)


def called(fragment: str) -> dict[str, Any]:
    facts = {"id": "f1", "output_index": 2, "name": "get_weather", "tool_call_id": "call_1"}
    return event("function.call.delta", arguments=fragment, **facts)


STARTED = event("conversation.response.started", conversation_id="conv_1")
TALK = [STARTED, *map(said, WORDS)]
EVENTS = [
    STARTED,
    event("tool.execution.started", id="t1", name="web_search", arguments="", output_index=1),
    event("tool.execution.delta", id="t1", name="web_search", arguments='{"query": "x"}', output_index=1),
    event("tool.execution.done", id="t1", name="web_search", output_index=1, info={"n": 3}),
    said({"type": "thinking", "thinking": [{"type": "text", "text": "Weigh"}]}),
    said({"type": "thinking", "thinking": [{"type": "text", "text": "ing it."}]}),
    said("Hello "),
    said({"type": "text", "text": "there!"}),
    called('{"city":'),
    called(' "Paris"}'),
    event("conversation.response.done", usage=USAGE),
]
FAILED = event("conversation.response.error", message="too much", code=3002)


def _events(*events: dict[str, Any], cut: bool = False) -> Callable[[Received], Reply]:
    return always(stream(*events, named=True, done=False, cut=cut))


INVALID = document({"detail": [{"loc": ["body", "model"], "msg": "none", "type": "missing"}]}, 422)

SCRIPTS: dict[str, Callable[[Received], Reply]] = {
    **CHAT_SCRIPTS,
    **RESPONSES_SCRIPTS,
    "prefixed": always(document(completion({"content": "Hello there!"}))),
    "thought": always(document(completion({"content": THOUGHT}))),
    "stream-thought": always(
        stream(
            *[chunk({"content": [part]} if part["type"] != "text" else {"content": part["text"]}) for part in THOUGHT]
        )
    ),
    "stream-usage": always(stream(*TEXT_CHUNKS[:-1], chunk({"content": ""}, finish="stop", usage=USAGE))),
    "stream-calls": always(
        stream(
            chunk({"role": "assistant", "content": ""}),
            chunk(
                {"content": "", "tool_calls": [tool_call(n, name, "{}") | {"index": n} for n, name in enumerate("ab")]},
                finish="tool_calls",
                usage=USAGE,
            ),
        )
    ),
    "invalid": always(INVALID),
    "conversation": always(conversation(SEARCH, OUTPUT | {"content": CITED}, CALL)),
    "talk": always(conversation(OUTPUT | {"content": "Hello there!"})),
    "events": _events(*EVENTS),
    "events-cut": _events(*TALK[:3], cut=True),
    "events-error": _events(*TALK[:3], FAILED),
    "events-failed": _events(STARTED, FAILED),
    "talk-events": _events(*TALK, EVENTS[-1]),
}


class Connected:
    """A client of a script, and the HTTP clients that it was given: without TLS, whose setting-up costs most."""

    def __init__(self, model: ScriptedModel, script: str) -> None:
        sending: Any = vars(importlib.import_module(f"{PACKAGE}.basesdk"))["httpx"]
        self._sync, self._async = sending.Client(verify=False), sending.AsyncClient(verify=False)
        root = model.base_url(script).removesuffix("/v1")
        self.client = Mistral(api_key="k", server_url=root, client=self._sync, async_client=self._async)

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *_error: object) -> None:
        self._sync.close()

    async def __aenter__(self) -> Any:
        return self.client

    async def __aexit__(self, *_error: object) -> None:
        await self._async.aclose()


def chat(name: str, script: str, use: str = "value", **more: Any) -> Row:
    return Row(f"chat-{name}", script, "chat.complete", CHAT | more, use)


def streamed(name: str, script: str, use: str = "read", **more: Any) -> Row:
    return Row(f"stream-{name}", script, "chat.stream", CHAT | more, use)


def talk(name: str, script: str, verb: str = "start", use: str = "value", **more: Any) -> Row:
    arguments = START if verb.startswith("start") else APPEND
    return Row(f"conversation-{name}", script, f"beta.conversations.{verb}", arguments | more, use)


CONVERSATIONS = (
    talk("start", "talk"),
    talk("outputs", "conversation", tools=[TOOL]),
    talk("append", "talk", "append"),
    talk("restart", "talk", "restart", from_entry_id="m1"),
    talk("invalid", "invalid"),
    talk("stream", "events", "start_stream", "read"),
    talk("append-stream", "talk-events", "append_stream", "read"),
    talk("stream-left", "talk-events", "start_stream", "left"),
    talk("stream-cut", "events-cut", "start_stream", "read"),
    talk("stream-error", "events-error", "start_stream", "read"),
    talk("stream-failed", "events-failed", "start_stream", "read"),
    Row("conversation-history", "talk", "beta.conversations.get_history", {"conversation_id": "conv_1"}, turns=0),
)
RESPONSES = (Row("responses", "r-text", "responses.create", {"model": "m", "input": "Hi"}),)

ROWS = (
    chat("text", "text"),
    chat("tools", "tools", tools=[TOOL]),
    chat("two", "two", n=2),
    chat("length", "length"),
    chat("prefix", "prefixed", messages=PREFIXED),
    chat("media", "text", messages=[{"role": "user", "content": MEDIA}]),
    chat("thought", "thought"),
    chat("invalid", "invalid"),
    chat("bad-request", "bad-request"),
    chat("plain-text", "plain-text"),
    Row("chat-parse", "json", "chat.parse", {**CHAT, "response_format": openai_shapes.Person}),
    streamed("text", "stream"),
    streamed("usage", "stream-usage"),
    streamed("tools", "stream-calls", tools=[TOOL]),
    streamed("thought", "stream-thought"),
    streamed("prefix", "stream", messages=PREFIXED),
    streamed("left", "stream", "left"),
    streamed("closed", "stream", "closed"),
    streamed("dropped", "stream", "dropped"),
    streamed("never", "stream", "never"),
    streamed("thread", "stream", "thread"),
    streamed("cut", "stream-cut"),
    streamed("bad-request", "bad-request"),
    Row("agent", "text", "agents.complete", AGENT),
    Row("agent-stream", "stream", "agents.stream", AGENT, "read"),
    Row("fim", "text", "fim.complete", {"model": "codestral-latest", "prompt": "def f("}, turns=0),
    *(CONVERSATIONS if HAS_CONVERSATIONS else ()),
    *(RESPONSES if HAS_RESPONSES else ()),
)


NOT_IN_1_0 = ("chat-two", "chat-media", "chat-parse", "agent-stream", "stream-left")
"""Rows that the client of version 1.0 cannot call."""


def _shapes() -> Iterator[Shape]:
    for row in ROWS if HAS_CONVERSATIONS else [row for row in ROWS if row.name not in NOT_IN_1_0]:
        yield Shape(row.name, openai_shapes.sync(row, Connected), row.turns)
        twin = row._replace(path=f"{row.path}_async")
        yield Shape(f"async-{row.name}", openai_shapes.asynchronous(twin, Connected), row.turns, twin=row.name)


SHAPES = tuple(_shapes())
