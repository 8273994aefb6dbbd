"""Calls of litellm become turns: whichever provider is asked, by which of its functions, and each call once."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib.util
import os
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is fetched at import

import litellm
from openai import OpenAI

from converra.integrations.litellm.calls import ATTEMPTS
from converra.process import guard
from tests import warm
from tests.integrations import scripted
from tests.integrations.anthropic_scripts import SCRIPTS as ANTHROPIC_SCRIPTS
from tests.integrations.chat_scripts import completion
from tests.integrations.litellm_shapes import SCRIPTS, close
from tests.integrations.stored import bare, recorder_for, stored
from tests.patience import LONG, UNHURRIED, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer

pytestmark = pytest.mark.filterwarnings("ignore")  # of litellm, which makes errors of them

litellm.suppress_debug_info = True  # it prints

HI: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
TOOL = {
    "type": "function",
    "function": {"name": "look_up_order", "parameters": {"type": "object", "properties": {"order_id": {}}}},
}
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert len(ATTEMPTS) == 0
    litellm.custom_provider_map = []
    litellm._custom_providers.clear()


def at(server: LocalServer, provider: str) -> dict[str, Any]:
    """The arguments with which a provider is asked at the local server."""
    models = {
        "openai": ("openai/gpt-4", server.openai_url),
        "hosted_vllm": ("hosted_vllm/gpt-4", server.openai_url),
        "anthropic": ("anthropic/claude-test", server.anthropic_url),
        "gemini": ("gemini/gemini-2.0-flash", f"{server.google_url}/v1beta"),
    }
    model, url = models[provider]
    return {"model": model, "api_base": url, "api_key": "k", "timeout": LONG, "max_retries": 0}


PROVIDERS = ("openai", "hosted_vllm", "anthropic", "gemini")


def said(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["role"], one["content"]) for one in messages]


def asked(server: LocalServer) -> int:
    """How many requests the model was sent."""
    return sum("/conversations" not in request.path for request in server.requests)


def run(program: Any) -> Any:
    """Run a coroutine in a loop of its own, and leave no connection open."""

    async def main() -> Any:
        try:
            return await program
        finally:
            await close()

    return asyncio.run(main())


async def _streamed(**arguments: Any) -> str:
    stream: Any = await litellm.acompletion(**arguments, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def _streamed_sync(**arguments: Any) -> str:
    stream: Any = litellm.completion(**arguments, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


CHATS: dict[str, Callable[..., Any]] = {
    "completion": litellm.completion,
    "acompletion": lambda **arguments: run(litellm.acompletion(**arguments)),
    "stream": _streamed_sync,
    "async stream": lambda **arguments: run(_streamed(**arguments)),
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider(server: LocalServer, recorder: Recorder, provider: str) -> None:
    """Plain and streamed, sync and async: one turn for each request, with the usage that the provider reported."""
    for name, chat in CHATS.items():
        before = asked(server)
        messages = stored(server, recorder, partial(chat, messages=HI, **at(server, provider)))
        assert asked(server) == before + 1, name
        assert messages[:2] == ASKED, name
        (answer,) = messages[2:]
        assert answer["role"] == "assistant", name
        assert answer["content"], name
        assert answer["metadata"]["provider"] == provider, name
        reports_when_streamed = provider in ("anthropic", "gemini")
        assert ("usage" in answer) is ("stream" not in name or reports_when_streamed), name


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_tool_call_and_its_result(server: LocalServer, recorder: Recorder, provider: str) -> None:
    """The history that the app resends, with litellm's own message objects in it, is recorded once."""

    def talk() -> None:
        history: list[Any] = [{"role": "user", "content": "Where is order 1234?"}]
        called: Any = litellm.completion(messages=history, tools=[TOOL], **at(server, provider))
        (call,) = called.choices[0].message.tool_calls
        history += [called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "late"}]
        answer: Any = litellm.completion(messages=history, tools=[TOOL], **at(server, provider))
        history += [answer.choices[0].message, {"role": "user", "content": "Thank you!"}]
        litellm.completion(messages=history, tools=[TOOL], **at(server, provider))

    messages = stored(server, recorder, talk)
    assert [one["role"] for one in messages] == ["user", "tool", "tool", "assistant", "user", "assistant"]
    assert messages[1]["toolCalls"][0]["name"] == "look_up_order"
    assert said(messages)[2] == ("tool", "late")
    assert said(messages)[4] == ("user", "Thank you!")
    assert sum("usage" in one for one in messages) == 3


