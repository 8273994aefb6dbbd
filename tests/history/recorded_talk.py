"""Calls of a real client to a model that answers what it is told to, for conversations that are recorded."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import itertools
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import openai
import pytest

from converra.server.run import serve
from tests.integrations import scripted
from tests.integrations.chat_scripts import chunk, completion
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converra.capture.handle import Conversation
    from converra.server.run import LocalServer
    from tests.history.talk import Message
    from tests.integrations.scripted import Received, Reply


class Model:
    """A model that answers what a header of the request says, and not before it may."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.gates: dict[str, threading.Event] = {}

    def __call__(self, request: Received) -> Reply:
        headers = {name.lower(): value for name, value in request.headers}
        gate = self.gates.get(headers.get("x-gate", ""))
        if gate is not None:
            self.arrived.release()
            gate.wait(LONG)
        answer = json.loads(base64.b64decode(headers["x-answer"]))
        if answer is None:
            return scripted.document({"error": {"message": "Overloaded.", "type": "server_error"}}, 503)
        if request.json.get("stream"):
            return scripted.stream(*_chunks(answer))
        return scripted.document(completion(answer))


def _chunks(answer: Message) -> Iterator[dict[str, Any]]:
    """Word by word, and its calls in two pieces each."""
    yield chunk({"role": "assistant", "content": None if answer["content"] is None else ""})
    for word in re.findall(r"\S+\s*|\s+", answer["content"] or ""):
        yield chunk({"content": word})
    for index, call in enumerate(answer.get("tool_calls", ())):
        yield chunk({"tool_calls": [call | {"index": index, "function": call["function"] | {"arguments": ""}}]})
        yield chunk({"tool_calls": [{"index": index, "function": {"arguments": call["function"]["arguments"]}}]})
    yield chunk({}, finish="stop")


class World:
    """What outlives an example: an API, a model and the clients."""

    def __init__(self, server: LocalServer, url: str, model: Model) -> None:
        self.server = server
        self.model = model
        self.loop = asyncio.new_event_loop()
        made: dict[str, Any] = {"api_key": "none", "base_url": url, "max_retries": 0}
        self.client, self.async_client = openai.OpenAI(**made), openai.AsyncOpenAI(**made)
        self.prompts = (f"prompt_{n}" for n in itertools.count())

    def close(self) -> None:
        self.client.close()
        self.loop.run_until_complete(self.async_client.close())
        self.loop.close()


class RecordedTalk:
    """A talk whose calls are made by turns plainly, streamed and asynchronously.

    They are made in a context of its own: in one in which a block is open, or with a `session` that is entered anew for
    each call, or with neither, to be found by their history.
    """

    def __init__(self, world: World, *, block: Conversation | None = None, session: Conversation | None = None) -> None:
        self._world = world
        self._block = block
        self._session = session
        self._context = contextvars.Context()
        if block is not None:
            self._context.run(block.__enter__)
        self._ways = itertools.cycle((self._plain, self._streamed, self._asynchronous))

    def end(self) -> None:
        if self._block is not None:
            self._context.run(self._block.__exit__, None, None, None)

    def call(self, messages: Sequence[Message], answer: Message | None) -> None:
        self._context.run(self._call, next(self._ways), messages, answer)

    def side_by_side(self, requests: Sequence[Sequence[Message]], answers: Sequence[Message], first: int) -> None:
        """In two threads: both requests have arrived before the first is answered."""
        model = self._world.model
        model.gates = {str(n): threading.Event() for n in range(2)}
        calls = [(self._call, self._plain, requests[n], answers[n], str(n)) for n in range(2)]
        threads = [threading.Thread(target=self._context.copy().run, args=call) for call in calls]
        for thread in threads:
            thread.start()
            assert model.arrived.acquire(timeout=LONG)
        for n in (first, 1 - first):
            model.gates[str(n)].set()
            threads[n].join()

    def _call(self, way: Any, messages: Sequence[Message], answer: Message | None, gate: str = "") -> None:
        headers = {"x-answer": base64.b64encode(json.dumps(answer).encode()).decode(), "x-gate": gate}
        arguments = {"model": "m", "messages": list(messages), "extra_headers": headers}
        with self._session or contextlib.nullcontext():
            if answer is not None:
                way(arguments)
                return
            with pytest.raises(openai.InternalServerError):
                way(arguments)

    def _plain(self, arguments: dict[str, Any]) -> None:
        self._world.client.chat.completions.create(**arguments)

    def _streamed(self, arguments: dict[str, Any]) -> None:
        for _ in self._world.client.chat.completions.create(**arguments, stream=True):
            pass

    def _asynchronous(self, arguments: dict[str, Any]) -> None:
        self._world.loop.run_until_complete(self._world.async_client.chat.completions.create(**arguments))


@contextlib.contextmanager
def running() -> Iterator[World]:
    """An API and a model, for a while."""
    model = Model()
    with serve() as server, scripted.serve({"model": model}) as scripts:
        made = World(server, scripts.base_url("model"), model)
        yield made
        made.close()
