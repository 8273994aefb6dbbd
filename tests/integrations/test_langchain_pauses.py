"""Runs of graphs that stop to be resumed: their conversation stays open, and is completed once a run has ended."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from converra.integrations import patching
from converra.integrations.langchain.pauses import PAUSES
from converra.langchain import ConverraCallbackHandler
from tests.integrations.langchain_app import App, agent_of, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig

THREAD: Any = {"configurable": {"thread_id": "t"}}
ASKED = 'Go on. [[tool:look_up {"order": "7"}]] [[then]] [[say:Done.]]'


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain is captured, with a prompt for what is called outside of a block."""
    with running(prompt_id="prompt") as running_app:
        yield running_app


@tool
def look_up(order: str) -> str:
    """Look up an order."""
    return f"{order}: sent"


@tool
def agreed(order: str) -> str:
    """Ask a human being."""
    return f"{order}: {interrupt('Sure?')}"


def human(text: str) -> Any:
    return {"messages": [HumanMessage(text)]}


def breakpoint_before(app: App, saver: Any) -> Any:
    return agent_of(app.model(), [look_up], checkpointer=saver, interrupt_before=["tools"])


def breakpoint_after(app: App, saver: Any) -> Any:
    model = next(name for name in ("model", "agent") if name in agent_of(app.model(), [look_up]).nodes)
    return agent_of(app.model(), [look_up], checkpointer=saver, interrupt_after=[model])


def interrupt_in_a_tool(app: App, saver: Any) -> Any:
    agreed.name = "look_up"
    return agent_of(app.model(), [agreed], checkpointer=saver)


def middleware(app: App, saver: Any) -> Any:
    agents = pytest.importorskip("langchain.agents")
    rules = agents.middleware.HumanInTheLoopMiddleware(interrupt_on={"look_up": True})
    return agents.create_agent(app.model(), [look_up], checkpointer=saver, middleware=[rules])


def subgraph(app: App, saver: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent_of(app.model(), [look_up], interrupt_before=["tools"]))
    graph.add_edge(START, "agent")
    return graph.compile(checkpointer=saver)


def dynamic_subgraph(app: App, saver: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("agent", interrupt_in_a_tool(app, None))
    graph.add_edge(START, "agent")
    return graph.compile(checkpointer=saver)


AGENTS: list[tuple[Callable[[App, Any], Any], Any]] = [
    (breakpoint_before, None),
    (breakpoint_after, None),
    (interrupt_in_a_tool, Command(resume="yes")),
    (middleware, Command(resume={"decisions": [{"type": "approve"}]})),
    (subgraph, None),
    (dynamic_subgraph, Command(resume="yes")),
]


def silence(app: App) -> None:
    """Sweep as after `idle_timeout`. A short one would, on a busy machine, also pass in the middle of a run."""
    app.recorder.stats()  # what was captured is assembled by now
    registry = app.recorder._registry
    timeout, registry._idle_timeout = registry._idle_timeout, -1
    app.recorder.sweep()
    registry._idle_timeout = timeout


Made = Callable[[], Any]


def invoke(app: App, made: Made, given: Any) -> None:
    made().invoke(given, THREAD)


def stream(app: App, made: Made, given: Any) -> None:
    list(made().stream(given, THREAD, stream_mode=["updates", "messages"]))


def stopped_reading(app: App, made: Made, given: Any) -> None:
    """Read a stream up to the interrupt, as many apps do."""
    chunks = made().stream(given, THREAD, stream_mode="updates")
    for chunk in chunks:
        if "__interrupt__" in chunk:
            break
    chunks.close()


def ainvoke(app: App, made: Made, given: Any) -> None:
    app.run(lambda _: made().ainvoke(given, THREAD))


def astream(app: App, made: Made, given: Any) -> None:
    async def main(app: App) -> None:
        async for _ in made().astream(given, THREAD, stream_mode="values"):
            pass

    app.run(main)


RUNS = [invoke, stream, stopped_reading, ainvoke, astream]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("made", "resume"), AGENTS)
def test_a_paused_run_stays_open(made: Any, resume: Any, run: Callable[..., None], app: App) -> None:
    """Whatever pauses it, a run's conversation outlives silence and the process; resumed and ended, it completes."""
    saver = InMemorySaver()
    run(app, lambda: made(app, saver), human(ASKED))
    silence(app)
    assert [status for status, _ in app.conversations()] == ["active"]
    app.restart()
    assert [status for status, _ in app.conversations()] == ["active"]
    run(app, lambda: made(app, saver), resume)
    silence(app)
    ((status, messages),) = app.conversations()
    assert status == "completed"
    assert [message[1] for message in messages][::3] == [ASKED, "Done."]
    assert len(messages) == 4