def test_other_functions(server: LocalServer, recorder: Recorder) -> None:
    """Text completions, responses of any provider, Anthropic's and Google's formats, and mocks are turns as well."""
    own, claude, gemini = at(server, "hosted_vllm"), at(server, "anthropic"), at(server, "gemini")
    brief: dict[str, Any] = {"input": "Hi", "instructions": "Be brief."}
    anthropic: Any = litellm.anthropic.messages
    programs: dict[str, Callable[[], Any]] = {
        "responses": lambda: litellm.responses(**brief, **own),
        "aresponses": lambda: run(litellm.aresponses(**brief, **own)),
        "streamed response": lambda: list(litellm.responses(**brief, **at(server, "openai"), stream=True)),
        "responses of a chat": lambda: litellm.responses(**brief, **claude),
        "streamed responses of a chat": lambda: list(litellm.responses(**brief, **claude, stream=True)),
        "messages": lambda: run(anthropic.acreate(messages=HI[1:], system="Be brief.", max_tokens=9, **claude)),
        "messages of a chat": lambda: run(anthropic.acreate(messages=HI[1:], system="Be brief.", max_tokens=9, **own)),
    }
    for name, program in programs.items():
        before = asked(server)
        messages = stored(server, recorder, program)
        assert asked(server) == before + 1, name
        assert messages[:2] == ASKED, name
        assert [one["role"] for one in messages[2:]] == ["assistant"], name
        assert messages[2]["usage"], name
    text = stored(server, recorder, lambda: litellm.text_completion(prompt="Hi", **at(server, "openai")))
    assert [one["role"] for one in text] == ["user", "assistant"]
    mocked = stored(server, recorder, lambda: litellm.completion(messages=HI, mock_response="Hello", **gemini))
    assert mocked[2:] == [
        {
            "role": "assistant",
            "content": "Hello",
            "model": "gemini-2.0-flash",
            "metadata": {"provider": "gemini", "mocked": True},
        }
    ]


def test_a_chain_of_responses(server: LocalServer, recorder: Recorder) -> None:
    """Litellm packs the ids of responses into its own; the chain is one conversation nevertheless."""
    with recorder_for(server, prompt_id="prompt_chain") as chained:
        first: Any = litellm.responses(input="Hi", **at(server, "openai"))
        litellm.responses(input="And now?", previous_response_id=first.id, **at(server, "openai"))
        assert chained.flush(LONG)
        (found,), _ = server.store.conversations(prompt_id="prompt_chain")
        assert [one["role"] for one in server.store.messages(found)] == ["user", "assistant", "user", "assistant"]


def test_failures_retries_and_fallbacks(server: LocalServer, recorder: Recorder) -> None:
    """What failed is recorded with its error; what litellm or its router tries again adds only what is new."""
    wrong = [{"role": "user", "content": "[[error:500]]"}]
    failed = {
        "role": "user",
        "content": "[[error:500]]",
        "metadata": {"error": {"type": "InternalServerError", "status": 500}},
    }
    models = [
        {"model_name": "support", "litellm_params": at(server, "hosted_vllm")},
        {"model_name": "broken", "litellm_params": {**at(server, "openai"), "api_base": f"{server.openai_url}/none"}},
    ]
    router: Any = litellm.Router(
        models, fallbacks=[{"broken": ["support"]}], num_retries=1, retry_after=0, disable_cooldowns=True
    )

    def quietly(function: Callable[..., Any], **arguments: Any) -> Callable[[], Any]:
        def program() -> None:
            with pytest.raises(litellm.InternalServerError):
                function(**arguments)

        return program

    for provider in ("openai", "hosted_vllm"):
        for retries in (0, 1):
            for name in ("completion", "acompletion"):
                program = quietly(CHATS[name], messages=wrong, num_retries=retries, **at(server, provider))
                assert stored(server, recorder, program, answered=False) == [failed], (provider, retries, name)
    for name, program in {
        "sync": lambda: router.completion("broken", HI),
        "async": lambda: run(router.acompletion("broken", HI)),
    }.items():
        messages = stored(server, recorder, program)
        assert [one["role"] for one in messages] == ["system", "user", "assistant"], name
        assert messages[1]["metadata"]["error"]["type"] == "NotFoundError", name
        assert messages[2]["metadata"]["modelGroup"] == "support", name


