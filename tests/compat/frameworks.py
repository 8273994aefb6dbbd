"""Chats of two turns, with a tool in the first, as an app holds them in each framework, on each of its providers.

A chat is one coroutine for all ways: without an event loop it calls what is sync, and never waits.
"""

# ruff: noqa: N806 - classes of modules that one environment has, and the next has not
from __future__ import annotations

import importlib
import inspect
import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pydantic
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Coroutine, Mapping

    from converra.server.run import LocalServer

T = TypeVar("T")

QUESTION, THANKS = "Where is order 1234?", "Thank you!"
"""The first of them is answered with a call of the tool."""

SYSTEM = "Be brief."
FOUND = '{"order_id": 1234, "status": "late"}'

OPENAI_MODEL, CLAUDE, GEMINI, NOVA = "gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash", "eu.amazon.nova-pro-v1:0"
"""Names that frameworks know; the stand-in answers for any."""


class Way(NamedTuple):
    """The way in which a model is called."""

    streamed: bool
    asynchronous: bool

    def __str__(self) -> str:
        return ("async" if self.asynchronous else "sync") + ("-stream" if self.streamed else "")


WAYS = tuple(Way(streamed, asynchronous) for asynchronous in (False, True) for streamed in (False, True))
ASYNC = WAYS[2:]


class Framework(NamedTuple):
    """A framework: its chat, and its models by provider."""

    chat: Callable[[Any, Way, str], Coroutine[Any, Any, Any]]
    """Holds the chat with a model, in a session of that name if the framework has sessions."""
    models: Mapping[str, Callable[[LocalServer], Any]]
    """Makes the model of a provider."""
    ways: tuple[Way, ...] = WAYS
    has_sessions: bool = False
    toolless: Container[str] = ()
    """Providers with which no tool is called in the first turn."""
    turns: int = 2
    odd: Mapping[str, tuple[Way, ...]] = {}
    """Ways of single providers, where they are others.

    LlamaIndex reads Bedrock's async streams in threads of a pool, to which no context is copied. ADK's sync runs make
    an event loop each, in which its client of Anthropic asks again. instructor has no streams of Bedrock, and no sync
    ones of litellm.
    """
    always_streams: frozenset[str] = frozenset()
    """Providers that are asked for a stream in any case."""
    uncounted: frozenset[str] = frozenset()
    """Providers of whose streams no usage is asked for."""


def without_loop(chat: Coroutine[Any, Any, T]) -> T:
    """Run a chat that only calls what is sync."""
    try:
        chat.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    message = "a sync chat waits for an event loop"
    raise AssertionError(message)


async def done(value: Any) -> Any:
    """Return the value of a call, sync or async."""
    return await value if inspect.isawaitable(value) else value


async def read(stream: Any) -> list[Any]:
    """Return the chunks of a stream, sync or async."""
    stream = await done(stream)
    return [chunk async for chunk in stream] if hasattr(stream, "__aiter__") else list(stream)


def imported(module: str) -> Any:
    """Import a module of a framework that one environment has, and the next has not."""
    return importlib.import_module(module)


def maker(package: str, name: str, **settings: Any) -> Callable[[LocalServer], Any]:
    """Return a maker of a model; a setting that is a function is asked for its value, with the server."""

    def make(server: LocalServer) -> Any:
        given = {key: value(server) if callable(value) else value for key, value in settings.items()}
        return getattr(imported(package), name)(**given)

    return make


def look_up_order(order_id: str) -> str:
    """Where an order is and when it arrives.

    Args:
        order_id: The number of the order.

    """
    return FOUND


class Person(pydantic.BaseModel):
    """What structured answers are parsed into."""

    name: str
    age: int


# -- LangChain and LangGraph -------------------------------------------------------------------------------------------


async def _langchain(model: Any, way: Way, _session: str) -> None:
    messages = imported("langchain_core.messages")
    HumanMessage = messages.HumanMessage
    SystemMessage = messages.SystemMessage
    ToolMessage = messages.ToolMessage
    tool = imported("langchain_core.tools").tool

    bound = model.bind_tools([tool(look_up_order)])

    async def answered() -> Any:
        if not way.streamed:
            return await done((bound.ainvoke if way.asynchronous else bound.invoke)(history))
        first, *others = await read((bound.astream if way.asynchronous else bound.stream)(history))
        for chunk in others:
            first += chunk
        return first

    history: list[Any] = [SystemMessage(SYSTEM)]
    for text in (QUESTION, THANKS):
        history.append(HumanMessage(text))
        history.append(await answered())
        while history[-1].tool_calls:
            history += [ToolMessage(FOUND, tool_call_id=call["id"]) for call in history[-1].tool_calls]
            history.append(await answered())


