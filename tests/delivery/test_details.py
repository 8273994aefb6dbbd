"""What a create's content has no field for travels beside it, and every reader finds it where it was recorded."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from converra import Converra
from converra.delivery.worker.schedule import SCARCE_FOR, WINDOW, RateLimiter
from converra.transcript import parse
from converra.wire.json_safe import encode
from converra.wire.limits import MAX_CONTENT_BYTES
from converra.wire.models import ToolCall, Usage
from tests.delivery.harness import Held, Note, delivery, held, posts, queue, said, turn, words

if TYPE_CHECKING:
    from converra.delivery.delivery import Delivery
    from converra.server.run import LocalServer

PICTURE = {"kind": "image", "mime": "image/png", "bytes": 2048, "sha256": "ab" * 32}
FIVE = {"role", "content", "timestamp", "model", "tokens"}

TOLD: dict[str, dict[str, Any]] = {
    "attachments": {"attachments": [PICTURE]},
    "name": {"name": "Ada"},
    "error": {"error": {"type": "Timeout", "status": 504}},
    "trace": {"traceId": "4bf9", "spanId": "00f0"},
    "anything": {"refusal": "no", "alternatives": ["a", "b"], "finishReason": "length"},
}


def _created(server: LocalServer) -> list[dict[str, Any]]:
    """The contents of the creates."""
    bodies = (request.json() for request in server.requests if request.path.endswith("/conversations"))
    return [json.loads(body["content"]) for body in bodies]


def _recorded(*notes: Note) -> list[dict[str, Any]]:
    """Messages as they are to be read."""
    return [json.loads(encode(note.message())) for note in notes]


@pytest.mark.parametrize("metadata", TOLD.values(), ids=TOLD)
@pytest.mark.parametrize("role", ["user", "system"])
@pytest.mark.parametrize("answered", [True, False])
def test_a_create_holds_only_fields_that_the_document_has(
    server: LocalServer, role: str, metadata: dict[str, Any], answered: bool
) -> None:
    """Whatever else belongs to its messages is in the metadata by position, and is read back with the message."""
    first, answer = said(role, "look", metadata=metadata), turn(1)[1]
    notes = [first, answer] if answered else [first]
    sender = delivery(server)
    conversation = queue(sender, metadata={"sessionId": "s"})
    conversation.append(notes)
    conversation.end()
    assert sender.shutdown(10)
    (content,) = _created(server)
    assert [message.keys() <= FIVE for message in content["messages"]] == [True]
    assert content["metadata"]["messageDetails"]["0"]["metadata"].items() >= metadata.items()
    with Converra(api_key="k", base_url=server.base_url) as client:
        read = client.conversations.get(str(conversation.id)).to_dict()
    assert read["messages"] == Held(server).messages == _recorded(*notes)
    assert "messageDetails" not in read["metadata"].keys() | Held(server).metadata.keys()
    assert parse(json.dumps(content)).messages[0].metadata == _recorded(first)[0]["metadata"]


def test_parts_of_a_long_first_message_are_told_apart(server: LocalServer) -> None:
    """The first part opens the conversation, and says which part it is."""
    text = "x" * 150 * 1024
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", text), turn(1)[1]])
    conversation.end()
    assert sender.shutdown(10)
    first, second = Held(server).messages[:2]
    assert first["content"] + second["content"] == text
    assert [message["metadata"]["part"] for message in (first, second)] == [1, 2]
    assert all(message.keys() <= FIVE for content in _created(server) for message in content["messages"])


@pytest.mark.parametrize("size", [MAX_CONTENT_BYTES - 70_000, MAX_CONTENT_BYTES - 1000, MAX_CONTENT_BYTES + 10_000])
def test_details_that_no_content_can_hold_go_with_the_append(server: LocalServer, size: int) -> None:
    """Details count as content: where they are too large, the create is opened without the message."""
    notes = [said("user", "look", metadata={"attachments": ["x" * size]}), turn(1)[1]]
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append(notes)
    conversation.end()
    assert sender.shutdown(10)
    assert [status for _, status in posts(server)] == [200] * len(posts(server))
    found = [message for one in held(server) for message in one.messages]
    assert [m for m in found if not m["content"].startswith("Conversation ")] == _recorded(*notes)
    assert (sender.stats().delivered, sender.stats().retries) == (2, 0)


def test_metadata_of_the_users_with_the_same_name_costs_no_details(server: LocalServer) -> None:
    """It is kept under another name, whenever it is set."""
    sender = delivery(server)
    conversation = queue(sender, metadata={"messageDetails": "mine"})
    conversation.append(turn(1))
    assert sender.flush(10)
    conversation.annotate({"messageDetails": {"0": {"latencyMs": 7}}})
    conversation.append(turn(2))
    conversation.end()
    assert sender.shutdown(10)
    assert Held(server).metadata["messageDetails_"] == {"0": {"latencyMs": 7}}
    assert all("messageId" in message["metadata"] for message in Held(server).messages)


# where the rate limit holds conversations back


def _jobs(server: LocalServer, *talks: list[Note]) -> Delivery:
    """Conversations that have ended, and wait while the API refuses requests for a moment."""
    sender = delivery(server, flush_interval=0.01)
    server.faults.add("any", "status", status=429, headers={"Retry-After": "0.5"})
    first = queue(sender, "first")
    first.append([said("user", "first")])
    first.end()
    while not sender.stats().retries:
        time.sleep(0.005)
    for number, notes in enumerate(talks):
        conversation = queue(sender, str(number))
        conversation.append(notes)
        conversation.end()
    return sender


def test_a_conversation_of_texts_is_sent_whole_where_requests_are_scarce(server: LocalServer) -> None:
    """One request instead of two, with status completed; usage, latency and metadata are beside it."""
    talks = [[*turn(number), *turn(-number)] for number in range(1, 9)]
    sender = _jobs(server, *talks, turn("that nothing waits behind"))
    assert sender.shutdown(20)
    found = {one.words[0]: one for one in held(server)}
    assert [found[notes[0].text].messages for notes in talks] == [_recorded(*notes) for notes in talks]
    assert {found[notes[0].text].status for notes in talks} == {"completed"}
    assert posts(server).count(("create", 200)) == 10
    assert posts(server).count(("append", 200)) <= 1  # for the last one
    assert all(message.keys() <= FIVE for content in _created(server) for message in content["messages"])
    with Converra(api_key="k", base_url=server.base_url) as client:
        assert client.conversations.insights(found["question 1"].id).task_completed is True


@pytest.mark.parametrize(
    "note",
    [
        said("tool", "", tool_calls=[ToolCall(id="c", name="f", arguments={})]),
        said("assistant", "I look.", tool_calls=[ToolCall(id="c", name="f", arguments={})]),
        said("tool", "sunny"),
        said("assistant", "long", metadata={"alternatives": ["x" * MAX_CONTENT_BYTES]}),
    ],
    ids=["calls", "calls beside words", "a result", "too large"],
)
def test_what_the_content_cannot_hold_is_appended_however_scarce_requests_are(server: LocalServer, note: Note) -> None:
    """Nothing is lost for the sake of a request."""
    talks = [[said("user", f"go {at}"), note, said("assistant", "done", usage=Usage(1, 2))] for at in range(3)]
    sender = _jobs(server, *talks)
    assert sender.shutdown(20)
    chains = _chains(server)
    assert [chains[notes[0].text] for notes in talks] == [_recorded(*notes) for notes in talks]
    assert (sender.stats().delivered, sender.stats().rejected) == (10, 0)


def _chains(server: LocalServer) -> dict[str, list[dict[str, Any]]]:
    """Messages by the first words of each conversation, with what goes on in further ones, and without our own."""
    chains: dict[str, list[dict[str, Any]]] = {}
    heads: dict[str, str] = {}
    for one in held(server):
        head = heads[one.id] = heads.get(one.metadata.get("continues", ""), one.words[0])
        chains.setdefault(head, []).extend(m for m in one.messages if not m["content"].startswith("Conversation "))
    return chains


@pytest.mark.parametrize("kind", ["reset", "unreadable", "status"])
def test_a_whole_create_whose_answer_is_lost_is_sent_again(server: LocalServer, kind: Any) -> None:
    """Its idempotency key finds what is stored: nothing is read back, and completed is said once."""
    talks = [turn(number) for number in range(1, 7)]
    sender = _jobs(server, *talks)
    server.faults.add("create", kind, when="after", times=3, skip=2)
    assert sender.shutdown(20)
    found = {one.words[0]: one for one in held(server)}
    assert [found[notes[0].text].words for notes in talks] == [words(number) for number in range(1, 7)]
    assert {found[notes[0].text].status for notes in talks} == {"completed"}
    assert server.faults.fired["create", kind] >= 3
    assert not [request for request in server.requests if request.method == "GET"]
    assert (sender.stats().delivered, sender.stats().duplicated_risk) == (13, 0)


def test_requests_are_scarce_for_a_minute_after_the_limit_was_met() -> None:
    """Whether it was refused or said beforehand; and as long as requests keep a distance."""
    pace = RateLimiter()
    assert not pace.scarce(0.0, 1)
    pace.spent(10.0, 5.0)
    times = (10.0, 15.0, 14.9 + SCARCE_FOR, 15.0 + SCARCE_FOR)
    assert [pace.scarce(at, 1) for at in times] == [True, True, True, False]
    pace.limited(100.0, 1.0)
    assert pace.scarce(500.0, 1)
    for _ in range(200):
        pace.answered()
    assert not pace.scarce(500.0, 1)


def test_requests_are_scarce_if_more_conversations_wait_than_the_limit_has_requests_for() -> None:
    """Two requests each. The API tells what is left; while it does not, the smallest plan of the service counts."""
    pace = RateLimiter()
    assert [pace.scarce(0.0, waiting) for waiting in (30, 31)] == [False, True]
    pace.note_left(0.0, 299, 40.0)
    assert [pace.scarce(39.0, waiting) for waiting in (149, 150)] == [False, True]
    assert pace.scarce(41.0, 31)
    pace.note_left(50.0, 10, None)
    assert [pace.scarce(50.0 + WINDOW - 1, waiting) for waiting in (5, 6)] == [False, True]
    assert not pace.scarce(50.0 + WINDOW, 6)
    pace.note_left(200.0, 0, None)  # nobody tells for how long: refusals will
    assert pace.ready_at(0) == 0
    pace.note_left(200.0, 0, 5.0)
    assert (pace.ready_at(0), pace.scarce(210.0, 1)) == (205.0, True)
