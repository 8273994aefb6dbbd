"""The least that a recorder of openai's calls can do, for `peers`: keep texts and times, which a thread discards.

It finds no conversation, recognises no resent history, checks nothing and delivers nothing. What it costs is what the
language and the hand-over to a thread leave to save.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import wrapt
from langchain_core.callbacks import BaseCallbackHandler
from openai._base_client import AsyncAPIClient, SyncAPIClient

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_SECONDS = 0.01

turns: deque[tuple[Any, ...]] = deque()


class Handler(BaseCallbackHandler):
    """Keeps the messages and the answer of each run of a LangChain model."""

    run_inline = True

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[Any]], **_: Any) -> None:  # noqa: ARG002 - LangChain's signature
        """Keep what is sent."""
        turns.append((time.perf_counter(), tuple(messages[0])))

    def on_llm_end(self, response: Any, **_: Any) -> None:
        """Keep the answer's text."""
        turns.append((time.perf_counter(), response.generations[0][0].text))


def switch_on() -> None:
    """Wrap the clients, and start the thread."""
    wrapt.wrap_function_wrapper(SyncAPIClient, "request", _request)
    wrapt.wrap_function_wrapper(AsyncAPIClient, "request", _async_request)
    threading.Thread(target=_discard, daemon=True).start()


def _discard() -> None:
    while True:
        time.sleep(POLL_SECONDS)
        turns.clear()


def _request(wrapped: Any, _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    began = time.perf_counter()
    result = wrapped(*args, **kwargs)
    _note(result, began, args[1])
    return result


async def _async_request(wrapped: Any, _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    began = time.perf_counter()
    result = await wrapped(*args, **kwargs)
    _note(result, began, args[1])
    return result


def _note(result: Any, began: float, options: Any) -> None:
    """Keep an answer, or the text of a stream as it passes. A raw response, which LangChain asks for, has neither."""
    body, held = options.json_data, result.__dict__
    sent = tuple(body.get("messages") or body["input"])
    if "choices" in held:
        message = held["choices"][0].__dict__["message"].__dict__
        turns.append((began, time.perf_counter(), sent, message["content"], message["tool_calls"], held["usage"]))
    elif "output" in held:
        turns.append((began, time.perf_counter(), sent, held["output"][0].content[0].text, held["usage"]))
    elif "_iterator" in held:
        result._iterator = _texts(result._iterator, began, sent)  # noqa: SLF001 - where streams are watched


def _texts(chunks: Any, *turn: Any) -> Iterator[Any]:
    pieces, last = [], 0.0
    for chunk in chunks:
        pieces.append(chunk.__dict__["choices"][0].__dict__["delta"].__dict__["content"])
        last = time.perf_counter()
        yield chunk
    turns.append((*turn, pieces, last))