async def _langgraph(model: Any, way: Way, session: str) -> None:
    create_agent = imported("langchain.agents").create_agent
    tool = imported("langchain_core.tools").tool
    InMemorySaver = imported("langgraph.checkpoint.memory").InMemorySaver

    agent: Any = create_agent(model, [tool(look_up_order)], system_prompt=SYSTEM, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": session}}
    for text in (QUESTION, THANKS):
        given = {"messages": [("user", text)]}
        if way.streamed:
            stream = agent.astream if way.asynchronous else agent.stream
            assert await read(stream(given, config, stream_mode="messages"))
        else:
            await done((agent.ainvoke if way.asynchronous else agent.invoke)(given, config))


_AWS: dict[str, Any] = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}

LANGCHAIN_MODELS = {
    "openai chat": maker(
        "langchain_openai",
        "ChatOpenAI",
        model=OPENAI_MODEL,
        api_key="k",
        base_url=lambda server: server.openai_url,
        stream_usage=True,
    ),
    "openai responses": maker(
        "langchain_openai",
        "ChatOpenAI",
        model=OPENAI_MODEL,
        api_key="k",
        base_url=lambda server: server.openai_url,
        use_responses_api=True,
    ),
    "anthropic": maker(
        "langchain_anthropic",
        "ChatAnthropic",
        model=CLAUDE,
        api_key="k",
        base_url=lambda server: server.anthropic_url,
    ),
    "google-genai": maker(
        "langchain_google_genai",
        "ChatGoogleGenerativeAI",
        model=GEMINI,
        api_key="k",
        base_url=lambda server: server.google_url,
    ),
    "litellm": maker(
        "langchain_litellm",
        "ChatLiteLLM",
        model="hosted_vllm/gpt-4",
        api_key="k",
        api_base=lambda server: server.openai_url,
    ),
    "bedrock converse": maker(
        "langchain_aws",
        "ChatBedrockConverse",
        **{"model": NOVA, **_AWS, "base_url": lambda server: server.bedrock_url},
    ),
    "mistral": maker(
        "langchain_mistralai",
        "ChatMistralAI",
        model="mistral-small",
        api_key="k",
        endpoint=lambda server: f"{server.mistral_url}/v1",
    ),
    "ollama": maker("langchain_ollama", "ChatOllama", model="llama3.2", base_url=lambda server: server.ollama_url),
    "groq": maker("langchain_groq", "ChatGroq", model="llama-3.3", api_key="k", base_url=lambda server: server.url),
}

# -- pydantic-ai -------------------------------------------------------------------------------------------------------


async def _pydantic_ai(model: Any, way: Way, session: str) -> None:
    Agent = imported("pydantic_ai").Agent

    agent: Any = Agent(model, name="support", instructions=SYSTEM, tools=[look_up_order])
    history: Any = None
    for text in (QUESTION, THANKS):
        given: dict[str, Any] = {"message_history": history, "conversation_id": session}
        if not way.streamed:
            result = await done((agent.run if way.asynchronous else agent.run_sync)(text, **given))
        elif way.asynchronous:
            async with agent.run_stream(text, **given) as result:
                assert await read(result.stream_text())
        else:
            result = agent.run_stream_sync(text, **given)
            assert await read(result.stream_text())
        history = result.all_messages()


def _of_pydantic_ai(kind: str, name: str, provider: Callable[[LocalServer], Any]) -> Callable[[LocalServer], Any]:
    def make(server: LocalServer) -> Any:
        module, _, model = kind.partition(":")
        found = getattr(imported(f"pydantic_ai.models.{module}"), model)
        return found(name, provider=provider(server))

    return make


def _provider(module: str, name: str, **fixed: Any) -> Callable[[LocalServer], Any]:
    return maker(f"pydantic_ai.providers.{module}", name, **fixed)


_OPENAI = _provider("openai", "OpenAIProvider", api_key="k", base_url=lambda server: server.openai_url)

