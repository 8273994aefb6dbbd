"""Metadata that the app sets on a conversation arrives, or is said to be lost, whether or not a message follows."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from converra.capture.recorder import Recorder
from converra.config import load
from converra.process import guard
from converra.server.run import LocalServer, serve
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from converra.capture.handle import Conversation

    Make = Callable[..., Recorder]

CARRIER = "Metadata updated."
KINDS = ["memory", "file"]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    guard.reset_log_limits()
    with serve() as running:
        yield running


@pytest.fixture
def make(server: LocalServer, tmp_path: Path) -> Iterator[Make]:
    """Recorders of the local API, each like a process of its own."""
    made: list[Recorder] = []

    def another(kind: str = "memory", **settings: Any) -> Recorder:
        settings = {"base_url": server.base_url, "api_key": "k", "flush_interval": 3600.0} | settings
        if kind == "file":
            settings["outbox"] = str(tmp_path / f"outbox{len(made)}")
        made.append(Recorder(load(settings, {})))
        return made[-1]

    yield another
    for recorder in made:
        recorder.shutdown(LONG)


def held(server: LocalServer) -> Any:
    """The one conversation of the server."""
    (conversation,) = server.store.conversations()[0]
    return conversation


def texts(server: LocalServer) -> list[str]:
    return [message["content"] for message in server.store.messages(held(server))]


def set_by_app(server: LocalServer) -> dict[str, Any]:
    """The metadata without that of the recorder."""
    recorders = {"sdk", "sessionId"}
    return {
        name: value
        for name, value in held(server).metadata.items()
        if name not in recorders and not name.startswith("sdk")
    }


def spoken(conversation: Conversation) -> None:
    conversation.add_message("user", "Hi")
    conversation.add_message("assistant", "Hello")


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_after_the_last_turn_of_a_session_arrives(server: LocalServer, make: Make, kind: str) -> None:
    """When the block is left, without a flush; one message carries all of it."""
    recorder = make(kind)
    with recorder.conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
        assert recorder.flush(LONG)
        conversation.update_metadata(a=1)
        conversation.update_metadata(a=2, b=[3])
    until(lambda: texts(server)[2:] == [CARRIER])
    assert set_by_app(server) == {"a": 2, "b": [3]}
    assert held(server).status == "active"
    assert recorder.flush(LONG)
    assert texts(server) == ["Hi", "Hello", CARRIER]


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_that_a_message_takes_along_needs_none_of_its_own(server: LocalServer, make: Make, kind: str) -> None:
    """Before the first turn, between turns and after the last one, and with the end."""
    recorder = make(kind)
    with recorder.conversation("p", session_id="s", keep_open=True) as conversation:
        conversation.update_metadata(before=1)
        spoken(conversation)
        conversation.update_metadata(after=2)
    assert recorder.flush(LONG)
    with recorder.conversation("p", session_id="s", keep_open=True) as conversation:
        conversation.update_metadata(between=3)
        spoken(conversation)
    assert recorder.flush(LONG)
    conversation.update_metadata(late=4)
    conversation.complete()
    assert recorder.flush(LONG)
    assert texts(server) == ["Hi", "Hello", "Hi", "Hello", "Conversation ended."]
    assert set_by_app(server) == {"before": 1, "after": 2, "between": 3, "late": 4}


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_outside_a_block_is_sent_after_the_interval(server: LocalServer, make: Make, kind: str) -> None:
    """Nothing else would send it: no block is left, and nothing ends."""
    recorder = make(kind, flush_interval=0.2)
    with recorder.conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
    assert recorder.flush(LONG)
    conversation.update_metadata(a=1)
    until(lambda: set_by_app(server) == {"a": 1})
    by_hand = recorder.conversation("p", session_id="other", keep_open=True)
    by_hand.update_metadata(first=True)
    by_hand.add_message("user", "Hi")
    assert recorder.flush(LONG)
    newest = server.store.conversations()[0][0]
    assert [message["content"] for message in server.store.messages(newest)] == ["Hi"]
    assert newest.metadata["first"] is True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("session", [{}, {"session_id": "s", "keep_open": True}], ids=["own", "session"])
def test_a_flush_delivers_metadata(server: LocalServer, make: Make, kind: str, session: dict[str, Any]) -> None:
    """True means that the API has it, also what was set after the last message was sent."""
    recorder = make(kind)
    with recorder.conversation("p", **session) as conversation:
        spoken(conversation)
        assert recorder.flush(LONG)
        conversation.update_metadata(a=1)
        assert recorder.flush(LONG)
        assert set_by_app(server) == {"a": 1}
        assert recorder.flush(LONG)
        assert texts(server) == ["Hi", "Hello", CARRIER]


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_reaches_a_session_that_another_process_opened(server: LocalServer, make: Make, kind: str) -> None:
    """Without any message of its own, with messages that are there already, and after a lost answer."""
    first, second, third = make(kind), make(kind), make(kind)
    with first.conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
        conversation.update_metadata(kept=1)
    assert first.flush(LONG)
    with second.conversation("p", session_id="s", keep_open=True) as joined:
        joined.update_metadata(ticket="T-1")
    assert second.flush(LONG)
    assert texts(server) == ["Hi", "Hello", CARRIER]
    server.faults.add("append", "status", when="after")
    with third.conversation("p", session_id="s", keep_open=True) as joined:
        joined.update_metadata(ticket="T-2")
    assert third.flush(LONG)
    assert texts(server) == ["Hi", "Hello", CARRIER, CARRIER]
    assert set_by_app(server) == {"kept": 1, "ticket": "T-2"}
    assert third.stats().duplicated_risk == 0


def test_metadata_of_an_unused_conversation_is_not_sent(server: LocalServer, make: Make) -> None:
    """Nothing recorded, nothing sent: also with an error, and in a session that was opened with metadata."""
    recorder = make()
    with recorder.conversation("p") as conversation:
        conversation.update_metadata(a=1)
    with recorder.conversation("p", session_id="s", keep_open=True, metadata={"a": 1}):
        pass
    with pytest.raises(KeyError), recorder.conversation("p", session_id="t", keep_open=True):
        raise KeyError
    assert recorder.flush(LONG)
    assert recorder.shutdown(LONG)
    assert server.requests == []


def test_the_error_of_a_block_that_stays_open_arrives(server: LocalServer, make: Make) -> None:
    """The turns were sent before it."""
    recorder = make()

    @recorder.conversation("p", session_id="s", keep_open=True)
    def fail() -> None:
        conversation = recorder.current_conversation()
        assert conversation is not None
        spoken(conversation)
        assert recorder.flush(LONG)
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert recorder.flush(LONG)
    assert set_by_app(server) == {"error": {"type": "KeyError"}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_shutdown_delivers_metadata_and_so_does_the_next_flush(server: LocalServer, make: Make, kind: str) -> None:
    """Also what is set after the shutdown."""
    recorder = make(kind)
    conversation = recorder.conversation("p", session_id="s", keep_open=True)
    with conversation:
        spoken(conversation)
        assert recorder.flush(LONG)
        conversation.update_metadata(a=1)
        assert recorder.shutdown(LONG)
        assert set_by_app(server) == {"a": 1}
        conversation.update_metadata(b=2)
        assert recorder.flush(LONG)
        assert set_by_app(server) == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_set_last_survives_an_outage(server: LocalServer, make: Make, kind: str) -> None:
    """A flush in vain says so; the next one delivers."""
    recorder = make(kind, timeout=1.0)
    with recorder.conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
        assert recorder.flush(LONG)
        server.faults.add("append", "status", status=503, times=1000)
        conversation.update_metadata(a=1)
        assert not recorder.flush(0.3)
        assert set_by_app(server) == {}
        server.faults.clear()
        assert recorder.flush(LONG)
    assert set_by_app(server) == {"a": 1}


@pytest.mark.parametrize("status", [400, 413])
def test_refused_metadata_is_said_to_be_lost(
    server: LocalServer, make: Make, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Neither the conversation nor its end is lost with it."""
    recorder = make()
    with recorder.conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
        assert recorder.flush(LONG)
        server.faults.add("append", "status", status=status)
        conversation.update_metadata(a=1)
        assert recorder.flush(LONG)
        assert "rejected a conversation's metadata" in caplog.text
        server.faults.add("append", "status", status=status)
        conversation.update_metadata(b=1)
        conversation.complete()
    assert recorder.flush(LONG)
    assert held(server).status == "completed"
    assert texts(server) == ["Hi", "Hello", "Conversation ended."]