def test_streams_of_messages(server: LocalServer, recorder: Recorder) -> None:
    """In Anthropic's format: read to the end, left or closed in the middle, through whichever provider."""
    held = ANTHROPIC_SCRIPTS["stream"](scripted.Received("", (), b""))._replace(hold=4)
    said = {"hosted_vllm": ("Hello there!", "Hel"), "anthropic": ("Good day.", "Good ")}
    if not (importlib.util.find_spec("soundfile") and importlib.util.find_spec("backoff")):
        del said["anthropic"]  # for which litellm asks for the packages of its proxy
    messages: Any = litellm.anthropic.messages

    async def talk(use: str, begin: bytes, arguments: dict[str, Any]) -> None:
        asked = {"messages": HI[1:], "system": "Be brief.", "max_tokens": 9, "timeout": LONG}
        stream = await messages.acreate(**asked, stream=True, **arguments)
        seen = b""
        async for chunk in stream:
            seen += chunk
            if use != "read" and begin in seen:
                break
        if use == "closed":
            await stream.aclose()
        del stream
        gc.collect()

    with scripted.serve({**SCRIPTS, "a-stream-held": lambda _: held}) as model:
        for provider, (whole, begin) in said.items():
            for use in ("read", "left", "closed"):
                script = "stream" if use == "read" else "stream-held"
                base = model.base_url(script if provider == "hosted_vllm" else f"a-{script}")
                there = {"model": f"{provider}/m", "api_key": "k"}
                there["api_base"] = base if provider == "hosted_vllm" else base.removesuffix("/v1")
                program = talk(use, begin.strip().encode(), there)
                *question, answer = stored(server, recorder, partial(run, program))
                assert question == ASKED, (provider, use)
                assert answer["content"] == (whole if use == "read" else begin), (provider, use)
                assert answer["metadata"].get("partial", False) is (use != "read"), (provider, use)
                assert answer["metadata"]["provider"] == provider, use


def test_uninstrument_amid_calls(server: LocalServer) -> None:
    """The app gets its answers, and what was seen by then is recorded, without an error that there was not."""
    held = scripted.document(completion({"content": "Hello there!"}))._replace(hold=0)
    with scripted.serve({**SCRIPTS, "answer-held": lambda _: held}) as model, recorder_for(server) as recorder:

        def there(script: str) -> dict[str, Any]:
            return {"model": "hosted_vllm/m", "api_base": model.base_url(script), "api_key": "k", "timeout": LONG}

        with ThreadPoolExecutor(1) as pool, recorder.conversation("prompt_1") as conversation:
            stream: Any = litellm.completion(messages=HI, stream=True, **there("stream"))
            chunks = [next(stream)]
            context = contextvars.copy_context()
            asking = pool.submit(context.run, partial(litellm.completion, messages=HI, **there("answer-held")))
            until(lambda: len(model.received) == 2)
            recorder.uninstrument()
            model.release.set()
            answer: Any = asking.result(LONG)
            chunks += stream
            gone = weakref.ref(stream)
            del stream
            until(lambda: (gc.collect(), gone() is None)[1])  # threads of litellm still log its chunks
        assert answer.choices[0].message.content == "Hello there!"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there!"
        assert recorder.flush(LONG)
        found = server.store.find(None, conversation.id or "")
        assert found is not None
        messages = [bare(message) for message in server.store.messages(found)]
        assert messages[:2] == ASKED
        assert [one["metadata"].get("partial") for one in messages[2:] if one["role"] == "assistant"] == [True]
        assert not any("error" in one.get("metadata", {}) for one in messages)


