"""The same words twice in a LangGraph thread: two turns, or one that is generated again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage, trim_messages
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from tests.integrations.langchain_app import App, agent_of, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREAD: Any = {"configurable": {"thread_id": "t"}}
YES = "[[say:Fine]]"


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain is captured, with a prompt for what is called outside of a block."""
    with running(prompt_id="prompt") as running_app:
        yield running_app


def said(app: App) -> list[Any]:
    """Role, words, and what each message replaces."""
    return [
        (role, content, *(["replaces"] if "replaces" in facts.get("metadata", {}) else []))
        for role, content, *more in app.messages()
        for facts in (more[0] if more else {},)
    ]


def whole(messages: list[Any]) -> list[Any]:
    return messages


def newest(messages: list[Any]) -> list[Any]:
    return messages[-1:]


def with_system_text(messages: list[Any]) -> list[Any]:
    return [SystemMessage("You help."), *messages[-1:]]


def trimmed(messages: list[Any]) -> list[Any]:
    return trim_messages(messages, max_tokens=1, token_counter=len, strategy="last")


def window(messages: list[Any]) -> list[Any]:
    return messages[-2:]


def graph_of(app: App, select: Callable[[list[Any]], list[Any]], *, saver: Any, times: int = 1) -> Any:
    """A graph whose model gets some of the messages of the thread, `times` in one run."""
    model = app.model()

    def node(state: MessagesState) -> Any:
        answers = [model.invoke(select(state["messages"])) for _ in range(times)]
        return {"messages": answers[-1:]}

    return StateGraph(MessagesState).add_node("model", node).add_edge(START, "model").compile(checkpointer=saver)


@pytest.mark.parametrize("select", [whole, newest, with_system_text, trimmed, window])
def test_the_same_words_again_are_a_turn_of_their_own(app: App, select: Callable[[list[Any]], list[Any]]) -> None:
    """Whatever the model is sent of the thread; also with other words in between."""
    graph = graph_of(app, select, saver=InMemorySaver())
    no = "[[say:Sorry]]"
    for words in (YES, YES, no, YES, no):
        graph.invoke({"messages": [{"role": "user", "content": words}]}, THREAD)
    turns = [("user", YES), ("assistant", "Fine")], [("user", no), ("assistant", "Sorry")]
    system = [("system", "You help.")] if select is with_system_text else []
    assert said(app) == [*system, *turns[0], *turns[0], *turns[1], *turns[0], *turns[1]]


def test_an_agent_with_a_checkpointer(app: App) -> None:
    """It sends the whole thread."""
    agent = agent_of(app.model(), [], checkpointer=InMemorySaver())
    for _ in range(3):
        agent.invoke({"messages": [HumanMessage(YES)]}, THREAD)
    assert said(app) == [("user", YES), ("assistant", "Fine")] * 3


@pytest.mark.parametrize("select", [whole, newest])
def test_the_same_message_again_is_generated_again(app: App, select: Callable[[list[Any]], list[Any]]) -> None:
    """Twice in one run, and once more from an earlier checkpoint: the answer replaces the one before."""
    saver = InMemorySaver()
    graph = graph_of(app, select, saver=saver, times=2)
    graph.invoke({"messages": [HumanMessage(YES)]}, THREAD)
    before = next(state for state in graph.get_state_history(THREAD) if state.next == ("model",))
    graph.invoke(None, before.config)
    again = ("assistant", "Fine", "replaces")
    assert said(app) == [("user", YES), ("assistant", "Fine"), again, again, again]


def test_without_a_checkpointer_the_same_request_is_generated_again(app: App) -> None:
    """LangGraph then gives a new id to a resent message as well, so that nothing tells the two cases apart."""
    graph = graph_of(app, newest, saver=None)
    for _ in range(2):
        graph.invoke({"messages": [HumanMessage(YES)]}, THREAD)
    assert said(app) == [("user", YES), ("assistant", "Fine"), ("assistant", "Fine", "replaces")]
