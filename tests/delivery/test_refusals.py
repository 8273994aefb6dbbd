"""What the API refuses for good costs as little as possible, and is said."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from converra.wire.models import Usage
from tests.delivery.harness import Held, Note, delivery, held, posts, queue, said, turn, words
from tests.patience import HANG, LONG, until

if TYPE_CHECKING:
    from converra.server.run import LocalServer


def _poison() -> Note:
    """A message that the API refuses: only a tool message may be empty."""
    return said("assistant", "", usage=Usage(1, 2))


@pytest.mark.parametrize("place", [0, 1, 17, 49])
def test_one_bad_message_costs_no_other(server: LocalServer, place: int, caplog: pytest.LogCaptureFixture) -> None:
    """It is found by halves, set aside, counted and said with the API's reason."""
    notes = [said("assistant", f"good {number}", usage=Usage(1, 2)) for number in range(50)]
    notes[place] = _poison()
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", "go"), *notes])
    conversation.end()
    assert not sender.flush(LONG)
    good = [f"good {number}" for number in range(50) if number != place]
    assert [word for word in Held(server).words if word != "Conversation ended."] == ["go", *good]
    assert Held(server).status == "completed"
    stats = sender.stats()
    assert (stats.delivered, stats.rejected, stats.pending, stats.pending_bytes) == (50, 1, 0, 0)
    assert "converra: the API rejected 1 messages, which are set aside: " in caplog.text
    assert len(posts(server)) < 20
    assert sender.shutdown(LONG)


def test_several_bad_messages_cost_no_good_one(server: LocalServer) -> None:
    """Each is found."""
    notes = [said("assistant", f"good {number}", usage=Usage(1, 2)) for number in range(20)]
    for place in (3, 4, 15):
        notes[place] = _poison()
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", "go"), *notes])
    conversation.end()
    assert not sender.shutdown(LONG)
    good = [f"good {number}" for number in range(20) if number not in (3, 4, 15)]
    assert Held(server).words == ["go", *good]
    assert sender.stats().rejected == 3


def test_a_server_that_does_not_know_active_gets_in_progress(server: LocalServer) -> None:
    """Refused by name once, it is not tried again for other conversations."""
    server.faults.refused_statuses = frozenset({"active"})
    sender = delivery(server)
    for key in "ab":
        conversation = queue(sender, key)
        conversation.append(turn(1))
        assert sender.flush(LONG)
        assert Held(server, -1).status == "in_progress"
        conversation.end()
    assert sender.shutdown(LONG)
    assert [one.status for one in held(server)] == ["completed", "completed"]
    assert [kind for kind in posts(server) if kind[1] == 400] == [("create", 400)]


def test_a_server_that_refuses_every_status_gets_none(server: LocalServer) -> None:
    """The document makes the status of a create optional."""
    server.faults.refused_statuses = frozenset({"active", "in_progress", "abandoned"})
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", "hello?")])
    conversation.end()
    assert sender.shutdown(LONG)
    assert Held(server).words == ["hello?", "Conversation ended."]


def test_an_opening_message_whose_details_are_refused_goes_with_the_append(server: LocalServer) -> None:
    """An append has fields for all of them, so nothing of the message is lost."""
    server.faults.add("create", "status", status=400)
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", "look", metadata={"attachments": [{"kind": "image"}]}), turn(1)[1]])
    conversation.end()
    assert sender.shutdown(LONG)
    contents = [request.json()["content"] for request in server.requests if request.path.endswith("conversations")]
    assert ["attachments" in content for content in contents] == [True, False]
    assert Held(server).words == ["Conversation started.", "look", "answer 1"]
    assert Held(server).messages[1]["metadata"]["attachments"] == [{"kind": "image"}]


def test_a_create_that_is_refused_twice_says_only_our_words(server: LocalServer) -> None:
    """Then the bad message is looked for among those of the append."""
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append([said("user", ""), *turn(1)])
    conversation.end()
    assert not sender.shutdown(LONG)
    assert Held(server).words == ["Conversation started.", *words(1)]
    assert sender.stats().rejected == 1