PYDANTIC_MODELS = {
    "openai chat": _of_pydantic_ai("openai:OpenAIChatModel", OPENAI_MODEL, _OPENAI),
    "openai responses": _of_pydantic_ai("openai:OpenAIResponsesModel", OPENAI_MODEL, _OPENAI),
    "anthropic": _of_pydantic_ai(
        "anthropic:AnthropicModel",
        CLAUDE,
        _provider("anthropic", "AnthropicProvider", api_key="k", base_url=lambda server: server.anthropic_url),
    ),
    "google-genai": _of_pydantic_ai(
        "google:GoogleModel",
        GEMINI,
        _provider("google", "GoogleProvider", api_key="k", base_url=lambda server: server.google_url),
    ),
    "litellm": _of_pydantic_ai(
        "openai:OpenAIChatModel",
        "gpt-4",
        _provider("litellm", "LiteLLMProvider", api_key="k", api_base=lambda server: server.openai_url),
    ),
    "bedrock converse": _of_pydantic_ai(
        "bedrock:BedrockConverseModel",
        NOVA,
        _provider("bedrock", "BedrockProvider", **_AWS, base_url=lambda server: server.bedrock_url),
    ),
    "mistral": _of_pydantic_ai(
        "mistral:MistralModel",
        "mistral-small",
        _provider("mistral", "MistralProvider", api_key="k", base_url=lambda server: server.mistral_url),
    ),
    "ollama": _of_pydantic_ai(
        "ollama:OllamaModel",
        "llama3.2",
        _provider("ollama", "OllamaProvider", api_key="k", base_url=lambda server: server.openai_url),
    ),
    "groq": _of_pydantic_ai(
        "groq:GroqModel",
        "llama-3.3",
        _provider("groq", "GroqProvider", api_key="k", base_url=lambda server: server.url),
    ),
}

# -- LlamaIndex --------------------------------------------------------------------------------------------------------


async def _llama_index(model: Any, way: Way, session: str) -> None:
    """Calls of a model by hand; the app's tag is the session."""
    instrument_tags = imported("llama_index.core.instrumentation.dispatcher").instrument_tags
    ChatMessage = imported("llama_index.core.llms").ChatMessage
    FunctionTool = imported("llama_index.core.tools").FunctionTool

    tool = FunctionTool.from_defaults(look_up_order)
    kind = ("a" if way.asynchronous else "") + ("stream_" if way.streamed else "")

    async def answered() -> Any:
        found = await done(getattr(model, f"{kind}chat_with_tools")([tool], chat_history=history))
        return (await read(found))[-1] if way.streamed else found

    history: list[Any] = [ChatMessage(role="system", content=SYSTEM)]
    with instrument_tags({"session_id": session}):
        for text in (QUESTION, THANKS):
            history.append(ChatMessage(role="user", content=text))
            answer = await answered()
            while calls := model.get_tool_calls_from_response(answer, error_on_no_tool_call=False):
                history.append(answer.message)
                for call in calls:
                    more = {"tool_call_id": call.tool_id, "name": call.tool_name}
                    history.append(ChatMessage(role="tool", content=FOUND, additional_kwargs=more))
                answer = await answered()
            history.append(answer.message)


async def _llama_agent(model: Any, way: Way, session: str) -> None:
    FunctionAgent = imported("llama_index.core.agent.workflow").FunctionAgent
    Memory = imported("llama_index.core.memory").Memory
    Context = imported("llama_index.core.workflow").Context

    agent = FunctionAgent(
        name="support", llm=model, tools=[look_up_order], system_prompt=SYSTEM, streaming=way.streamed
    )
    context, memory = Context(agent), Memory.from_defaults(session_id=session)
    for text in (QUESTION, THANKS):
        await agent.run(text, ctx=context, memory=memory)


def _of_llama_index(module: str, name: str, **settings: Any) -> Callable[[LocalServer], Any]:
    return maker(f"llama_index.llms.{module}", name, **settings)


