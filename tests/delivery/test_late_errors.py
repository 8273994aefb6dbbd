"""An error that comes after its message is recorded: it reaches the message while that waits, else the conversation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from converra.delivery.header import Header
from converra.delivery.protocol import late_errors
from converra.delivery.protocol.entry import entries_of
from converra.delivery.protocol.late_errors import LATE_ERRORS
from converra.delivery.protocol.progress import Batch, Opening, Progress
from converra.wire.models import Message
from tests.delivery.harness import Held, delivery, queue, said, turn, words
from tests.patience import LONG, until

if TYPE_CHECKING:
    from pathlib import Path

    from converra.server.run import LocalServer

ERROR = {"type": "OutputParserException"}


@pytest.fixture(params=[None, "outbox.db"], ids=["memory", "durable"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """No file, or one for all deliveries of a test."""
    return request.param and str(tmp_path / request.param)


def _errors(server: LocalServer) -> list[Any]:
    return [message.get("metadata", {}).get("error") for message in Held(server).messages]


def _id(note: Any) -> str:
    return str(note.message().metadata["messageId"])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("ends", [False, True])
def test_an_error_reaches_the_message_that_waits(
    server: LocalServer, outbox: str | None, ends: bool, shared: bool
) -> None:
    """All else of the message stays as it was."""
    sender = delivery(server, outbox=outbox)
    one, notes = queue(sender, shared=shared), turn(1)
    one.append(notes)
    one.annotate({LATE_ERRORS: {_id(notes[1]): ERROR}})
    if ends:
        one.end()
    assert sender.shutdown(LONG)
    assert (Held(server).words, _errors(server)) == (words(1), [None, ERROR])
    assert Held(server).messages[1]["usage"] == {"promptTokens": 1, "completionTokens": 2}
    assert LATE_ERRORS not in Held(server).metadata
    assert sender.stats().pending == 0


def test_the_error_of_a_message_that_is_sent_is_kept_at_the_conversation(
    server: LocalServer, outbox: str | None
) -> None:
    """Nothing at the API can change a stored message; errors that came earlier stay."""
    sender = delivery(server, outbox=outbox)
    one = queue(sender)
    sent = [turn(number) for number in (1, 2, 3)]
    for notes in sent[:2]:
        one.append(notes)
        assert sender.flush(LONG)
        one.annotate({LATE_ERRORS: {_id(notes[1]): ERROR}})
    one.append(sent[2])
    one.annotate({LATE_ERRORS: {_id(sent[2][1]): ERROR}})
    one.end()
    assert sender.shutdown(LONG)
    assert _errors(server) == [None] * 5 + [ERROR]
    assert Held(server).metadata[LATE_ERRORS] == {_id(notes[1]): ERROR for notes in sent[:2]}


@pytest.mark.parametrize("tried", [False, True], ids=["not tried", "tried in vain"])
def test_the_next_process_sends_the_error_too(server: LocalServer, tmp_path: Path, tried: bool) -> None:
    """Whether the error is still a note in the file, or was merged into the state with a request that failed."""
    path = str(tmp_path / "outbox.db")
    before = delivery(server, outbox=path, api_key="k" if tried else None)
    server.faults.add("any", "status", status=503, times=None)
    one, notes = queue(before), turn(1)
    one.append(notes)
    one.annotate({LATE_ERRORS: {_id(notes[1]): ERROR}})
    one.send_now()
    until(lambda: (before.stats().retries > 0) is tried)
    before.shutdown(0.1)
    server.faults.clear()
    after = delivery(server, outbox=path)
    after.start()
    until(lambda: [*server.store.conversations()[0]] != [] and Held(server).words[:2] == words(1))  # once it is let go
    assert after.shutdown(LONG)
    assert _errors(server)[:2] == [None, ERROR]


def test_the_first_part_of_a_long_answer_has_the_error(server: LocalServer, outbox: str | None) -> None:
    """It is the part with the metadata."""
    sender = delivery(server, outbox=outbox)
    one, answer = queue(sender), said("assistant", "x" * 150 * 1024)
    one.append([said("user", "question"), answer])
    one.annotate({LATE_ERRORS: {_id(answer): ERROR}})
    one.end()
    assert sender.shutdown(LONG)
    assert _errors(server) == [None, ERROR, None]


@pytest.mark.parametrize("under_way", [Opening(1, "active"), Batch(1)], ids=["create", "append"])
def test_a_request_under_way_is_not_changed(under_way: Opening | Batch) -> None:
    """It may have been stored already. Its messages count as sent, those behind it do not."""
    progress = Progress(Header(key="k", prompt_id="p"))
    for name in ("a", "b"):
        progress.entries.extend(entries_of(Message(role="user", content=name, metadata={"messageId": name}), 0.0))
    if isinstance(under_way, Opening):
        progress.state.opening = under_way
    else:
        progress.state.unsettled = under_way
    first, _ = progress.entries
    left = late_errors.take(progress, {"mine": 1, LATE_ERRORS: {"a": ERROR, "b": ERROR, "gone": ERROR}})
    late_errors.apply(progress)
    assert left == {"mine": 1, LATE_ERRORS: {"a": ERROR, "gone": ERROR}}
    assert progress.entries[0] == first
    assert json.loads(progress.entries[1].raw)["metadata"] == {"messageId": "b", "error": ERROR}
    progress.entries.clear()
    late_errors.apply(progress)
    assert progress.state.late_errors == {}


def test_metadata_of_the_users_with_the_same_name_stays(server: LocalServer) -> None:
    """Whatever it is: only ids of waiting messages mean anything."""
    sender = delivery(server)
    one = queue(sender)
    one.append(turn(1))
    one.annotate({LATE_ERRORS: "mine"})
    assert sender.flush(LONG)
    one.append(turn(2))
    one.annotate({LATE_ERRORS: {"theirs": 1}})
    one.end()
    assert sender.shutdown(LONG)
    assert Held(server).metadata[LATE_ERRORS] == {"theirs": 1}
