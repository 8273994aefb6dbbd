"""What people do with a conversation that they have recorded: whose it is, what they thought of it, its insights."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from converra.api.results import StoredConversation
from converra.capture.recorder import Recorder
from converra.config import load
from converra.errors import InvalidArgumentError
from converra.process import guard
from converra.server.run import LocalServer, serve
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from converra.capture.handle import Conversation

    Make = Callable[..., Recorder]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    guard.reset_log_limits()
    with serve() as running:
        yield running


@pytest.fixture
def make(server: LocalServer) -> Iterator[Make]:
    """Recorders of the local API, each like a process of its own."""
    made: list[Recorder] = []

    def another(**settings: Any) -> Recorder:
        settings = {"base_url": server.base_url, "api_key": "k", "flush_interval": 3600.0} | settings
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


def without_time(feedback: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {key: {name: value for name, value in each.items() if name != "timestamp"} for key, each in feedback.items()}


def spoken(conversation: Conversation) -> None:
    conversation.add_message("user", "Hi")
    conversation.add_message("assistant", "Hello")


def test_a_conversation_is_its_users(server: LocalServer, make: Make) -> None:
    """Whatever the app's own metadata holds, and as a decorator as well."""
    recorder = make()

    @recorder.conversation("p", user_id=" u-7 ", metadata={"userId": "other", "channel": "web"})
    def chat() -> None:
        current = recorder.current_conversation()
        assert current is not None
        assert current.user_id == "u-7"
        spoken(current)

    chat()
    assert recorder.flush(LONG)
    assert held(server).metadata["userId"] == "u-7"
    assert held(server).metadata["channel"] == "web"
    with pytest.raises(InvalidArgumentError, match="user_id is ''"):
        recorder.conversation("p", user_id="")


def test_feedback_travels_with_the_end(server: LocalServer, make: Make) -> None:
    """No message is added; the last judgement of each key counts."""
    recorder = make()
    with recorder.conversation("p") as conversation:
        spoken(conversation)
        conversation.feedback(0)
        conversation.feedback(True, comment=" Solved \ud800. ")
        conversation.feedback(0.25, key="accuracy")
        assert recorder.flush(LONG)
        conversation.feedback(comment="late", key="editor")
    assert recorder.flush(LONG)
    assert without_time(held(server).metadata["feedback"]) == {
        "user": {"score": 1, "comment": "Solved \ufffd."},
        "accuracy": {"score": 0.25},
        "editor": {"comment": "late"},
    }
    assert texts(server) == ["Hi", "Hello", "Conversation ended."]
    assert held(server).status == "completed"


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "file"])
def test_feedback_on_a_completed_conversation_is_appended_to_it(
    server: LocalServer, make: Make, tmp_path: Path, *, durable: bool
) -> None:
    """Also after a shutdown, through a lost answer, and the same judgement twice."""
    recorder = make(outbox=str(tmp_path / "outbox") if durable else None)
    with recorder.conversation("p") as conversation:
        spoken(conversation)
    assert recorder.shutdown(LONG)
    server.faults.add("append", "status", when="after")
    conversation.feedback(1, comment="Thanks")
    assert recorder.flush(LONG)
    conversation.feedback(1, comment="Thanks")
    assert recorder.flush(LONG)
    assert texts(server) == ["Hi", "Hello", *["Feedback (user): 1. Thanks"] * 2]
    assert held(server).status == "completed"
    assert without_time(held(server).metadata["feedback"]) == {"user": {"score": 1, "comment": "Thanks"}}
    stats = recorder.stats()
    assert (stats.delivered, stats.pending, stats.rejected, stats.duplicated_risk) == (4, 0, 0, 0)


