"""Ends that leave no time: with a durable outbox the next process delivers what the dead one recorded, once."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.harness import Held, delivery, held, words
from tests.effort import examples
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converra.server.run import LocalServer


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite3"


def _recover(server: LocalServer, outbox: Path, **settings: Any) -> None:
    """What the next process does: start, and have everything delivered."""
    sender = delivery(server, outbox=str(outbox), **settings)
    sender.start()
    assert sender.shutdown(LONG)


def _stored(server: LocalServer, endpoint: str, turns: int) -> bool:
    """Whether the request that hangs has had its effect."""
    found = held(server)
    return bool(found) and (endpoint == "create" or found[0].words[-1] == f"answer {turns}")


def _left(outbox: Path) -> list[Any]:
    """Everything that the outbox still holds, and the locks beside it."""
    with sqlite3.connect(outbox) as db:
        rows = [*db.execute("SELECT * FROM conversation"), *db.execute("SELECT * FROM message")]
    db.close()
    return [*rows, *(path.name for path in outbox.parent.glob("*.lock"))]


ENDS = {
    "os._exit": "os._exit(0)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(LONG)",
    "a crash": "os.kill(os.getpid(), signal.SIGSEGV)",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_the_next_process_delivers(server: LocalServer, start: Callable[..., Any], outbox: Path, code: str) -> None:
    """A turn is on disk before the recorded call returns."""
    start(f"record(started(), 'a', 1, 2, 3); {code}", OUTBOX=outbox).ended()
    assert server.requests == []
    _recover(server, outbox)
    conversation = Held(server)
    assert (conversation.count, conversation.words, conversation.status) == (1, words(1, 2, 3), "completed")
    assert _left(outbox) == []


def test_switching_on_is_enough(server: LocalServer, start: Callable[..., Any], outbox: Path) -> None:
    """What a dead process left is delivered by the next one that is instrumented, also if that records nothing."""
    start("record(started(), 'a', 1, 2, 3); os._exit(0)", OUTBOX=outbox).ended()
    code = """
    import converra
    converra.instrument()
    assert converra.flush(LONG)
    os._exit(0)
    """
    ended = start(code, OUTBOX=outbox).ended()
    assert (ended.status, ended.err) == (0, "")
    assert (Held(server).count, Held(server).words, Held(server).status) == (1, words(1, 2, 3), "completed")


def test_the_outbox_is_for_its_owner_only(start: Callable[..., Any], outbox: Path) -> None:
    """Nobody else may read what was said, and no file holds the key."""
    start("record(started(), 'a', 1); os._exit(0)", OUTBOX=outbox, API_KEY="very-secret").ended()
    files = [path for path in outbox.parent.iterdir() if path.name.startswith(outbox.name)]
    assert len(files) >= 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert not any(b"very-secret" in path.read_bytes() for path in files)


def test_redaction_comes_before_the_disk(start: Callable[..., Any], outbox: Path) -> None:
    """What redaction drops never touches the disk."""
    code = """
    from converra.delivery.header import Header
    from tests.delivery.harness import Note, said
    sender = started()
    queue = sender.open(Header(key="a", prompt_id="prompt"))
    queue.append([Note(None), said("user", "visible")])
    os._exit(0)
    """
    start(code, OUTBOX=outbox).ended()
    with sqlite3.connect(outbox) as db:
        assert [b"visible" in body for (body,) in db.execute("SELECT body FROM message")] == [True]
    db.close()


@pytest.mark.parametrize("hidden", [False, True], ids=["messages shown", "messages hidden"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("endpoint", ["create", "append", "complete"])
def test_a_request_under_way_at_the_end_is_settled(
    server: LocalServer, start: Callable[..., Any], outbox: Path, endpoint: Any, when: Any, *, hidden: bool
) -> None:
    """Killed while a request hangs, stored or not: the next process finds out, and sends only what is missing."""
    server.faults.hide_messages = hidden
    server.faults.add(endpoint, "hang", when=when, skip=1 if endpoint == "append" else 0)
    code = """
    from converra.delivery.header import Header
    from tests.delivery.harness import turn
    sender = started(timeout=3600)
    queue = sender.open(Header(key="a", prompt_id="prompt"))
    for number in (1, 2, 3):
        queue.append(turn(number))
        if number == 3: queue.end()
        sender.flush(3600)
    """
    child = start(code, OUTBOX=outbox)
    said = {"create": 1, "append": 2, "complete": 3}[endpoint]
    until(lambda: bool(server.faults.fired) and (when == "before" or _stored(server, endpoint, said)))
    child.signal(signal.SIGKILL)
    child.ended()
    _recover(server, outbox)
    conversation = Held(server)
    assert (conversation.count, conversation.words) == (1, words(*range(1, said + 1)))
    assert conversation.status == ("completed" if endpoint == "complete" else "active")


def test_conversations_of_a_dead_process_end_after_idle_timeout(
    server: LocalServer, start: Callable[..., Any], outbox: Path
) -> None:
    """What the dead one left open is delivered at once, and completed when it has been silent for idle_timeout."""
    start("record(started(), 'a', 1, 2, end=False); os._exit(0)", OUTBOX=outbox).ended()
    patient = delivery(server, outbox=str(outbox), idle_timeout=3600)
    patient.start()
    assert patient.shutdown(LONG)
    conversation = Held(server)
    assert (conversation.words, conversation.status) == (words(1, 2), "active")
    # the process that delivered it is gone as well: the next one knows of it all the same
    sender = delivery(server, outbox=str(outbox), idle_timeout=2.0)
    sender.start()
    until(lambda: Held(server).status, "completed")
    assert Held(server).words == [*words(1, 2), "Conversation ended."]
    assert sender.shutdown(LONG)
    assert _left(outbox) == []


def test_a_living_process_keeps_what_is_its_own(server: LocalServer, start: Callable[..., Any], outbox: Path) -> None:
    """Another process on the same file does not touch the conversations of one that lives, even if it stands still."""
    server.faults.add("create", "hang")
    child = start("record(started(), 'a', 1); time.sleep(LONG)", OUTBOX=outbox)
    until(lambda: bool(server.faults.fired))
    child.signal(signal.SIGSTOP)
    sent = len(server.requests)
    _recover(server, outbox)
    assert len(server.requests) == sent
    child.signal(signal.SIGKILL)
    child.ended()
    _recover(server, outbox)
    assert (Held(server).words, Held(server).count) == (words(1), 1)


def test_four_processes_share_a_file_and_one_is_killed(
    server: LocalServer, start: Callable[..., Any], outbox: Path
) -> None:
    """All that four processes recorded arrives once, though one of them is killed in the middle."""
    code = """
    sender = started()
    print("ready", flush=True)
    for number in range(10**6 if name == "a" else 25):
        record(sender, f"{name}-{number}", f"{name}-{number}-a", f"{name}-{number}-b")
        time.sleep(0.02)
    """
    begun = [f"name = '{name}'\n" + code.replace("\n    ", "\n") for name in "abcd"]
    children = [start(each, OUTBOX=outbox) for each in begun]
    children[0].ready()
    time.sleep(0.2)
    children[0].signal(signal.SIGKILL)
    assert [child.ended().status for child in children] == [-signal.SIGKILL, 0, 0, 0]
    # what was killed between its last message and its end is open, and would wait for the next process
    _recover(server, outbox, idle_timeout=0)
    found = [tuple(one.words) for one in held(server)]
    assert len(found) == len(set(found))
    expected = {tuple(words(f"{name}-{n}-a", f"{name}-{n}-b")) for name in "bcd" for n in range(25)}
    assert expected <= set(found)
    assert all(found_words[0].startswith("question a-") for found_words in set(found) - expected)
    assert _left(outbox) == []


def test_a_fork_in_the_middle_of_a_write(server: LocalServer, start: Callable[..., Any], outbox: Path) -> None:
    """Children of a process whose threads are writing have the file to themselves: what they record is in it too."""
    code = """
    from converra.delivery.header import Header
    from tests.delivery.harness import turn
    unhurried()
    sender = started()
    enough = threading.Event()
    def write(name):
        queue = sender.open(Header(key=name, prompt_id="prompt"))
        for number in range(10**6):
            if enough.is_set(): break
            queue.append(turn(f"{name}-{number}"))
            os.write(1, f"{name}-{number}\\n".encode())
            time.sleep(0.001)
    writers = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for writer in writers: writer.start()
    children = []
    for number in range(15):
        child = os.fork()
        if child == 0:
            record(sender, f"child-{number}", f"child-{number}-0")
            os.write(1, f"child-{number}-0\\n".encode())
            os._exit(0)
        children.append(child)
    for child in children: os.waitpid(child, 0)
    enough.set()
    for writer in writers: writer.join()
    os._exit(0)
    """
    ended = start(code, OUTBOX=outbox).ended()
    recorded = ended.out.split()
    assert (ended.status, ended.err) == (0, "")
    assert {f"child-{number}-0" for number in range(15)} <= set(recorded)
    _recover(server, outbox, idle_timeout=0)
    told = [word for one in held(server) for word in one.words if not word.startswith("Conversation ")]
    assert sorted(told) == sorted(words(*recorded))
    assert _left(outbox) == []


def test_killed_while_a_lock_file_is_removed(server: LocalServer, start: Callable[..., Any], outbox: Path) -> None:
    """A process that dies as it takes over another's part of the file, or gives up its own, leaves no lock file."""
    start("record(started(), 'a', 1); os._exit(0)", OUTBOX=outbox).ended()
    for end in ("sender.start(); time.sleep(LONG)", "record(sender, 'b', 2); sender.shutdown(LONG)"):
        killed = start(f"os.unlink = lambda path: os._exit(9)\nsender = started()\n{end}", OUTBOX=outbox).ended()
        assert killed.status == 9
        _recover(server, outbox)
        assert _left(outbox) == []
    assert [one.words for one in held(server)] == [words(1), words(2)]


