"""One session, several processes: a recorder each, which deliver when they can."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import openai
import pytest

from converra.capture.recorder import Recorder
from converra.config import load
from converra.process import guard
from converra.server.run import LocalServer, serve
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM: Any = {"role": "system", "content": "You help."}


@pytest.fixture(params=[False, True], ids=["messages shown", "messages hidden"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A local API that shows the messages of a conversation, and one that does not."""
    guard.reset_log_limits()
    with serve() as running:
        running.faults.hide_messages = request.param
        yield running


class Workers:
    """The processes of one app, by letter; a capital one cannot deliver before `catch_up`, for it has no key yet."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._client = openai.OpenAI(api_key="none", base_url=server.openai_url, max_retries=0)
        self.recorders: dict[str, Recorder] = {}
        self.history: list[Any] = [SYSTEM]

    def recorder(self, worker: str) -> Recorder:
        if worker not in self.recorders:
            made = {"base_url": self._server.base_url, "flush_interval": 3600.0, "timeout": LONG}
            self.recorders[worker] = Recorder(load(made if worker.isupper() else {**made, "api_key": "k"}, {}))
        return self.recorders[worker]

    def turn(self, worker: str, text: str | None = None) -> None:
        """One request of the session: the app resends the history, whichever worker it comes to."""
        recorder = self.recorder(worker)
        words = text or f"answer {len(self.history) // 2}"
        self.history.append({"role": "user", "content": f"[[say:{words}]]"})
        recorder.instrument()
        with recorder.conversation("prompt", session_id="s", keep_open=True):
            made = self._client.chat.completions.create(model="m", messages=self.history)
        recorder.uninstrument()
        self.history.append({"role": "assistant", "content": made.choices[0].message.content})
        if worker.islower():
            assert recorder.flush(LONG)

    def catch_up(self) -> None:
        os.environ["CONVERRA_API_KEY"] = "k"
        for recorder in self.recorders.values():
            assert recorder.flush(LONG)

    def end(self) -> None:
        for recorder in self.recorders.values():
            recorder.uninstrument()
            recorder.shutdown(5)
        self._client.close()

    def source(self) -> list[str]:
        return [message["content"] for message in self.history]


@pytest.fixture
def workers(server: LocalServer) -> Iterator[Workers]:
    made = Workers(server)
    yield made
    made.end()


def held(server: LocalServer) -> list[tuple[str, list[str]]]:
    """Status and words of each conversation, oldest first."""
    found, _ = server.store.conversations(limit=100)
    return [(c.status, [m["content"] for m in server.store.messages(c)]) for c in reversed(found)]


@pytest.mark.parametrize("order", ["Ab", "Aab", "AAb", "Aba", "Abb", "abab", "AbA", "ABc", "AbcA"])
def test_a_turn_is_recorded_once_whoever_delivers_first(server: LocalServer, workers: Workers, order: str) -> None:
    """A worker that goes on sends what it has learned; the one that recorded it does not send that again."""
    for worker in order:
        workers.turn(worker)
    workers.catch_up()
    workers.recorder("z").complete("prompt", "s")
    assert workers.recorder("z").flush(LONG)
    ((status, found),) = held(server)
    assert status == "completed"
    assert Counter(found) == Counter([*workers.source(), "Conversation ended."])


@pytest.mark.parametrize("order", ["Ab", "AAb", "ABc"])
def test_workers_that_deliver_after_the_chat_went_on_leave_it_in_order(
    server: LocalServer, workers: Workers, order: str
) -> None:
    """Where one worker has heard everything, the order is that of the chat."""
    for worker in order:
        workers.turn(worker)
    workers.catch_up()
    assert held(server) == [("active", workers.source())]


@pytest.mark.parametrize("seed", range(4))
def test_any_interleaving_of_workers(server: LocalServer, workers: Workers, seed: int) -> None:
    """Also where the same few words are said again and again: each turn is there as often as it was said."""
    choose = random.Random(seed)
    for _ in range(8):
        workers.turn(choose.choice("aBcD"), choose.choice(["yes", "no", "hm"]))
    workers.catch_up()
    ((_, found),) = held(server)
    assert Counter(found) == Counter(workers.source())


def test_nothing_is_doubled_where_the_session_is_completed_meanwhile(server: LocalServer, workers: Workers) -> None:
    """A worker that delivers what is known already, after the end, opens nothing for it."""
    for worker in "Ab":
        workers.turn(worker)
    workers.recorder("b").complete("prompt", "s")
    assert workers.recorder("b").flush(LONG)
    workers.catch_up()
    assert held(server) == [("completed", [*workers.source(), "Conversation ended."])]


def test_what_only_a_late_worker_knows_is_not_lost(server: LocalServer, workers: Workers) -> None:
    """What it has recorded beside the history that the others are given."""
    workers.turn("A")
    with workers.recorder("A").conversation("prompt", session_id="s", keep_open=True) as conversation:
        conversation.add_message("assistant", "Looked up in the cache.")
    workers.turn("b")
    workers.catch_up()
    ((_, found),) = held(server)
    assert Counter(found) == Counter([*workers.source(), "Looked up in the cache."])


def test_a_turn_is_sent_when_its_block_is_left(server: LocalServer, workers: Workers) -> None:
    """Not after the flush interval: the next request may come to another worker."""
    recorder = workers.recorder("a")
    for number in range(3):
        with recorder.conversation("prompt", session_id="s", keep_open=True) as conversation:
            conversation.add_message("user", f"question {number}")
            conversation.add_message("assistant", f"answer {number}")
        words = [f"{kind} {n}" for n in range(number + 1) for kind in ("question", "answer")]
        until(lambda: held(server), [("active", words)])


def test_a_stream_that_outlasts_its_block_is_sent_when_it_ends(server: LocalServer, workers: Workers) -> None:
    """Its reader may be a web framework, long after the request was handled."""
    recorder = workers.recorder("a")
    recorder.instrument()
    asked: Any = [{"role": "user", "content": "[[say:one two three]]"}]
    with recorder.conversation("prompt", session_id="s", keep_open=True):
        stream = workers._client.chat.completions.create(model="m", messages=asked, stream=True)
    assert held(server) == []
    assert len(list(stream)) > 3
    until(lambda: held(server), [("active", ["[[say:one two three]]", "one two three"])])


def test_a_chain_of_answers_goes_on_in_another_worker(server: LocalServer, workers: Workers) -> None:
    """With `previous_response_id` no history tells what is new; in a session everything that is sent is, once."""
    previous: str | None = None
    for worker in "abba":
        recorder = workers.recorder(worker)
        recorder.instrument()
        with recorder.conversation("prompt", session_id="s", keep_open=True):
            made = workers._client.responses.create(
                model="m", instructions="You help.", input="[[say:Yes.]]", previous_response_id=previous
            )
        recorder.uninstrument()
        assert recorder.flush(LONG)
        previous = made.id
    assert held(server) == [("active", ["You help.", *(4 * ["[[say:Yes.]]", "Yes."])])]


def test_a_chain_that_a_process_has_not_seen_opens_a_conversation(server: LocalServer, workers: Workers) -> None:
    """Without a session the answer's id leads back only where it was seen: elsewhere nothing can be joined to it."""
    previous: str | None = None
    recorders = [
        Recorder(load({"api_key": "k", "base_url": server.base_url, "prompt_id": "prompt"}, {})) for _ in range(2)
    ]
    for recorder in (recorders[0], recorders[0], recorders[1], recorders[1], recorders[0]):
        recorder.instrument()
        previous = workers._client.responses.create(model="m", input="[[say:Yes.]]", previous_response_id=previous).id
        recorder.uninstrument()
    for recorder in recorders:
        assert recorder.shutdown(LONG)
    turns = ["[[say:Yes.]]", "Yes."]
    assert sorted(held(server)) == sorted([("completed", n * turns) for n in (2, 2, 1)])
