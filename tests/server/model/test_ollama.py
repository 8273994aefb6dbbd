"""Ollama's API of the stand-in, by the real client of ollama."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ollama
import pytest

from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

LOOK_UP: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up_order",
        "description": "Where an order is.",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
    },
}


@pytest.fixture
def client(server: LocalServer) -> Iterator[ollama.Client]:
    made = ollama.Client(server.ollama_url, timeout=LONG)
    yield made
    made._client.close()


def _asked(words: str) -> dict[str, Any]:
    return {"model": "llama3.2", "messages": [{"role": "user", "content": words}]}


def test_an_answer_is_the_same_whole_and_streamed(client: ollama.Client) -> None:
    """Texts, thoughts, calls, the reason of the end and counts come in one piece or in lines."""
    shapes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Hello", {}),
        ("[[reasoning]] Hello", {}),
        ("[[refuse]]", {}),
        ("[[words:40]]", {"options": {"num_predict": 5}}),
        ("Where is order 1234?", {"tools": [LOOK_UP]}),
    )
    called: list[Any] = []
    for words, more in shapes:
        whole = client.chat(**_asked(words), **more)
        parts = list(client.chat(**_asked(words), **more, stream=True))
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        for name in ("done_reason", "prompt_eval_count", "eval_count", "model"):
            assert getattr(parts[-1], name) == getattr(whole, name), name
        assert "".join(part.message.content or "" for part in parts) == whole.message.content
        assert "".join(part.message.thinking or "" for part in parts) == (whole.message.thinking or "")
        called = [call for part in parts for call in part.message.tool_calls or ()]
        assert called == list(whole.message.tool_calls or ())
    assert [(call.function.name, call.function.arguments) for call in called] == [
        ("look_up_order", {"order_id": "1234"})
    ]


def test_a_structured_answer(client: ollama.Client) -> None:
    """A schema as `format` is answered with JSON of that schema."""
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    said = client.chat(**_asked("I am 36."), format=schema).message.content
    assert json.loads(said or "") == {"age": 36}


def test_an_error_is_in_its_shape(client: ollama.Client) -> None:
    """Before the answer, and inside of a stream; a path that is not served says so."""
    with pytest.raises(ollama.ResponseError) as refused:
        client.chat(**_asked("[[error:503]]"))
    assert (refused.value.status_code, "asked for an error" in refused.value.error) == (503, True)
    with pytest.raises(ollama.ResponseError, match="messages are required"):
        client.chat("llama3.2", [])
    with pytest.raises(ollama.ResponseError, match="asked to fail"):
        list(client.chat(**_asked("[[fail]] one two three"), stream=True))
    with pytest.raises(ollama.ResponseError, match="Invalid URL"):
        client.embed("llama3.2", "Hello")
