"""One provider call is one turn, where LangChain sits on a patched client; and what the app calls itself is another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import openai
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

import converra
from converra.integrations import patching
from converra.integrations.langchain import INTEGRATION
from converra.langchain import ConverraCallbackHandler
from tests.integrations.langchain_app import App, running
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.messages import BaseMessage


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain and the client are captured, inside of one conversation."""
    with running() as running_app, converra.conversation("prompt"):
        yield running_app


@pytest.fixture
def client(app: App) -> Iterator[openai.OpenAI]:
    """The app's own client."""
    with openai.OpenAI(base_url=app.server.openai_url, api_key="none") as own:
        yield own


def direct(client: openai.OpenAI, text: str = "[[say:direct]]") -> None:
    """A call that has nothing to do with LangChain."""
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": text}])


def source(app: App) -> list[str]:
    """What was answered, sorted; and every provider call is one answer."""
    answers = sorted(content for role, content, *_ in app.messages() if role == "assistant")
    assert len(answers) == app.asked()
    return answers


# -- the app's own calls -----------------------------------------------------------------------------------------------


def test_between_two_chunks(app: App, client: openai.OpenAI) -> None:
    """A call in the loop over a stream is a turn of its own."""
    for n, _ in enumerate(app.model().stream("[[say:a b c]]")):
        if n == 1:
            direct(client)
    assert source(app) == ["a b c", "direct"]


def test_between_two_chunks_of_a_coroutine(app: App, client: openai.OpenAI) -> None:
    """The same in an event loop, also from a task that the loop starts."""

    async def main(app: App) -> None:
        async with openai.AsyncOpenAI(base_url=app.server.openai_url, api_key="none") as own:
            create = own.chat.completions.create
            message: Any = {"role": "user", "content": "[[say:direct]]"}
            chunks = [chunk async for chunk in app.model().astream("[[say:first]]")]
            async for chunk in app.model().astream("[[say:a b c]]"):
                if chunk.content == "a":
                    await create(model="gpt-4o", messages=[message])
                    await asyncio.create_task(create(model="gpt-4o", messages=[message]))
                    await asyncio.to_thread(direct, client)
            assert chunks

    app.run(main)
    assert source(app) == ["a b c", "direct", "direct", "direct", "first"]


def test_in_a_tool_and_in_a_node(app: App, client: openai.OpenAI) -> None:
    """A call inside of a tool or of a graph's node is not the model's."""

    @tool
    def ask(question: str) -> str:
        """Ask."""
        direct(client)
        return question

    def node(state: Any) -> Any:
        ask.invoke({"question": "?"})
        direct(client, "[[say:node]]")
        return {"messages": [app.model().invoke("[[say:model]]")]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.compile().invoke({"messages": []})
    assert source(app) == ["direct", "model", "node"]


@pytest.mark.parametrize("event", ["on_chat_model_start", "on_llm_new_token", "on_llm_end"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_in_a_callback(event: str, asynchronous: bool, app: App, client: openai.OpenAI) -> None:
    """A call that another handler makes, such as a judge of answers, is a turn of its own."""

    class Judge(BaseCallbackHandler):
        asked = False

    def judge(self: Judge, *args: Any, **kwargs: Any) -> None:
        if not self.asked:
            self.asked = True
            direct(client, "[[model:judge]] [[say:judged]]")

    setattr(Judge, event, judge)
    config: Any = {"callbacks": [Judge()]}

    async def main(app: App) -> None:
        model = app.model(model="gpt-4o-mini")
        if asynchronous:
            [chunk async for chunk in model.astream("[[say:a b]]", config)]
        else:
            list(model.stream("[[say:a b]]", config))

    app.run(main)
    assert source(app) == ["a b", "judged"]


class Slow(GenericFakeChatModel):
    """A model of another provider, which does not answer in time."""

    limit: asyncio.Timeout | None = None

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        assert self.limit is not None
        self.limit.reschedule(asyncio.get_running_loop().time())
        await asyncio.sleep(LONG)
        raise AssertionError


def test_after_a_cancelled_run(app: App) -> None:
    """Where another provider's model was cancelled, a call made instead of it is recorded at once."""

    async def main(app: App) -> None:
        model = Slow(messages=iter([]))
        async with openai.AsyncOpenAI(base_url=app.server.openai_url, api_key="none") as own:
            try:
                async with asyncio.timeout(None) as model.limit:
                    await model.ainvoke("[[say:late]]")
            except TimeoutError:
                message: Any = {"role": "user", "content": "[[say:direct]]"}
                await own.chat.completions.create(model="gpt-4o", messages=[message])

    app.run(main)
    assert [message[:2] for message in app.messages()] == [
        ("user", "[[say:direct]]"),
        ("assistant", "direct"),
        ("user", "[[say:late]]"),
    ]


def test_beside_a_run(app: App, client: openai.OpenAI) -> None:
    """A call made while a run is under way in another thread is not part of it."""
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            inside.set()
            assert go_on.wait(LONG)

    def run() -> None:
        with converra.conversation("prompt"):
            app.model().invoke("[[say:slow]]", {"callbacks": [Waiting()]})

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(LONG)
    direct(client)
    go_on.set()
    thread.join()
    assert app.asked() == 2
    assert sum(len(messages) for _, messages in app.conversations()) == 4


# -- models that call the client in their own way ----------------------------------------------------------------------


class Own(BaseChatModel):
    """A chat model as an app writes one: on a synchronous client, with or without streams."""

    client: Any
    streams: bool = False

    @property
    def _llm_type(self) -> str:
        return "own"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        asked: Any = [{"role": "user", "content": message.content} for message in messages]
        answer = self.client.chat.completions.create(model="gpt-4o", messages=asked)
        text = answer.choices[0].message.content
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


class OwnStream(Own):
    """One that can stream, too."""

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        asked: Any = [{"role": "user", "content": message.content} for message in messages]
        for chunk in self.client.chat.completions.create(model="gpt-4o", messages=asked, stream=True):
            text = chunk.choices[0].delta.content or ""
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))


class OwnTasks(BaseChatModel):
    """One that makes its request from a task of its own."""

    url: str

    @property
    def _llm_type(self) -> str:
        return "own"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise AssertionError

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        asked: Any = [{"role": "user", "content": message.content} for message in messages]
        async with openai.AsyncOpenAI(base_url=self.url, api_key="none") as client:
            answer = await asyncio.create_task(client.chat.completions.create(model="gpt-4o", messages=asked))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer.choices[0].message.content or ""))])


