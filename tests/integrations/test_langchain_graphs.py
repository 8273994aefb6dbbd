"""Agents and graphs: threads that are interrupted and resumed, branches, subgraphs, hand-offs, and their tools."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.types import Command, interrupt

import converra
from tests.integrations.langchain_app import App, agent_of, running

if TYPE_CHECKING:
    from collections.abc import Iterator

THREAD: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain is captured, with a prompt for what is called outside of a block."""
    with running(prompt_id="prompt") as running_app:
        yield running_app


def asking(*steps: str) -> Any:
    """The input of an agent whose model does these things, one after the other."""
    return {"messages": [HumanMessage("Go on. " + " [[then]] ".join(steps))]}


def outline(messages: list[Any]) -> list[Any]:
    """Role and words, and of tools their names, whether they were timed, and what is said of an error."""
    return [_line(role, content, *rest) for role, content, *rest in messages if content[:6] != "Go on."]


def _line(role: str, content: str, facts: dict[str, Any] | None = None) -> Any:
    if role != "tool":
        return role, content
    assert facts is not None
    metadata = facts.get("metadata", {})
    calls = [(call["name"], call["id"]) for call in facts["toolCalls"]]
    error = {key: metadata[key] for key in ("error", "status") if key in metadata}
    return role, content, calls, "timed" if "latencyMs" in facts else "", *([error] if error else [])


@tool
def look_up(order: str) -> str:
    """Look up an order."""
    return f"{order}: sent"


@tool
def refund(order: str) -> str:
    """Refund an order, if a human being agrees."""
    return f"refunded {order}: {interrupt('Refund?')}"


@tool
def broken(order: str) -> str:
    """Raise."""
    raise ValueError(order)


@tool
def sorry(order: str) -> str:
    """Tell the model what is wrong."""
    raise ToolException(f"no order {order}")


sorry.handle_tool_error = True


@tool(return_direct=True)
def last_word(order: str) -> str:
    """Answer the user at once."""
    return f"{order} is the answer"


@tool
def move_on(order: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
    """Change the graph's state."""
    return Command(update={"messages": [ToolMessage(f"moved {order}", tool_call_id=tool_call_id)]})


# -- interrupts ------------------------------------------------------------------------------------------------------


def test_an_interrupted_tool(app: App) -> None:
    """A tool that waits for a human being is neither an error nor the end; resumed, it has one result."""
    agent = agent_of(app.model(), [refund, look_up], checkpointer=InMemorySaver())
    calls = '[[tool:refund {"order": "1"}]] [[tool:look_up {"order": "1"}]]'
    agent.invoke(asking(calls, "[[say:Done.]]"), THREAD)
    app.recorder.sweep()
    ((status, _),) = app.conversations()
    assert status == "active"
    agent.invoke(Command(resume="yes"), THREAD)
    assert outline(app.messages()) == snapshot(
        [
            ("tool", "", [("refund", "call_1"), ("look_up", "call_2")], "timed"),
            ("tool", "1: sent", [("look_up", "call_2")], "timed"),
            ("tool", "refunded 1: yes", [("refund", "call_1")], "timed"),
            ("assistant", "Done."),
        ]
    )


def test_a_thread_that_another_process_resumes(app: App) -> None:
    """An interrupted thread stays open when the process ends; the next one goes on in the same conversation."""
    saver = InMemorySaver()
    agent = agent_of(app.model(), [refund], checkpointer=saver)
    agent.invoke(asking('[[tool:refund {"order": "1"}]]', "[[say:Done.]]"), THREAD)
    app.restart()
    agent_of(app.model(), [refund], checkpointer=saver).invoke(Command(resume="yes"), THREAD)
    app.restart()
    ((status, messages),) = app.conversations()
    assert status == "completed"
    assert outline(messages) == snapshot(
        [
            ("tool", "", [("refund", "call_1")], "timed"),
            ("tool", "refunded 1: yes", [("refund", "call_1")], "timed"),
            ("assistant", "Done."),
        ]
    )


def test_a_thread_that_another_process_continues(app: App) -> None:
    """A thread whose process ended goes on in a conversation that names the first; nothing is recorded again."""
    saver = InMemorySaver()
    agent_of(app.model(), [look_up], checkpointer=saver).invoke(asking("[[say:One.]]"), THREAD)
    app.restart()
    agent_of(app.model(), [look_up], checkpointer=saver).invoke(asking("[[say:Two.]]"), THREAD)
    app.restart()
    first, second = app.stored()
    assert second.metadata["continues"] == first.id
    assert [outline(messages) for _, messages in app.conversations()] == snapshot(
        [[("assistant", "One.")], [("assistant", "Two.")]]
    )


def test_a_node_that_asks(app: App) -> None:
    """A node may ask a human being between two calls of the model."""

    def ask(state: Any) -> Any:
        return {"messages": [HumanMessage(interrupt("And now?"))]}

    def answer(state: Any) -> Any:
        return {"messages": [app.model().invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_sequence([("first", answer), ("ask", ask), ("second", answer)])
    graph.add_edge(START, "first")
    chat = graph.compile(checkpointer=InMemorySaver())
    chat.invoke({"messages": [HumanMessage("[[say:1]]")]}, THREAD)
    app.recorder.shutdown(5)
    chat.invoke(Command(resume="[[say:2]]"), THREAD)
    assert outline(app.messages()) == [
        ("user", "[[say:1]]"),
        ("assistant", "1"),
        ("user", "[[say:2]]"),
        ("assistant", "2"),
    ]


# -- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            "look_up",
            snapshot(
                [
                    ("tool", "", [("look_up", "call_1")], "timed"),
                    ("tool", "7: sent", [("look_up", "call_1")], "timed"),
                    ("assistant", "Fine."),
                ]
            ),
        ),
        (
            "sorry",
            snapshot(
                [
                    ("tool", "", [("sorry", "call_1")], "timed"),
                    ("tool", "no order 7", [("sorry", "call_1")], "timed", {"status": "error"}),
                    ("assistant", "Fine."),
                ]
            ),
        ),
        (
            "move_on",
            snapshot(
                [
                    ("tool", "", [("move_on", "call_1")], "timed"),
                    ("tool", "moved 7", [("move_on", "call_1")], "timed"),
                    ("assistant", "Fine."),
                ]
            ),
        ),
        (
            "last_word",
            snapshot(
                [
                    ("tool", "", [("last_word", "call_1")], "timed"),
                    ("tool", "7 is the answer", [("last_word", "call_1")], "timed"),
                ]
            ),
        ),
    ],
)
def test_what_a_tool_says(call: str, expected: Any, app: App) -> None:
    """A result is recorded when the tool ends, with the time that it took, and not again when it is resent."""
    agent = agent_of(app.model(), [look_up, sorry, move_on, last_word])
    agent.invoke(asking(f'[[tool:{call} {{"order": "7"}}]]', "[[say:Fine.]]"))
    assert outline(app.messages()) == expected


