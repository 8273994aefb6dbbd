"""What the local server keeps, and what it never keeps."""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
import stat
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from converra.server.run import serve
from converra.server.store.catalogue import Filters
from converra.server.store.conversations import Store
from converra.server.store.database import StoreError
from converra.server.store.records import NewConversation, fingerprint
from tests.server.conftest import client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLES = ("conversations", "messages", "message_text", "conversation_models", "idempotency_keys")
HELLO = [{"role": "user", "content": "Hello"}]


def conversation(number: int = 1, account: str = "a", messages: int = 1) -> NewConversation:
    said = [{"role": "user", "content": f"Hello {number} {place} " * 10} for place in range(messages)]
    return NewConversation(
        id=f"conv_{number}",
        account=account,
        prompt_id="p",
        status="active",
        content="User: Hello",
        messages=said if messages > 1 else HELLO,
    )


def test_the_key_is_nowhere_in_the_file(tmp_path: Path) -> None:
    """Neither the conversations nor the request log hold the API key, only its fingerprint."""
    path = tmp_path / "local.sqlite3"
    with serve(path=path) as server, client(server, "sk-very-secret") as http:
        http.post("/conversations", json={"promptId": "p", "content": "User: hi"})
        httpx.post(f"{server.openai_url}/responses", json={}, headers={"Authorization": "Bearer sk-very-secret"})
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"sk-very-secret" not in stored
    assert fingerprint("sk-very-secret").encode() in stored


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else on the machine reads it, also where it was open to others before."""
    path = tmp_path / "local.sqlite3"
    path.touch(0o666)
    path.chmod(0o666)
    store = Store(path)
    store.create(conversation())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    store.close()
    assert modes == {"local.sqlite3": 0o600, "local.sqlite3-wal": 0o600, "local.sqlite3-shm": 0o600}


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    """The error says which version the file has and what to do; the file is not touched."""
    path = tmp_path / "local.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    expected = f"cannot use {path}: it has schema version 99 and this version of converra reads 3; use another file"
    with pytest.raises(StoreError) as raised:
        Store(path)
    assert str(raised.value) == expected


def _schema(path: Path) -> dict[str, str]:
    """The tables, indexes and triggers, without comments and spaces."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'message_text_%'")
        found = {name: "".join(re.sub("--.*", "", sql).split()) for name, sql in rows}
    return {name: re.sub(r"[,)]+$", "", sql) for name, sql in found.items()}


