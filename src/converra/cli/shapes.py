"""The shapes of calls that `converra doctor` makes, all of them to the stand-in model or to one of LangChain's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

WORDS = "[[say:recorded]]"
_ASKED: Any = [{"role": "user", "content": WORDS}]
_TOOL_WORDS = '[[tool:look_up {"order": 7}]][[then]][[say:recorded]]'
_TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


class Shape(NamedTuple):
    """One way to call the model, and the roles of the messages that it is to leave."""

    name: str
    call: Callable[[Any, dict[str, Any]], None]
    """Gets the module below and the arguments of a client."""
    roles: tuple[str, ...] = ("user", "assistant")
    module: str = "openai"
    format: Literal["openai", "anthropic", "google"] = "openai"
    """The API of the stand-in model that the call goes to."""


def _plain(openai: Any, where: dict[str, Any]) -> None:
    with openai.OpenAI(**where) as client:
        client.chat.completions.create(model="doctor", messages=_ASKED)


def _streamed(openai: Any, where: dict[str, Any]) -> None:
    with openai.OpenAI(**where) as client:
        for _ in client.chat.completions.create(model="doctor", messages=_ASKED, stream=True):
            pass


def _raw(openai: Any, where: dict[str, Any]) -> None:
    with openai.OpenAI(**where) as client:
        client.chat.completions.with_raw_response.create(model="doctor", messages=_ASKED).parse()


def _streaming_response(openai: Any, where: dict[str, Any]) -> None:
    with openai.OpenAI(**where) as client:
        completions = client.chat.completions
        with completions.with_streaming_response.create(model="doctor", messages=_ASKED) as response:
            response.parse()


def _tools(openai: Any, where: dict[str, Any]) -> None:
    history: list[Any] = [{"role": "user", "content": _TOOL_WORDS}]
    with openai.OpenAI(**where) as client:
        completions = client.chat.completions
        message = completions.create(model="doctor", messages=history, tools=[_TOOL]).choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sent"}
        completions.create(model="doctor", messages=[*history, message, result], tools=[_TOOL])


def _asynchronously(call: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any, dict[str, Any]], None]:
    async def called(openai: Any, where: dict[str, Any]) -> None:
        async with openai.AsyncOpenAI(**where) as client:
            await call(client)

    return lambda openai, where: asyncio.run(called(openai, where))


async def _async_plain(client: Any) -> None:
    await client.chat.completions.create(model="doctor", messages=_ASKED)


async def _async_streamed(client: Any) -> None:
    async for _ in await client.chat.completions.create(model="doctor", messages=_ASKED, stream=True):
        pass


def _responses(openai: Any, where: dict[str, Any]) -> None:
    with openai.OpenAI(**where) as client:
        client.responses.create(model="doctor", input=WORDS)


def _responses_streamed(openai: Any, where: dict[str, Any]) -> None:
    with openai.OpenAI(**where) as client:
        for _ in client.responses.create(model="doctor", input=WORDS, stream=True):
            pass


async def _async_responses(client: Any) -> None:
    await client.responses.create(model="doctor", input=WORDS)


async def _async_responses_streamed(client: Any) -> None:
    async for _ in await client.responses.create(model="doctor", input=WORDS, stream=True):
        pass


def _langchain(models: Any, _where: dict[str, Any]) -> None:
    models.FakeListChatModel(responses=["recorded"]).invoke(WORDS)


def _langchain_streamed(models: Any, _where: dict[str, Any]) -> None:
    for _ in models.FakeListChatModel(responses=["recorded"]).stream(WORDS):
        pass


def _langchain_async(models: Any, _where: dict[str, Any]) -> None:
    asyncio.run(models.FakeListChatModel(responses=["recorded"]).ainvoke(WORDS))


def _langchain_openai(langchain_openai: Any, where: dict[str, Any]) -> None:
    langchain_openai.ChatOpenAI(model="doctor", **where).invoke(WORDS)


def _on_client(name: str, call: Callable[[Any], None]) -> Callable[[Any, dict[str, Any]], None]:
    """Make a shape's call of one that is given the client of that name."""

    def called(module: Any, where: dict[str, Any]) -> None:
        with getattr(module, name)(**where) as client:
            call(client)

    return called


def _chat(client: Any) -> None:
    client.chat.completions.create(model="doctor", messages=_ASKED)


def _chat_streamed(client: Any) -> None:
    for _ in client.chat.completions.create(model="doctor", messages=_ASKED, stream=True):
        pass


