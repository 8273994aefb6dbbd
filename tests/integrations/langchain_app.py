"""An app on LangChain against a local API and its stand-in model, and what of it was recorded."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import openai
from langchain_openai import ChatOpenAI

import converra
from converra import _default
from converra.capture.recorder import Recorder
from converra.config import load
from converra.integrations.langchain.runs import FAILED, RUNS, TOOLS, TRACES
from converra.process import guard
from converra.server.run import serve
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from langchain_core.messages import BaseMessage

    from converra.server.run import LocalServer
    from converra.server.store.records import Conversation

T = TypeVar("T")

FACTS = frozenset({"messageId", "traceId", "spanId"})
TIMES = frozenset({"timeToFirstTokenMs"})


class App:
    """A server, a recorder that is also the process-wide one, and models of the server's."""

    MODEL: ClassVar[dict[str, Any]] = {"model": "gpt-4o", "api_key": "none", "max_retries": 0}

    def __init__(self, server: LocalServer, recorder: Recorder, http: Any) -> None:
        self.server = server
        self.recorder = recorder
        self._http = http
        self._async_http: Any = None

    def model(self, **settings: Any) -> ChatOpenAI:
        """A real chat model over HTTP."""
        clients = {"http_client": self._http, "http_async_client": self._async_http}
        return ChatOpenAI(**{**self.MODEL, **clients, "base_url": self.server.openai_url, **settings})

    def run(self, main: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run the app's asynchronous part."""

        async def connected() -> T:
            async with openai.DefaultAsyncHttpxClient(verify=False) as self._async_http:
                return await main(self, *args)

        return asyncio.run(connected())

    def restart(self) -> None:
        """End as a process ends, and begin as the next one does: with a recorder that knows nothing."""
        self.recorder.uninstrument()
        self.recorder.shutdown(5)
        _default._recorder = self.recorder = Recorder(self.recorder.config)
        self.recorder.instrument()

    def asked(self) -> int:
        """How many requests the model has answered."""
        return sum(request.path.startswith("/openai") for request in self.server.requests)

    def stored(self) -> list[Conversation]:
        """What the API holds, oldest first."""
        settle()
        assert self.recorder.flush(LONG)
        found, _ = self.server.store.conversations(limit=10_000)
        return found[::-1]

    def conversations(self) -> list[tuple[str, list[Any]]]:
        """Status and messages of every conversation."""
        return [(stored.status, brief(self.server.store.messages(stored))) for stored in self.stored()]

    def messages(self) -> list[Any]:
        """The messages of the only conversation."""
        ((_, messages),) = self.conversations()
        return messages


@contextlib.contextmanager
def running(*, instrumented: bool = True, **settings: Any) -> Iterator[App]:
    """An app from its start to its end; nothing of a run is kept afterwards, and nothing of ours has failed."""
    guard.reset_log_limits()
    before = guard.caught()
    with serve() as server:
        defaults = {"api_key": "key", "base_url": server.base_url, "flush_interval": 3600.0, "timeout": LONG}
        recorder = Recorder(load({**defaults, **settings}, {}))
        _default._recorder = recorder
        try:
            if instrumented:
                recorder.instrument()
            with openai.DefaultHttpxClient(verify=False) as http:
                yield App(server, recorder, http)
        finally:
            converra.uninstrument()
            converra.shutdown(5)
            _default._recorder = None
    assert guard.caught() == before, "converra failed inside its guard"
    assert settle() == (0, 0, 0, 0), "state of runs is left behind"


def settle() -> tuple[int, int, int, int]:
    """Have what was dropped collected, if anything was; then count what is kept of runs."""
    if RUNS or TRACES or TOOLS or FAILED:
        gc.collect()
    return len(RUNS), len(TRACES), len(TOOLS), len(FAILED)


def brief(messages: list[dict[str, Any]]) -> list[Any]:
    """Messages as tuples of role, content and all else; ids by order of appearance, times as whether there is one."""
    ids: dict[str, str] = {}
    numbered = [
        _numbered(message["metadata"]["messageId"], ids, "message") for message in messages if "metadata" in message
    ]
    assert len(numbered) == len(set(numbered)), "a message arrived twice"
    return [_brief(message, ids) for message in messages]


def _brief(message: dict[str, Any], ids: dict[str, str]) -> Any:
    rest = {key: value for key, value in message.items() if key not in ("role", "content", "timestamp", "metadata")}
    metadata = {key: value for key, value in message.get("metadata", {}).items() if key not in FACTS}
    for key in TIMES & metadata.keys():
        metadata[key] = metadata[key] >= 0
    if "audio" in metadata:
        metadata["audio"] = sorted(metadata["audio"])
    if metadata:
        rest["metadata"] = metadata
    if "latencyMs" in rest:
        rest["latencyMs"] = rest["latencyMs"] >= 0
    rest = _plain(rest, ids)
    return (message["role"], message["content"], rest) if rest else (message["role"], message["content"])


def _plain(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, ids) for item in value]
    if isinstance(value, str) and re.fullmatch(r"(call|fc|rs|msg|ws)_\d{6}|[0-9a-f]{16}-\d+", value):
        return _numbered(value, ids, value.partition("_")[0] if "_" in value else "message")
    return value


def _numbered(value: str, ids: dict[str, str], kind: str) -> str:
    return ids.setdefault(value, f"{kind}_{sum(known.startswith(kind) for known in ids.values()) + 1}")


def agent_of(model: Any, tools: list[Any], *, system_prompt: str | None = None, **settings: Any) -> Any:
    """An agent as `langchain.agents` makes it, or in the time of LangChain 0.3 LangGraph."""
    try:
        from langchain.agents import create_agent
    except ImportError:
        from langgraph.prebuilt import create_react_agent

        return create_react_agent(model, tools, prompt=system_prompt, **settings)
    return create_agent(model, tools, system_prompt=system_prompt, **settings)


def source(messages: list[BaseMessage]) -> list[str]:
    """What the app itself sees of an agent's messages."""
    return [str(message.content) for message in messages]
