"""`converra push`: what was recorded on this machine arrives at an account, once, whatever happens on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from converra import Converra
from converra.cli.commands import push as push_module
from converra.cli.pushed import Place, Pushed
from converra.cli.pushing import Push, Recorded, UnclearError
from converra.errors import APIConnectionError, InternalServerError, ValidationError
from converra.process.lockfile import ProcessLock
from converra.server.run import LocalServer, serve
from tests import warm
from tests.cli.recorded import CHAT, printed, ran, record
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "kept.db"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """The API to push to."""
    with serve() as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "real")
        monkeypatch.setattr("time.sleep", lambda _: None)
        monkeypatch.setattr(push_module, "RETRIES", 2)
        yield server


def held(server: LocalServer) -> list[tuple[str, list[dict[str, Any]]]]:
    """Status and messages of what arrived, oldest first."""
    found, _ = server.store.conversations(limit=100)
    return [(each.status, server.store.messages(each)) for each in reversed(found)]


def test_everything_arrives_once(db: Path, account: LocalServer) -> None:
    """Message for message, with metadata and status; a second push sends nothing."""
    record(db)
    record(db, [{"role": "user", "content": "Anybody?"}, CHAT[4]], prompt_id="prompt_2")
    record(db, status="active")
    assert printed("push", "--db", str(db)) == f"2 sent to {account.base_url}, 0 failed, 0 sent before\n"
    (first, messages), (second, others) = held(account)
    assert (first, second) == ("completed", "completed")
    assert [{**m, "metadata": None} for m in messages] == [{**m, "metadata": None} for m in CHAT]
    assert [m["content"] for m in others] == ["Anybody?", "It is sent."]
    (newest, oldest), _ = account.store.conversations()
    assert (oldest.metadata, oldest.llm_model) == ({"channel": "web", "sessionId": "s1", "pushed": 7}, "gpt-4o")
    assert newest.prompt_id == "prompt_2"
    assert printed("push", "--db", str(db)) == f"0 sent to {account.base_url}, 0 failed, 2 sent before\n"
    assert (db.parent / "kept.db.pushed").stat().st_mode & 0o777 == 0o600


def test_another_account_gets_its_own(db: Path, account: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent is known for each account; the key itself is not written down."""
    record(db)
    printed("push", "--db", str(db))
    monkeypatch.setenv("CONVERRA_API_KEY", "other-key")
    answer = json.loads(printed("push", "--db", str(db), "--json"))
    assert (len(answer["conversations"]), answer["already"], answer["failed"]) == (1, 0, 0)
    assert "other-key" not in (db.parent / "kept.db.pushed").read_text()


def test_what_to_push_can_be_chosen(db: Path, account: LocalServer) -> None:
    """By id, by prompt, open ones too; and tried without sending. An open one goes on where it was."""
    first, opened = record(db), record(db, CHAT[:3], status="active", prompt_id="prompt_2")
    listed, total = printed("push", "--dry-run", "--db", str(db)).splitlines()
    assert listed.split("\t") == [first, "completed", "prompt_1", "7", "Where is my order?"]
    assert total.startswith("1 would be sent to ")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CONVERRA_API_KEY")
        keyless = ran("push", "--dry-run", "--db", str(db))
    assert keyless.stdout.splitlines() == [listed, total]
    assert keyless.stderr == "no API key: conversations that an earlier push has sent are listed as well\n"
    assert held(account) == []
    printed("push", opened[-9:], "--db", str(db))
    printed("push", "--open", "--prompt-id", "prompt_2", "--db", str(db))
    assert [len(messages) for _, messages in held(account)] == [3]
    with serve(path=db) as server, Converra(api_key="dev", base_url=server.base_url) as client:
        client.conversations.append_messages(opened, messages=CHAT[3:5], status="completed")
    printed("push", "--db", str(db))
    statuses = [(status, len(messages)) for status, messages in held(account)]
    assert statuses == [("completed", 5), ("completed", 7)]
    result = ran("push", "conv_none", "--db", str(db))
    assert (result.exit_code, result.stderr) == (3, f"Error: no conversation conv_none in {db}\n")
    assert first != opened


