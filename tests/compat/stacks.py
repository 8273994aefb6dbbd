"""Frameworks above the clients that are captured: whatever the stack is, each request to a model is one turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched at import
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
}

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from converra.server.run import LocalServer, serve
from tests.integrations.stored import recorder_for
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

QUESTION = "Where is my order 4711?"


class Person(pydantic.BaseModel):
    """What structured answers are parsed into."""

    name: str
    age: int


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


def turns(server: LocalServer, talk: Callable[[], Any], session: str | None = None) -> tuple[int, int]:
    """The requests that a model has answered, and the answers that are recorded of them, in one conversation."""
    prompt = f"prompt_{len(server.requests)}"
    before = len(server.requests)
    with recorder_for(server, prompt_id=prompt) as recorder:
        if session is None:
            with recorder.conversation(prompt):
                talk()
        else:
            talk()
        assert recorder.flush(timeout=LONG)
    asked = sum("/conversations" not in one.path and one.status in (200, None) for one in server.requests[before:])
    found, count = server.store.conversations(prompt_id=prompt)
    assert count == 1
    if session is not None:
        assert found[0].metadata["sessionId"] == session
    answers = [one for one in server.store.messages(found[0]) if one.get("model")]
    assert len({one["metadata"]["messageId"] for one in answers}) == len(answers)
    return asked, len(answers)


def test_instructor(server: LocalServer) -> None:
    """On the openai and on the anthropic client: each try is a turn, also one that does not validate."""
    instructor = pytest.importorskip("instructor")
    import anthropic
    import openai

    said = [{"role": "user", "content": '[[say:{"name": "Ada", "age": 36}]]'}]
    of_openai = instructor.from_openai(
        openai.OpenAI(api_key="k", base_url=server.openai_url), mode=instructor.Mode.JSON
    )
    assert turns(server, lambda: of_openai.create(model="m", messages=said, response_model=Person)) == (1, 1)
    of_anthropic = instructor.from_anthropic(
        anthropic.Anthropic(api_key="k", base_url=server.anthropic_url), mode=instructor.Mode.ANTHROPIC_JSON
    )

    def ask() -> None:
        of_anthropic.create(model="m", messages=said, response_model=Person, max_tokens=99)

    assert turns(server, ask) == (1, 1)

    def fail() -> None:
        wrong = [{"role": "user", "content": QUESTION}]
        with pytest.raises(Exception, match="validation error"):
            of_openai.create(model="m", messages=wrong, response_model=Person, max_retries=2)

    asked, recorded = turns(server, fail)
    assert asked == recorded > 1


@pytest.mark.parametrize("engine", ["auto", "litellm"])
@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
def test_dspy(server: LocalServer, provider: str, engine: str) -> None:
    """On its own engine, or on that for litellm, whichever client it uses: sync and async."""
    dspy = pytest.importorskip("dspy")
    url = server.anthropic_url if provider == "anthropic" else server.openai_url
    if engine == "auto" and provider == "anthropic":
        url += "/v1"  # as it takes the address
    model = dspy.LM(f"{provider}/gpt-4", api_base=url, api_key="k", engine=engine, cache=False, num_retries=0)
    predict = dspy.Predict("question -> answer")

    def ask(program: Callable[[], Any]) -> None:
        unread = contextlib.suppress(dspy.utils.exceptions.AdapterParseError)  # the stand-in answers in no form
        with dspy.context(lm=model, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)), unread:
            program()

    for program in (lambda: predict(question=QUESTION), lambda: asyncio.run(predict.acall(question=QUESTION))):
        asked, recorded = turns(server, partial(ask, program))
        assert asked == recorded > 0


@pytest.mark.parametrize("native", [True, False], ids=["on openai", "on litellm"])
def test_crewai(server: LocalServer, native: bool) -> None:
    """An agent with a task, on the client of the provider or on litellm."""
    crewai = pytest.importorskip("crewai")
    if not native:
        pytest.importorskip("litellm")
    model = crewai.LLM(
        "openai/gpt-4" if native else "hosted_vllm/gpt-4",
        base_url=server.openai_url,
        api_key="k",
        is_litellm=not native,
    )
    agent = crewai.Agent(role="support", goal="Answer.", backstory="A shop for tents.", llm=model, max_iter=1)
    task = crewai.Task(description=QUESTION, expected_output="An answer.", agent=agent)
    crew = crewai.Crew(agents=[agent], tasks=[task], share_crew=False)
    asked, recorded = turns(server, crew.kickoff)
    assert asked == recorded > 0


@pytest.mark.parametrize("litellm", [False, True], ids=["on google-genai", "on litellm"])
def test_adk(server: LocalServer, litellm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of Google ADK, on google-genai or on litellm, plain and streamed: its session is the conversation."""
    agents, runners = pytest.importorskip("google.adk.agents"), pytest.importorskip("google.adk.runners")
    run_config = pytest.importorskip("google.adk.agents.run_config")
    from google.genai import types

    trace.set_tracer_provider(TracerProvider())  # without one, ADK's spans have no attributes
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.google_url)
    monkeypatch.setenv("GOOGLE_API_KEY", "k")
    model: Any = "gemini-2.0-flash"
    if litellm:
        models = pytest.importorskip("google.adk.models.lite_llm")
        model = models.LiteLlm(model="hosted_vllm/gpt-4", api_base=server.openai_url, api_key="k")

    async def run(mode: Any) -> None:
        agent = agents.LlmAgent(name="support", model=model, instruction="Be brief.")
        runner = runners.InMemoryRunner(agent=agent, app_name="shop")
        service, ada = runner.session_service, {"user_id": "ada", "session_id": f"chat-{mode.name}"}
        await service.create_session(app_name="shop", **ada)
        for text in (QUESTION, "Thank you!"):
            message = types.Content(role="user", parts=[types.Part(text=text)])
            config = run_config.RunConfig(streaming_mode=mode)
            async for _ in runner.run_async(**ada, new_message=message, run_config=config):
                pass

    for mode in (run_config.StreamingMode.NONE, run_config.StreamingMode.SSE):
        talk = partial(asyncio.run, run(mode))
        assert turns(server, talk, session=f"chat-{mode.name}") == (2, 2)