@pytest.mark.parametrize("session_id", [None, "s"])
def test_late_feedback_of_a_killed_process_reaches_its_conversation(
    server: LocalServer, tmp_path: Path, session_id: str | None
) -> None:
    """From the durable outbox, also when the API has forgotten the idempotency key of the conversation."""
    environment = {
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "k",
        "CONVERRA_OUTBOX": str(tmp_path / "outbox"),
    }
    killed = f"""
import os, converra
converra.instrument(flush_interval=3600)
with converra.conversation("p", session_id={session_id!r}, keep_open={session_id is not None}) as conversation:
    conversation.add_message("user", "Hi")
    conversation.add_message("assistant", "Hello")
conversation.complete()
assert converra.flush({LONG})
conversation.feedback(1, comment="Thanks")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", killed], check=True, env=os.environ | environment)
    server.store.execute("DELETE FROM idempotency_keys")
    next_one = Recorder(load({}, environment))
    next_one.instrument()
    next_one.uninstrument()
    assert next_one.shutdown(LONG)
    assert texts(server) == ["Hi", "Hello", "Feedback (user): 1. Thanks"]
    assert without_time(held(server).metadata["feedback"]) == {"user": {"score": 1, "comment": "Thanks"}}


def test_an_api_that_takes_nothing_after_the_end_is_named(
    server: LocalServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The feedback is counted as rejected; the conversation is not continued in another one."""
    recorder = make()
    with recorder.conversation("p") as conversation:
        spoken(conversation)
    assert recorder.flush(LONG)
    server.faults.add("append", "status", status=400)
    conversation.feedback(-1)
    assert not recorder.flush(LONG)
    assert texts(server) == ["Hi", "Hello"]
    assert recorder.stats().rejected == 1
    assert "takes no feedback on a completed conversation" in caplog.text


def test_feedback_comes_from_another_process(server: LocalServer, make: Make) -> None:
    """In a session that is kept open, and in one that is completed meanwhile."""
    first, second = make(), make()
    with first.conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
    assert first.flush(LONG)
    with second.conversation("p", session_id="s", keep_open=True) as joined:
        joined.feedback(1)
    assert second.flush(LONG)
    assert texts(server) == ["Hi", "Hello", "Feedback (user): 1"]
    assert held(server).metadata["feedback"]["user"]["score"] == 1
    first.complete("p", "s")
    assert first.flush(LONG)
    third = make()
    with third.conversation("p", session_id="s", keep_open=True) as joined:
        joined.feedback(0, key="editor")
    assert third.flush(LONG)
    assert texts(server)[2:] == ["Feedback (user): 1", "Conversation ended.", "Feedback (editor): 0"]
    assert held(server).status == "completed"


@pytest.mark.parametrize("completed", [False, True], ids=["open", "completed"])
@pytest.mark.parametrize("hidden", ["messages", "metadata", "nothing"])
def test_feedback_of_all_processes_is_kept(
    server: LocalServer, make: Make, monkeypatch: pytest.MonkeyPatch, *, completed: bool, hidden: str
) -> None:
    """Under one key the latest counts, whichever process gave it, and whatever of a conversation the API shows."""
    read = StoredConversation.read_as_sent

    def read_less(body: bytes) -> StoredConversation:
        nothing: dict[str, Any] = {"messages": [], "metadata": None}
        less = {name: value for name, value in nothing.items() if name == hidden}
        return msgspec.structs.replace(read(body), **less)

    monkeypatch.setattr(StoredConversation, "read_as_sent", read_less)
    processes = [make(), make(), make()]
    with processes[0].conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
    if completed:
        conversation.complete()
    assert processes[0].flush(LONG)
    given: list[tuple[int, int, str]] = [
        (0, 1, "user"),
        (1, 2, "editor"),
        (2, 3, "user"),
        (0, 4, "tone"),
        (1, 5, "tone"),
    ]
    for process, score, key in given:
        with processes[process].conversation("p", session_id="s", keep_open=True) as joined:
            joined.feedback(score, key=key)
        assert processes[process].flush(LONG)
    scores = {key: each["score"] for key, each in held(server).metadata["feedback"].items()}
    assert scores == {"user": 3, "editor": 2, "tone": 5}
    assert texts(server)[:2] == ["Hi", "Hello"]
    assert [text for text in texts(server) if text.startswith("Feedback")] == [
        f"Feedback ({key}): {score}" for _, score, key in given
    ]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_feedback_is_sent_where_nothing_can_be_read(server: LocalServer, make: Make, status: int) -> None:
    """An API that does not show the conversation holds no feedback back."""
    recorder = make()
    with recorder.conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
        assert recorder.flush(LONG)
        server.faults.add("read", "status", status=status, times=2)
        conversation.feedback(1)
        assert recorder.flush(LONG)
    newest = server.store.conversations()[0][0]
    assert newest.metadata["feedback"]["user"]["score"] == 1
    assert recorder.stats().delivered == recorder.stats().captured == 3


