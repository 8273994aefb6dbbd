"""The langchain integration keeps the promises of every integration. It wraps no function: that part is empty here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from converra.integrations.langchain import INTEGRATION
from tests.integrations import scripted
from tests.integrations.chat_scripts import SCRIPTS
from tests.integrations.conformance import Conformance, Shape, Subject

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integrations.scripted import ScriptedModel

MESSAGES = [SystemMessage("Be brief."), HumanMessage("Hi")]


@tool
def get_weather(city: str) -> str:
    """The weather."""
    return city


def _view(value: Any) -> Any:
    """What the app gets, without the ids that LangChain makes up for each run."""
    if isinstance(value, AIMessage):
        return type(value), {key: item for key, item in value.model_dump().items() if key != "id"}
    return [_view(item) for item in value] if isinstance(value, list) else value


def _raised(error: BaseException) -> Any:
    return type(error), str(error), type(error.__cause__), type(error.__context__)


def _sync(script: str, ask: Callable[[ChatOpenAI], Any]) -> Callable[[ScriptedModel], Any]:
    def run(model: ScriptedModel) -> Any:
        with openai.DefaultHttpxClient(verify=False) as http:
            chat = ChatOpenAI(
                model="gpt-4o", api_key=_KEY, base_url=model.base_url(script), max_retries=0, http_client=http
            )
            try:
                return _view(ask(chat))
            except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
                return _raised(error)

    return run


def _async(script: str, ask: Callable[[ChatOpenAI], Awaitable[Any]]) -> Callable[[ScriptedModel], Any]:
    async def main(model: ScriptedModel) -> Any:
        async with openai.DefaultAsyncHttpxClient(verify=False) as http:
            chat = ChatOpenAI(
                model="gpt-4o", api_key=_KEY, base_url=model.base_url(script), max_retries=0, http_async_client=http
            )
            try:
                return _view(await ask(chat))
            except Exception as error:  # noqa: BLE001 - as above
                return _raised(error)

    return lambda model: asyncio.run(main(model))


_KEY: Any = "k"


def _closed(chat: ChatOpenAI) -> Any:
    parts: Any = chat.stream(MESSAGES)
    seen = [next(parts), next(parts), next(parts)]
    parts.close()
    return seen


async def _aclosed(chat: ChatOpenAI) -> Any:
    parts: Any = chat.astream(MESSAGES)
    seen = [await anext(parts), await anext(parts), await anext(parts)]
    await parts.aclose()
    return seen


async def _read(chat: ChatOpenAI) -> Any:
    return [part async for part in chat.astream(MESSAGES)]


WAYS: dict[str, tuple[str, Callable[[ChatOpenAI], Any], Callable[[ChatOpenAI], Awaitable[Any]]]] = {
    "invoke": ("text", lambda chat: chat.invoke(MESSAGES), lambda chat: chat.ainvoke(MESSAGES)),
    "stream": ("stream-usage", lambda chat: list(chat.stream(MESSAGES)), _read),
    "tools": (
        "tools",
        lambda chat: chat.bind_tools([get_weather]).invoke(MESSAGES),
        lambda chat: chat.bind_tools([get_weather]).ainvoke(MESSAGES),
    ),
    "stream of tools": ("stream-tools", lambda chat: list(chat.stream(MESSAGES)), _read),
    "refusal": ("refusal", lambda chat: chat.invoke(MESSAGES), lambda chat: chat.ainvoke(MESSAGES)),
    "error": ("bad-request", lambda chat: chat.invoke(MESSAGES), lambda chat: chat.ainvoke(MESSAGES)),
    "error in a stream": ("stream-error", lambda chat: list(chat.stream(MESSAGES)), _read),
    "closed": ("stream", _closed, _aclosed),
}
SHAPES = tuple(
    shape
    for name, (script, ask, ask_async) in WAYS.items()
    for shape in (
        Shape(name, _sync(script, ask)),
        Shape(f"async {name}", _async(script, ask_async), twin=name),
    )
)


class TestLangChain(Conformance):
    """Over real HTTP, with a real chat model; the client below it is not patched."""

    subject = Subject(INTEGRATION, list, SHAPES, lambda: scripted.serve(SCRIPTS))
