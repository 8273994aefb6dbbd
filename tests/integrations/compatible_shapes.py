"""The ways in which an app calls a client made by Stainless whose chats are OpenAI's: rows of openai's suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.integrations import openai_shapes, scripted
from tests.integrations.chat_scripts import SCRIPTS
from tests.integrations.conformance import Shape, Subject
from tests.integrations.openai_shapes import ROWS, Row
from tests.integrations.stainless_shapes import ASYNC_USES, SYNC_USES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.integrations import Integration
    from tests.integrations.scripted import ScriptedModel

COMPACT = (
    *("chat-create", "chat-tools", "chat-extra-body", "chat-stream", "chat-stream-tools", "chat-stream-left"),
    *("chat-stream-closed", "chat-stream-dropped", "chat-stream-never", "chat-stream-thread", "chat-stream-cut"),
    *("chat-stream-error", "chat-raw", "chat-raw-stream", "chat-streaming-json", "chat-streaming-unread"),
    *("chat-streaming-stream", "chat-bad-request", "chat-bad-request-stream", "completions", "completions-stream"),
)
"""The rows of openai's suite that these clients share: whatever passes beside their `request` is one code."""

OTHERS = (Row("embeddings", "embeddings", "embeddings.create", {"model": "e", "input": "Hi"}, turns=0),)


def _client(made: Callable[..., Any], transport: Any) -> Callable[[ScriptedModel, str], Any]:
    def connect(model: ScriptedModel, script: str) -> Any:
        root = model.base_url(script).removesuffix("/v1")
        return made(api_key="k", base_url=root, max_retries=0, http_client=transport(verify=False))

    return connect


def shapes(module: Any, name: str, *, completions: bool) -> Iterator[Shape]:
    """Yield the shapes of a module's client and of its async twin."""
    plain, asynchronous = getattr(module, name), getattr(module, f"Async{name}")
    connect = _client(plain, module.DefaultHttpxClient)
    connect_async = _client(asynchronous, module.DefaultAsyncHttpxClient)
    for row in (*(row for row in ROWS if row.name in COMPACT), *OTHERS):
        if row.path.startswith("chat") or row.turns == 0 or completions:
            yield Shape(row.name, openai_shapes.sync(row, connect, SYNC_USES), row.turns)
            run = openai_shapes.asynchronous(row, connect_async, ASYNC_USES)
            yield Shape(f"async-{row.name}", run, row.turns, twin=row.name)


def _serve() -> Any:
    return scripted.serve(SCRIPTS)


def subject(integration: Integration, module: Any, name: str, *, completions: bool) -> Subject:
    """Describe the client of a module, and its async twin, to the conformance suite."""
    clients = getattr(module, name), getattr(module, f"Async{name}")
    found = tuple(shapes(module, name, completions=completions))
    return Subject(integration, lambda: [(client, "request") for client in clients], found, _serve)