LLAMA_MODELS = {
    "openai chat": _of_llama_index(
        "openai",
        "OpenAI",
        model=OPENAI_MODEL,
        api_key="k",
        api_base=lambda server: server.openai_url,
        additional_kwargs={"stream_options": {"include_usage": True}},
    ),
    "openai responses": _of_llama_index(
        "openai", "OpenAIResponses", model=OPENAI_MODEL, api_key="k", api_base=lambda server: server.openai_url
    ),
    "anthropic": _of_llama_index(
        "anthropic", "Anthropic", model=CLAUDE, api_key="k", base_url=lambda server: server.anthropic_url
    ),
    "google-genai": _of_llama_index(
        "google_genai",
        "GoogleGenAI",
        model=GEMINI,
        api_key="k",
        http_options=lambda server: {"base_url": server.google_url},
        max_tokens=512,
        context_window=8192,  # else it asks the provider for them
    ),
    "litellm": _of_llama_index(
        "litellm",
        "LiteLLM",
        model="deepseek/deepseek-chat",
        api_key="k",
        api_base=lambda server: server.openai_url,
    ),
    "bedrock converse": _of_llama_index(
        "bedrock_converse",
        "BedrockConverse",
        **{"model": "amazon.nova-pro-v1:0", **_AWS, "endpoint_url": lambda server: server.bedrock_url},
    ),
    "mistral": _of_llama_index(
        "mistralai",
        "MistralAI",
        model="mistral-small-latest",
        api_key="k",
        endpoint=lambda server: server.mistral_url,
    ),
    "ollama": _of_llama_index(
        "ollama", "Ollama", model="llama3.2", base_url=lambda server: server.ollama_url, context_window=8192
    ),
    "groq": _of_llama_index("groq", "Groq", model="llama-3.3", api_key="k", api_base=lambda server: server.openai_url),
}

# -- OpenAI Agents SDK -------------------------------------------------------------------------------------------------


async def _agents(model: Any, way: Way, session: str) -> None:
    agents = imported("agents")

    agents.set_trace_processors([])  # the default one sends its spans to OpenAI
    given: Any = {"tools": [agents.function_tool(look_up_order)], "model": model}
    given["model_settings"] = agents.ModelSettings(include_usage=True)  # also of streams
    agent = agents.Agent("support", instructions=SYSTEM, **given)
    settings, history = agents.RunConfig(group_id=session), []
    for text in (QUESTION, THANKS):
        history += [{"role": "user", "content": text}]
        if way.streamed:
            result = agents.Runner.run_streamed(agent, history, run_config=settings)
            await read(result.stream_events())
        else:
            ask = agents.Runner.run if way.asynchronous else agents.Runner.run_sync
            result = await done(ask(agent, history, run_config=settings))
        history = result.to_input_list()


def _of_agents(name: str) -> Callable[[LocalServer], Any]:
    def make(server: LocalServer) -> Any:
        agents = imported("agents")
        openai = imported("openai")

        client = openai.AsyncOpenAI(api_key="k", base_url=server.openai_url)
        return getattr(agents, name)(OPENAI_MODEL, openai_client=client)

    return make


def _of_litellm(model: str, url: Callable[[LocalServer], str]) -> Callable[[LocalServer], Any]:
    return maker("agents.extensions.models.litellm_model", "LitellmModel", model=model, api_key="k", base_url=url)


AGENTS_MODELS = {
    "openai chat": _of_agents("OpenAIChatCompletionsModel"),
    "openai responses": _of_agents("OpenAIResponsesModel"),
    "litellm": _of_litellm("hosted_vllm/gpt-4", lambda server: server.openai_url),
    "litellm openai": _of_litellm("openai/gpt-4", lambda server: server.openai_url),
    "litellm anthropic": _of_litellm(f"anthropic/{CLAUDE}", lambda server: server.anthropic_url),
    "litellm ollama": _of_litellm("ollama_chat/llama3.2", lambda server: server.ollama_url),
    "litellm deepseek": _of_litellm("deepseek/deepseek-chat", lambda server: server.openai_url),
    "litellm mistral": _of_litellm("mistral/mistral-small-latest", lambda server: f"{server.mistral_url}/v1"),
}

# -- Google ADK --------------------------------------------------------------------------------------------------------