def test_a_conversation_that_is_refused_is_said(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    """A create that can never work sets its messages aside, and no other conversation is touched."""
    from converra.delivery.header import Header

    sender = delivery(server)
    bad = sender.open(Header(key="bad", prompt_id=""))
    bad.append(turn(1))
    good = queue(sender, "good")
    good.append(turn(2))
    assert not sender.flush(LONG)
    assert [one.words for one in held(server)] == [words(2)]
    assert (sender.stats().rejected, sender.stats().delivered) == (2, 2)
    assert "the API rejected 2 messages" in caplog.text
    assert sender.shutdown(LONG)


def test_metadata_that_is_refused_is_left_out(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    """The document wants a string there; the messages go through without the metadata."""
    sender = delivery(server)
    conversation = queue(sender, metadata={"userId": 7})
    conversation.append(turn(1))
    conversation.end()
    assert sender.shutdown(LONG)
    assert [word for word in Held(server).words if word.split()[0] != "Conversation"] == words(1)
    assert "the API rejected a conversation's metadata; continuing without it" in caplog.text


def test_a_conversation_that_is_gone_goes_on_in_a_new_one(server: LocalServer) -> None:
    """404 on append: the rest goes to a conversation that names the old."""
    sender = delivery(server)
    conversation = queue(sender)
    conversation.append(turn(1))
    assert sender.flush(LONG)
    server.faults.add("append", "status", status=404, times=2)  # the first may be a replica that lags behind
    conversation.append(turn(2))
    assert sender.flush(LONG)
    conversation.end()
    assert sender.shutdown(LONG)
    first, second = held(server)
    assert (first.words, [w for w in second.words if w != "Conversation ended."]) == (words(1), words(2))
    assert second.metadata["continues"] == first.id


def test_a_404_that_passes_is_no_reason_to_go_elsewhere(server: LocalServer) -> None:
    """A replica that lags behind."""
    server.faults.add("append", "status", status=404)
    sender = delivery(server)
    queue(sender).append(turn(1))
    assert sender.flush(LONG)
    assert [one.words for one in held(server)] == [words(1)]
    assert sender.shutdown(LONG)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_pauses_and_is_probed(
    server: LocalServer, status: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said once, with the host; nothing is thrown away; when the key works again, everything arrives."""
    from converra.delivery.worker import schedule

    monkeypatch.setattr(schedule, "FIRST_PROBE", 0.3)
    server.faults.add("any", "status", status=status, times=None)
    sender = delivery(server, flush_interval=0.02)
    for key in ("a", "b", "c"):
        conversation = queue(sender, key)
        conversation.append(turn(1))
        conversation.end()
    assert not sender.flush(LONG)
    assert not sender.flush(LONG)
    server.faults.clear()
    until(lambda: sender.stats().pending, 0)
    assert sender.shutdown(LONG)
    assert [one.words for one in held(server)] == [words(1)] * 3
    told = [record for record in caplog.messages if "sending pauses" in record]
    assert len(told) == 1
    assert f"{status} from 127.0.0.1" in told[0]


def test_flush_does_not_wait_for_a_refused_key(server: LocalServer) -> None:
    """There is nothing to wait for: False at once."""
    server.faults.add("any", "status", status=401, times=None)
    sender = delivery(server)
    queue(sender).append(turn(1))
    began = time.monotonic()
    assert not sender.flush(LONG)
    assert time.monotonic() - began < HANG
    assert sender.stats().pending == 2
    sender.shutdown(0.1)


def test_a_page_that_is_not_the_api_pauses_too(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong path or host must not cost what was recorded: it waits, and the host is named."""
    sender = delivery(server, base_url=f"{server.url}/elsewhere")
    queue(sender).append(turn(1))
    assert not sender.flush(LONG)
    assert sender.stats().pending == 2
    assert "404 from 127.0.0.1" in caplog.text
    sender.shutdown(0.1)