@pytest.mark.parametrize("endpoint", ["create", "append", "complete"])
@pytest.mark.parametrize("kind", ["reset", "status", "unreadable"])
@pytest.mark.parametrize("hidden", [False, True])
def test_an_answer_that_does_not_tell_doubles_nothing(
    db: Path, account: LocalServer, endpoint: Any, kind: Any, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored or not, shown or not: after each fault every message is there once, in order."""
    monkeypatch.setattr("converra.cli.pushing.MAX_BATCH", 2)
    monkeypatch.setattr("converra.api.retry.MAX_DELAY", 0.0, raising=False)
    record(db)
    account.faults.hide_messages = hidden
    for when in ("before", "after") if kind != "unreadable" else ("after",):
        account.faults.add(endpoint, kind, when=when)
    result = ran("push", "--db", str(db))
    if result.exit_code:  # what could not be helped in this run is in the next one
        printed("push", "--db", str(db))
    ((status, messages),) = held(account)
    assert (status, [m["content"] for m in messages]) == ("completed", [m["content"] for m in CHAT])


def test_a_push_that_was_killed_goes_on(db: Path, account: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what it had sent was not written down yet."""
    monkeypatch.setattr("converra.cli.pushing.MAX_BATCH", 2)
    record(db)
    notes = 0

    def dying(self: Pushed, conversation_id: str, place: Place) -> None:
        nonlocal notes
        notes += 1
        if notes in dying_at:
            raise KeyboardInterrupt
        noted(self, conversation_id, place)

    noted, dying_at = Pushed.note, {2, 5, 8}
    monkeypatch.setattr(Pushed, "note", dying)
    for _ in dying_at:
        assert ran("push", "--db", str(db)).exit_code == 130
        with (db.parent / "kept.db.pushed").open("a") as file:
            file.write('\n{"account": "half a li')
    printed("push", "--db", str(db))
    ((status, messages),) = held(account)
    assert (status, [m["content"] for m in messages]) == ("completed", [m["content"] for m in CHAT])


def test_ctrl_c_loses_and_doubles_nothing(db: Path, account: LocalServer) -> None:
    """While a request hangs: it says what is left and how to go on, and the next push does."""
    record(db)
    record(db)
    account.faults.add("append", "hang", when="after", skip=1)
    account.faults.add("complete", "hang", when="after", skip=1)
    command = [sys.executable, "-m", "converra", "push", "--db", str(db)]
    pipe = subprocess.PIPE
    with warm.Popen(command, modules=warm.COMMAND, stdout=pipe, stderr=pipe, text=True) as process:
        while not account.faults.fired:
            threading.Event().wait(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out) == (130, f"1 sent to {account.base_url}, 0 failed, 0 sent before\n")
    assert err == "Error: stopped; 1 left: run the same command again to resume\n"
    printed("push", "--db", str(db))
    assert [[m["content"] for m in messages] for _, messages in held(account)] == [[m["content"] for m in CHAT]] * 2


@pytest.mark.usefixtures("account")
def test_two_at_once_do_not_double(db: Path) -> None:
    """The second is refused: each would know only what it has sent itself."""
    record(db)
    process_lock = ProcessLock.take(str(db), "push")
    assert process_lock is not None
    result = ran("push", "--db", str(db))
    process_lock.abandon()
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: another push of {db} is under way; wait for its end\n",
    )
    assert printed("push", "--db", str(db)).startswith("1 sent to ")