async def _adk(model: Any, way: Way, session: str) -> None:
    LlmAgent = imported("google.adk.agents").LlmAgent
    run_config = imported("google.adk.agents.run_config")
    RunConfig = run_config.RunConfig
    StreamingMode = run_config.StreamingMode
    InMemoryRunner = imported("google.adk.runners").InMemoryRunner
    types = imported("google.genai").types

    trace.set_tracer_provider(TracerProvider())  # without one, ADK's spans have no attributes
    agent = LlmAgent(name="support", model=model, instruction=SYSTEM, tools=[look_up_order])
    runner = InMemoryRunner(agent=agent, app_name="shop")
    ada = {"user_id": "ada", "session_id": session}
    service: Any = runner.session_service
    made = service.create_session if way.asynchronous else service.create_session_sync
    await done(made(app_name="shop", **ada))
    for text in (QUESTION, THANKS):
        message = types.Content(role="user", parts=[types.Part(text=text)])
        config = RunConfig(streaming_mode=StreamingMode.SSE if way.streamed else StreamingMode.NONE)
        ask = runner.run_async if way.asynchronous else runner.run
        await read(ask(**ada, new_message=message, run_config=config))


def _gemini(server: LocalServer) -> Any:
    Gemini = imported("google.adk.models").Gemini

    os.environ["GOOGLE_API_KEY"] = "k"
    return Gemini(model=GEMINI, base_url=server.google_url)


