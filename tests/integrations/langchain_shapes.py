"""Every way in which an app runs LangChain, sync and async: `run(app, config)` with a config that has the callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import openai
import pydantic
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool

from tests.integrations.langchain_app import agent_of
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integrations.langchain_app import App

    Run = Callable[[App, Any], Awaitable[Any]]


class Shape(NamedTuple):
    """A row of the table."""

    name: str
    run: Run
    calls: int
    """How many provider calls it makes."""


class Person(pydantic.BaseModel):
    """What structured answers are parsed into."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


PROMPT = ChatPromptTemplate.from_messages([("system", "You help {who}."), ("user", "{question}")])
CHAT = [SystemMessage("You help."), HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("[[say:Bye]]")]
WHO = {"who": "us", "question": "[[say:Yes]]"}
SEARCHED = (
    '[[item:{"type": "web_search_call", "id": "ws_000001", "status": "completed",'
    ' "action": {"type": "search", "query": "x"}}]] [[say:Hi]]'
)
SHAPES: list[Shape] = []


def shape(calls: int = 1) -> Callable[[Run], Run]:
    """Add a shape."""

    def add(run: Run) -> Run:
        SHAPES.append(Shape(run.__name__, run, calls))
        return run

    return add


@shape()
async def invoke(app: App, config: Any) -> Any:
    return app.model().invoke(CHAT, config)


@shape()
async def ainvoke(app: App, config: Any) -> Any:
    return await app.model().ainvoke(CHAT, config)


@shape()
async def stream(app: App, config: Any) -> Any:
    return list(app.model(stream_usage=True).stream(CHAT, config))


@shape()
async def astream(app: App, config: Any) -> Any:
    return [chunk async for chunk in app.model(stream_usage=True).astream(CHAT, config)]


@shape()
async def streaming(app: App, config: Any) -> Any:
    return app.model(streaming=True).invoke(CHAT, config)


@shape()
async def astream_events(app: App, config: Any) -> Any:
    return [event async for event in app.model().astream_events(CHAT, config, version="v2")]


@shape(2)
async def batch(app: App, config: Any) -> Any:
    one_by_one: Any = {**config, "max_concurrency": 1}
    return app.model().batch(["[[say:One]]", "[[say:Two]]"], one_by_one)


@shape(2)
async def abatch(app: App, config: Any) -> Any:
    one_by_one: Any = {**config, "max_concurrency": 1}
    return await app.model().abatch(["[[say:One]]", "[[say:Two]]"], one_by_one)


@shape(2)
async def generate(app: App, config: Any) -> Any:
    return app.model().generate([[HumanMessage("[[say:One]]")], [HumanMessage("[[say:Two]]")]], **config)


@shape(2)
async def agenerate(app: App, config: Any) -> Any:
    prompts: Any = [[HumanMessage("[[say:One]]")], [HumanMessage("[[slow:0.02]] [[say:Two]]")]]
    return await app.model().agenerate(prompts, **config)


@shape()
async def chain(app: App, config: Any) -> Any:
    return (PROMPT | app.model() | StrOutputParser()).invoke(WHO, config)


@shape()
async def chain_stream(app: App, config: Any) -> Any:
    return list((PROMPT | app.model() | StrOutputParser()).stream(WHO, config))


@shape()
async def achain(app: App, config: Any) -> Any:
    return await (PROMPT | app.model() | StrOutputParser()).ainvoke(WHO, config)


@shape()
async def achain_stream(app: App, config: Any) -> Any:
    return [part async for part in (PROMPT | app.model() | StrOutputParser()).astream(WHO, config)]


@shape()
async def structured(app: App, config: Any) -> Any:
    answer = '[[say:{"name": "Ada", "age": 36}]]'
    return app.model().with_structured_output(Person, include_raw=True).invoke(answer, config)


@shape()
async def structured_stream(app: App, config: Any) -> Any:
    answer = '[[say:{"name": "Ada", "age": 36}]]'
    return list(app.model().with_structured_output(Person).stream(answer, config))


@shape()
async def structured_by_call(app: App, config: Any) -> Any:
    answer = '[[tool:Person {"name": "Ada", "age": 36}]]'
    return await app.model().with_structured_output(Person, method="function_calling").ainvoke(answer, config)


@shape()
async def tool_calls(app: App, config: Any) -> Any:
    asked = '[[tool:get_weather {"city": "Oslo"}]] [[tool:get_weather {"city":]]'
    return app.model().bind_tools([get_weather]).invoke(asked, config)


@shape()
async def tool_calls_stream(app: App, config: Any) -> Any:
    asked = '[[tool:get_weather {"city": "Oslo"}]] [[tool:get_weather {"city": "Rome"}]]'
    return [part async for part in app.model().bind_tools([get_weather]).astream(asked, config)]


@shape()
async def choices(app: App, config: Any) -> Any:
    return app.model(n=2).invoke("[[say:Heads]]", config)


@shape()
async def refusal(app: App, config: Any) -> Any:
    return app.model().invoke("[[refuse:No.]]", config)


