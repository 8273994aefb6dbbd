"""Shapes of talking to a model with the clients of mistralai and ollama, of which only the frame is left.

The methods through which all their calls go answer with fresh copies of ready objects, as in `capture_openai`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import ollama
from mistralai.client.basesdk import BaseSDK

from benchmarks.capture_openai import CHUNKS
from benchmarks.interleaved import Scope, Shape, long_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYSTEM = {"role": "system", "content": "You are the support assistant of a shop for tents."}
TOOLS = [
    {"type": "function", "function": {"name": f"tool_{n}", "description": "A tool.", "parameters": {"type": "object"}}}
    for n in range(20)
]
TEXT = "It arrives on Thursday."


class Client(NamedTuple):
    """One client: asks with a history, and streams an answer to its end."""

    name: str
    ask: Callable[[list[Any], list[Any]], object]
    stream: Callable[[list[Any]], object]


# -- mistralai ---------------------------------------------------------------------------------------------------------

HEAD = {"id": "chatcmpl-1", "object": "chat.completion", "model": "mistral-small-latest", "created": 1}
COUNTS = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
BODY = json.dumps(
    {
        **HEAD,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": COUNTS,
    }
).encode()


def _event(finish: str | None, **delta: str) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    counted = {"usage": COUNTS} if finish else {}
    return b"data: " + json.dumps({**HEAD, "choices": [choice], **counted}).encode() + b"\n\n"


EVENTS = [*[_event(None, content="word ")] * (CHUNKS - 1), _event("stop", content=""), b"data: [DONE]\n\n"]


class _Context(NamedTuple):
    operation_id: str


def _do_request(_sdk: Any, _context: Any, _request: Any, _is_error: Any, stream: bool = False) -> httpx.Response:  # noqa: FBT001, FBT002 - as it is called
    return httpx.Response(200, content=iter(EVENTS)) if stream else httpx.Response(200, content=BODY)


mistral: Any = BaseSDK
mistral.do_request = _do_request
sdk: Any = object.__new__(BaseSDK)


def _sent(messages: list[Any], **more: Any) -> httpx.Request:
    body = {"model": "mistral-small-latest", "messages": [SYSTEM, *messages], **more}
    return httpx.Request("POST", "https://api.mistral.ai/v1/chat/completions", json=body)


def _mistral(messages: list[Any], tools: list[Any]) -> None:
    context = _Context("chat_completion_v1_chat_completions_post")
    sdk.do_request(context, _sent(messages, tools=tools), None)


def _mistral_stream(messages: list[Any]) -> None:
    for _ in sdk.do_request(_Context("stream_chat"), _sent(messages, stream=True), None, True).iter_bytes():  # noqa: FBT003 - as above
        pass


# -- ollama ------------------------------------------------------------------------------------------------------------


def _piece(text: str, *, done: bool) -> ollama.ChatResponse:
    facts: dict[str, Any] = {"done_reason": "stop", "prompt_eval_count": 20, "eval_count": 7} if done else {}
    message = ollama.Message(role="assistant", content=text)
    return ollama.ChatResponse(model="llama3.2", message=message, done=done, **facts)


ANSWER = _piece(TEXT, done=True)
PIECES = [*[_piece("word ", done=False)] * (CHUNKS - 1), _piece("", done=True)]


def _request(_client: Any, _cls: Any, *_args: Any, stream: bool = False, **_kwargs: Any) -> Any:
    return _pieces() if stream else ANSWER.model_copy()


def _pieces() -> Iterator[ollama.ChatResponse]:
    for piece in PIECES:
        yield piece.model_copy()


stubbed: Any = ollama.Client
stubbed._request = _request  # noqa: SLF001 - what is patched
server: Any = ollama.Client("http://127.0.0.1:9")


def _ollama(messages: list[Any], tools: list[Any]) -> None:
    body = {"model": "llama3.2", "messages": [SYSTEM, *messages], "tools": tools}
    server._request(ollama.ChatResponse, "POST", "/api/chat", json=body, stream=False)  # noqa: SLF001 - what is patched


def _ollama_stream(messages: list[Any]) -> None:
    body = {"model": "llama3.2", "messages": [SYSTEM, *messages]}
    for _ in server._request(ollama.ChatResponse, "POST", "/api/chat", json=body, stream=True):  # noqa: SLF001 - as above
        pass


# -- shapes ------------------------------------------------------------------------------------------------------------


def _shapes(client: Client) -> Iterator[Shape]:
    def short(scope: Scope) -> None:
        with scope():
            for _ in range(20):
                client.ask([{"role": "user", "content": "Where is my order?"}], [])

    def small(scope: Scope) -> None:
        history: list[Any] = []
        with scope():
            for turn in range(20):
                history.append({"role": "user", "content": f"Question {turn}?"})
                client.ask(list(history), [])
                history.append({"role": "assistant", "content": TEXT})

    def large(scope: Scope) -> None:
        history = long_history()
        with scope():
            for turn in range(10):
                history.append({"role": "user", "content": f"Question {turn}?"})
                client.ask(list(history), TOOLS)
                history.append({"role": "assistant", "content": TEXT})

    def streamed(scope: Scope) -> None:
        with scope():
            for turn in range(5):
                client.stream([{"role": "user", "content": f"Question {turn}?"}])

    yield Shape(f"{client.name}: short call", short, 20)
    yield Shape(f"{client.name}: small, growing chat", small, 20)
    yield Shape(f"{client.name}: 60 messages, 20 tools", large, 10)
    yield Shape(f"{client.name}: stream of 300 chunks", streamed, 5)


SHAPES = (
    *_shapes(Client("mistralai", _mistral, _mistral_stream)),
    *_shapes(Client("ollama", _ollama, _ollama_stream)),
)
