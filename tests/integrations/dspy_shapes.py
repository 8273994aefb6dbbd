"""The ways in which dspy's own engine is called, by apps through `dspy.LM` and by itself, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
from typing import TYPE_CHECKING, Any, NamedTuple

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is fetched with the first call

import pytest

from tests.integrations import anthropic_scripts, chat_scripts, gemini_scripts, responses_scripts, uses
from tests.integrations.conformance import Shape, raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integrations.scripted import Received, Reply, ScriptedModel

MISSING = "dspy 3.4 is not installed here; `make test-compat` has it"
dspy: Any = pytest.importorskip("dspy", reason=MISSING)
engines: Any = pytest.importorskip("dspy.clients.engines.lm15_engine", reason=MISSING)
lm15 = dspy.lm15

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))


def _named(prefix: str, scripts: dict[str, Callable[[Received], Reply]]) -> dict[str, Callable[[Received], Reply]]:
    return {f"{prefix}-{name}": script for name, script in scripts.items()}


SCRIPTS = {
    **_named("openai-chat", chat_scripts.SCRIPTS),
    **_named("openai", responses_scripts.SCRIPTS),
    **_named("anthropic", anthropic_scripts.SCRIPTS),
    **_named("gemini", gemini_scripts.SCRIPTS),
}

TOOL = lm15.FunctionTool("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
HI = lm15.Message.user("Hi")
LOOP = (
    lm15.Message.user("How is the weather?"),
    lm15.Message(
        "assistant", (lm15.TextPart("Let me see."), lm15.ToolCallPart("call_1", "get_weather", {"city": "Rome"}))
    ),
    lm15.Message("tool", (lm15.ToolResultPart("call_1", (lm15.TextPart("sunny"),), "get_weather"),)),
)
MEDIA = lm15.Message("user", (lm15.TextPart("See"), lm15.ImagePart("image/png", data=base64.b64encode(PNG).decode())))


class Row(NamedTuple):
    """A request and what becomes of its result."""

    name: str
    provider: str
    script: str
    method: str = "complete"
    use: str = "value"
    more: dict[str, Any] = {}  # noqa: RUF012 - nothing changes it
    turns: int = 1

    @property
    def request(self) -> Any:
        """The engine's request."""
        asked: dict[str, Any] = {"messages": (HI,), "system": "Be brief."} | self.more
        return lm15.Request(f"{self.provider}:model-1", **asked)


def plain(name: str, provider: str = "openai-chat", script: str | None = None, **more: Any) -> Row:
    return Row(f"{provider}-{name}", provider, script or name, more=more)


def streamed(name: str, provider: str = "openai-chat", script: str = "stream", use: str = "read", **more: Any) -> Row:
    turns = more.pop("turns", 1)
    return Row(f"{provider}-stream-{name}", provider, script, "stream", use, more, turns)


ROWS = (
    plain("text"),
    plain("tools", tools=(TOOL,)),
    plain("loop", script="text", messages=LOOP, tools=(TOOL,)),
    plain("media", script="text", messages=(MEDIA,)),
    plain("length"),
    plain("refusal"),
    plain("bad-request"),
    plain("plain-text"),
    plain("text", "anthropic"),
    plain("tools", "anthropic", tools=(TOOL,)),
    plain("reasoned", "anthropic"),
    plain("overloaded", "anthropic"),
    plain("text", "openai", "r-text"),
    plain("tools", "openai", "r-tools", tools=(TOOL,)),
    plain("thoughts", "gemini"),
    plain("filtered", "gemini"),
    streamed("text"),
    streamed("tools", script="stream-tools", tools=(TOOL,)),
    streamed("usage", script="stream-usage"),
    *(streamed(use, use=use) for use in ("left", "closed", "dropped", "thread")),
    streamed("never", use="never", turns=0),
    streamed("cut", script="stream-cut"),
    streamed("error", script="stream-error"),
    streamed("missing", script="bad-request"),
    streamed("text", "anthropic"),
    streamed("reasoned", "anthropic", "stream-reasoned"),
    streamed("tools", "anthropic", "stream-tools", tools=(TOOL,)),
    streamed("text", "gemini"),
)


# -- what the app sees -------------------------------------------------------------------------------------------------


def view(value: Any) -> Any:
    """An object of the engine as plain data, with its type and without the server's date."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value if isinstance(value, str | list | None) else type(value)
    return type(value), dataclasses.asdict(value)


def config(model: ScriptedModel, row: Row) -> Any:
    """Settings of an engine that asks the scripted model."""
    url = model.base_url(f"{row.provider}-{row.script}")
    return lm15.RouterConfig(api_keys={row.provider: "k"}, base_urls={row.provider: url}, env={})


def _kind(row: Row) -> str:
    return "responses" if row.provider == "openai" else "chat"


SYNC = uses.sync(view)
ASYNC = uses.asynchronous(view)


def sync(row: Row) -> Callable[[ScriptedModel], Any]:
    """The row as a program of the sync engine."""

    def run(model: ScriptedModel) -> Any:
        engine = engines.LM15Engine(config(model, row), model_type=_kind(row))
        try:
            return SYNC[row.use](getattr(engine, row.method)(row.request))
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)
        finally:
            engine.close()

    return run


def asynchronous(row: Row) -> Callable[[ScriptedModel], Any]:
    """The row as a program of the async engine."""

    async def main(model: ScriptedModel) -> Any:
        engine = engines.AsyncLM15Engine(config(model, row), model_type=_kind(row))
        try:
            result = getattr(engine, row.method)(row.request)
            return await ASYNC[row.use](await result if asyncio.iscoroutine(result) else result)
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)
        finally:
            await engine.aclose()

    return lambda model: asyncio.run(main(model))


def held(model: ScriptedModel) -> Any:
    """A stream in a task that is cancelled while it waits for more."""
    row = streamed("held", script="stream-held")

    async def main() -> Any:
        engine = engines.AsyncLM15Engine(config(model, row))

        async def start() -> Any:
            return engine.stream(row.request)

        try:
            return await uses.cancelled(model, start, 2, view)
        finally:
            await engine.aclose()

    return asyncio.run(main())


def through_lm(model: ScriptedModel) -> Any:
    """The calls of an app: `dspy.LM`, sync and async."""
    lm = dspy.LM("openai/gpt-4o", api_base=model.base_url("openai-chat-text"), api_key="k", cache=False, num_retries=0)
    return lm("Hi"), asyncio.run(lm.acall(messages=[{"role": "user", "content": "Hi"}]))


def _shapes() -> Iterator[Shape]:
    for row in ROWS:
        yield Shape(row.name, sync(row), row.turns)
        yield Shape(f"async-{row.name}", asynchronous(row), row.turns, twin=row.name)


SHAPES = tuple(_shapes())
BESIDE = (Shape("held", held), Shape("lm", through_lm, 2))
"""Those without a twin in the other engine."""