def test_many_writers_never_do_without_the_file(server: LocalServer, start: Callable[..., Any], outbox: Path) -> None:
    """However many processes write at the same time, each waits for its turn, and every turn is on disk."""
    code = """
    unhurried()
    sender = started()
    print("ready", flush=True)
    for number in range(40): record(sender, f"{name}-{number}", f"{name}-{number}")
    os._exit(0)
    """
    children = [start(f"name = '{name}'\n" + code.replace("\n    ", "\n"), OUTBOX=outbox) for name in "abcdef"]
    assert [(ended.status, ended.err) for ended in (child.ended() for child in children)] == [(0, "")] * 6
    _recover(server, outbox)
    told = [word for one in held(server) for word in one.words]
    assert sorted(told) == sorted(words(*(f"{name}-{number}" for name in "abcdef" for number in range(40))))


@pytest.mark.timeout(900)
def test_killed_at_any_point_nothing_is_missing_and_nothing_doubled(
    server: LocalServer, start: Callable[..., Any], outbox: Path
) -> None:
    """SIGKILL at random points of a run of turns: what the run said it recorded is there after the next start, once."""
    code = """
    from converra.delivery.header import Header
    from tests.delivery.harness import turn
    sender = started(flush_interval=0.01)
    print("ready", flush=True)
    for chat in range(100):
        queue = sender.open(Header(key=f"{run}-{chat}", prompt_id="prompt"))
        for number in range(5):
            queue.append(turn(f"{run}-{chat}-{number}"))
            os.write(1, f"{run}-{chat}-{number}\\n".encode())
        queue.end()
        time.sleep(0.002)
    """
    recorded: list[str] = []
    for run in range(examples(30)):
        child = start(f"run = {run}\n" + code.replace("\n    ", "\n"), OUTBOX=outbox).ready()
        time.sleep(random.uniform(0.02, 0.5))
        child.signal(signal.SIGKILL)
        recorded += child.ended().out.split()
    _recover(server, outbox, idle_timeout=0)
    told = [word for one in held(server) for word in one.words if word != "Conversation ended."]
    assert len(told) == len(set(told))
    assert set(words(*recorded)) <= set(told)
    for one in held(server):
        assert one.status == "completed"
        numbers = [int(word.rsplit("-", 1)[1]) for word in one.words if word.startswith("question")]
        assert numbers == list(range(len(numbers)))
    assert len(recorded) > 10
