"""The sending of one conversation, without threads or a network: whatever is lost on the way, every message once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converra.config import Config
from converra.delivery.header import Header
from converra.delivery.outbox.memory import MemoryOutbox
from converra.delivery.protocol.batching import due_at
from converra.delivery.protocol.progress import Progress
from converra.delivery.stats import Counters
from converra.delivery.worker.sender import OutcomeKind, Sender
from converra.process import guard
from converra.wire.json_safe import encode
from converra.wire.models import Usage
from tests.delivery.fake_api import FAULTS, FakeAPI
from tests.delivery.harness import Note, said
from tests.effort import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_WORDS = ("Conversation started.", "Conversation continued.", "Conversation ended.")


class Bench:
    """A sender, its conversation, and a clock that jumps to whatever is due."""

    def __init__(self, api: FakeAPI, *, shared: bool = False) -> None:
        self.api = api
        self.now = 100.0
        self.counters = Counters()
        self.outbox = MemoryOutbox(10**9)
        self.sender = Sender(
            self.outbox,
            self.counters,
            config=Config(flush_interval=1.0, timeout=1.0),
            monotonic=lambda: self.now,
            now=lambda: self.now,
            jitter=lambda: 1.0,
        )
        header = Header(key="key", prompt_id="p", shared=shared, metadata={"sessionId": "s"})
        self.progress = Progress(header, "writer" if shared else "")

    def record(self, *notes: Note) -> None:
        assert self.outbox.admit(sum(note.size for note in notes), len(notes))
        self.progress.arrived.extend((self.now, note) for note in notes)
        self.progress.received += len(notes)

    def run(self, *, steps: int = 2000) -> None:
        """Send whatever is due, until nothing is."""
        for _ in range(steps):
            due = due_at(self.progress, 1.0)
            if due is None:
                return
            self.now = max(self.now, due)
            if self.sender.serve(self.progress, self.api, 1.0).kind is OutcomeKind.KEY_REFUSED:
                return
        raise AssertionError("it does not come to an end")


def _note(kind: int, number: int) -> Note:
    kinds = {
        0: lambda: said("user", f"u{number}"),
        1: lambda: said("assistant", f"a{number}", usage=Usage(1, 2)),
        2: lambda: said("assistant", f"p{number}", tokens=3),
        3: lambda: said("tool", f"t{number}"),
        4: lambda: said("user", f"x{number}", metadata={"attachments": [number]}),
        5: lambda: said("system", f"s{number}"),
    }
    return kinds[kind]()


def _faults(names: list[str | None]) -> Any:
    waiting: Iterator[str | None] = iter(names)
    return lambda: next(waiting, None)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    guard.reset_log_limits()


fault_names = st.lists(st.none() | st.sampled_from(sorted(FAULTS)), max_size=25)
traits = st.sets(st.sampled_from(["joined", "open end", "at once", "scarce"]))
bursts = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=6)


@settings(deadline=None, max_examples=examples(300))
@given(bursts, fault_names, st.sampled_from(["", "messages", "ids", "ids of appends"]), traits)
def test_everything_arrives_once_and_in_order(
    bursts: list[list[int]], faults: list[str | None], hidden: str, traits: set[str]
) -> None:
    """For any messages in any bursts, any answers lost, any part of it hidden, requests scarce or not."""
    api = FakeAPI(_faults(faults), hidden=hidden)
    bench = Bench(api, shared="joined" in traits)
    bench.progress.scarce = "scarce" in traits
    open_end = "open end" in traits
    number = 0
    told: list[dict[str, Any]] = []
    for burst in bursts:
        notes = [_note(kind, number := number + 1) for kind in burst]
        told += [json.loads(encode(note.message())) for note in notes]
        bench.record(*notes)
        if "at once" not in traits:
            bench.run()
    bench.progress.ended = not open_end
    bench.run()
    stored = [message for c in api.conversations for message in c.whole]
    assert [message for message in stored if message["content"] not in OWN_WORDS] == told
    assert len(api.conversations) == 1
    assert api.conversations[0].completions == int(not open_end and api.conversations[0].status != "abandoned")
    assert (bench.counters.delivered, bench.counters.rejected, bench.counters.duplicated_risk) == (number, 0, 0)
    assert bench.outbox.pending_bytes == 0
    assert bench.progress.settled(number)


@settings(deadline=None, max_examples=examples(150))
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.sets(st.integers(0, 39), max_size=4),
    st.integers(3, 30),
    fault_names,
)
def test_limits_and_bad_messages_cost_nothing_else(
    kinds: list[int], bad: set[int], most: int, faults: list[str | None]
) -> None:
    """With a server of other limits, and messages that it refuses: all others arrive, once and in order."""
    api = FakeAPI(_faults(faults), most=most, words=2000)
    bench = Bench(api)
    texts = [("poison" if index in bad else f"{index}-" + "x" * (kind * 900)) for index, kind in enumerate(kinds)]
    bench.record(*(said("assistant", text, usage=Usage(1, 2)) for text in texts))
    bench.progress.ended = True
    bench.run()
    stored = [message["content"] for c in api.conversations for message in c.messages]
    good = [text for text in texts if text != "poison"]
    assert "".join(word for word in stored if word not in OWN_WORDS) == "".join(good)
    poisoned = len(texts) - len(good)
    assert (bench.counters.delivered, bench.counters.rejected) == (len(good), poisoned)
    assert bench.outbox.pending_bytes == 0


def test_ids_among_the_details_of_a_create_say_nothing_of_an_append() -> None:
    """A server that drops the ids of appended messages shows those of the create all the same; nothing is doubled."""
    api = FakeAPI(_faults([None, None, "lost after"]), hidden="ids of appends")
    bench = Bench(api)
    for number in range(3):
        bench.record(said("user", f"question {number}"))
        bench.run()
    assert [message["content"] for message in api.conversations[0].messages] == [f"question {n}" for n in range(3)]
    assert "messageId" in str(api.conversations[0].metadata)


def test_where_the_api_shows_nothing_the_risk_is_counted() -> None:
    """Neither messages nor metadata, and words that say nothing: sent again, and said in the numbers."""
    api = FakeAPI(_faults([None, "lost before", None, None]), hidden="metadata")
    bench = Bench(api)
    bench.record(said("user", "go"), said("tool", ""))
    bench.run()
    assert [message["content"] for message in api.conversations[0].messages] == ["go", ""]
    assert bench.counters.duplicated_risk == 1


@pytest.mark.parametrize("fault", ["lost before", "lost after"])
def test_where_only_the_content_is_shown_the_words_tell(fault: str) -> None:
    """The API document promises no more than the content."""
    api = FakeAPI(_faults([None, fault]), hidden="metadata")
    bench = Bench(api)
    bench.record(said("user", "go"), said("assistant", "gone", usage=Usage(1, 2)))
    bench.run()
    assert [message["content"] for message in api.conversations[0].messages] == ["go", "gone"]
    assert bench.counters.duplicated_risk == 0


def test_a_conversation_that_vanished_goes_on_in_another() -> None:
    """Also where it vanished while an append was in question: then nothing of that append is left either."""
    api = FakeAPI(_faults([None, None, "lost after"]))
    bench = Bench(api)
    bench.record(said("user", "one"), said("assistant", "two", usage=Usage(1, 2)))
    bench.run()
    bench.record(said("assistant", "three", usage=Usage(1, 2)))
    while bench.progress.state.unsettled is None:
        bench.now = max(bench.now, due_at(bench.progress, 1.0) or 0)
        bench.sender.serve(bench.progress, api, 1.0)
    lost = api.conversations[0]
    lost.id = "conv_lost"
    bench.run()
    assert [m["content"] for m in api.conversations[1].messages] == ["Conversation continued.", "three"]
    assert api.conversations[1].metadata["continues"] == "conv_0"


def test_a_resend_that_finds_the_conversation_completed_was_stored() -> None:
    """The append that completes was stored after it was looked for; it is not told a second time elsewhere."""
    api = FakeAPI(_faults([None, "timeout before"]))
    bench = Bench(api)
    bench.record(said("user", "one"), said("assistant", "two", usage=Usage(1, 2)))
    bench.progress.ended = True
    for _ in range(3):  # create, append, look
        bench.now = max(bench.now, due_at(bench.progress, 1.0) or 0)
        bench.sender.serve(bench.progress, api, 1.0)
    api.conversations[0].messages.append({"role": "assistant", "content": "two", "metadata": {}})
    api.conversations[0].status = "completed"
    bench.run()
    assert len(api.conversations) == 1
    assert bench.counters.delivered == 2
