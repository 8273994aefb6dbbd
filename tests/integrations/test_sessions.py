"""Sessions and agents of frameworks, on the real frameworks and a client that is captured."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import agents
import openai
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel
from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from converra.integrations import sessions
from converra.process import context
from tests.integrations.langchain_app import App, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from converra.history.turn import Request

Talk = list[tuple[str, str, str | None]]
"""Role, content and agent of each message."""

QUESTIONS = ("Hello! [[say:Good day.]]", "And who are you? [[say:A helper.]]")
HELLO, WHO = QUESTIONS


@pytest.fixture
def app() -> Iterator[App]:
    """An app whose calls outside of any block are recorded."""
    agents.set_trace_processors([])  # the default one sends its spans to OpenAI
    with running(prompt_id="prompt") as running_app:
        yield running_app


@contextlib.asynccontextmanager
async def connected(app: App) -> AsyncIterator[openai.AsyncOpenAI]:
    """The app's client, for as long as its event loop runs."""
    async with openai.AsyncOpenAI(base_url=app.server.openai_url, api_key="none", max_retries=0) as client:
        yield client


def talks(app: App) -> dict[str | None, Talk]:
    """The messages of each conversation, by its session."""
    found: dict[str | None, Talk] = {}
    for stored in app.stored():
        session = stored.metadata.get("sessionId")
        assert session not in found, "a session has two conversations"
        found[session] = [
            (message["role"], message["content"], (message.get("metadata") or {}).get("agent"))
            for message in app.server.store.messages(stored)
        ]
    return found


def run_ids(app: App) -> set[str]:
    """The ids of all runs, as messages name them."""
    messages = (message for stored in app.stored() for message in app.server.store.messages(stored))
    return {message["metadata"]["runId"] for message in messages if "runId" in (message.get("metadata") or {})}


def of_two_turns(agent: str, *, system: str | None = None) -> Talk:
    """The conversation of `QUESTIONS`, each turn once."""
    said: Talk = [("user", HELLO, None), ("assistant", "Good day.", agent)]
    said += [("user", WHO, None), ("assistant", "A helper.", agent)]
    return said if system is None else [("system", system, None), *said]


# -- OpenAI Agents SDK -----------------------------------------------------------------------------------------------

AGENT_MODELS = [agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel]


async def ask(agent: Any, history: Any, group: str | None = None, *, streamed: bool = False) -> Any:
    """One run of an agent."""
    settings = agents.RunConfig(group_id=group)
    if not streamed:
        return await agents.Runner.run(agent, history, run_config=settings)
    result = agents.Runner.run_streamed(agent, history, run_config=settings)
    async for _ in result.stream_events():
        pass
    return result


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("model", AGENT_MODELS)
def test_two_sessions_of_agents_at_a_time(app: App, model: Any, streamed: bool) -> None:
    """Two groups that begin with the same words, side by side, are two conversations, with every turn once."""

    async def chat(group: str) -> None:
        async with connected(app) as client:
            agent: Any = agents.Agent("Helper", instructions="Be kind.", model=model("gpt-4o", openai_client=client))
            first = await ask(agent, HELLO, group, streamed=streamed)
            await ask(agent, [*first.to_input_list(), {"role": "user", "content": WHO}], group, streamed=streamed)

    async def main() -> None:
        await asyncio.gather(chat("ada"), chat("ben"))

    asyncio.run(main())
    expected = of_two_turns("Helper", system="Be kind.")
    assert talks(app) == {"ada": expected, "ben": expected}
    assert len(run_ids(app)) == 4
    assert all(run_id.startswith("trace_") for run_id in run_ids(app))


def test_a_handoff_between_agents(app: App) -> None:
    """After a handoff the answers name the second agent, in the same conversation."""

    async def main() -> None:
        async with connected(app) as client:
            model = agents.OpenAIResponsesModel("gpt-4o", openai_client=client)
            second: Any = agents.Agent("Billing", model=model)
            first: Any = agents.Agent("Triage", model=model, handoffs=[second])
            await ask(first, "[[tool:transfer_to_billing {}]][[then]][[say:You owe nothing.]]", "ada")

    asyncio.run(main())
    messages = talks(app)["ada"]
    assert [agent for _, _, agent in messages if agent] == ["Triage", "Billing"]
    assert [content for role, content, _ in messages if role == "assistant"] == ["You owe nothing."]
    assert sum(role == "user" for role, _, _ in messages) == 1