async def _async_agent(app: App, call: str) -> None:
    agent = agent_of(app.model(), [look_up, sorry, move_on, last_word])
    await agent.ainvoke(asking(f'[[tool:{call} {{"order": "7"}}]]', "[[say:Fine.]]"))


@pytest.mark.parametrize("call", ["look_up", "sorry", "move_on", "last_word"])
def test_what_a_tool_says_to_a_coroutine(call: str, app: App) -> None:
    """The same in an event loop."""
    app.run(_async_agent, call)
    agent = agent_of(app.model(), [look_up, sorry, move_on, last_word])
    agent.invoke(asking(f'[[tool:{call} {{"order": "7"}}]]', "[[say:Fine.]]"))
    first, second = [outline(messages) for _, messages in app.conversations()]
    assert first == second


def test_a_tool_that_brings_the_agent_down(app: App) -> None:
    """A tool that raises is recorded with its error, once; the app gets its exception."""
    agent = agent_of(app.model(), [broken])
    with pytest.raises(ValueError, match="7"):
        agent.invoke(asking('[[tool:broken {"order": "7"}]]'))
    assert outline(app.messages()) == snapshot(
        [
            ("tool", "", [("broken", "call_1")], "timed"),
            ("tool", "", [("broken", "call_1")], "timed", {"error": {"type": "ValueError"}}),
        ]
    )


