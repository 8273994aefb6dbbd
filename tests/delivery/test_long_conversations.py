"""The API's limits are kept before sending, and nothing is cut away."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.wire import limits
from converra.wire.models import Message, ToolCall, Usage
from tests.delivery.harness import Held, delivery, held, posts, queue, said, turn, words
from tests.patience import LONG

if TYPE_CHECKING:
    from converra.server.run import LocalServer

KB = 1024


@given(st.text(), st.integers(4, 20))
def test_pieces_are_whole_characters_within_the_limit(text: str, limit: int) -> None:
    """Put together again, the pieces are the text; none is over the limit, none empty but that of an empty text."""
    pieces = limits.pieces(text, limit)
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= limit for piece in pieces)
    assert all(pieces) or pieces == [""]


def test_a_long_message_is_split_into_numbered_parts() -> None:
    """Each part is a message; what was known about the whole is told once."""
    message = Message(
        role="assistant",
        content="äö" * 5,
        model="gpt",
        usage=Usage(1, 2),
        tokens=2,
        latency_ms=3.0,
        tool_calls=[ToolCall(id="c")],
        metadata={"messageId": "m", "traceId": "t", "finishReason": "length"},
    )
    assert limits.split(message, 9) == [
        Message(
            role="assistant",
            content="äöäö",
            model="gpt",
            metadata={"messageId": "m.1", "traceId": "t", "finishReason": "length", "part": 1, "parts": 3},
        ),
        Message(
            role="assistant",
            content="äöäö",
            model="gpt",
            metadata={"messageId": "m.2", "traceId": "t", "part": 2, "parts": 3},
        ),
        Message(
            role="assistant",
            content="äö",
            model="gpt",
            usage=Usage(1, 2),
            tokens=2,
            latency_ms=3.0,
            tool_calls=[ToolCall(id="c")],
            metadata={"messageId": "m.3", "traceId": "t", "part": 3, "parts": 3},
        ),
    ]


def test_a_part_that_is_split_again_names_its_whole() -> None:
    """For a server with a smaller limit than the document's."""
    message = Message(role="user", content="abcdefgh", metadata={"messageId": "m.2", "part": 2, "parts": 3})
    assert [part.metadata for part in limits.split(message, 4)] == [
        {"messageId": "m.2.1", "part": 1, "parts": 2, "partOf": "m.2"},
        {"messageId": "m.2.2", "part": 2, "parts": 2, "partOf": "m.2"},
    ]


def test_a_message_within_the_limit_is_itself() -> None:
    """Exactly at the limit nothing is split."""
    message = Message(role="user", content="x" * limits.MAX_MESSAGE_BYTES)
    assert limits.split(message) == [message]


def test_a_message_of_any_length_arrives_whole(server: LocalServer) -> None:
    """250 KB of two-byte characters: three parts, one message counted."""
    text = "ä" * 125 * KB
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", "go"), said("assistant", text, usage=Usage(1, 2))])
    conversation.end()
    assert sender.shutdown(LONG)
    messages = Held(server).messages[1:]
    assert "".join(message["content"] for message in messages) == text
    assert [message["metadata"]["part"] for message in messages] == [1, 2, 3]
    assert [message.get("usage") is not None for message in messages] == [False, False, True]
    assert sender.stats().delivered == 2


def _chain(server: LocalServer) -> list[Held]:
    """All conversations; checks that each is completed and names the one before."""
    found = held(server)
    for before, after in itertools.pairwise(found):
        assert after.metadata["continues"] == before.id
    assert {one.status for one in found} == {"completed"}
    return found


@pytest.mark.parametrize("flushes", [True, False], ids=["as it goes", "at the end"])
def test_more_than_500_messages_go_on_in_further_conversations(server: LocalServer, *, flushes: bool) -> None:
    """A full conversation is completed and continued; all turns are there, in order."""
    sender = delivery(server, flush_interval=60)
    conversation = queue(sender, metadata={"sessionId": "s"})
    for number in range(600):
        conversation.append(turn(number))
        if flushes and number % 50 == 49:
            assert sender.flush(LONG)
    conversation.end()
    assert sender.shutdown(LONG)
    found = _chain(server)
    assert [len(one.words) for one in found] == [500, 500, 201 if flushes else 200]
    ours = ("Conversation continued.", "Conversation ended.")
    assert [word for one in found for word in one.words if word not in ours] == words(*range(600))
    assert all(one.metadata["sessionId"] == "s" for one in found)
    assert all(status == 200 for _, status in posts(server))


