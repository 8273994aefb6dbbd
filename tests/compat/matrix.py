"""Each framework on each provider, streamed and not, sync and async: every turn is recorded once, its session found."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched at import
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # as above
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "AWS_EC2_METADATA_DISABLED": "true",
}

from converra.process import guard
from converra.server.run import LocalServer, serve
from tests.compat.frameworks import FRAMEWORKS, QUESTION, THANKS, without_loop
from tests.integrations.stored import recorder_for
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.compat.frameworks import Framework, Way

COUNTING = re.compile("^/api/|count.?tokens|/api/show$", re.IGNORECASE)
"""Requests that ask no model for an answer."""

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def _cells() -> Iterator[Any]:
    for name, framework in FRAMEWORKS.items():
        for provider in framework.models:
            for way in framework.odd.get(provider, framework.ways):
                yield pytest.param(framework, provider, way, id=f"{name}-{provider}-{way}")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all: some frameworks keep their clients."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.parametrize("block", [True, False], ids=["block", "session"])
@pytest.mark.parametrize(("framework", "provider", "way"), _cells())
def test_every_turn_once(
    server: LocalServer, loop: asyncio.Runner, framework: Framework, provider: str, way: Way, block: bool
) -> None:
    """In a block, and in the framework's own session, or where it has none by the history that it resends."""
    prompt, session = f"prompt_{uuid4().hex}", f"chat-{uuid4().hex}"
    before, failures = len(server.requests), guard.caught()
    model = framework.models[provider](server)
    with recorder_for(server, prompt_id=prompt) as recorder:
        with recorder.conversation(prompt, session_id=session) if block else contextlib.nullcontext():
            chat = framework.chat(model, way, session)
            loop.run(chat, context=contextvars.copy_context()) if way.asynchronous else without_loop(chat)
        assert recorder.flush(timeout=LONG)
    assert guard.caught() == failures
    asked = [one for one in server.requests[before:] if not COUNTING.search(one.path)]
    assert {one.status for one in asked} <= {200, None}
    found, count = server.store.conversations(prompt_id=prompt)
    assert count == 1, [server.store.messages(one) for one in found]
    if framework.has_sessions or block:
        assert found[0].metadata["sessionId"] == session
    check(server.store.messages(found[0]), framework, provider, way, len(asked))


def check(messages: list[dict[str, Any]], framework: Framework, provider: str, way: Way, asked: int) -> None:
    """Compare what is stored with what was said: answers and their facts, questions, the call and its result."""
    answers = [one for one in messages if one.get("model")]
    assert len(answers) == asked, messages
    assert len({one["metadata"]["messageId"] for one in messages}) == len(messages)
    for one in answers:
        assert ("usage" in one) is not (way.streamed and provider in framework.uncounted), one
        assert not one["metadata"].keys() & {"partial", "error"}, one
        assert ("timeToFirstTokenMs" in one["metadata"]) is (way.streamed or provider in framework.always_streams), one
    questions = [one["content"] for one in messages if one["role"] == "user"]
    assert len(questions) == framework.turns
    assert all(text in question for text, question in zip((QUESTION, THANKS), questions, strict=False)), questions
    first = ["user", "assistant"] if provider in framework.toolless else ["user", "tool", "tool", "assistant"]
    roles = [one["role"] for one in messages if one["role"] != "system"]
    assert roles == first + ["user", "assistant"] * (framework.turns - 1)
    used = [call for one in messages if one["role"] == "tool" for call in one.get("toolCalls", ())]
    assert {call["name"] for call in used} <= {"look_up_order"}
    assert not used or used[0].get("id") in (None, used[-1].get("id"))  # frameworks make one up for a call without