class Around(BaseChatModel):
    """One that asks another chat model."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "around"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=await self.inner.ainvoke(messages))])


async def _all_ways(model: BaseChatModel) -> None:
    model.invoke([HumanMessage("[[say:1]]")])
    await model.ainvoke([HumanMessage("[[say:2]]")])
    list(model.stream([HumanMessage("[[say:3]]")]))
    _ = [chunk async for chunk in model.astream([HumanMessage("[[say:4]]")])]
    await asyncio.gather(*(model.ainvoke([HumanMessage(f"[[say:{n}]]")]) for n in (5, 6)))
    await model.agenerate([[HumanMessage("[[say:7]]")], [HumanMessage("[[say:8]]")]])


@pytest.mark.parametrize("kind", ["plain", "streams", "around"])
def test_a_model_of_the_app_s_own(kind: str, app: App, client: openai.OpenAI) -> None:
    """A model that calls the client in threads, or asks another model, is recorded once per call, however it is run."""

    async def main(app: App) -> None:
        models = {"plain": Own, "streams": OwnStream}
        await _all_ways(Around(inner=app.model()) if kind == "around" else models[kind](client=client))

    app.run(main)
    assert source(app) == ["1", "2", "3", "4", "5", "6", "7", "8"]


def test_a_model_with_tasks(app: App) -> None:
    """A model that makes its request from a task of its own is recorded once per call."""

    async def main(app: App) -> None:
        model = OwnTasks(url=app.server.openai_url)
        await model.ainvoke("[[say:1]]")
        await model.agenerate([[HumanMessage("[[say:2]]")], [HumanMessage("[[say:3]]")]])

    app.run(main)
    assert source(app) == ["1", "2", "3"]


# -- layers that come and go -------------------------------------------------------------------------------------------


def test_the_client_alone(app: App) -> None:
    """Where only the client is patched, it records what LangChain asks."""
    patching.switch_off(INTEGRATION)
    app.model().invoke("[[say:1]]")
    assert source(app) == ["1"]
    patching.switch_on(INTEGRATION, app.recorder.capture)


def test_a_handler_at_the_model_and_at_the_call(app: App) -> None:
    """A handler given to the model, another to the call, and the hook's: one record."""
    model = app.model(callbacks=[ConverraCallbackHandler("prompt")])
    model.invoke("[[say:1]]", {"callbacks": [ConverraCallbackHandler("prompt")]})
    assert source(app) == ["1"]


def test_a_run_that_fails_in_langchain(app: App) -> None:
    """Where LangChain cannot parse what was billed, the answer is recorded all the same, with what it cost."""
    model = app.model().with_structured_output({"title": "t", "type": "object", "properties": {}}, method="json_schema")
    with contextlib.suppress(Exception):
        model.invoke("[[words:20]] [[length]]")
    ((_, answer, facts),) = [message for message in app.messages() if message[0] == "assistant"]
    assert answer.startswith("lorem ipsum")
    assert facts["metadata"]["finishReason"] == "length"
    assert facts["usage"]["completionTokens"] == 10