def _llama_index(server: LocalServer) -> Any:
    """A model of LlamaIndex, for one event loop. It knows the sizes of real models alone."""
    models = pytest.importorskip("llama_index.llms.openai")
    return models.OpenAI(model="gpt-4o", api_base=server.openai_url, api_key="k", max_retries=0)


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streamed"])
def test_workflows_of_llama_index(server: LocalServer, streaming: bool) -> None:
    """The session of an agent's memory is the conversation; a memory without a name is found by its history."""
    pytest.importorskip("llama_index.core")
    from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
    from llama_index.core.memory import ChatMemoryBuffer, Memory
    from llama_index.core.workflow import Context

    def agent(name: str) -> Any:
        model = _llama_index(server)
        return FunctionAgent(name=name, description="Helps.", llm=model, system_prompt="Be brief.", streaming=streaming)

    async def two_turns(workflow: Any, **more: Any) -> None:
        context = Context(workflow)
        for text in (QUESTION, "Thank you!"):
            await workflow.run(text, ctx=context, **more)

    for name, workflow in (("alone", agent("support")), ("team", AgentWorkflow([agent("support")]))):
        memory = Memory.from_defaults(session_id=f"chat-{name}")
        talk = partial(asyncio.run, two_turns(workflow, memory=memory))
        assert turns(server, talk, session=f"chat-{name}") == (2, 2)
        found, _ = server.store.conversations(limit=1)
        facts = [one["metadata"] for one in server.store.messages(found[0]) if one["role"] == "assistant"]
        assert {one["agent"] for one in facts} == {"support"}
        assert len({one["runId"] for one in facts}) == 2

    async def others() -> None:
        """A memory with an id that LlamaIndex makes up, and two without any, at the same time."""
        await asyncio.gather(
            two_turns(agent("first"), memory=Memory.from_defaults()),
            *(two_turns(agent(name), memory=ChatMemoryBuffer.from_defaults()) for name in ("second", "third")),
        )

    prompt = f"prompt_{len(server.requests)}"
    with recorder_for(server, prompt_id=prompt) as recorder:
        asyncio.run(others())
        assert recorder.flush(timeout=LONG)
    found, count = server.store.conversations(prompt_id=prompt)
    assert count == 3
    for conversation in found:
        roles = [one["role"] for one in server.store.messages(conversation)[:5]]
        assert roles == ["system", "user", "assistant", "user", "assistant"]


def test_chat_engines_of_llama_index(server: LocalServer) -> None:
    """A chat engine names no session: the history decides, or the app's own tag."""
    pytest.importorskip("llama_index.core")
    from llama_index.core.chat_engine import SimpleChatEngine
    from llama_index.core.instrumentation.dispatcher import instrument_tags

    def ask(tag: str | None) -> None:
        engine = SimpleChatEngine.from_defaults(llm=_llama_index(server), system_prompt="Be brief.")
        with instrument_tags({"session_id": tag}) if tag else contextlib.nullcontext():
            engine.chat(QUESTION)
            list(engine.stream_chat("Thank you!").response_gen)
            engine.chat("Bye.")

    with recorder_for(server, prompt_id="prompt_engines") as recorder:
        for tag in ("chat-ada", "chat-ben", None, None):
            ask(tag)
        assert recorder.flush(timeout=LONG)
    found, count = server.store.conversations(prompt_id="prompt_engines")
    assert count == 4
    sessions = [one.metadata.get("sessionId") for one in found]
    assert sorted(sessions, key=str) == [None, None, "chat-ada", "chat-ben"]
    for conversation in found:
        messages = server.store.messages(conversation)
        assert [one["content"] for one in messages if one["role"] == "user"] == [QUESTION, "Thank you!", "Bye."]
        assert sum(one["role"] == "assistant" for one in messages) == 3