@shape()
async def audio(app: App, config: Any) -> Any:
    return app.model().invoke("Hello [[audio]]", config)


@shape()
async def cut_off(app: App, config: Any) -> Any:
    return app.model().invoke("[[words:10]] [[length]]", config)


@shape()
async def empty(app: App, config: Any) -> Any:
    return await app.model().ainvoke("[[empty]]", config)


@shape()
async def responses(app: App, config: Any) -> Any:
    asked = "[[say:Hi]] [[reasoning:Hm.]] [[citation]]"
    return app.model(use_responses_api=True).invoke(asked, config)


@shape()
async def responses_stream(app: App, config: Any) -> Any:
    return [part async for part in app.model(use_responses_api=True).astream(SEARCHED, config)]


@shape()
async def responses_v1(app: App, config: Any) -> Any:
    return app.model(use_responses_api=True, output_version="v1").invoke(SEARCHED, config)


@shape()
async def error(app: App, config: Any) -> Any:
    with contextlib.suppress(Exception):
        app.model().invoke("[[error:500]]", config)


@shape()
async def aerror(app: App, config: Any) -> Any:
    with contextlib.suppress(Exception):
        await app.model().ainvoke("[[error:429]]", config)


@shape()
async def stream_broken(app: App, config: Any) -> Any:
    with contextlib.suppress(Exception):
        list(app.model().stream("[[words:6]] [[cut:3]]", config))


@shape()
async def stream_closed(app: App, config: Any) -> Any:
    parts: Any = app.model().stream("[[words:6]]", config)
    return next(parts), next(parts), next(parts), parts.close()


@shape()
async def astream_closed(app: App, config: Any) -> Any:
    parts: Any = app.model().astream("[[words:6]]", config)
    async for part in parts:
        if "ipsum" in str(part.content):
            break
    await parts.aclose()


@shape(2)
async def cancelled(app: App, config: Any) -> Any:
    model = app.model()
    await model.ainvoke("[[say:Ready]]", config)
    hanging = asyncio.ensure_future(model.ainvoke("[[hang]]", config))
    while app.asked() < 2:  # noqa: ASYNC110 - a server in another thread is waited for
        await asyncio.sleep(0.01)
    hanging.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await hanging


@shape()
async def astream_cancelled(app: App, config: Any) -> Any:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            async for part in app.model().astream("[[words:6]] [[hang:3]]", config):
                if "ipsum" in str(part.content):
                    limit.reschedule(asyncio.get_running_loop().time())


@shape(2)
async def retried_by_openai(app: App, config: Any) -> Any:
    return app.model(max_retries=1).invoke("[[say:Yes]] [[error:500 x1]]", config)


@shape(2)
async def retried(app: App, config: Any) -> Any:
    again = app.model().with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    return again.invoke("[[say:Yes]] [[error:500 x1]]", config)


@shape(2)
async def fallback(app: App, config: Any) -> Any:
    second = app.model(model="gpt-4o-mini")
    return await app.model().with_fallbacks([second]).ainvoke("[[say:Yes]] [[error:500 x1]]", config)


@shape()
async def cached(app: App, config: Any) -> Any:
    model = app.model(cache=InMemoryCache())
    return model.invoke("[[say:Yes]]", config), model.invoke("[[say:Yes]]", config)


@shape(2)
async def parallel(app: App, config: Any) -> Any:
    """Both are asked at the same time; the second is answered once the first is over, however busy the machine is."""
    over = threading.Event()

    def wait(_answer: Any) -> None:
        assert over.wait(LONG)

    def end(answer: Any) -> Any:
        over.set()
        return answer

    first: Any = RunnableLambda(lambda _: "[[say:One]]")
    second: Any = RunnableLambda(lambda _: "[[slow:0.05]] [[say:Two]]")
    with openai.DefaultHttpxClient(verify=False, event_hooks={"response": [wait]}) as waiting:
        branches = first | app.model() | end, second | app.model(http_client=waiting)
        return RunnableParallel(first=branches[0], second=branches[1]).invoke({}, config)


@shape(2)
async def agent(app: App, config: Any) -> Any:
    return agent_of(app.model(), [get_weather], system_prompt="Be brief.").invoke(asking("Oslo"), config)


@shape(2)
async def aagent(app: App, config: Any) -> Any:
    return await agent_of(app.model(), [get_weather], system_prompt="Be brief.").ainvoke(asking("Oslo"), config)


@shape(2)
async def agent_stream(app: App, config: Any) -> Any:
    graph = agent_of(app.model(), [get_weather], system_prompt="Be brief.")
    return [part async for part in graph.astream(asking("Oslo"), config, stream_mode="messages")]


def asking(city: str) -> Any:
    """The input of an agent whose model calls the tool."""
    return {
        "messages": [
            HumanMessage(f'What about {city}? [[tool:get_weather {{"city": "{city}"}}]] [[then]] [[say:Fine.]]')
        ]
    }
