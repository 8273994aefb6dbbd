"""Threads and pools inside of a block: what they record where, and what is said of it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import openai
import pytest

from converra.capture.recorder import Recorder
from converra.config import load
from converra.process import guard
from converra.server.run import LocalServer, serve
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class App:
    """An app that is captured, and what the API holds of it."""

    def __init__(self, server: LocalServer, prompt_id: str | None) -> None:
        made = {"api_key": "k", "base_url": server.base_url, "flush_interval": 3600.0, "timeout": LONG}
        self.recorder = Recorder(load({**made, "prompt_id": prompt_id}, {}))
        self.recorder.instrument()
        self.server = server
        self.client = openai.OpenAI(api_key="none", base_url=server.openai_url, max_retries=0)

    def call(self, number: int) -> None:
        asked: Any = [{"role": "user", "content": f"[[say:{number}]]"}]
        self.client.chat.completions.create(model="m", messages=asked)

    def held(self) -> Counter[tuple[str, tuple[str, ...]]]:
        """Prompt and answers of each conversation, once the app has ended."""
        assert self.recorder.shutdown(LONG)
        found, _ = self.server.store.conversations(limit=1000)
        return Counter((c.prompt_id, tuple(sorted(self._answers(c)))) for c in found)

    def _answers(self, conversation: Any) -> list[str]:
        return [m["content"] for m in self.server.store.messages(conversation) if m["role"] == "assistant"]


@pytest.fixture
def start(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., App]]:
    """Starts apps; each has a server of its own."""
    guard.reset_log_limits()
    caplog.set_level(logging.WARNING)
    with serve() as server:
        apps: list[App] = []

        def begin(prompt_id: str | None = None) -> App:
            apps.append(App(server, prompt_id))
            return apps[-1]

        yield begin
        for app in apps:
            app.recorder.uninstrument()
            app.recorder.shutdown(5)
            app.client.close()


def in_a_plain_pool(app: App) -> None:
    with ThreadPoolExecutor(3, thread_name_prefix="pool") as pool:
        list(pool.map(app.call, range(10)))


def in_the_loops_executor(app: App) -> None:
    async def calls() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(3, thread_name_prefix="pool") as pool:
            await asyncio.gather(*[loop.run_in_executor(pool, app.call, n) for n in range(10)])

    asyncio.run(calls())


def in_plain_threads(app: App) -> None:
    threads = [threading.Thread(target=app.call, args=(n,), name=f"pool_{n}") for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_a_pool_with_contexts(app: App) -> None:
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(contextvars.copy_context().run, app.call, n) for n in range(10)]:
            done.result()


def in_asyncio_to_thread(app: App) -> None:
    async def calls() -> None:
        await asyncio.gather(*[asyncio.to_thread(app.call, n) for n in range(10)])

    asyncio.run(calls())


def in_a_pool_that_enters_the_block(app: App) -> None:
    block = app.recorder.current_conversation()
    assert block is not None

    def call(number: int) -> None:
        with block:
            app.call(number)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(call, range(10)))


NUMBERS = tuple(map(str, range(10)))


@pytest.mark.parametrize("prompt_id", [None, "own"], ids=["no prompt", "a prompt"])
@pytest.mark.parametrize("way", [in_a_pool_with_contexts, in_asyncio_to_thread, in_a_pool_that_enters_the_block])
def test_a_thread_that_is_given_the_context_records_in_the_block(
    start: Callable[..., App], caplog: pytest.LogCaptureFixture, way: Callable[[App], None], prompt_id: str | None
) -> None:
    """Ten calls in a pool: all of them in that conversation, and nothing to warn of."""
    app = start(prompt_id)
    with app.recorder.conversation("block"):
        way(app)
    assert app.held() == Counter({("block", NUMBERS): 1})
    assert caplog.messages == []


@pytest.mark.parametrize("prompt_id", [None, "own"], ids=["no prompt", "a prompt"])
@pytest.mark.parametrize("way", [in_a_plain_pool, in_the_loops_executor, in_plain_threads])
def test_a_thread_that_is_not_given_the_context_is_told_of_once(
    start: Callable[..., App], caplog: pytest.LogCaptureFixture, way: Callable[[App], None], prompt_id: str | None
) -> None:
    """Python starts threads without a context: one warning says which thread, what becomes of it and what to do."""
    app = start(prompt_id)
    with app.recorder.conversation("block"):
        app.call(77)
        way(app)
    alone = Counter({("own", (number,)): 1 for number in NUMBERS}) if prompt_id else Counter()
    assert app.held() == Counter({("block", ("77",)): 1}) + alone
    (source,) = caplog.messages
    assert "thread pool_" in source
    assert ("recorded in a conversation of its own" if prompt_id else "not recorded") in source
    assert "pool.submit(contextvars.copy_context().run, function, ...)" in source


def test_threads_that_open_blocks_themselves_are_not_warned_of(
    start: Callable[..., App], caplog: pytest.LogCaptureFixture
) -> None:
    """A server's worker threads know what they do: some requests have a block, others are left to the prompt."""
    app = start("own")
    inside, done = threading.Barrier(2), threading.Barrier(2)

    def work(number: int) -> None:
        with app.recorder.conversation("block"):
            inside.wait(LONG)
        if number:
            app.call(number)
        done.wait(LONG)

    with ThreadPoolExecutor(2) as pool, app.recorder.conversation("another"):
        list(pool.map(work, range(2)))
    assert app.held() == Counter({("own", ("1",)): 1})
    assert caplog.messages == []