def test_an_agent_as_a_tool(app: App) -> None:
    """The calls of an agent that another one uses as a tool name it, and belong to the same session."""

    async def main() -> None:
        async with connected(app) as client:
            model = agents.OpenAIChatCompletionsModel("gpt-4o", openai_client=client)
            inner: Any = agents.Agent("Translator", model=model)
            outer: Any = agents.Agent("Chief", model=model, tools=[inner.as_tool("translate", "Translate a text.")])
            await ask(outer, '[[tool:translate {"input": "[[say:Hallo]]"}]][[then]][[say:It is Hallo.]]', "ada")

    asyncio.run(main())
    (messages,) = talks(app).values()
    assert [(content, agent) for _, content, agent in messages if agent] == [
        ("", "Chief"),
        ("Hallo", "Translator"),
        ("It is Hallo.", "Chief"),
    ]
    assert len(run_ids(app)) == 1


def test_agents_without_a_session(app: App) -> None:
    """Without a group, or with tracing disabled, the history decides; the agent is known all the same."""

    async def main() -> None:
        async with connected(app) as client:
            model = agents.OpenAIChatCompletionsModel("gpt-4o", openai_client=client)
            agent: Any = agents.Agent("Helper", model=model)
            settings = agents.RunConfig(tracing_disabled=True, group_id="unused")
            first = await agents.Runner.run(agent, HELLO, run_config=settings)
            await ask(agent, [*first.to_input_list(), {"role": "user", "content": WHO}])

    asyncio.run(main())
    assert talks(app) == {None: of_two_turns("Helper")}


def test_a_block_wins_over_the_session(app: App) -> None:
    """Inside of a `conversation()`, runs of any group belong to it; their agents are named there too."""

    async def main() -> None:
        async with connected(app) as client:
            agent: Any = agents.Agent("Helper", model=agents.OpenAIChatCompletionsModel("gpt-4o", openai_client=client))
            with app.recorder.conversation("prompt", session_id="block"):
                await ask(agent, HELLO, "ada")

    asyncio.run(main())
    assert talks(app) == {"block": of_two_turns("Helper")[:2]}


def test_a_prompt_for_each_agent() -> None:
    """A `prompt_id` function gets the name of the agent that calls, None outside of any."""
    agents.set_trace_processors([])
    seen: list[str | None] = []

    def prompt_of(request: Request) -> str:
        seen.append(request.agent)
        return f"prompt_{request.agent or 'none'}"

    with running(prompt_id=prompt_of) as app:

        async def main() -> None:
            async with connected(app) as client:
                model = agents.OpenAIChatCompletionsModel("gpt-4o", openai_client=client)
                await ask(agents.Agent("billing", model=model), HELLO)
                await ask(agents.Agent("sales", model=model), HELLO)
                await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": HELLO}])

        asyncio.run(main())
        assert {stored.prompt_id for stored in app.stored()} == {"prompt_billing", "prompt_sales", "prompt_none"}
    assert seen == ["billing", "sales", None]


def test_a_run_that_fails(app: App) -> None:
    """The question of a call that failed names the agent that asked it."""

    async def main() -> None:
        async with connected(app) as client:
            model = agents.OpenAIChatCompletionsModel("gpt-4o", openai_client=client)
            with pytest.raises(openai.BadRequestError):
                await ask(agents.Agent("Helper", model=model), "[[error:400]]", "ada")

    asyncio.run(main())
    assert talks(app) == {"ada": [("user", "[[error:400]]", "Helper")]}


# -- pydantic-ai -----------------------------------------------------------------------------------------------------

PYDANTIC_MODELS = [OpenAIChatModel, OpenAIResponsesModel]


def agent_on(client: openai.AsyncOpenAI, kind: Any = OpenAIChatModel, **settings: Any) -> Agent:
    """An agent of pydantic-ai on the app's client."""
    return Agent(kind("gpt-4o", provider=OpenAIProvider(openai_client=client)), name="helper", **settings)