def _below(path: str, call: Callable[[Any, dict[str, Any]], None]) -> Callable[[Any, dict[str, Any]], None]:
    """Make a shape's call for a client that adds `path` to its address itself."""
    return lambda module, where: call(module, where | {"base_url": where["base_url"].removesuffix(path)})


_MESSAGE: dict[str, Any] = {"model": "doctor", "max_tokens": 64, "messages": _ASKED}


def _messages(client: Any) -> None:
    client.messages.create(**_MESSAGE)


def _messages_streamed(client: Any) -> None:
    with client.messages.stream(**_MESSAGE) as stream:
        for _ in stream.text_stream:
            pass


def _messages_async(anthropic: Any, where: dict[str, Any]) -> None:
    async def called() -> None:
        async with anthropic.AsyncAnthropic(**where) as client:
            await client.messages.create(**_MESSAGE)

    asyncio.run(called())


def _gemini(call: Callable[[Any], None]) -> Callable[[Any, dict[str, Any]], None]:
    def called(genai: Any, where: dict[str, Any]) -> None:
        client = genai.Client(api_key=where["api_key"], http_options={"base_url": where["base_url"]})
        try:
            call(client)
        finally:
            getattr(client, "close", lambda: None)()  # old versions have none

    return called


def _generate(client: Any) -> None:
    client.models.generate_content(model="doctor", contents=WORDS)


def _generate_streamed(client: Any) -> None:
    for _ in client.models.generate_content_stream(model="doctor", contents=WORDS):
        pass


def _generate_async(client: Any) -> None:
    async def called() -> None:
        await client.aio.models.generate_content(model="doctor", contents=WORDS)
        if hasattr(client.aio, "aclose"):
            await client.aio.aclose()

    asyncio.run(called())


def _mistral(call: Callable[[Any], None]) -> Callable[[Any, dict[str, Any]], None]:
    def called(module: Any, where: dict[str, Any]) -> None:
        with module.Mistral(api_key=where["api_key"], server_url=where["base_url"]) as client:
            call(client)

    return called


def _complete(client: Any) -> None:
    client.chat.complete(model="doctor", messages=_ASKED)


def _complete_streamed(client: Any) -> None:
    for _ in client.chat.stream(model="doctor", messages=_ASKED):
        pass


_LANGCHAIN = "langchain_core.language_models.fake_chat_models"

SHAPES = (
    Shape("chat", _plain),
    Shape("chat, streamed", _streamed),
    Shape("chat, raw response", _raw),
    Shape("chat, streaming response", _streaming_response),
    Shape("chat, tools", _tools, ("user", "tool", "tool", "assistant")),
    Shape("chat, async", _asynchronously(_async_plain)),
    Shape("chat, async, streamed", _asynchronously(_async_streamed)),
    Shape("responses", _responses),
    Shape("responses, streamed", _responses_streamed),
    Shape("responses, async", _asynchronously(_async_responses)),
    Shape("responses, async, streamed", _asynchronously(_async_responses_streamed)),
    Shape("anthropic", _on_client("Anthropic", _messages), module="anthropic", format="anthropic"),
    Shape("anthropic, streamed", _on_client("Anthropic", _messages_streamed), module="anthropic", format="anthropic"),
    Shape("anthropic, async", _messages_async, module="anthropic", format="anthropic"),
    Shape("google-genai", _gemini(_generate), module="google.genai", format="google"),
    Shape("google-genai, streamed", _gemini(_generate_streamed), module="google.genai", format="google"),
    Shape("google-genai, async", _gemini(_generate_async), module="google.genai", format="google"),
    Shape("groq", _below("/openai/v1", _on_client("Groq", _chat)), module="groq"),
    Shape("groq, streamed", _below("/openai/v1", _on_client("Groq", _chat_streamed)), module="groq"),
    Shape("together", _below("/v1", _on_client("Together", _chat)), module="together"),
    Shape("together, streamed", _below("/v1", _on_client("Together", _chat_streamed)), module="together"),
    Shape("mistralai", _below("/v1", _mistral(_complete)), module="mistralai.client"),
    Shape("mistralai, streamed", _below("/v1", _mistral(_complete_streamed)), module="mistralai.client"),
    Shape("langchain", _langchain, module=_LANGCHAIN),
    Shape("langchain, streamed", _langchain_streamed, module=_LANGCHAIN),
    Shape("langchain, async", _langchain_async, module=_LANGCHAIN),
    Shape("langchain, openai", _langchain_openai, module="langchain_openai"),  # two layers see it: one records
)
