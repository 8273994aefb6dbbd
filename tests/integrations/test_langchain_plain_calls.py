"""Calls that an app's own client makes inside of a run of LangGraph's: they belong to the run's conversation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import ContextThreadPoolExecutor
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph

import converra
from converra.langchain import ConverraCallbackHandler
from tests.integrations.langchain_app import App, agent_of, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREAD: Any = {"configurable": {"thread_id": "t"}}
START_STATE: Any = {"messages": []}


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain and the client are captured, with a prompt for what is called outside of a block."""
    with running(prompt_id="prompt") as running_app:
        yield running_app


@pytest.fixture
def client(app: App) -> Iterator[openai.OpenAI]:
    """The app's own client."""
    with openai.OpenAI(base_url=app.server.openai_url, api_key="none") as own:
        yield own


def chat(client: openai.OpenAI, text: str) -> None:
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": text}])


def chat_stream(client: openai.OpenAI, text: str) -> None:
    message: Any = {"role": "user", "content": text}
    list(client.chat.completions.create(model="gpt-4o", messages=[message], stream=True))


def responses(client: openai.OpenAI, text: str) -> None:
    client.responses.create(model="gpt-4o", input=text)


def responses_stream(client: openai.OpenAI, text: str) -> None:
    list(client.responses.create(model="gpt-4o", input=text, stream=True))


CALLS = [chat, chat_stream, responses, responses_stream]


def graph_of(*nodes: Any, **settings: Any) -> Any:
    """A graph of these nodes, one after the other."""
    graph = StateGraph(MessagesState)
    graph.add_sequence([(f"node{n}", node) for n, node in enumerate(nodes)])
    graph.add_edge(START, "node0")
    return graph.compile(**settings)


def recorded(app: App) -> list[tuple[str | None, list[str]]]:
    """The session and the words of each conversation, in no particular order."""
    stored = zip(app.stored(), app.conversations(), strict=True)
    found = [(one.metadata.get("sessionId"), [message[1] for message in messages]) for one, (_, messages) in stored]
    return sorted(found, key=lambda one: one[0] or "~")


@pytest.mark.parametrize("call", CALLS)
def test_in_a_node(call: Callable[..., None], app: App, client: openai.OpenAI) -> None:
    """A node's own call belongs to the thread, beside those of LangChain's models, once; so it does in the next run."""

    def own(state: Any) -> Any:
        call(client, f"[[say:own {len(state['messages'])}]]")

    def model(state: Any) -> Any:
        return {"messages": [app.model().invoke(state["messages"])]}

    graph = graph_of(own, model, own, checkpointer=InMemorySaver())
    for question in ("[[say:first]]", "[[say:second]]"):
        graph.invoke({"messages": [HumanMessage(question)]}, THREAD)
    first = ["[[say:own 1]]", "own 1", "[[say:first]]", "first", "[[say:own 2]]", "own 2"]
    second = ["[[say:own 3]]", "own 3", "[[say:second]]", "second", "[[say:own 4]]", "own 4"]
    assert recorded(app) == [("t", first + second)]
    assert app.asked() == 6


def test_threads_are_told_apart(app: App, client: openai.OpenAI) -> None:
    """Each thread has its own conversation, and what is called outside of any run another one."""
    graph = graph_of(lambda state: chat(client, state["messages"][-1].content))
    for name, text in (("a", "[[say:1]]"), ("b", "[[say:1]]"), ("a", "[[say:2]]")):
        graph.invoke({"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": name}})
    chat(client, "[[say:1]]")
    assert recorded(app) == [
        ("a", ["[[say:1]]", "1", "[[say:2]]", "2"]),
        ("b", ["[[say:1]]", "1"]),
        (None, ["[[say:1]]", "1"]),
    ]


def test_in_a_tool(app: App, client: openai.OpenAI) -> None:
    """A tool's own call belongs to the thread whose agent calls the tool."""

    @tool
    def ask(question: str) -> str:
        """Ask."""
        chat(client, "[[say:own]]")
        return question

    agent = agent_of(app.model(), [ask], checkpointer=InMemorySaver())
    asked = 'Go on. [[tool:ask {"question": "?"}]] [[then]] [[say:Done.]]'
    agent.invoke({"messages": [HumanMessage(asked)]}, THREAD)
    assert recorded(app) == [("t", [asked, "", "[[say:own]]", "own", "?", "Done."])]


def test_in_a_thread_of_a_node(app: App, client: openai.OpenAI) -> None:
    """A call in a pool of LangChain's, or in `asyncio.to_thread`, belongs to the thread of the node that began it."""

    def pooled(state: Any) -> Any:
        with ContextThreadPoolExecutor() as pool:
            pool.submit(chat, client, "[[say:pooled]]").result()

    async def threaded(state: Any) -> Any:
        await asyncio.to_thread(chat, client, "[[say:threaded]]")

    graph_of(pooled).invoke(START_STATE, THREAD)
    app.run(lambda _: graph_of(threaded).ainvoke(START_STATE, THREAD))
    assert recorded(app) == [("t", ["[[say:pooled]]", "pooled", "[[say:threaded]]", "threaded"])]