async def run(agent: Agent, *args: Any, streamed: bool = False, **settings: Any) -> Any:
    """One run of an agent."""
    if not streamed:
        return await agent.run(*args, **settings)
    async with agent.run_stream(*args, **settings) as result:
        await result.get_output()
        return result


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", PYDANTIC_MODELS)
def test_two_conversations_of_pydantic_ai(app: App, kind: Any, streamed: bool) -> None:
    """Runs with one `conversation_id` are one conversation, also without their history; side by side, two are two."""

    async def chat(conversation: str, *, resend: bool) -> None:
        async with connected(app) as client:
            agent = agent_on(client, kind)
            first = await run(agent, HELLO, streamed=streamed, conversation_id=conversation)
            history = first.all_messages() if resend else None
            await run(agent, WHO, streamed=streamed, message_history=history, conversation_id=conversation)

    async def main() -> None:
        await asyncio.gather(chat("ada", resend=True), chat("ben", resend=False))

    asyncio.run(main())
    assert talks(app) == {"ada": of_two_turns("helper"), "ben": of_two_turns("helper")}
    assert len(run_ids(app)) == 4


def again(messages: Any) -> Any:
    """The history as it is, as pydantic-ai passes it on."""
    return messages


def through_json(messages: Any) -> Any:
    """The history from a store, as pydantic-ai writes it."""
    return ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(messages))


def by_hand(messages: Any) -> Any:
    """The history from the app's own store, which keeps no ids."""
    return [
        ModelResponse([TextPart(message.parts[0].content)])
        if message.kind == "response"
        else ModelRequest(message.parts)
        for message in messages
    ]


@pytest.mark.parametrize("history", [again, through_json, by_hand])
def test_a_conversation_whose_id_pydantic_ai_made_up(app: App, history: Callable[[Any], Any]) -> None:
    """Without an id of the app's, runs that resend their history are one conversation, however the history is kept."""

    async def main() -> None:
        async with connected(app) as client:
            agent = agent_on(client)
            first = await agent.run(HELLO)
            second = await agent.run(WHO, message_history=history(first.all_messages()))
            await agent.run(HELLO, message_history=history(second.all_messages()))
            await agent.run(HELLO)

    asyncio.run(main())
    two, one = sorted(talks(app).values(), key=len, reverse=True)
    assert two == [*of_two_turns("helper"), *of_two_turns("helper")[:2]]
    assert one == of_two_turns("helper")[:2]


def test_a_conversation_whose_id_was_made_up_ends_once(app: App) -> None:
    """When the process ends, it is completed once, although both its session and its history lead to it."""

    async def main() -> None:
        async with connected(app) as client:
            await agent_on(client).run(HELLO)

    asyncio.run(main())
    app.recorder.close()
    app.recorder.close()
    (stored,) = app.stored()
    assert stored.status == "completed"
    assert list(talks(app).values()) == [of_two_turns("helper")[:2]]


def test_a_fork_of_a_conversation(app: App) -> None:
    """`conversation_id="new"` opens a conversation of its own, although the history is another's."""

    async def main() -> None:
        async with connected(app) as client:
            agent = agent_on(client)
            first = await agent.run(HELLO)
            await agent.run(WHO, message_history=first.all_messages(), conversation_id="new")

    asyncio.run(main())
    assert sorted(map(len, talks(app).values())) == [2, 4]


def test_a_tool_that_asks_a_model(app: App) -> None:
    """A plain call in a tool belongs to the run's conversation, and names its agent."""

    async def main() -> None:
        async with connected(app) as client:
            agent = agent_on(client)

            @agent.tool_plain
            async def look_up() -> str:
                question: Any = {"role": "user", "content": "[[say:Forty-two.]]"}
                answer = await client.chat.completions.create(model="gpt-4o", messages=[question])
                return str(answer.choices[0].message.content)

            await agent.run("[[tool:look_up {}]][[then]][[say:Done.]]", conversation_id="ada")

    asyncio.run(main())
    (messages,) = talks(app).values()
    assert [(role, content) for role, content, agent in messages if agent == "helper"] == [
        ("tool", ""),
        ("assistant", "Forty-two."),
        ("assistant", "Done."),
    ]


# -- OpenTelemetry ---------------------------------------------------------------------------------------------------


def say(app: App, *words: str) -> None:
    """One plain call for each text, with the history of those before."""
    messages: list[Any] = []
    with openai.OpenAI(base_url=app.server.openai_url, api_key="none", max_retries=0) as client:
        for text in words:
            messages.append({"role": "user", "content": text})
            answer = client.chat.completions.create(model="gpt-4o", messages=messages)
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})


@contextlib.contextmanager
def attached(context: otel.Context) -> Iterator[None]:
    """An OpenTelemetry context, current."""
    token = otel.attach(context)
    try:
        yield
    finally:
        otel.detach(token)


def span(**attributes: str) -> Any:
    """A span that is recorded, current."""
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return TracerProvider().get_tracer("test").start_as_current_span("chat", attributes=named)