class Counted(TypedDict):
    """A state without messages."""

    steps: Annotated[list[str], operator.add]


def counting(app: App, *nodes: str, **settings: Any) -> Any:
    """A graph of nodes: `ask` calls the model, `wait` interrupts, `do` does neither."""

    def ask(state: Any) -> Any:
        app.model().invoke(f"[[say:{len(state['steps'])}]]")
        return {"steps": ["ask"]}

    def wait(state: Any) -> Any:
        return {"steps": [interrupt("?")]}

    def do(state: Any) -> Any:
        return {"steps": ["do"]}

    kinds = {"ask": ask, "wait": wait, "do": do}
    graph = StateGraph(Counted)
    graph.add_sequence([(f"{name}{n}", kinds[name]) for n, name in enumerate(nodes)])
    graph.add_edge(START, f"{nodes[0]}0")
    return graph.compile(**settings)


def status(app: App) -> list[str]:
    return [stored.status for stored in app.stored()]


@pytest.mark.parametrize("static", [False, True])
def test_a_run_that_pauses_before_any_model_is_asked(static: bool, app: App) -> None:
    """A thread that was talked in stays open where a later run of it pauses at its first step."""
    saver, node = InMemorySaver(), "do" if static else "wait"
    counting(app, "ask", checkpointer=saver).invoke({"steps": []}, THREAD)
    graph = counting(app, "do", node, checkpointer=saver)
    graph.invoke({"steps": []}, THREAD, interrupt_before=["do1"] if static else None)
    silence(app)
    assert status(app) == ["active"]
    graph.invoke(None if static else Command(resume="yes"), THREAD)
    silence(app)
    assert status(app) == ["completed"]


def test_a_resumed_run_without_a_model(app: App) -> None:
    """A run that is resumed and ends without a word is over: its conversation does not stay open for ever."""
    graph = counting(app, "ask", "wait", "do", checkpointer=InMemorySaver())
    graph.invoke({"steps": []}, THREAD)
    silence(app)
    assert status(app) == ["active"]
    graph.invoke(Command(resume="yes"), THREAD)
    silence(app)
    assert status(app) == ["completed"]


def test_a_branch_that_goes_on_beside_the_interrupt(app: App) -> None:
    """A model that is asked while another branch has already been interrupted does not end the pause."""
    graph = StateGraph(Counted)
    graph.add_node("wait", lambda state: {"steps": [interrupt("?")]})
    graph.add_node("ask", lambda state: {"steps": [app.model().invoke("[[slow:0.2]] [[say:1]]").content]})
    graph.add_edge(START, "wait")
    graph.add_edge(START, "ask")
    graph.compile(checkpointer=InMemorySaver()).invoke({"steps": []}, THREAD)
    silence(app)
    assert status(app) == ["active"]


def test_an_interrupt_that_the_app_swallows(app: App) -> None:
    """A graph that goes on after an interrupt in a graph inside of it has not paused."""
    inner = counting(app, "wait", checkpointer=True)

    def call(state: Any, config: RunnableConfig) -> Any:
        try:
            inner.invoke({"steps": []}, config)
        except Exception:  # noqa: BLE001 - what such an app does
            app.model().invoke("[[say:anyway]]")
        return {"steps": []}

    graph = StateGraph(Counted)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    graph.compile(checkpointer=InMemorySaver()).invoke({"steps": []}, THREAD)
    silence(app)
    assert status(app) == ["completed"]


def test_a_run_that_cannot_be_resumed(app: App) -> None:
    """Without a checkpointer, a breakpoint is the end."""
    counting(app, "ask", "do", interrupt_before=["do1"]).invoke({"steps": []}, THREAD)
    silence(app)
    assert status(app) == ["completed"]


