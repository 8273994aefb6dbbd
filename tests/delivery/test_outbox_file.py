"""The durable outbox, as far as one process shows it: bounded, private, and never in the way when it cannot be used."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from converra.delivery.outbox import schema
from converra.delivery.worker.flusher import Flusher
from converra.process.lockfile import ProcessLock
from converra.process.workers import WakeHint
from converra.wire.models import Usage
from tests.delivery.harness import Held, delivery, held, queue, said, turn, words
from tests.patience import HANG, LONG, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converra.delivery.conversation_queue import FlushRequest
    from converra.delivery.delivery import Delivery
    from converra.server.run import LocalServer

KB = 1024


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite3"


def _rows(outbox: Path, table: str) -> int:
    db = sqlite3.connect(outbox)
    try:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - a literal of this test
    finally:
        db.close()


def _stop_in_vain(sender: Delivery) -> None:
    """Shut down against an API that fails, and wait until the last request under way is over."""
    flusher = sender._flusher
    assert not sender.shutdown(0.3)
    until(lambda: not flusher.workers.alive)


def _corrupt(outbox: Path) -> None:
    outbox.write_bytes(b"this is no database at all, but a text that is long enough to be looked at" * 100)


def _newer(outbox: Path) -> None:
    db = sqlite3.connect(outbox)
    db.executescript(f"PRAGMA application_id = {schema.APPLICATION_ID}; PRAGMA user_version = 99")
    db.close()


def _directory(outbox: Path) -> None:
    outbox.mkdir()


def _elsewhere(outbox: Path) -> None:
    outbox.symlink_to(outbox.parent / "missing" / "outbox.sqlite3")


@pytest.mark.parametrize("broken", [_corrupt, _newer, _directory, _elsewhere], ids=lambda one: one.__name__.strip("_"))
def test_an_outbox_that_cannot_be_used_costs_nothing_but_a_warning(
    server: LocalServer, outbox: Path, broken: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Corrupt, of a newer version, no file, no place: memory takes over, and that is said once."""
    broken(outbox)
    sender = delivery(server, outbox=str(outbox))
    sender.start()
    for number in range(3):
        conversation = queue(sender, str(number))
        conversation.append(turn(number))
        conversation.annotate({"a": 1})
        conversation.end()
    assert sender.shutdown(LONG)
    assert sorted(one.words for one in held(server)) == [words(number) for number in range(3)]
    assert len([record for record in caplog.messages if "cannot be used" in record]) == 1