class InHouse(litellm.CustomLLM):  # type: ignore[misc]  # the package is not read by mypy
    """A provider of the app's own: it makes up an answer, or asks another client for it."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__()
        self._ask = ask

    def completion(self, *args: Any, **more: Any) -> Any:
        self._ask()
        return _made("Hello")

    def streaming(self, *args: Any, **more: Any) -> Any:
        self._ask()
        for text, finish in (("Hel", ""), ("lo", "stop")):
            yield {
                "text": text,
                "is_finished": bool(finish),
                "finish_reason": finish,
                "index": 0,
                "tool_use": None,
                "usage": None,
            }


def _made(text: str) -> Any:
    message = {"role": "assistant", "content": text}
    return litellm.ModelResponse(choices=[{"index": 0, "finish_reason": "stop", "message": message}], model="m")


def test_a_provider_of_the_apps_own(server: LocalServer, recorder: Recorder) -> None:
    """It is recorded once: not again by a client, or by litellm itself, that it asks for its answer."""
    client = OpenAI(api_key="k", base_url=server.openai_url)
    asks: dict[str, Callable[[], Any]] = {
        "nobody": lambda: None,
        "openai": lambda: client.chat.completions.create(model="m", messages=HI),
        "litellm": lambda: litellm.completion(messages=HI, **at(server, "hosted_vllm")),
    }
    for name, ask in asks.items():
        litellm.custom_provider_map = [{"provider": "in-house", "custom_handler": InHouse(ask)}]
        litellm.utils.custom_llm_setup()
        for chat in (litellm.completion, _streamed_sync):
            messages = stored(server, recorder, partial(chat, model="in-house/m", messages=HI))
            assert said(messages) == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")], name


def test_below_langchain(server: LocalServer, recorder: Recorder) -> None:
    """A run of LangChain's that calls litellm is recorded once, by LangChain's integration."""
    models = pytest.importorskip("langchain_core.language_models")

    class Model(models.SimpleChatModel):  # type: ignore[misc, name-defined]  # as above
        _llm_type = "litellm"

        def _call(self, *args: Any, **more: Any) -> str:
            answer: Any = litellm.completion(messages=HI, **at(server, "openai"))
            return str(answer.choices[0].message.content)

    messages = stored(server, recorder, partial(Model().invoke, "Hello"))
    assert [one["role"] for one in messages] == ["user", "assistant"]


def test_below_langchain_in_a_thread(server: LocalServer, recorder: Recorder) -> None:
    """So is an async one, which litellm sends from a thread, to a model whose name LangChain knows otherwise.

    A router's fallback asks a model of another name: that the first has failed is of no interest to LangChain.
    """
    models = pytest.importorskip("langchain_core.language_models")
    outputs, messages = pytest.importorskip("langchain_core.outputs"), pytest.importorskip("langchain_core.messages")

    class Model(models.BaseChatModel):  # type: ignore[misc, name-defined]  # as above
        _llm_type = "litellm"
        model: str
        ask: Any

        def _generate(self, *args: Any, **more: Any) -> Any:
            raise AssertionError

        async def _agenerate(self, *args: Any, **more: Any) -> Any:
            answer = await self.ask()
            message = messages.AIMessage(answer.choices[0].message.content)
            return outputs.ChatResult(generations=[outputs.ChatGeneration(message=message)])

    where = at(server, "hosted_vllm")
    failing = {**where, "api_base": f"{server.url}/nowhere"}
    router = litellm.Router(
        [{"model_name": "shop", "litellm_params": failing}, {"model_name": "spare", "litellm_params": where}],
        fallbacks=[{"shop": ["spare"]}],
        num_retries=0,
    )
    for name, ask in (
        ("hosted_vllm/gpt-4", partial(litellm.acompletion, messages=HI, **where)),
        ("shop", partial(router.acompletion, "shop", HI)),
    ):
        found = stored(server, recorder, lambda: run(Model(model=name, ask=ask).ainvoke("Hello")))  # noqa: B023 - at once
        assert [one["role"] for one in found] == ["user", "assistant"], name


def test_a_call_in_a_callback(server: LocalServer, recorder: Recorder) -> None:
    """A call that a callback of the app makes while litellm calls a model is a call of its own."""
    client = OpenAI(api_key="k", base_url=server.openai_url)

    class Judge(litellm.integrations.custom_logger.CustomLogger):  # type: ignore[misc]  # as above
        async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any]:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Is this fine?"}])
            return kwargs

    litellm.callbacks = [Judge()]
    try:
        messages = stored(server, recorder, lambda: CHATS["acompletion"](messages=HI, **at(server, "openai")))
    finally:
        litellm.callbacks = []
    assert ("user", "Is this fine?") in said(messages)
    assert ("user", "Hi") in said(messages)
    assert len(messages) == 5


def test_sessions(server: LocalServer) -> None:
    """A session that the app names is one conversation, also over several requests and without a resent history."""
    calls: tuple[dict[str, Any], ...] = (
        {"litellm_session_id": "session-1"},
        {"metadata": {"session_id": "session-2"}},
        {"litellm_trace_id": "trace-3"},
    )
    with recorder_for(server, prompt_id="prompt_sessions") as recorder:
        for named in calls:
            for text, chat in zip(("One", "Two", "Three"), (*CHATS.values(),), strict=False):
                chat(messages=[{"role": "user", "content": text}], **at(server, "hosted_vllm"), **named)
        assert recorder.flush(LONG)
    found, count = server.store.conversations(prompt_id="prompt_sessions")
    assert count == 3
    for conversation in found:
        texts = [text for role, text in said(server.store.messages(conversation)) if role == "user"]
        assert texts == ["One", "Two", "Three"]


def test_a_router_makes_up_trace_ids(server: LocalServer) -> None:
    """They name one call and its retries: the resent history decides, as without a session."""
    with recorder_for(server, prompt_id="prompt_router") as recorder:
        router: Any = litellm.Router([{"model_name": "m", "litellm_params": at(server, "hosted_vllm")}])
        history: list[Any] = [{"role": "user", "content": "Hi"}]
        for text in ("Thank you!", ""):
            history += [router.completion("m", history).choices[0].message, {"role": "user", "content": text}]
        assert recorder.flush(LONG)
    _, count = server.store.conversations(prompt_id="prompt_router")
    assert count == 1


def test_the_app_does_not_notice(server: LocalServer) -> None:
    """Nothing of ours is among litellm's callbacks, and an app that replaces them loses no turn."""
    names = ("callbacks", "input_callback", "success_callback", "failure_callback", "_async_success_callback")
    before = {name: list(getattr(litellm, name)) for name in names}
    with recorder_for(server) as recorder:
        litellm.completion(messages=HI, **at(server, "hosted_vllm"))
        assert {name: list(getattr(litellm, name)) for name in names} == before
        for name in names:
            setattr(litellm, name, [])
        messages = stored(server, recorder, lambda: CHATS["acompletion"](messages=HI, **at(server, "hosted_vllm")))
        assert len(messages) == 3