def test_the_comment_is_redacted(server: LocalServer, make: Make) -> None:
    """As words of a user: by `redact`, and left out without content."""

    def redact(message: dict[str, Any]) -> dict[str, Any] | None:
        return None if "drop" in message["content"] else message | {"content": message["content"].replace("Ann", "[n]")}

    recorder = make(redact=redact)
    with recorder.conversation("p") as conversation:
        spoken(conversation)
        conversation.feedback(1, comment="Ann helped")
        conversation.feedback(2, comment="drop this", key="second")
    assert recorder.flush(LONG)
    conversation.feedback(comment="Ann again", key="late")
    assert recorder.flush(LONG)
    feedback = without_time(held(server).metadata["feedback"])
    assert feedback == {
        "user": {"score": 1, "comment": "[n] helped"},
        "second": {"score": 2},
        "late": {"comment": "[n] again"},
    }
    assert texts(server)[-1] == "Feedback (late). [n] again"


def test_no_words_without_content(server: LocalServer, make: Make) -> None:
    """Without content a score is recorded, and a comment is not."""
    recorder = make(capture_content=False)
    with recorder.conversation("p") as conversation:
        spoken(conversation)
    conversation.feedback(1, comment="words")
    assert recorder.flush(LONG)
    assert without_time(held(server).metadata["feedback"]) == {"user": {"score": 1}}
    assert texts(server)[-1] == "Feedback (user): 1"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "a score, a comment, or both"),
        ({"comment": "  "}, "a score, a comment, or both"),
        ({"score": math.nan}, "score is nan"),
        ({"score": "1"}, "score is '1'"),
        ({"score": 1, "comment": 2}, "comment is int"),
        ({"score": 1, "key": ""}, "key is ''"),
    ],
)
def test_feedback_that_says_nothing_is_an_error(make: Make, given: dict[str, Any], named: str) -> None:
    """It is raised at once, and names the argument."""
    with pytest.raises(InvalidArgumentError, match=named):
        make().conversation("p").feedback(**given)


