"""A session that several processes share is one conversation: whoever comes second adds to it, and loses nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.delivery.harness import Held, Note, delivery, held, queue, said, turn, words
from tests.patience import LONG

if TYPE_CHECKING:
    from pathlib import Path

    from converra.server.run import LocalServer


@pytest.fixture(params=[False, True], ids=["messages shown", "messages hidden"])
def shared(request: pytest.FixtureRequest, server: LocalServer) -> LocalServer:
    """A server that shows the messages of a conversation, and one that does not."""
    server.faults.hide_messages = request.param
    return server


def test_a_joiner_adds_to_the_conversation_that_is_there(shared: LocalServer) -> None:
    """Its first messages, which its own create would have held, are appended."""
    for number in (1, 2, 3):
        sender = delivery(shared)
        queue(sender, shared=True, metadata={"sessionId": "s"}).append(turn(number))
        assert sender.shutdown(LONG)
    conversation = Held(shared)
    assert (conversation.count, conversation.words, conversation.status) == (1, words(1, 2, 3), "active")
    assert conversation.metadata["sessionId"] == "s"


def test_the_same_first_words_in_two_processes_are_two_messages(shared: LocalServer) -> None:
    """Who opened the conversation is told by a mark, not by the words."""
    for _ in range(2):
        sender = delivery(shared)
        queue(sender, shared=True).append([said("user", "hello")])
        assert sender.shutdown(LONG)
    assert Held(shared).words == ["hello", "hello"]


def test_an_answer_lost_on_the_way_does_not_double_the_opening(shared: LocalServer) -> None:
    """A create that was stored although its answer was lost is ours, whichever way it is found out."""
    shared.faults.add("create", "reset", when="after")
    shared.faults.add("read", "reset")
    sender = delivery(shared)
    queue(sender, shared=True).append(turn(1))
    assert sender.flush(LONG)
    assert sender.shutdown(LONG)
    assert Held(shared).words == words(1)


def test_several_processes_at_once(shared: LocalServer) -> None:
    """Eight that join at the same moment make one conversation with every turn once."""
    senders = [delivery(shared, flush_interval=0.01) for _ in range(8)]
    barrier = threading.Barrier(8)

    def join(number: int) -> None:
        barrier.wait()
        one = queue(senders[number], shared=True)
        for step in range(5):
            one.append(turn(f"{number}-{step}"))
        assert senders[number].shutdown(LONG)

    threads = [threading.Thread(target=join, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    conversation = Held(shared)
    assert conversation.count == 1
    assert sorted(conversation.words) == sorted(words(*(f"{n}-{s}" for n in range(8) for s in range(5))))


def test_an_append_of_a_joiner_is_settled_among_those_of_others(shared: LocalServer) -> None:
    """The counter that tells what was stored is each joiner's own."""
    first, second = delivery(shared), delivery(shared)
    one, two = queue(first, shared=True), queue(second, shared=True)
    for number, (sender, joiner) in enumerate([(first, one), (second, two)] * 4):
        shared.faults.add("append", "reset", when="after" if number % 3 else "before")
        joiner.append(turn(number))
        assert sender.flush(LONG)
    assert first.shutdown(LONG)
    assert second.shutdown(LONG)
    assert Held(shared).words == words(*range(8))


def test_a_session_that_was_completed_goes_on_in_a_further_conversation(shared: LocalServer) -> None:
    """Under a key that every process derives the same way, so that all meet again there."""
    for number in (1, 2):
        sender = delivery(shared)
        one = queue(sender, shared=True)
        one.append(turn(number))
        one.end()
        assert sender.shutdown(LONG)
    for number in (3, 4):
        sender = delivery(shared)
        queue(sender, shared=True).append(turn(number))
        assert sender.shutdown(LONG)
    found = held(shared)
    assert [one.words for one in found] == [words(1), words(2), words(3, 4)]
    assert [one.status for one in found] == ["completed", "completed", "active"]
    assert [one.metadata.get("continues") for one in found] == [None, found[0].id, found[1].id]


def test_a_session_that_another_process_completes_meanwhile(shared: LocalServer) -> None:
    """What is still to be said goes on in a further conversation."""
    first, second = delivery(shared), delivery(shared)
    one, two = queue(first, shared=True), queue(second, shared=True)
    one.append(turn(1))
    assert first.flush(LONG)
    two.append(turn(2))
    two.end()
    assert second.shutdown(LONG)
    one.append(turn(3))
    assert first.shutdown(LONG)
    found = held(shared)
    assert [conversation.words for conversation in found] == [words(1, 2), words(3)]
    assert found[1].metadata["continues"] == found[0].id


def test_a_session_is_completed_from_a_process_that_recorded_nothing(shared: LocalServer) -> None:
    """converra.complete(prompt_id, session_id) from anywhere."""
    first = delivery(shared)
    queue(first, shared=True).append(turn(1))
    assert first.shutdown(LONG)
    second = delivery(shared)
    queue(second, shared=True).end(always=True)
    assert second.shutdown(LONG)
    conversation = Held(shared)
    assert (conversation.count, conversation.words) == (1, [*words(1), "Conversation ended."])
    assert conversation.status == "completed"


def test_completing_a_completed_session_again_changes_nothing(shared: LocalServer) -> None:
    """`completed` is sent exactly once."""
    for _ in range(2):
        sender = delivery(shared)
        one = queue(sender, shared=True)
        one.append(turn(1)) if not held(shared) else None
        one.end(always=True)
        assert sender.shutdown(LONG)
    assert [one.words for one in held(shared)] == [words(1)]


def _learned(role: str, content: str) -> Note:
    note = said(role, content)
    note.already_known = True
    return note


@pytest.mark.parametrize("outbox", [None, "outbox.db"], ids=["memory", "durable"])
def test_history_is_sent_by_whoever_came_first(shared: LocalServer, tmp_path: Path, outbox: str | None) -> None:
    """What was said before a process came in is sent where it opens the conversation, and dropped where it joins."""
    history = ("system", "be kind"), ("user", "question 0"), ("assistant", "answer 0")
    for number in (1, 2):
        sender = delivery(shared, outbox=outbox and str(tmp_path / outbox))
        queue(sender, shared=True).append([*(_learned(*each) for each in history), *turn(number)])
        assert sender.shutdown(LONG)
        assert sender.stats().pending == 0
    assert Held(shared).words == ["be kind", "question 0", "answer 0", *words(1, 2)]


def test_a_system_text_that_is_there_is_not_sent_again(shared: LocalServer) -> None:
    """A joiner that resends no history still resends its system prompt."""
    for number in (1, 2):
        sender = delivery(shared)
        queue(sender, shared=True).append([said("system", "be kind"), *turn(number)])
        assert sender.shutdown(LONG)
    assert Held(shared).words == ["be kind", *words(1, 2)]