@pytest.mark.parametrize(
    "current",
    [
        lambda: span(gen_ai__conversation__id="ada"),
        lambda: span(session__id="ada"),
        lambda: span(gen_ai__conversation__id="ada", session__id="the browser's"),
        lambda: attached(baggage.set_baggage("gen_ai.conversation.id", "ada")),
        lambda: attached(baggage.set_baggage("session.id", "ada")),
        lambda: attached(otel.set_value("session.id", "ada")),
    ],
)
def test_a_session_of_opentelemetry(app: App, current: Callable[[], Any]) -> None:
    """The conversation that a span, the context or the baggage names has every turn once, whatever is resent."""
    with current():
        say(app, HELLO, WHO)
    with current():
        say(app, HELLO)
    ((session, messages),) = talks(app).items()
    assert session == "ada"
    assert messages[:4] == [(role, content, None) for role, content, _ in of_two_turns("any")]
    assert messages[4:] == [("assistant", "Good day.", None)]  # the same request again is its first answer again


def test_an_agent_of_opentelemetry(app: App) -> None:
    """The agent that a span names is in the metadata; without a session, the history decides."""
    with span(gen_ai__agent__name="Helper"):
        say(app, HELLO, WHO)
    assert talks(app) == {None: of_two_turns("Helper")}


def test_nothing_of_opentelemetry(app: App) -> None:
    """Spans without a session, ended ones, values that are no strings, and no spans at all leave it to the history."""
    with span(other="x"), attached(otel.set_value("session.id", 7)):
        say(app, HELLO, WHO)
    ended = TracerProvider().get_tracer("test").start_span("chat", attributes={"gen_ai.conversation.id": "ada"})
    ended.end()
    with trace.use_span(ended):
        say(app, HELLO)
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True))):
        say(app, HELLO)
    assert all(stored.metadata.get("sessionId") is None for stored in app.stored())
    assert sorted(len(messages) for _, messages in app.conversations()) == [2, 2, 4]


def test_an_opentelemetry_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a span, none is asked for; one that cannot be read costs neither the turn nor the call."""
    called: list[int] = []

    def refuse(*_: Any) -> Any:
        called.append(1)
        raise RuntimeError

    monkeypatch.setattr(trace, "get_current_span", refuse)
    counted = pytest.raises(AssertionError, match="failed inside its guard")
    with counted, running(prompt_id="prompt") as app:
        say(app, HELLO)
        assert not called
        with attached(otel.set_value("other", "x")):
            say(app, HELLO, WHO)
        assert called
        assert sorted(len(messages) for _, messages in app.conversations()) == [2, 4]


def test_a_framework_within_opentelemetry(app: App) -> None:
    """A session that the app gave to its framework precedes the span's; the span's precedes one that was made up."""

    async def main() -> None:
        async with connected(app) as client:
            agent = agent_on(client)
            with span(session__id="span"):
                await agent.run(HELLO, conversation_id="own")
                await agent.run(HELLO)

    asyncio.run(main())
    assert talks(app) == {"own": of_two_turns("helper")[:2], "span": of_two_turns("helper")[:2]}


# -- their registration ----------------------------------------------------------------------------------------------


def test_nothing_is_left_after_uninstall() -> None:
    """The readers are asked only while a recorder is on."""
    readers = {sessions.of_openai_agents, sessions.of_pydantic_ai, sessions.of_opentelemetry}

    def registered() -> set[Any]:
        return set(context.readers) & readers

    with running() as app:
        assert registered() == readers
        app.recorder.instrument()
        assert len(context.readers) == len(set(context.readers))
        assert not {row.target for row in app.recorder.instrument()} & {"agents.tracing.scope", "opentelemetry.trace"}
    assert registered() == set()


PROGRAM = """
import sys
import converra
from converra.process import context
converra.instrument(api_key="k", base_url="http://127.0.0.1:9")
foreign = {"agents", "pydantic_ai", "opentelemetry"}
assert not foreign & {name.partition(".")[0] for name in sys.modules}
assert not context.readers
import opentelemetry.trace
assert [reader.__name__ for reader in context.readers] == ["of_opentelemetry"]
import agents
assert [reader.__name__ for reader in context.readers] == ["of_openai_agents", "of_opentelemetry"]
converra.uninstrument()
assert not context.readers
"""


def test_a_framework_that_is_imported_later() -> None:
    """No framework is imported for its session; its reader comes with it, before that of OpenTelemetry."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