def test_metadata_after_the_end_is_not_lost_in_silence(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing could carry it, and the log says so."""
    recorder = make()
    with recorder.conversation("p") as conversation:
        spoken(conversation)
    conversation.update_metadata(late=True)
    assert "metadata came after its conversation was completed" in caplog.text


def test_insights_are_waited_for(server: LocalServer, make: Make) -> None:
    """From a thread, an asyncio loop and a trio loop; through answers that are not there yet, and a busy API."""
    recorder = make()
    with recorder.conversation("p") as conversation:
        spoken(conversation)
    server.faults.add("read", "status", status=404)
    server.faults.add("read", "status", status=429, headers={"Retry-After": "0"})
    found = conversation.wait_for_insights(LONG)
    assert found is not None
    assert (found.conversation_id, bool(found.summary)) == (conversation.id, True)
    assert asyncio.run(conversation.insights(LONG)) == found
    assert trio.run(conversation.insights, LONG) == found


def test_insights_do_not_wait_for_other_conversations(
    server: LocalServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be delivered does not use up the time of another."""
    monkeypatch.setattr("converra.capture.insights.HURRY_SECONDS", 0.2)
    recorder = make()
    with recorder.conversation("p") as conversation:
        spoken(conversation)
    assert recorder.flush(LONG)
    server.faults.add("create", "status", times=None)
    with recorder.conversation("stuck") as stuck:
        spoken(stuck)
    assert conversation.wait_for_insights(LONG) is not None
    server.faults.clear()
    assert recorder.flush(LONG)


def test_no_insights_is_none_and_says_why(server: LocalServer, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """It never raises, and never waits for what cannot come."""
    recorder = make()
    with recorder.conversation("p") as conversation:
        spoken(conversation)
        assert conversation.wait_for_insights() is None
    assert "not completed: leave its block first" in caplog.text
    assert conversation.wait_for_insights(0) is None
    server.faults.add("read", "status", status=401, times=None)
    assert conversation.wait_for_insights() is None
    assert f"no insights of conversation {conversation.id} yet. Last answer: " in caplog.text
    away = Recorder(load({"base_url": "http://127.0.0.1:9", "api_key": "k"}, {}))
    with away.conversation("p") as lost:
        spoken(lost)
    assert lost.wait_for_insights(0.2) is None
    assert not away.shutdown(0)
    assert "did not arrive at the API in time" in caplog.text
    assert make(enabled=False).conversation("p").wait_for_insights() is None
    for wrong in (-1, math.inf, math.nan, "1", True):
        with pytest.raises(InvalidArgumentError, match="timeout is"):
            conversation.wait_for_insights(wrong)  # type: ignore[arg-type]


def test_a_task_that_waits_for_insights_can_be_cancelled(server: LocalServer, make: Make) -> None:
    """At once, and nothing goes on asking."""
    recorder = make()
    with recorder.conversation("p") as conversation:
        spoken(conversation)
    assert recorder.flush(LONG)
    server.faults.add("read", "status", status=404, times=None)

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(conversation.insights(3600), 0.3)

    asyncio.run(impatient())
    asked = len(server.requests)
    recorder.shutdown(LONG)
    assert len(server.requests) - asked <= 1


def test_feedback_that_crosses_that_of_other_processes_is_kept(server: LocalServer, make: Make) -> None:
    """Each process has read the conversation before any of the others appends to it."""
    processes = [make() for _ in range(5)]
    with processes[0].conversation("p", session_id="s", keep_open=True) as conversation:
        spoken(conversation)
    assert processes[0].flush(LONG)
    server.faults.add("append", "delay", seconds=0.3, times=5)  # longer than it takes them all to read

    def judge(number: int) -> None:
        with processes[number].conversation("p", session_id="s", keep_open=True) as joined:
            joined.feedback(number, key=f"judge {number}")
        assert processes[number].flush(LONG)

    with ThreadPoolExecutor() as pool:
        list(pool.map(judge, range(5)))
    scores = {key: each["score"] for key, each in held(server).metadata["feedback"].items()}
    assert scores == {f"judge {number}": number for number in range(5)}
    given = [text for text in texts(server) if text.startswith("Feedback")]
    assert sorted(given) == [f"Feedback (judge {number}): {number}" for number in range(5)]


@pytest.mark.parametrize("session", [{}, {"session_id": "s"}, {"session_id": "s", "keep_open": True}])
def test_feedback_of_many_threads_is_kept(server: LocalServer, make: Make, session: dict[str, Any]) -> None:
    """On one conversation, and on a handle of their own each where it has a session; also while it is being sent."""
    recorder = make()
    with recorder.conversation("p", **session) as conversation:
        spoken(conversation)

        def judge(number: int) -> None:
            own = recorder.conversation("p", **session) if session else conversation
            for turn in range(10):
                own.feedback(number, key=f"judge {number}.{turn}")
                if turn % 5 == number:
                    recorder.flush(LONG)

        with ThreadPoolExecutor() as pool:
            list(pool.map(judge, range(5)))
    conversation.complete()
    assert recorder.flush(LONG)
    assert len(held(server).metadata["feedback"]) == 50