def test_in_async_nodes_and_subgraphs(app: App) -> None:
    """A coroutine, a task that it starts, and a subgraph's node belong to the thread; streamed graphs do the same."""

    async def main(app: App) -> None:
        async with openai.AsyncOpenAI(base_url=app.server.openai_url, api_key="none") as client:

            async def ask(text: str) -> None:
                message: Any = {"role": "user", "content": text}
                await client.chat.completions.create(model="gpt-4o", messages=[message])

            async def node(state: Any) -> Any:
                await ask("[[say:node]]")
                await asyncio.create_task(ask("[[say:task]]"))

            async def inner(state: Any) -> Any:
                await ask("[[say:inner]]")

            graph = graph_of(node, graph_of(inner), checkpointer=InMemorySaver())
            async for _ in graph.astream(START_STATE, THREAD, stream_mode="messages", subgraphs=True):
                pass

    app.run(main)
    expected = ["[[say:node]]", "node", "[[say:task]]", "task", "[[say:inner]]", "inner"]
    assert recorded(app) == [("t", expected)]


def test_in_parallel_nodes(app: App, client: openai.OpenAI) -> None:
    """Branches that run at the same time share the thread's conversation, though each opens it."""
    graph = StateGraph(MessagesState)
    for name in ("left", "right"):
        graph.add_node(name, lambda state, name=name: chat(client, f"[[slow:0.05]] [[say:{name}]]"))
        graph.add_edge(START, name)
    graph.compile().invoke(START_STATE, THREAD)
    ((session, words),) = recorded(app)
    assert session == "t"
    assert sorted(words) == ["[[slow:0.05]] [[say:left]]", "[[slow:0.05]] [[say:right]]", "left", "right"]


def test_in_the_functional_api(app: App, client: openai.OpenAI) -> None:
    """Tasks and entry points are runs like others."""

    @task
    def step(text: str) -> None:
        chat(client, text)

    @entrypoint(checkpointer=InMemorySaver())
    def flow(text: str) -> None:
        step(text).result()
        chat(client, "[[say:second]]")

    flow.invoke("[[say:first]]", THREAD)
    assert recorded(app) == [("t", ["[[say:first]]", "first", "[[say:second]]", "second"])]


def test_a_stream_goes_where_it_was_started(app: App, client: openai.OpenAI) -> None:
    """A stream that a node starts and the app reads after the run belongs to the thread."""
    kept: list[Any] = []

    def node(state: Any) -> Any:
        message: Any = {"role": "user", "content": "[[say:own words]]"}
        kept.append(client.chat.completions.create(model="gpt-4o", messages=[message], stream=True))

    graph_of(node).invoke(START_STATE, THREAD)
    list(kept[0])
    assert recorded(app) == [("t", ["[[say:own words]]", "own words"])]


def test_a_block_inside_of_a_node_wins(app: App, client: openai.OpenAI) -> None:
    """What a node calls inside of a `conversation()` belongs to that one, and the rest to the thread."""

    def node(state: Any) -> Any:
        chat(client, "[[say:before]]")
        with converra.conversation("other", session_id="mine"):
            chat(client, "[[say:inside]]")
        chat(client, "[[say:after]]")

    graph_of(node).invoke(START_STATE, THREAD)
    assert recorded(app) == [
        ("mine", ["[[say:inside]]", "inside"]),
        ("t", ["[[say:before]]", "before", "[[say:after]]", "after"]),
    ]


def test_a_block_around_the_run_wins(app: App, client: openai.OpenAI) -> None:
    """A run inside of a `conversation()` belongs to it with all its calls."""
    with converra.conversation("other", session_id="mine"):
        graph_of(lambda state: chat(client, "[[say:own]]")).invoke(START_STATE, THREAD)
    assert recorded(app) == [("mine", ["[[say:own]]", "own"])]


@pytest.mark.parametrize("kind", ["chain", "graph"])
def test_a_handler_s_session(kind: str, app: App, client: openai.OpenAI) -> None:
    """Without a thread, the prompt and the session of the run's handler count, in a chain as in a graph."""
    config: Any = {"callbacks": [ConverraCallbackHandler("other", "mine", {"channel": "web"})]}

    def own(_: Any) -> Any:
        chat(client, "[[say:own]]")
        return {"messages": []}

    step: Any = RunnableLambda(own) | RunnableLambda(lambda _: app.model().invoke("[[say:model]]"))
    runnable = (
        step if kind == "chain" else graph_of(own, lambda state: {"messages": [app.model().invoke("[[say:model]]")]})
    )
    runnable.invoke(START_STATE, config)
    assert recorded(app) == [("mine", ["[[say:own]]", "own", "[[say:model]]", "model"])]
    assert [(one.prompt_id, one.metadata["channel"]) for one in app.stored()] == [("other", "web")]


def test_a_run_without_a_session(app: App, client: openai.OpenAI) -> None:
    """All calls of one run stay together, whichever client makes them; another run is another conversation."""
    graph = graph_of(
        lambda state: {"messages": [app.model().invoke("[[say:model]]")]},
        lambda state: chat(client, "[[say:own]]"),
    )
    graph.invoke(START_STATE)
    graph.invoke(START_STATE)
    once = ["[[say:model]]", "model", "[[say:own]]", "own"]
    assert recorded(app) == [(None, once), (None, once)]


def test_a_prompt_that_is_asked_for(client: openai.OpenAI, app: App) -> None:
    """A function for the prompt sees the thread of such a call."""
    seen: list[str | None] = []

    def prompt_of(request: Any) -> str:
        seen.append(request.thread)
        return f"prompt of {request.thread}"

    with running(prompt_id=prompt_of) as asked:
        graph_of(lambda state: chat(client, "[[say:own]]")).invoke(START_STATE, THREAD)
        assert [stored.prompt_id for stored in asked.stored()] == ["prompt of t"]
    assert seen == ["t"]
