"""Which conversation a run of LangChain or LangGraph belongs to."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

import converra
from converra.errors import InvalidArgumentError
from converra.langchain import ConverraCallbackHandler
from tests.integrations.langchain_app import App, running
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain is captured, with a prompt for what is called outside of a block."""
    with running(prompt_id="prompt") as running_app:
        yield running_app


@pytest.fixture
def bare() -> Iterator[App]:
    """An app that has not called `converra.instrument()`."""
    with running(instrumented=False) as running_app:
        yield running_app


def texts(app: App) -> list[list[str]]:
    """The words of each conversation, in no particular order: they are sent side by side."""
    return sorted([message[1] for message in messages] for _, messages in app.conversations())


def chatbot(app: App, **settings: Any) -> Any:
    """A graph with one node that answers the messages of its thread."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [app.model().invoke(state["messages"])]})
    graph.add_edge(START, "model")
    return graph.compile(**settings)


def thread(name: Any) -> Any:
    """A config with a thread id."""
    return {"configurable": {"thread_id": name}}


def user(text: str) -> Any:
    """A graph's input."""
    return {"messages": [HumanMessage(text)]}


def test_a_block_wins(app: App) -> None:
    """What runs inside of a `conversation()` belongs to it, whatever threads and handlers say."""
    handler = ConverraCallbackHandler("other", session_id="other")
    with converra.conversation("prompt", session_id="mine"):
        chatbot(app, checkpointer=InMemorySaver()).invoke(user("[[say:1]]"), {**thread("t"), "callbacks": [handler]})
    assert texts(app) == [["[[say:1]]", "1"]]


def test_a_thread_is_a_session(app: App) -> None:
    """A thread of LangGraph's is one conversation, however many runs it has; another thread is another one."""
    graph = chatbot(app, checkpointer=InMemorySaver())
    for name, text in (("a", "[[say:1]]"), ("b", "[[say:2]]"), ("a", "[[say:3]]")):
        graph.invoke(user(text), thread(name))
    assert texts(app) == [["[[say:1]]", "1", "[[say:3]]", "3"], ["[[say:2]]", "2"]]
    assert sorted(stored.metadata["sessionId"] for stored in app.stored()) == ["a", "b"]


def test_a_handler_s_session(bare: App) -> None:
    """A handler with a session id records in that session, until it is told that it is over."""
    handler = ConverraCallbackHandler("prompt", "mine", {"channel": "web"})
    for text in ("[[say:1]]", "[[say:2]]"):
        bare.model().invoke(text, {"callbacks": [handler]})
    assert texts(bare) == [["[[say:1]]", "1", "[[say:2]]", "2"]]
    assert [stored.metadata["channel"] for stored in bare.stored()] == ["web"]


def test_without_a_session_history_tells(bare: App) -> None:
    """Chats that share a handler, and no session, are told apart by their history; calls of one run stay together."""
    handler = ConverraCallbackHandler("prompt")
    config: Any = {"callbacks": [handler]}
    first = bare.model().invoke("[[say:1]]", config)
    bare.model().invoke("[[say:2]]", config)
    bare.model().invoke([HumanMessage("[[say:1]]"), first, HumanMessage("[[say:3]]")], config)
    condense: Any = RunnableLambda(lambda _: "[[say:a question]]") | bare.model() | StrOutputParser()
    answer: Any = RunnableLambda(lambda question: f"[[say:to {question}]]") | bare.model()
    (condense | answer).invoke({}, config)
    assert texts(bare) == [
        ["[[say:1]]", "1", "[[say:3]]", "3"],
        ["[[say:2]]", "2"],
        ["[[say:a question]]", "a question", "[[say:to a question]]", "to a question"],
    ]


def test_completing_a_handler(bare: App) -> None:
    """`complete()` ends what the handler has recorded, once; what it is given later is another conversation."""
    mine, other = ConverraCallbackHandler("prompt"), ConverraCallbackHandler("prompt")
    bare.model().invoke("[[say:1]]", {"callbacks": [mine]})
    bare.model().invoke("[[say:2]]", {"callbacks": [other]})
    mine.complete()
    mine.complete()
    assert sorted((status, messages[1][1]) for status, messages in bare.conversations()) == [
        ("active", "2"),
        ("completed", "1"),
    ]
    bare.model().invoke("[[say:3]]", {"callbacks": [mine]})
    assert sorted(status for status, _ in bare.conversations()) == ["active", "active", "completed"]


def test_completing_a_session_from_elsewhere(bare: App) -> None:
    """A handler that has recorded nothing ends its session all the same: another one, or another process, opened it."""
    bare.model().invoke("[[say:1]]", {"callbacks": [ConverraCallbackHandler("prompt", "mine")]})
    ConverraCallbackHandler("prompt", "mine").complete()
    assert [status for status, _ in bare.conversations()] == ["completed"]


def test_completing_nothing(bare: App) -> None:
    """A handler that was never used, and has no session, has nothing to end."""
    ConverraCallbackHandler("prompt").complete()
    assert bare.conversations() == []


def test_completing_a_thread(app: App) -> None:
    """A thread is a session like any other: `converra.complete()` ends it."""
    chatbot(app, checkpointer=InMemorySaver()).invoke(user("[[say:1]]"), thread("t"))
    converra.complete("prompt", "t")
    assert [status for status, _ in app.conversations()] == ["completed"]