def test_a_tool_whose_error_is_an_answer(app: App) -> None:
    """Where the graph tells the model of the error, the words are recorded with it."""
    graph = StateGraph(MessagesState)
    model = app.model().bind_tools([broken])
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([broken], handle_tool_errors=True))
    graph.add_node("again", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    graph.add_edge("tools", "again")
    graph.compile().invoke(asking('[[tool:broken {"order": "7"}]]', "[[say:Oh.]]"))
    assert outline(app.messages()) == snapshot(
        [
            ("tool", "", [("broken", "call_1")], "timed"),
            (
                "tool",
                """\
Error: ValueError('7')
 Please fix your mistakes.\
""",
                [("broken", "call_1")],
                "timed",
                {"error": {"type": "ValueError"}, "status": "error"},
            ),
            ("assistant", "Oh."),
        ]
    )


def test_a_tool_called_by_hand(app: App) -> None:
    """A tool that the app calls for the model is timed inside of a block; one that no model asked for says nothing."""
    with converra.conversation("prompt"):
        model = app.model().bind_tools([look_up])
        history: list[Any] = [HumanMessage('Go on. [[tool:look_up {"order": "7"}]] [[then]] [[say:Fine.]]')]
        answer = model.invoke(history)
        look_up.invoke({"order": "8"})
        history += [answer, *(look_up.invoke(call) for call in answer.tool_calls)]
        model.invoke(history)
        with contextlib.suppress(ValueError):
            broken.invoke({"type": "tool_call", "id": "call_9", "name": "broken", "args": {"order": "9"}})
    assert outline(app.messages()) == snapshot(
        [
            ("tool", "", [("look_up", "call_1")], "timed"),
            ("tool", "7: sent", [("look_up", "call_1")], "timed"),
            ("assistant", "Fine."),
            ("tool", "", [("broken", "call_9")], "timed", {"error": {"type": "ValueError"}}),
        ]
    )


def test_an_agent_inside_of_a_tool(app: App) -> None:
    """What an agent does inside of another one's tool belongs to the same conversation."""
    inner = agent_of(app.model(), [look_up], system_prompt="Inner.")

    @tool
    def delegate(order: str) -> str:
        """Ask somebody else."""
        found = inner.invoke(asking(f'[[tool:look_up {{"order": "{order}"}}]]', f"[[say:Found {order}.]]"))
        return str(found["messages"][-1].content)

    outer = agent_of(app.model(), [delegate], system_prompt="Outer.")
    outer.invoke(asking('[[tool:delegate {"order": "7"}]]', "[[say:Fine.]]"))
    assert outline(app.messages()) == snapshot(
        [
            ("system", "Outer."),
            ("tool", "", [("delegate", "call_1")], "timed"),
            ("system", "Inner."),
            ("tool", "", [("look_up", "call_2")], "timed"),
            ("tool", "7: sent", [("look_up", "call_2")], "timed"),
            ("assistant", "Found 7."),
            ("tool", "Found 7.", [("delegate", "call_1")], "timed"),
            ("assistant", "Fine."),
        ]
    )


# -- graphs ----------------------------------------------------------------------------------------------------------


def test_parallel_branches(app: App) -> None:
    """Branches that run at the same time are one conversation, without a session too."""
    graph = StateGraph(MessagesState)
    for name in ("left", "right"):
        asked = f"[[slow:0.05]] [[say:{name}]]"
        graph.add_node(name, lambda state, asked=asked: {"messages": [app.model().invoke(asked)]})
        graph.add_edge(START, name)
    graph.compile().invoke({"messages": []})
    assert sorted(message[1] for message in app.messages()) == [
        "[[slow:0.05]] [[say:left]]",
        "[[slow:0.05]] [[say:right]]",
        "left",
        "right",
    ]


def test_async_nodes_and_subgraphs(app: App) -> None:
    """Nodes may be coroutines, and graphs nodes of other graphs."""

    async def main(app: App) -> None:
        async def answer(state: Any) -> Any:
            return {"messages": [await app.model().ainvoke(state["messages"])]}

        inner = StateGraph(MessagesState)
        inner.add_node("answer", answer)
        inner.add_edge(START, "answer")
        outer = StateGraph(MessagesState)
        outer.add_node("inner", inner.compile())
        outer.add_node("ask", lambda state: {"messages": [HumanMessage("[[say:2]]")]})
        outer.add_node("answer", answer)
        outer.add_edge(START, "inner")
        outer.add_edge("inner", "ask")
        outer.add_edge("ask", "answer")
        chat = outer.compile(checkpointer=InMemorySaver())
        async for _ in chat.astream({"messages": [HumanMessage("[[say:1]]")]}, THREAD, subgraphs=True):
            pass

    app.run(main)
    assert outline(app.messages()) == [
        ("user", "[[say:1]]"),
        ("assistant", "1"),
        ("user", "[[say:2]]"),
        ("assistant", "2"),
    ]


def test_a_hand_off(app: App) -> None:
    """An agent that hands over to another one by a Command is no failure; both are in the conversation."""

    @tool
    def to_billing(
        tool_call_id: Annotated[str, InjectedToolCallId], messages: Annotated[Any, InjectedState("messages")]
    ) -> Any:
        """Hand over."""
        handed_over = [*messages, ToolMessage("handed over", tool_call_id=tool_call_id)]
        return Command(goto="billing", graph=Command.PARENT, update={"messages": handed_over})

    graph = StateGraph(MessagesState)
    graph.add_node("front", agent_of(app.model(), [to_billing], system_prompt="Front.", name="front"))
    graph.add_node("billing", agent_of(app.model(), [], system_prompt="Billing.", name="billing"))
    graph.add_edge(START, "front")
    graph.compile().invoke(asking("[[tool:to_billing {}]]", "[[say:Paid.]]"))
    assert outline(app.messages()) == snapshot(
        [
            ("system", "Front."),
            ("tool", "", [("to_billing", "call_1")], "timed"),
            ("tool", "handed over", [("to_billing", "call_1")], "timed"),
            ("system", "Billing."),
            ("assistant", "Paid."),
        ]
    )
