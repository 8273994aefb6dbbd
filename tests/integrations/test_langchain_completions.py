"""LangChain's legacy completion models, on a patched client over HTTP: each prompt is one turn, however it is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain_openai import OpenAI

import converra
from converra.langchain import ConverraCallbackHandler
from tests.integrations import scripted
from tests.integrations.chat_scripts import LEGACY
from tests.integrations.langchain_app import App, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.integrations.scripted import Received, Reply

    Ask = Callable[[OpenAI, Any], Awaitable[Any]]

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def _answer(request: Received) -> Reply:
    """The prompts themselves, in capital letters."""
    body = json.loads(request.body)
    prompts = [body["prompt"]] if isinstance(body["prompt"], str) else body["prompt"]
    choices = [{**LEGACY["choices"][0], "index": n, "text": prompt.upper()} for n, prompt in enumerate(prompts)]
    if not body.get("stream"):
        return scripted.document({**LEGACY, "choices": choices, "usage": USAGE})
    begun = [{**choice, "finish_reason": None} for choice in choices]
    return scripted.stream({**LEGACY, "choices": begun}, {**LEGACY, "choices": [{**choices[0], "text": ""}]})


@pytest.fixture
def url() -> Iterator[str]:
    """A server of completions."""
    with scripted.serve({"completions": _answer}) as model:
        yield model.base_url("completions")


async def _invoke(model: OpenAI, config: Any) -> Any:
    return [model.invoke("one", config), model.invoke("two", config)]


async def _ainvoke(model: OpenAI, config: Any) -> Any:
    return [await model.ainvoke("one", config), await model.ainvoke("two", config)]


async def _stream(model: OpenAI, config: Any) -> Any:
    return ["".join(model.stream(prompt, config)) for prompt in ("one", "two")]


async def _astream(model: OpenAI, config: Any) -> Any:
    return ["".join([part async for part in model.astream(prompt, config)]) for prompt in ("one", "two")]


async def _generate(model: OpenAI, config: Any) -> Any:
    result = model.generate(["one", "two"], **config)
    return [generation.text for (generation,) in result.generations]


async def _agenerate(model: OpenAI, config: Any) -> Any:
    result = await model.agenerate(["one", "two"], **config)
    return [generation.text for (generation,) in result.generations]


WAYS: list[Ask] = [_invoke, _ainvoke, _stream, _astream, _generate, _agenerate]
LAYERS = {"hook": (True, 0), "handler": (False, 1), "handlers and hook": (True, 2)}


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("ask", WAYS, ids=lambda ask: ask.__name__.strip("_"))
def test_a_prompt_is_one_turn(ask: Ask, layers: str, url: str) -> None:
    """Handler alone, patched client with its hook, or all of them: each prompt and its text, once, with its cost."""
    instrumented, handlers = LAYERS[layers]
    config = {"callbacks": [ConverraCallbackHandler("prompt") for _ in range(handlers)]} if handlers else {}

    async def main(app: App) -> Any:
        clients: Any = {"http_client": app._http, "http_async_client": app._async_http, "api_key": "none"}
        model = OpenAI(model="davinci-002", base_url=url, max_retries=0, **clients)
        with converra.conversation("prompt"):
            return await ask(model, config)

    with running(instrumented=instrumented) as app:
        assert app.run(main) == ["ONE", "TWO"]
        messages = app.messages()
    assert [message[:2] for message in messages] == [
        ("user", "one"),
        ("assistant", "ONE"),
        ("user", "two"),
        ("assistant", "TWO"),
    ]
    usages = [message[2].get("usage") for message in messages[1::2]]
    asked_together = ask in (_generate, _agenerate)  # the provider counts one request
    streamed = ask in (_stream, _astream)
    counted = {"promptTokens": 3, "completionTokens": 2}
    assert usages == [None if streamed else counted, None if streamed or asked_together else counted]
