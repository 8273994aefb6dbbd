"""LangChain on google-genai: one provider call is one turn, whichever of the two is asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from converra.capture.recorder import Recorder
from converra.config import load
from converra.process import guard
from converra.server.run import serve
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable

integration = pytest.importorskip("langchain_google_genai")


async def _asked(model: Any) -> None:
    await model.ainvoke("Hello")
    await model.client.aio.aclose()


async def _streamed(model: Any) -> None:
    async for _ in model.astream("Hello"):
        pass
    await model.client.aio.aclose()


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.invoke("Hello"),
        lambda model: list(model.stream("Hello")),
        lambda model: asyncio.run(_asked(model)),
        lambda model: asyncio.run(_streamed(model)),
    ],
    ids=["invoke", "stream", "ainvoke", "astream"],
)
def test_a_call_is_recorded_once(ask: Callable[[Any], Any]) -> None:
    """The client below a recorded run is not recorded a second time."""
    before = guard.caught()
    with serve() as server:
        recorder = Recorder(load({"api_key": "k", "base_url": server.base_url, "timeout": LONG}, {}))
        recorder.instrument()
        model = integration.ChatGoogleGenerativeAI(
            model="gemini-2.5-flash", google_api_key="k", base_url=server.google_url
        )
        with recorder.conversation("prompt_1") as conversation:
            ask(model)
        model.client.close()
        assert recorder.flush(timeout=LONG)
        found = server.store.find(None, conversation.id or "")
        assert found is not None
        messages = server.store.messages(found)
        recorder.uninstrument()
        recorder.shutdown(LONG)
    assert [(m["role"], m["content"]) for m in messages] == [
        ("user", "Hello"),
        ("assistant", "Hello! How can I help you today?"),
    ]
    assert messages[1]["usage"] == {"promptTokens": 4, "completionTokens": 9}
    assert guard.caught() == before