def test_exactly_500_messages_need_no_second_conversation(server: LocalServer) -> None:
    """The last message that fits completes the conversation."""
    sender = delivery(server, flush_interval=60)
    conversation = queue(sender)
    for number in range(250):
        conversation.append(turn(number))
    assert sender.flush(LONG)
    conversation.end()
    assert sender.shutdown(LONG)
    (one,) = held(server)
    assert (one.words, one.status) == (words(*range(250)), "completed")


@pytest.mark.parametrize("flushes", [True, False], ids=["as it goes", "at the end"])
def test_more_than_512_kb_go_on_in_further_conversations(server: LocalServer, *, flushes: bool) -> None:
    """Content is counted in UTF-8 bytes."""
    sender = delivery(server, flush_interval=60)
    conversation = queue(sender)
    texts = [f"{number:03}" + "ß" * 40 * KB for number in range(14)]
    for text in texts:
        conversation.append([said("user", text)])
        if flushes:
            assert sender.flush(LONG)
    conversation.end()
    assert sender.shutdown(LONG)
    found = _chain(server)
    assert len(found) == 3
    ours = ("Conversation continued.", "Conversation ended.")
    assert [word for one in found for word in one.words if word not in ours] == texts
    assert all(status == 200 for _, status in posts(server))


def test_a_server_with_smaller_limits_is_met_by_splitting_further(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """413 from a server with other limits: fewer messages, then smaller parts, then a further conversation."""
    from converra.server.api import content, storing

    for module in (storing, content):
        monkeypatch.setattr(module, "MAX_MESSAGE_BYTES", 30 * KB)
        monkeypatch.setattr(module, "MAX_CONTENT_BYTES", 100 * KB)
    monkeypatch.setattr(content, "MAX_MESSAGES", 20)
    sender = delivery(server, flush_interval=60)
    conversation = queue(sender)
    texts = [f"{number:03}" + "x" * 60 * KB for number in range(3)] + [f"short {number}" for number in range(60)]
    for text in texts:
        conversation.append([said("assistant", text, usage=Usage(1, 2))])
    conversation.end()
    assert sender.shutdown(LONG)
    ours = ("Conversation started.", "Conversation continued.", "Conversation ended.")
    told = [message for one in held(server) for message in one.messages if message["content"] not in ours]
    assert "".join(message["content"] for message in told) == "".join(texts)
    assert sum("usage" in message for message in told) == 63
    stats = sender.stats()
    assert (stats.delivered, stats.rejected, stats.pending_bytes) == (63, 0, 0)


def test_a_message_that_no_limit_explains_is_set_aside(server: LocalServer, caplog: Any) -> None:
    """413 for a few bytes in an empty conversation: said, counted, and the others go through."""
    server.faults.add("append", "status", status=413, times=None)
    server.faults.add("complete", "status", status=413, times=None)
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", "go"), said("assistant", "tiny", usage=Usage(1, 2))])
    conversation.end()
    assert not sender.flush(LONG)
    assert sender.stats().rejected == 1
    assert "the API rejected 1 messages" in caplog.text
    sender.shutdown(5)


def test_huge_tool_arguments_are_for_the_api_to_judge(server: LocalServer) -> None:
    """What has no content to split is sent as it is."""
    sender = delivery(server)
    conversation = queue(sender)
    call = ToolCall(id="c", name="write", arguments={"text": "x" * 700 * KB})
    conversation.append([said("user", "go"), said("tool", "", tool_calls=[call]), said("assistant", "done")])
    conversation.end()
    assert sender.shutdown(LONG)
    assert [len(one.messages) for one in held(server)] == [2, 1]
    assert sender.stats().delivered == 3