def _claude(server: LocalServer) -> Any:
    AnthropicLlm = imported("google.adk.models.anthropic_llm").AnthropicLlm

    os.environ |= {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": server.anthropic_url}
    return AnthropicLlm(model=CLAUDE)


def _adk_litellm(model: str, url: Callable[[LocalServer], str]) -> Callable[[LocalServer], Any]:
    return maker("google.adk.models.lite_llm", "LiteLlm", model=model, api_key="k", api_base=url)


ADK_MODELS = {
    "google-genai": _gemini,
    "anthropic": _claude,
    "litellm": _adk_litellm("hosted_vllm/gpt-4", lambda server: server.openai_url),
    "litellm openai": _adk_litellm("openai/gpt-4", lambda server: server.openai_url),
    "litellm anthropic": _adk_litellm(f"anthropic/{CLAUDE}", lambda server: server.anthropic_url),
    "litellm ollama": _adk_litellm("ollama_chat/llama3.2", lambda server: server.ollama_url),
    "litellm deepseek": _adk_litellm("deepseek/deepseek-chat", lambda server: server.openai_url),
}

# -- crewai ------------------------------------------------------------------------------------------------------------


async def _crewai(model: Any, way: Way, _session: str) -> None:
    crewai = imported("crewai")
    tool = imported("crewai.tools").tool

    llm = model(way.streamed)
    agent = crewai.Agent(
        role="support", goal="Answer.", backstory="A shop for tents.", llm=llm, tools=[tool(look_up_order)], max_iter=3
    )
    task = crewai.Task(description=QUESTION, expected_output="An answer.", agent=agent)
    crew = crewai.Crew(agents=[agent], tasks=[task], share_crew=False)
    await done((crew.akickoff if way.asynchronous else crew.kickoff)())


def _of_crewai(model: str, **settings: Any) -> Callable[[LocalServer], Any]:
    def make(server: LocalServer) -> Any:
        given = {key: value(server) if callable(value) else value for key, value in settings.items()}

        def connected(streamed: bool) -> Any:
            crewai = imported("crewai")

            return crewai.LLM(model, api_key="k", stream=streamed, **given)

        return connected

    return make


def _crewai_gemini(server: LocalServer) -> Any:
    os.environ |= {"GOOGLE_GEMINI_BASE_URL": server.google_url, "GOOGLE_API_KEY": "k"}
    return _of_crewai(f"gemini/{GEMINI}")(server)


def _crewai_claude(server: LocalServer) -> Any:
    os.environ |= {"ANTHROPIC_BASE_URL": server.anthropic_url, "ANTHROPIC_API_KEY": "k"}
    return _of_crewai(f"anthropic/{CLAUDE}", base_url=server.anthropic_url)(server)


def _crewai_bedrock(server: LocalServer) -> Any:
    os.environ |= {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": server.bedrock_url}
    return _of_crewai(f"bedrock/{NOVA}", **_AWS)(server)


CREWAI_MODELS = {
    "openai chat": _of_crewai("openai/gpt-4o", base_url=lambda server: server.openai_url),
    "openai responses": _of_crewai("openai/gpt-4o", base_url=lambda server: server.openai_url, api="responses"),
    "anthropic": _crewai_claude,
    "google-genai": _crewai_gemini,
    "bedrock converse": _crewai_bedrock,
    "litellm": _of_crewai("hosted_vllm/gpt-4", base_url=lambda server: server.openai_url, is_litellm=True),
    "litellm ollama": _of_crewai("ollama_chat/llama3.2", base_url=lambda server: server.ollama_url, is_litellm=True),
}

# -- dspy --------------------------------------------------------------------------------------------------------------


async def _dspy(model: Any, way: Way, _session: str) -> None:
    dspy = imported("dspy")

    predict = dspy.Predict("question, history: dspy.History -> answer")
    turns: list[Any] = []
    adapter = dspy.JSONAdapter()
    with dspy.context(lm=model, adapter=adapter):
        for text in (QUESTION, THANKS):
            given = {"question": f'{text} [[say:{{"answer": "It is late."}}]]', "history": dspy.History(messages=turns)}
            if way.streamed:
                listener = dspy.streaming.StreamListener(signature_field_name="answer", allow_reuse=True)
                program: Any = dspy.streamify(predict, stream_listeners=[listener], async_streaming=way.asynchronous)
                await read(program(**given))
            else:
                await done((predict.acall if way.asynchronous else predict)(**given))
            turns = [*turns, {"question": given["question"], "answer": "It is late."}]


def _of_dspy(model: str, url: Callable[[LocalServer], str], **settings: Any) -> Callable[[LocalServer], Any]:
    return maker("dspy", "LM", model=model, api_base=url, api_key="k", cache=False, num_retries=0, **settings)


DSPY_MODELS = {
    "openai chat": _of_dspy("openai/gpt-4o", lambda server: server.openai_url),
    "openai responses": _of_dspy("openai/gpt-4o", lambda server: server.openai_url, model_type="responses"),
    "anthropic": _of_dspy(f"anthropic/{CLAUDE}", lambda server: f"{server.anthropic_url}/v1"),
    "google-genai": _of_dspy(f"gemini/{GEMINI}", lambda server: f"{server.google_url}/v1beta"),
    "groq": _of_dspy("groq/llama-3.3-70b-versatile", lambda server: server.openai_url),
    "ollama": _of_dspy("ollama/llama3.2", lambda server: server.openai_url),
    "litellm": _of_dspy("deepseek/deepseek-chat", lambda server: server.openai_url, engine="litellm"),
    "litellm openai": _of_dspy("openai/gpt-4-turbo", lambda server: server.openai_url, engine="litellm"),
    "litellm anthropic": _of_dspy(f"anthropic/{CLAUDE}", lambda server: server.anthropic_url, engine="litellm"),
}

# -- instructor --------------------------------------------------------------------------------------------------------

PERSON = '{"name": "Ada", "age": 36}'


async def _instructor(model: Any, way: Way, _session: str) -> None:
    client, more = model(way.asynchronous)
    history: list[Any] = []
    for text in (QUESTION, THANKS):
        history.append({"role": "user", "content": f"{text} [[say:{PERSON}]]"})
        given = {"messages": list(history), "response_model": Person, **more}
        if way.streamed:
            await read(client.create_partial(**given))
        else:
            await done(client.create(**given))
        history.append(
            {"role": "model" if type(client.client).__module__.startswith("google") else "assistant", "content": PERSON}
        )


def _of_instructor(
    function: str, mode: str, client: Callable[[LocalServer, bool], Any], **more: Any
) -> Callable[[LocalServer], Any]:
    def make(server: LocalServer) -> Any:
        instructor = imported("instructor")

        def connected(asynchronous: bool) -> Any:
            module, _, name = function.partition(":")
            wrap = getattr(imported(module), name)
            own = {"use_async": asynchronous} if "genai" in name else {}
            return wrap(client(server, asynchronous), mode=getattr(instructor.Mode, mode), **own), more

        return connected

    return make


def _client(package: str, name: str, **settings: Any) -> Callable[[LocalServer, bool], Any]:
    def make(server: LocalServer, asynchronous: bool) -> Any:
        return maker(package, f"Async{name}" if asynchronous else name, **settings)(server)

    return make


def _litellm(_server: LocalServer, asynchronous: bool) -> Any:
    litellm = imported("litellm")

    return litellm.acompletion if asynchronous else litellm.completion


def _genai(server: LocalServer, _asynchronous: bool) -> Any:
    genai = imported("google").genai

    return genai.Client(api_key="k", http_options={"base_url": server.google_url})


def _boto3(server: LocalServer, _asynchronous: bool) -> Any:
    boto3 = imported("boto3")

    return boto3.client("bedrock-runtime", endpoint_url=server.bedrock_url, **_AWS)


def _mistral(server: LocalServer, _asynchronous: bool) -> Any:
    Mistral = imported("mistralai.client").Mistral

    return Mistral(api_key="k", server_url=server.mistral_url)


def _instructor_litellm(server: LocalServer) -> Any:
    where = {"model": "deepseek/deepseek-chat", "api_base": server.openai_url, "api_key": "k"}
    return _of_instructor("instructor.core.client:from_litellm", "JSON", _litellm, **where)(server)


INSTRUCTOR_MODELS = {
    "openai chat": _of_instructor(
        "instructor:from_openai",
        "JSON",
        _client("openai", "OpenAI", api_key="k", base_url=lambda server: server.openai_url),
        model=OPENAI_MODEL,
    ),
    "anthropic": _of_instructor(
        "instructor:from_anthropic",
        "ANTHROPIC_JSON",
        _client("anthropic", "Anthropic", api_key="k", base_url=lambda server: server.anthropic_url),
        model=CLAUDE,
        max_tokens=99,
    ),
    "google-genai": _of_instructor("instructor:from_genai", "GENAI_STRUCTURED_OUTPUTS", _genai, model=GEMINI),
    "groq": _of_instructor(
        "instructor:from_groq",
        "JSON",
        _client("groq", "Groq", api_key="k", base_url=lambda server: server.url),
        model="llama-3.3",
    ),
    "mistral": _of_instructor(
        "instructor:from_mistral", "MISTRAL_STRUCTURED_OUTPUTS", _mistral, model="mistral-small-latest"
    ),
    "bedrock converse": _of_instructor("instructor:from_bedrock", "BEDROCK_JSON", _boto3, modelId=NOVA),
    "litellm": _instructor_litellm,
}

GROQ = frozenset({"groq"})
"""Its API reports the counts of a stream in any case, and the stand-in where they are asked for, as OpenAI's does."""

OF_LANGCHAIN: dict[str, Any] = {
    "always_streams": frozenset({"ollama"}),
    "uncounted": GROQ,
}

OF_CREWAI: dict[str, tuple[Way, ...]] = dict.fromkeys(("openai responses", "bedrock converse"), (WAYS[0], WAYS[2]))
"""In streams of these, crewai 1.15 loses calls of tools."""

FRAMEWORKS = {
    "langchain": Framework(_langchain, LANGCHAIN_MODELS, **OF_LANGCHAIN),
    "langgraph": Framework(_langgraph, LANGCHAIN_MODELS, **OF_LANGCHAIN, has_sessions=True),
    "pydantic-ai": Framework(
        _pydantic_ai,
        PYDANTIC_MODELS,
        has_sessions=True,
        always_streams=frozenset({"anthropic"}),  # for answers that may be long
        uncounted=GROQ,
    ),
    "llama-index": Framework(
        _llama_index, LLAMA_MODELS, has_sessions=True, odd={"bedrock converse": WAYS[:3]}, uncounted=GROQ | {"litellm"}
    ),
    "llama-index-agent": Framework(
        _llama_agent,
        LLAMA_MODELS,
        ways=ASYNC,
        has_sessions=True,
        odd={"bedrock converse": ASYNC[:1]},
        uncounted=GROQ | {"litellm"},
    ),
    "openai-agents": Framework(_agents, AGENTS_MODELS, (WAYS[0], *ASYNC), has_sessions=True),
    "adk": Framework(_adk, ADK_MODELS, has_sessions=True, odd={"anthropic": ASYNC}),
    "crewai": Framework(_crewai, CREWAI_MODELS, turns=1, toolless=("litellm", "litellm ollama"), odd=OF_CREWAI),
    "dspy": Framework(_dspy, DSPY_MODELS, toolless=DSPY_MODELS, uncounted=frozenset({"litellm", "litellm openai"})),
    "instructor": Framework(
        _instructor,
        INSTRUCTOR_MODELS,
        toolless=INSTRUCTOR_MODELS,
        odd={"bedrock converse": (WAYS[0], WAYS[2]), "litellm": (WAYS[0], *ASYNC)},
        uncounted=GROQ | {"openai chat", "litellm"},
    ),
}