def test_a_silent_thread_ends() -> None:
    """A thread without a word for `idle_timeout` is completed; what comes later goes on in another conversation."""
    with running(prompt_id="prompt", idle_timeout=0.05) as app:
        graph = chatbot(app, checkpointer=InMemorySaver())
        graph.invoke(user("[[say:1]]"), thread("t"))
        app.recorder.sweep()
        time.sleep(0.1)
        app.recorder.sweep()
        assert [status for status, _ in app.conversations()] == ["completed"]
        graph.invoke(user("[[say:2]]"), thread("t"))
        assert [found[:2] for found in texts(app)] == [["[[say:1]]", "1"], ["[[say:2]]", "2"]]


def test_shutdown_ends_threads(app: App) -> None:
    """Threads that are open when the process ends are completed."""
    chatbot(app, checkpointer=InMemorySaver()).invoke(user("[[say:1]]"), thread("t"))
    assert app.recorder.shutdown(LONG)
    assert [status for status, _ in app.conversations()] == ["completed"]


def test_odd_thread_ids(app: App) -> None:
    """A number is a thread id too; one that could be no session id stands for a session all the same."""
    graph = chatbot(app, checkpointer=InMemorySaver())
    for name in (7, "x" * 600, "x" * 600):
        graph.invoke(user("[[say:1]]"), thread(name))
    assert sorted(len(messages) for _, messages in app.conversations()) == [2, 4]


@pytest.mark.filterwarnings("ignore:.*MessageHistory")  # LangChain would have it in a checkpointer
def test_message_history(app: App) -> None:
    """The session id of a RunnableWithMessageHistory is the conversation's."""
    stores: dict[str, InMemoryChatMessageHistory] = {}
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("user", "{question}")])
    chat = RunnableWithMessageHistory(
        prompt | app.model(),
        lambda session_id: stores.setdefault(session_id, InMemoryChatMessageHistory()),
        input_messages_key="question",
        history_messages_key="history",
    )
    for name, text in (("a", "[[say:1]]"), ("b", "[[say:1]]"), ("a", "[[say:2]]")):
        chat.invoke({"question": text}, {"configurable": {"session_id": name}})
    assert texts(app) == [["[[say:1]]", "1"], ["[[say:1]]", "1", "[[say:2]]", "2"]]


def test_a_session_in_the_metadata(app: App) -> None:
    """The conventional metadata of tracing names the session too."""
    for text in ("[[say:1]]", "[[say:2]]"):
        app.model().invoke(text, {"metadata": {"session_id": "s"}})
    assert texts(app) == [["[[say:1]]", "1", "[[say:2]]", "2"]]


def test_no_conversation_no_record() -> None:
    """Without a block, a thread's prompt or a configured one, nothing is recorded; neither by the patched client."""
    with running() as app:
        app.model().invoke("[[say:1]]", thread("t"))
        assert app.conversations() == []


def test_many_chains_on_one_handler(bare: App) -> None:
    """Thirty chains on one handler, ten at once, do not mix: each question stands beside its own answer."""
    handler = ConverraCallbackHandler("prompt")
    model = bare.model()

    def chat(n: int) -> None:
        first = HumanMessage(f"[[say:first {n}]]")
        answer = model.invoke([first], {"callbacks": [handler]})
        model.invoke([first, answer, HumanMessage(f"[[say:second {n}]]")], {"callbacks": [handler]})

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(chat, range(30)))
    expected = [[f"[[say:first {n}]]", f"first {n}", f"[[say:second {n}]]", f"second {n}"] for n in range(30)]
    assert sorted(texts(bare)) == sorted(expected)


def test_many_tasks_on_one_handler(bare: App) -> None:
    """Forty chains of two calls each in one event loop: each keeps its calls together, and to itself."""
    config: Any = {"callbacks": [ConverraCallbackHandler("prompt")]}

    async def main(app: App) -> None:
        first: Any = ChatPromptTemplate.from_template("[[say:{n}]]") | app.model() | StrOutputParser()
        chain = first | ChatPromptTemplate.from_template("[[say:after {n}]]") | app.model()
        await asyncio.gather(*[chain.ainvoke({"n": n}, config) for n in range(40)])

    bare.run(main)
    expected = [[f"[[say:{n}]]", f"{n}", f"[[say:after {n}]]", f"after {n}"] for n in range(40)]
    assert sorted(texts(bare)) == sorted(expected)


def test_many_threads_of_a_graph(app: App) -> None:
    """Twenty threads of one graph at the same time in one event loop are twenty conversations; no context leaks."""

    async def main(app: App) -> None:
        async def answer(state: Any) -> Any:
            return {"messages": [await app.model().ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("model", answer)
        graph.add_edge(START, "model")
        chat = graph.compile(checkpointer=InMemorySaver())
        for turn in ("first", "second"):
            runs = [chat.ainvoke(user(f"[[say:{turn} {n}]]"), thread(n)) for n in range(20)]
            await asyncio.gather(*runs)
        assert converra.current_conversation() is None

    app.run(main)
    expected = [[f"[[say:first {n}]]", f"first {n}", f"[[say:second {n}]]", f"second {n}"] for n in range(20)]
    assert sorted(texts(app)) == sorted(expected)


def test_wrong_arguments() -> None:
    """Arguments that can never work are errors at once."""
    with pytest.raises(InvalidArgumentError, match="prompt_id"):
        ConverraCallbackHandler("")
    with pytest.raises(InvalidArgumentError, match="session_id"):
        ConverraCallbackHandler("prompt", " ")
    with pytest.raises(InvalidArgumentError, match="metadata"):
        ConverraCallbackHandler("prompt", metadata=3)  # type: ignore[arg-type]
    assert repr(ConverraCallbackHandler("p", "s")) == "ConverraCallbackHandler(prompt_id='p', session_id='s')"