def test_a_call_outside_of_the_block_of_another_thread(
    server: LocalServer, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Litellm moves async calls to threads of its pool; they are not taken for calls that have lost their block."""
    guard.reset_log_limits()
    with recorder.conversation("prompt_1"):

        async def main() -> None:
            outside = contextvars.Context()
            await asyncio.create_task(
                litellm.acompletion(messages=HI, **at(server, "hosted_vllm")),
                context=outside,
            )

        run(main())
    assert "outside any conversation" in caplog.text
    assert "in another thread" not in caplog.text


def test_an_answer_from_litellms_cache(server: LocalServer, recorder: Recorder) -> None:
    """It is a turn of the conversation; the model was not asked, so it has no usage."""
    pytest.importorskip("fastapi", reason="current versions of litellm need it for a cached answer")
    pytest.importorskip("soundfile", reason="as above")
    litellm.cache = litellm.Cache(type="local")
    try:
        for chat in (litellm.completion, _streamed_sync):
            first = stored(server, recorder, partial(chat, messages=HI, **at(server, "anthropic")))
            until(partial(_is_cached, server, chat))
            before = asked(server)
            again = stored(server, recorder, partial(chat, messages=HI, **at(server, "anthropic")))
            assert asked(server) == before
            assert said(again) == said(first)
            assert "usage" in first[2]
            assert "usage" not in again[2]
            assert again[2]["metadata"] == {"provider": "anthropic", "cacheHit": True}
    finally:
        litellm.cache = None


def _is_cached(server: LocalServer, chat: Callable[..., Any]) -> bool:
    """Ask again, without a conversation: a thread of litellm's puts a streamed answer into the cache."""
    before = asked(server)
    chat(messages=HI, **at(server, "anthropic"))
    return asked(server) == before


PROGRAM = """
import asyncio, os, sys
import converra
from converra.server.run import serve

with serve() as server:
    report = converra.instrument("p", api_key="k", base_url=server.base_url)
    assert any(row.target.startswith("litellm") and row.state == "waiting" for row in report)
    from litellm import Logging, acompletion, completion
    patched = Logging.__dict__["pre_call"]
    there = {"api_base": server.openai_url, "api_key": "k"}
    with converra.conversation("q") as conversation:
        for model in ("hosted_vllm/m", "openai/m"):
            completion(model, [{"role": "user", "content": f"Hi, {model}"}], **there)
            asyncio.run(acompletion(model, [{"role": "user", "content": f"Thanks, {model}"}], **there))
    converra.uninstrument()
    assert patched.__wrapped__ is Logging.__dict__["pre_call"]
    completion("hosted_vllm/m", [{"role": "user", "content": "Not recorded"}], **there)
    assert converra.flush(60)
    found, count = server.store.conversations()
    assert count == 1, count
    messages = server.store.messages(found[0])
    print([message["role"] for message in messages])
"""


def test_imported_after_instrument() -> None:
    """Functions that an app takes from litellm are recorded until `uninstrument`, also where a loop ends at once."""
    environment = {**os.environ, **UNHURRIED, "PYTHONWARNINGS": "ignore"}
    done = warm.run(
        [sys.executable, "-c", PROGRAM],
        modules=warm.LIBRARIES,
        capture_output=True,
        text=True,
        env=environment,
        timeout=LONG,
    )
    assert done.returncode == 0, done.stderr
    assert "converra failed" not in done.stderr
    assert done.stdout.splitlines()[-1] == repr(["user", "assistant"] * 4)