def test_metadata_of_a_conversation_that_is_gone_is_said_to_be_lost(
    server: LocalServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The API has deleted it, and no message follows that would open a further one."""
    recorder = make()
    with recorder.conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
        assert recorder.flush(LONG)
        server.faults.add("append", "status", status=404, times=3)
        conversation.update_metadata(a=1)
    assert recorder.flush(LONG)
    assert "no longer knows a conversation: its fields a are not recorded" in caplog.text


@pytest.mark.parametrize(
    ("durable", "end"), [(False, ""), (True, ""), (True, "os._exit(0)")], ids=["memory", "file", "killed"]
)
def test_metadata_set_last_survives_the_process(
    server: LocalServer, tmp_path: Path, *, durable: bool, end: str
) -> None:
    """At a normal exit it is sent; a durable outbox keeps it when the process is killed."""
    environment = {"CONVERRA_BASE_URL": server.base_url, "CONVERRA_API_KEY": "k"}
    if durable:
        environment["CONVERRA_OUTBOX"] = str(tmp_path / "outbox")
    script = f"""
import os, converra
converra.instrument(flush_interval=3600)
conversation = converra.conversation("p", session_id="s", keep_open=True).__enter__()
conversation.add_message("user", "Hi")
conversation.add_message("assistant", "Hello")
assert converra.flush({LONG})
conversation.update_metadata(a=1)
{end}
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | environment)
    if end:
        next_one = Recorder(load({}, environment))
        next_one.instrument()
        next_one.uninstrument()
        assert next_one.shutdown(LONG)
    assert set_by_app(server) == {"a": 1}
    assert texts(server) == ["Hi", "Hello", CARRIER]