@pytest.mark.usefixtures("account")
def test_a_folder_that_cannot_be_written_is_said(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent, as what was sent could not be written down."""
    record(db)

    def refused(_path: str, _name: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ProcessLock, "take", refused)
    result = ran("push", "--db", str(db))
    assert (result.exit_code, result.stderr) == (1, f"Error: cannot write beside {db}: Permission denied\n")


def test_one_that_is_refused_holds_up_nobody(db: Path, account: LocalServer) -> None:
    """It is named with the reason, and the exit status says it; the others are sent."""
    refused = record(db)
    record(db)
    account.faults.add("append", "status", status=418)
    account.faults.add("complete", "status", status=418)
    result = ran("push", "--db", str(db))
    assert (result.exit_code, result.stdout) == (1, f"1 sent to {account.base_url}, 1 failed, 0 sent before\n")
    assert result.stderr.startswith(f"{refused}: 418")


def test_a_key_that_is_refused_ends_it(db: Path, account: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """All the others would meet the same; what was sent before is told, and what is left."""
    for _ in range(3):
        record(db)
    account.faults.add("create", "status", status=401, times=None, skip=1)
    result = ran("push", "--db", str(db))
    assert (result.exit_code, result.stdout) == (4, f"1 sent to {account.base_url}, 0 failed, 0 sent before\n")
    assert result.stderr.startswith("Error: 401")
    assert result.stderr.endswith("; is CONVERRA_API_KEY right?; 2 left: run the same command again to resume\n")
    told = json.loads(ran("push", "--db", str(db), "--json").stdout)
    assert (told["conversations"], told["already"], told["failed"], told["left"]) == ([], 1, 0, 2)
    assert told["stopped"].startswith("401")
    account.faults.clear()
    assert printed("push", "--db", str(db)).startswith("2 sent to ")
    assert len(held(account)) == 3
    monkeypatch.delenv("CONVERRA_API_KEY")
    assert ran("push", "--db", str(db)).exit_code == 4


def test_a_server_that_knows_only_in_progress(db: Path, account: LocalServer) -> None:
    """As older ones may."""
    record(db)
    account.faults.refused_statuses = frozenset({"active"})
    printed("push", "--db", str(db))
    assert [status for status, _ in held(account)] == ["completed"]


def test_a_terminal_gets_a_progress_bar(db: Path, account: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, and gone at the end."""
    record(db)
    monkeypatch.setattr(push_module, "_at_terminal", lambda: True)
    assert printed("push", "--db", str(db)).endswith(" sent before\n")
    assert len(held(account)) == 1


class Scripted:
    """An API that answers what a test says."""

    def __init__(self, *, content: str | None, appends: list[Any] | None = None) -> None:
        self.content = content
        self.appends = appends or []
        self.appended: list[int] = []

    def create(self, **_: Any) -> Any:
        from converra.api.results import StoredConversation

        return StoredConversation(id="r1", status="active")

    def append_messages(self, _id: str, *, messages: list[Any], **_: Any) -> None:
        if self.appends:
            raise self.appends.pop(0)
        self.appended.append(len(messages))

    def get(self, _id: str, **_: Any) -> Any:
        from converra.api.results import StoredConversation

        return StoredConversation(id="r1", content=self.content)


def pushing(api: Any, **more: Any) -> Push:
    recorded = Recorded("c1", "p", "completed", None, None, {}, CHAT)
    return Push(api, recorded, sleep=lambda _: None, **more)


LOST = APIConnectionError("lost")


@pytest.mark.parametrize(
    ("content", "appended"),
    [
        ("System: Be kind.\nUser: Where is my order?", [5]),
        ("System: Be kind.\nUser: Where is my order?\nTool: sent\nAssistant: It is sent.\nUser: Thanks!", [1]),
        (json.dumps({"messages": CHAT[:2]}), [5]),
    ],
)
def test_where_only_words_are_shown_they_tell(content: str, appended: list[int]) -> None:
    """As the API document promises no more than the content."""
    api = Scripted(content=content, appends=[LOST])
    pushing(api).run(lambda _: None)
    assert api.appended == appended


def test_where_nothing_is_shown_nothing_is_sent_again() -> None:
    """Rather one that is not finished than one that is doubled."""
    with pytest.raises(UnclearError, match="does not show whether the last messages arrived in r1"):
        pushing(Scripted(content=None, appends=[LOST])).run(lambda _: None)


def test_an_api_that_knows_less_gets_less() -> None:
    """Fewer statuses are tried in turn, always with documented fields; what it refuses then is its error."""
    tried: list[tuple[str, set[str]]] = []

    class Picky(Scripted):
        def create(self, **asked: Any) -> Any:
            tried.append((asked["status"], set(json.loads(asked["content"])["messages"][-1])))
            raise ValidationError("no", status_code=400)

    answer = {"role": "assistant", "content": "Hello!", "latencyMs": 12, "model": "m"}
    whole = Recorded("c", "p", "completed", None, None, {}, [answer])
    with pytest.raises(ValidationError):
        Push(Picky(content=None), whole, sleep=lambda _: None).run(lambda _: None)  # type: ignore[arg-type]
    assert tried == [("completed", {"role", "content", "model"})]
    tried.clear()
    with pytest.raises(ValidationError):
        pushing(Picky(content=None)).run(lambda _: None)
    assert [status for status, _ in tried] == ["active", "in_progress"]


def test_a_conversation_without_an_id_is_not_appended_to() -> None:
    """Nobody could say to what."""

    class Nameless(Scripted):
        def create(self, **_: Any) -> Any:
            from converra.api.results import StoredConversation

            return StoredConversation(status="active")

    with pytest.raises(UnclearError, match="the API gave no id for the conversation that it created"):
        pushing(Nameless(content=None)).run(lambda _: None)


def test_it_gives_up_in_the_end() -> None:
    """With the error of the API."""
    failing = [InternalServerError("down", status_code=500) for _ in range(9)]
    with pytest.raises(InternalServerError):
        pushing(Scripted(content="System: Be kind.", appends=failing)).run(lambda _: None)


def test_large_conversations_go_in_parts() -> None:
    """So that no request is near a limit."""
    api = Scripted(content="")
    large = [CHAT[0], *({"role": "assistant", "content": "x" * 100_000, "latencyMs": 1} for _ in range(6))]
    Push(api, Recorded("c", "p", "completed", None, None, {}, large), sleep=lambda _: None).run(lambda _: None)  # type: ignore[arg-type]
    assert api.appended == [2, 2, 2]