def test_the_database_of_another_program_is_left_alone(
    server: LocalServer, outbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistyped path takes no file from its readers, and puts no table of ours beside those of the app."""
    with contextlib.closing(sqlite3.connect(outbox)) as db:
        db.executescript("CREATE TABLE songs (name); INSERT INTO songs VALUES ('Yesterday');")
    outbox.chmod(0o644)
    before = outbox.read_bytes()
    sender = delivery(server, outbox=str(outbox))
    conversation = queue(sender)
    conversation.append(turn(1))
    conversation.end()
    assert sender.shutdown(LONG)
    assert Held(server).words == words(1)
    assert (outbox.stat().st_mode & 0o777, outbox.read_bytes()) == (0o644, before)
    assert [path.name for path in outbox.parent.iterdir()] == [outbox.name]
    assert "it is not an outbox, and was left unchanged" in caplog.text


def test_a_full_disk_costs_nothing_but_a_warning(
    server: LocalServer, outbox: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has a bound of its own; past it memory takes over, in order."""
    monkeypatch.setattr(schema, "MAX_BYTES", 200 * KB)
    sender = delivery(server, outbox=str(outbox), flush_interval=60)
    conversation = queue(sender)
    texts = [f"{number:03}" + "x" * 5 * KB for number in range(80)]
    for text in texts:
        conversation.append([said("user", text)])
    assert outbox.stat().st_size < 400 * KB
    conversation.end()
    assert sender.shutdown(LONG)
    assert Held(server).words == texts
    assert len([record for record in caplog.messages if "cannot be used" in record]) == 1
    assert _rows(outbox, "message") == 0


def test_past_the_bound_of_memory_messages_are_in_the_file_only(server: LocalServer, outbox: Path) -> None:
    """With a durable outbox nothing is dropped."""
    sender = delivery(server, outbox=str(outbox), max_pending_bytes=20 * KB, flush_interval=60)
    conversation = queue(sender)
    texts = [f"{number:03}" + "x" * KB for number in range(100)]
    for text in texts:
        conversation.append([said("user", text)])
    stats = sender.stats()
    assert (stats.dropped, stats.pending) == (0, 100)
    assert stats.pending_bytes <= 20 * KB
    conversation.end()
    assert sender.shutdown(LONG)
    assert Held(server).words == texts
    assert sender.stats().pending_bytes == 0


def test_the_file_is_empty_when_all_is_delivered(server: LocalServer, outbox: Path) -> None:
    """Also where a message had to be split for a server with smaller limits, and where one was refused."""
    sender = delivery(server, outbox=str(outbox))
    server.faults.add("append", "status", status=413, times=3)
    conversation = queue(sender)
    answer = said("assistant", "y" * 150 * KB, usage=Usage(1, 2))
    conversation.append([said("user", "go"), answer, said("assistant", "", usage=Usage(1, 2)), *turn(1)])
    assert _rows(outbox, "message") == 6
    assert not sender.flush(LONG)
    conversation.annotate({"late": True})
    conversation.end()
    assert sender.shutdown(LONG)
    told = [word for one in held(server) for word in one.words]
    assert "".join(word for word in told if word.startswith("y")) == "y" * 150 * KB
    assert held(server)[-1].metadata["late"] is True
    assert [_rows(outbox, table) for table in ("owner", "conversation", "message", "note")] == [0, 0, 0, 0]
    assert [path.name for path in outbox.parent.glob("*.lock")] == []


def test_a_message_that_comes_while_its_conversation_is_forgotten_stays(server: LocalServer, outbox: Path) -> None:
    """It is in the file before a worker knows of it, such as late feedback: a process that is killed loses nothing."""
    sender = delivery(server, outbox=str(outbox))
    conversation = queue(sender)
    conversation.append(turn(1))
    assert sender.flush(LONG)
    progress = conversation.progress
    assert progress is not None
    for written in (
        lambda: sender._outbox.put(conversation, [said("user", "late")]),
        lambda: sender._outbox.note(conversation, {"late": True}),
    ):
        written()
        assert sender._outbox.file is not None
        sender._outbox.file.forget(progress)
        assert _rows(outbox, "message JOIN conversation ON conversation.id = message.conversation") == 1
    assert _rows(outbox, "note JOIN conversation ON conversation.id = note.conversation") == 1


def test_shutdown_waits_until_the_file_is_closed(
    server: LocalServer, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `shutdown()` the file may be moved or removed, however long a busy machine takes to close it."""

    def delivered(self: Flusher, request: FlushRequest, until: float) -> bool:
        """Come back when the worker is at its next turn already, which takes a second."""
        complete = wait(self, request, until)
        asleep.set()
        return complete and inside.wait(LONG)

    def slow(self: WakeHint, now: float, *, news: bool) -> None:
        if asleep.is_set():
            inside.set()
            time.sleep(1.0)
        polls_at(self, now, news=news)

    asleep, inside = threading.Event(), threading.Event()
    wait, polls_at = Flusher.wait, WakeHint.polls_at
    monkeypatch.setattr(Flusher, "wait", delivered)
    monkeypatch.setattr(WakeHint, "polls_at", slow)
    sender = delivery(server, outbox=str(outbox), flush_interval=0.01)
    queue(sender).append(turn(1))
    assert sender.shutdown(LONG)
    assert [path.name for path in outbox.parent.iterdir()] == [outbox.name]
    assert _rows(outbox, "owner") == 0


def test_two_deliveries_of_one_process_share_a_file(server: LocalServer, outbox: Path) -> None:
    """Neither takes the other for dead."""
    one, two = (delivery(server, outbox=str(outbox), flush_interval=60) for _ in range(2))
    queue(one, "one").append(turn(1))
    queue(two, "two").append(turn(2))
    one.start()
    two.start()
    assert two.shutdown(LONG)
    assert [conversation.words for conversation in held(server)] == [words(2)]
    assert one.shutdown(LONG)
    assert [conversation.words for conversation in held(server)] == [words(2), words(1)]


def test_a_process_that_closes_the_file_leaves_it_to_those_who_use_it(server: LocalServer, outbox: Path) -> None:
    """Whoever is not the last one does not tidy up: what others write afterwards is in the file."""
    sender = delivery(server, outbox=str(outbox), flush_interval=60)
    conversation = queue(sender)
    look = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
        " print(*db.execute('SELECT count(*) FROM message')); db.close()"
    )
    for number in (1, 2):
        conversation.append(turn(number))
        command = [sys.executable, "-c", look, str(outbox)]
        seen = subprocess.run(command, check=True, capture_output=True, text=True)
        assert seen.stdout == f"({2 * number},)\n"
    conversation.end()
    assert sender.shutdown(LONG)


def test_a_write_of_another_that_never_ends_costs_a_caller_a_moment(
    server: LocalServer, outbox: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped in the middle of a write: callers wait once, then memory takes over for a while."""
    monkeypatch.setattr(schema, "CALLER_SECONDS", 1.5)
    monkeypatch.setattr(schema, "WORKER_SECONDS", 0.3)
    sender = delivery(server, outbox=str(outbox), flush_interval=60)
    conversation = queue(sender)
    conversation.append(turn(1))
    other = sqlite3.connect(outbox, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    for number in range(2, 50):
        conversation.append(turn(number))
    assert time.monotonic() - began < HANG  # each for itself, they would wait for 72 s
    conversation.end()
    other.execute("ROLLBACK")
    other.close()
    assert sender.shutdown(LONG)
    assert Held(server).words == words(*range(1, 50))
    told = "cannot be used; messages wait in memory meanwhile: database is locked"
    assert [message for message in caplog.messages if "cannot be used" in message] == [
        f"converra: the outbox {outbox} {told}"
    ]


def test_what_shutdown_could_not_deliver_waits_for_the_next_one(server: LocalServer, outbox: Path) -> None:
    """Not only crashes leave something behind."""
    server.faults.add("any", "status", status=503, times=None)
    first = delivery(server, outbox=str(outbox))
    conversation = queue(first, metadata={"sessionId": "s"})
    conversation.append(turn(1))
    conversation.annotate({"late": 1})
    conversation.append([said("assistant", "z" * 150 * KB, usage=Usage(1, 2))])
    conversation.end()
    _stop_in_vain(first)
    server.faults.clear()
    second = delivery(server, outbox=str(outbox))
    second.start()
    assert second.flush(LONG)
    assert second.shutdown(LONG)
    found = Held(server)
    assert (found.words[:2], "".join(found.words[2:])) == (words(1), "z" * 150 * KB)
    assert (found.status, found.metadata["sessionId"], found.metadata["late"]) == ("completed", "s", 1)
    stats = second.stats()
    assert (stats.captured, stats.delivered, stats.pending) == (3, 3, 0)


def test_what_shutdown_could_not_deliver_goes_on_where_delivery_does(
    server: LocalServer, outbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that records again after a shutdown in vain delivers what is left in the file, and counts it once."""
    server.faults.add("any", "status", status=503, times=None)
    sender = delivery(server, outbox=str(outbox))
    queue(sender, "one").append(turn(1))
    _stop_in_vain(sender)
    assert (sender.stats().captured, sender.stats().pending) == (2, 2)
    server.faults.clear()
    second = queue(sender, "two")
    second.append(turn(2))
    second.end()
    until(lambda: len(held(server)), 2)
    assert sender.shutdown(LONG)
    stats = sender.stats()
    assert (stats.captured, stats.delivered, stats.pending) == (4, 4, 0)
    assert sorted(tuple(one.words[:2]) for one in held(server)) == sorted(tuple(words(number)) for number in (1, 2))
    assert [message for message in caplog.messages if "not delivered" in message] == []


def test_a_session_that_a_dead_process_shared_stays_open(server: LocalServer, outbox: Path) -> None:
    """Others may go on with it: what was pending is delivered, and nothing ends it."""
    server.faults.add("any", "status", status=503, times=None)
    first = delivery(server, outbox=str(outbox))
    queue(first, shared=True).append(turn(1))
    _stop_in_vain(first)
    server.faults.clear()
    second = delivery(server, outbox=str(outbox), idle_timeout=0)
    second.start()
    assert second.shutdown(LONG)
    assert (Held(server).words, Held(server).status) == (words(1), "active")
    assert _rows(outbox, "conversation") == 0


_SESSIONS = """
import contextlib, os, sys
import converra
base_url, outbox, *said = sys.argv[1:]
converra.instrument(api_key="k", base_url=base_url, outbox=outbox, flush_interval=60)
with contextlib.ExitStack() as stack:
    for session in map(str, range(3)):
        joined = stack.enter_context(converra.conversation("p", session_id=session, keep_open=True))
        for word in said:
            joined.add_message("user", f"question {word}")
            joined.add_message("assistant", f"answer {word}")
    if "1" in said:
        os._exit(0)
assert converra.flush(60)
assert converra.shutdown(60)
"""


def test_what_a_dead_process_left_of_a_session_comes_first(server: LocalServer, outbox: Path) -> None:
    """Before what the next process adds to the session, although that is less and its create fails at first."""
    server.faults.add("create", "status", status=429, headers={"Retry-After": "0"}, times=2)
    for said_there in (["1", "2"], ["3"]):
        program = [sys.executable, "-c", _SESSIONS, server.base_url, str(outbox), *said_there]
        subprocess.run(program, check=True, timeout=LONG)
    assert [one.words for one in held(server)] == [words(1, 2, 3)] * 3
    assert _rows(outbox, "conversation") == 0


def test_a_process_lock_lasts_as_long_as_its_process(tmp_path: Path) -> None:
    """The system takes it back, however the process ends."""
    code = (
        "import sys; from converra.process.lockfile import ProcessLock;"
        " lock = ProcessLock.take(sys.argv[1], 't'); print(lock, flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "box")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    assert ProcessLock.take(str(tmp_path / "box"), "t") is None
    child.kill()
    child.communicate()
    taken = ProcessLock.take(str(tmp_path / "box"), "t")
    assert taken is not None
    assert [path.name for path in tmp_path.iterdir()] == ["box-t.lock"]
    taken.end()
    assert list(tmp_path.iterdir()) == []