def test_a_run_that_is_drained(app: App) -> None:
    """A run that is asked to stop before a shutdown is resumed by another process, in the same conversation."""
    runtime = pytest.importorskip("langgraph.runtime")
    if not hasattr(runtime, "RunControl"):
        pytest.skip("this LangGraph cannot drain a run")
    control, saver = runtime.RunControl(), InMemorySaver()
    graph = StateGraph(Counted)

    def ask(state: Any) -> Any:
        return {"steps": [app.model().invoke(f"[[say:{len(state['steps']) + 1}]]").content]}

    def stop(state: Any) -> Any:
        control.request_drain()
        return ask(state)

    graph.add_node("stop", stop)
    graph.add_node("ask", ask)
    graph.add_edge(START, "stop")
    graph.add_edge("stop", "ask")
    chat = graph.compile(checkpointer=saver)
    with pytest.raises(Exception, match="shutdown"):
        chat.invoke({"steps": []}, THREAD, control=control)
    silence(app)
    assert status(app) == ["active"]
    app.restart()
    chat.invoke(None, THREAD)
    app.restart()
    ((ended, messages),) = app.conversations()
    assert (ended, [message[1] for message in messages]) == ("completed", ["[[say:1]]", "1", "[[say:2]]", "2"])


def test_a_plain_client_in_a_paused_run(app: App) -> None:
    """A thread in which only the app's own client was called pauses as well."""
    with openai.OpenAI(base_url=app.server.openai_url, api_key="none") as client:
        message: Any = {"role": "user", "content": "[[say:own]]"}

        def ask(state: Any) -> Any:
            client.chat.completions.create(model="gpt-4o", messages=[message])

        graph = StateGraph(Counted)
        graph.add_node("ask", ask)
        graph.add_node("do", lambda state: None)
        graph.add_edge(START, "ask")
        graph.add_edge("ask", "do")
        chat = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["do"])
        chat.invoke({"steps": []}, THREAD)
        silence(app)
        assert status(app) == ["active"]
        chat.invoke(None, THREAD)
        silence(app)
        assert status(app) == ["completed"]


@pytest.mark.parametrize("thread", [None, "t"])
def test_a_handler_by_hand(thread: str | None) -> None:
    """Where only a handler is given to the run, a breakpoint keeps its session open, too."""
    with running(instrumented=False) as bare:
        handler = ConverraCallbackHandler("prompt", session_id="mine")
        config: Any = {"callbacks": [handler], "configurable": {"thread_id": "t"}}
        graph = counting(bare, "ask", "do", checkpointer=InMemorySaver(), interrupt_before=["do1"])
        graph.invoke({"steps": []}, config)
        silence(bare)
        assert status(bare) == ["active"]
        graph.invoke(None, config)
        silence(bare)
        assert status(bare) == ["completed"]


def test_switched_off() -> None:
    """Where nothing is to be patched, a handler leaves LangGraph's loop alone; `uninstrument()` gives it back."""
    import langgraph.pregel._loop as loop

    originals = loop.SyncPregelLoop.__exit__, loop.AsyncPregelLoop.__aexit__
    with running(prompt_id="prompt") as app:
        counting(app, "ask").invoke({"steps": []}, THREAD)
        assert loop.SyncPregelLoop.__exit__ is not originals[0]
        app.recorder.uninstrument()
        assert (loop.SyncPregelLoop.__exit__, loop.AsyncPregelLoop.__aexit__) == originals
    with running(instrumented=False, enabled=False) as app:
        config: Any = {"callbacks": [ConverraCallbackHandler("prompt")]}
        counting(app, "ask").invoke({"steps": []}, config)
        assert (loop.SyncPregelLoop.__exit__, loop.AsyncPregelLoop.__aexit__) == originals


def test_a_langgraph_with_another_loop(app: App) -> None:
    """Where LangGraph's loop cannot be observed, an interrupt is still known by what its nodes raise."""
    patching.switch_off(PAUSES)
    graph = counting(app, "ask", "wait", checkpointer=InMemorySaver())
    graph.invoke({"steps": []}, THREAD)
    silence(app)
    assert status(app) == ["active"]