def test_a_file_of_the_version_before_is_brought_along(tmp_path: Path) -> None:
    """It has all it had, is searched as a new one, and has the same schema."""
    old, new = tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    Store(new).close()
    _write_version_2(old)
    with contextlib.closing(Store(old)) as store:
        assert [each.id for each in store.catalogue.page(Filters(q="hel"), limit=9).conversations] == ["conv_1"]
        assert [(each.path, each.answer, each.model) for each in store.log.all()] == [("/old", b"", None)]
        store.create(conversation(2))
        assert store.catalogue.page(Filters(q="hello"), limit=9).total == 2
    assert _schema(old) == _schema(new)


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing: it is tried again with the next start."""
    path = tmp_path / "old.sqlite3"
    _write_version_2(path)
    before = _schema(path)
    broken = "ALTER TABLE requests ADD COLUMN model TEXT;\nDROP TABLE message_text;\nDROP TABLE no_such;\n"
    with monkeypatch.context() as patch:
        patch.setattr("converra.server.store.database._sql", lambda _name: broken)
        with pytest.raises(StoreError, match="no_such"):
            Store(path)
    assert _schema(path) == before
    Store(path).close()


def _write_version_2(path: Path) -> None:
    """A file as the version before wrote it: by undoing what the migration does."""
    with contextlib.closing(Store(path)) as store:
        store.create(conversation())
        store.log.add(account=None, method="GET", path="/old", headers={}, body=b"")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP INDEX requests_as_lines")
        for column in ("model", "answer", "answer_type"):
            db.execute(f"ALTER TABLE requests DROP COLUMN {column}")
        for name in ("update", "turns", "tokens", "latency"):
            db.execute(f"DROP INDEX conversations_by_{name}")
        db.execute("DROP TABLE message_text")
        db.execute(
            "CREATE VIRTUAL TABLE message_text USING fts5 (content, calls, content = 'messages',"
            " content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2')"
        )
        db.execute("INSERT INTO message_text (message_text) VALUES ('rebuild')")
        db.execute("PRAGMA user_version = 2")
        db.commit()


@pytest.mark.parametrize("name", ["is a folder", "no/such/folder.sqlite3", "no database"])
def test_a_path_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    """A folder, a missing folder or another kind of file: one error with the path and the reason."""
    (tmp_path / "is a folder").mkdir()
    (tmp_path / "no database").write_bytes(b"not SQLite at all" * 100)
    with pytest.raises(StoreError, match=f"^cannot use {tmp_path / name}: "):
        Store(tmp_path / name)


def test_a_transaction_is_all_or_nothing() -> None:
    """What failed half-way leaves no trace."""
    store = Store()

    def fail() -> None:
        with store.transaction():
            store.create(conversation())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.conversations() == ([], 0)
    store.close()


def test_many_threads_may_append_at_once() -> None:
    """Every message of every thread is kept, each once."""
    store = Store()
    made = store.create(conversation())

    def append(thread: int) -> None:
        for number in range(25):
            with store.transaction():
                found = store.find("a", made.id)
                assert found is not None
                store.append(found, [{"role": "user", "content": f"{thread}/{number}"}], metadata={}, end=False)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [message["content"] for message in store.messages(made)][1:]
    assert sorted(said) == sorted(f"{thread}/{number}" for thread in range(4) for number in range(25))
    store.close()


def test_only_the_newest_stay() -> None:
    """So many conversations, each so long after its last message; of the rest nothing is left."""
    now = 1_000_000.0
    store = Store(keep_conversations=2, keep_days=1, clock=lambda: now)
    for number in range(4):
        now += 1
        store.remember_key("a", f"key {number}", store.create(conversation(number)))
    store.prune()
    assert [each.id for each in store.conversations()[0]] == ["conv_3", "conv_2"]
    now += 86_400 - 0.5
    store.prune()
    assert [each.id for each in store.conversations()[0]] == ["conv_3"]
    now += 86_400
    store.prune()
    assert [store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES] == [0] * len(TABLES)  # noqa: S608 - names from above
    store.close()


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pruning_happens_by_itself(tmp_path: Path) -> None:
    """While conversations come in, and when the server has started: never before it is there."""
    path = tmp_path / "local.sqlite3"
    store = Store(path, keep_conversations=10)
    for number in range(256):
        store.create(conversation(number))
    _until(lambda: store.conversations()[1] == 10)
    for number in range(256, 300):
        store.create(conversation(number))
    store.close()
    store = Store(path, keep_conversations=10)
    assert store.conversations()[1] == 10 + 300 - 256
    with serve(store=store):
        _until(lambda: store.conversations()[1] == 10)
    store.close()


def test_what_is_stored_meanwhile_comes_between_two_steps_of_pruning(tmp_path: Path) -> None:
    """Each transaction deletes a few hundred messages, so that nobody waits for all of it."""
    store = Store(tmp_path / "local.sqlite3", keep_conversations=0)
    with store.transaction():
        for number in range(100):
            store.create(conversation(number, messages=20))
    left = []
    for _ in store.pruning._steps():
        left.append(store.conversations()[1])
        store.create(conversation(1000 + len(left)))
    falls = [before + 1 - after for before, after in itertools.pairwise([99, *left]) if after <= before]
    assert max(falls) <= 11
    assert len(left) >= 10
    store.close()


def test_the_file_shrinks(tmp_path: Path) -> None:
    """What was forgotten gives its room back to the disk."""
    path = tmp_path / "local.sqlite3"
    store = Store(path, keep_conversations=5)
    with store.transaction():
        for number in range(200):
            store.create(conversation(number, messages=100))
    store.close()
    before = path.stat().st_size
    assert before > 4_000_000
    store = Store(path, keep_conversations=5)
    store.prune()
    assert store.conversations()[1] == 5
    store.close()
    assert path.stat().st_size < before / 2


def test_closing_does_not_wait_until_all_is_pruned(tmp_path: Path) -> None:
    """The rest is left for the next time."""
    path = tmp_path / "local.sqlite3"
    store = Store(path)
    with store.transaction():
        for number in range(300):
            store.create(conversation(number, messages=100))
    store.close()
    store = Store(path, keep_conversations=1)
    store.pruning.start()
    store.close()
    store = Store(path)
    assert store.conversations()[1] > 1
    store.close()


def test_pruning_that_fails_is_told_and_left_for_the_next_time(caplog: pytest.LogCaptureFixture) -> None:
    """As on a full disk: no traceback of a thread, and a server that goes on."""
    store = Store(keep_conversations=1)
    store.rows("ALTER TABLE idempotency_keys RENAME TO elsewhere")
    store.pruning.start()
    pruned = store.pruning._thread
    assert pruned is not None
    pruned.join()
    assert caplog.messages == ["The local server cannot forget old conversations: no such table: idempotency_keys"]
    store.rows("ALTER TABLE elsewhere RENAME TO idempotency_keys")
    store.create(conversation(1))
    store.create(conversation(2))
    store.pruning.start()
    _until(lambda: store.conversations()[1] == 1)
    store.close()


def test_the_bodies_of_the_log_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large requests push out old ones sooner than their number would."""
    monkeypatch.setattr("converra.server.store.request_log._ALL_BODIES_BYTES", 10_000)
    store = Store()
    for number in range(256):
        store.log.add(account=None, method="GET", path=f"/{number}", headers={}, body=b"x" * 1000)
    assert [line.path for line in store.log.lines(99)] == [f"/{number}" for number in range(255, 245, -1)]
    store.close()


def test_the_request_log_is_bounded() -> None:
    """The oldest requests are forgotten, and of a huge body only the beginning is kept."""
    store = Store(keep_requests=10)
    for number in range(600):
        store.log.add(account=None, method="GET", path=f"/{number}", headers={}, body=b"")
    store.log.add(account=None, method="POST", path="/huge", headers={}, body=b"x" * 1_500_000)
    requests = store.log.all()
    newest = requests[-1]
    assert len(requests) <= 10 + 256
    assert (newest.path, len(newest.body), newest.body_bytes) == ("/huge", 1024 * 1024, 1_500_000)
    assert [line.path for line in store.log.lines(2)] == ["/huge", "/599"]
    assert requests[-2].json() is None
    store.close()