def test_metadata_that_is_lost_at_the_exit_is_said(server: LocalServer) -> None:
    """Without an API there is one warning at the end, as for messages."""
    environment = {"CONVERRA_BASE_URL": server.base_url, "CONVERRA_API_KEY": "k", "CONVERRA_SHUTDOWN_TIMEOUT": "0.3"}
    script = f"""
import converra, sys
converra.instrument(flush_interval=3600)
with converra.conversation("p", session_id="s", keep_open=True) as conversation:
    conversation.add_message("user", "Hi")
    conversation.add_message("assistant", "Hello")
assert converra.flush({LONG})
print("ready", flush=True)
sys.stdin.readline()
conversation.update_metadata(a=1)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        server.faults.add("append", "status", status=503, times=1000)
        _, errors = child.communicate("\n", timeout=LONG)
    assert "not delivered at exit: 0 messages were still waiting and metadata of 1 conversations" in errors


def test_metadata_set_before_a_fork_is_in_both_conversations(server: LocalServer) -> None:
    """The child's conversation has what the app set on that which it continues."""
    environment = {"CONVERRA_BASE_URL": server.base_url, "CONVERRA_API_KEY": "k"}
    script = f"""
import os, converra
converra.instrument(flush_interval=3600)
with converra.conversation("p") as conversation:
    conversation.add_message("user", "Hi")
    conversation.add_message("assistant", "Hello")
    assert converra.flush({LONG})
    conversation.update_metadata(plan="gold")
    child = os.fork()
    conversation.add_message("user", "child" if child == 0 else "parent")
    conversation.add_message("assistant", "Bye")
if child:
    os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, env=os.environ | environment)
    found = server.store.conversations()[0]
    assert [conversation.metadata["plan"] for conversation in found] == ["gold", "gold"]


def test_names_that_the_recorder_uses_itself_are_sent_once(server: LocalServer, make: Make) -> None:
    """Its own value counts for the number of appended messages; the others are the app's to set."""
    recorder = make()
    names = ("sdkDelivered", "sdkOpenedBy", "sdkLearned", "sdk", "tools", "feedback", "messageDetails", "continues")
    with recorder.conversation("p") as conversation:
        spoken(conversation)
        assert recorder.flush(LONG)
        conversation.update_metadata(**dict.fromkeys(names, "mine"))
        assert recorder.flush(LONG)
        assert texts(server) == ["Hi", "Hello", CARRIER]
    assert recorder.flush(LONG)
    assert texts(server) == ["Hi", "Hello", CARRIER, "Conversation ended."]
    others = set(names) - {"sdkDelivered", "messageDetails"}
    assert {name for name, value in held(server).metadata.items() if value == "mine"} == others | {"messageDetails_"}
