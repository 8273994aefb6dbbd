"""A process that ends in the middle of an answer: what had arrived is delivered."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from converra.server.run import serve
from tests import warm
from tests.patience import LONG, UNHURRIED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

ASKED = "[[say:one two three four five six seven]]"

PROGRAM = f"""
import asyncio, multiprocessing, os, signal, time
import converra
from openai import AsyncOpenAI, OpenAI

CHAT = {{"model": "m", "messages": [{{"role": "user", "content": "{ASKED}"}}], "stream": True}}
kept = []

def four(stream):
    kept.append(stream)
    for _, _ in zip(range(4), stream):
        pass

def started(**settings):
    converra.instrument(flush_interval=60, **settings)
    return OpenAI().chat.completions
"""

ENDS = {
    "a block that was left": """
        chat = started()
        with converra.conversation("prompt_1"):
            four(chat.create(**CHAT))
        """,
    "a block that is open": """
        chat = started()
        converra.conversation("prompt_1").__enter__()
        four(chat.create(**CHAT))
        """,
    "no block": """
        four(started(prompt_id="prompt_1").create(**CHAT))
        """,
    "an async stream": """
        started()

        async def main():
            with converra.conversation("prompt_1"):
                kept.append(await AsyncOpenAI().chat.completions.create(**CHAT))
                for _ in range(4):
                    await anext(kept[0])

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        """,
    "SIGTERM": """
        four(started(prompt_id="prompt_1", handle_sigterm=True).create(**CHAT))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(120)
        """,
    "a child of multiprocessing": """
        def work():
            four(started(prompt_id="prompt_1").create(**CHAT))

        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        """,
}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


def stored(server: LocalServer, program: str) -> list[dict[str, Any]]:
    """Run a program to its end; the messages of the one conversation that it leaves."""
    environment = os.environ | {
        **UNHURRIED,
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "k",
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "k",
    }
    command = [sys.executable, "-c", PROGRAM + textwrap.dedent(program)]
    warm.run(command, env=environment, timeout=LONG, modules=warm.OPENAI)
    ((conversation,), _) = server.store.conversations()
    assert conversation.status == "completed"
    return list(server.store.messages(conversation))


@pytest.mark.parametrize("end", ENDS)
def test_a_stream_that_is_open_at_the_end(end: str, server: LocalServer) -> None:
    """However the process ends in order, a stream that it was reading is a turn with the text so far."""
    asked, answered = stored(server, ENDS[end])
    assert (asked["role"], asked["content"]) == ("user", ASKED)
    assert (answered["role"], answered["content"]) == ("assistant", "one two three")
    assert answered["metadata"]["partial"] is True


def test_a_background_response_that_nobody_asked_for(server: LocalServer) -> None:
    """A response that is still queued at the end is a turn that says so, with the id by which it can be asked for."""
    program = """
        started()
        with converra.conversation("prompt_1"):
            queued = OpenAI().responses.create(model="m", input="Hi", extra_body={"background": True})
        """
    asked, answered = stored(server, program)
    assert asked["content"] == "Hi"
    assert answered["content"] == "(no text: queued)"
    assert answered["metadata"]["responseId"].startswith("resp_")


def test_a_background_response_and_a_fork(server: LocalServer) -> None:
    """A forked child that asks for its parent's response records nothing: the turn is the parent's, once."""
    program = """
        def work():
            while OpenAI().responses.retrieve(queued.id).status != "completed":
                time.sleep(0.01)

        started()
        with converra.conversation("prompt_1"):
            queued = OpenAI().responses.create(model="m", input="[[say:Hello]]", extra_body={"background": True})
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        work()
        """
    said = [message["content"] for message in stored(server, program)]
    assert said[:2] == ["[[say:Hello]]", "Hello"]
    assert said[2:] in ([], ["Conversation ended."])  # where the answer was sent before the block's end was known
