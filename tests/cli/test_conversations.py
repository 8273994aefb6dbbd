"""`converra conversations`: the same words for the API and for what was recorded on this machine."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from converra.cli.ids import label, labels
from converra.cli.running import Running, announced
from converra.server.run import serve
from converra.server.store.conversations import Store
from converra.server.store.records import NewConversation
from tests.cli.recorded import CHAT, printed, ran, record
from tests.terminal import in_a_terminal

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = re.compile(r"\x1b\[[0-9;]*m")

SHOWN = """\
{id}  completed  prompt_1

system:
  Be kind.

user:
  Where is my order?

tool:
  calls look_up(order=7)
  (gpt-4o · 20 tokens in, 5 out · 812 ms)

tool:
  sent

assistant:
  It is sent.
  (gpt-4o · 90 ms)

user:
  Thanks!

assistant:
  You are welcome.
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "kept.db"


def test_what_was_recorded_is_listed(db: Path) -> None:
    """Newest first, as tab-separated lines for other programs, and only those that are asked for."""
    first, second = record(db), record(db, prompt_id="prompt_2", status="active")
    lines = printed("conversations", "list", "--db", str(db)).splitlines()
    assert [line.split("\t")[:4] for line in lines] == [
        [second, "active", "prompt_2", "no"],
        [first, "completed", "prompt_1", "yes"],
    ]
    for chosen in (["--prompt-id", "prompt_1"], ["--status", "completed"], ["--insights"]):
        listed = json.loads(printed("conversations", "list", "--json", "--db", str(db), *chosen))
        assert [each["id"] for each in listed] == [first]
    assert len(printed("conversations", "list", "--db", str(db), "--limit", "1").splitlines()) == 1


def test_one_is_shown(db: Path) -> None:
    """By its id, or as the last; as text, and as the API answers it."""
    made = record(db)
    assert printed("conversations", "show", "last", "--db", str(db)) == SHOWN.format(id=made)
    shown = json.loads(printed("conversations", "show", made, "--db", str(db), "--json"))
    assert (shown["id"], shown["metadata"]["channel"], shown["insights"]["simulated"]) == (made, "web", True)
    assert shown["messages"] == CHAT


def test_insights_are_shown(db: Path) -> None:
    """As lines and as JSON; those of a conversation that is not completed are not there."""
    made = record(db)
    assert "taskCompleted\t" in printed("conversations", "insights", "last", "--db", str(db))
    assert json.loads(printed("conversations", "insights", made, "--db", str(db), "--json"))["simulated"] is True
    running = record(db, status="active")
    result = ran("conversations", "insights", running, "--db", str(db))
    assert (result.exit_code, result.stderr) == (3, f"Error: {running} is not completed, so it has no insights\n")


def test_the_api_is_read_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings of the environment: what is listed, shown and found is the account's."""
    made = record(tmp_path / "db")
    with serve(path=tmp_path / "db") as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "dev")
        assert printed("conversations", "list").startswith(f"{made}\tcompleted\tprompt_1\tyes\t20")
        assert printed("conversations", "show", "last") == SHOWN.format(id=made)
        assert "sentiment\t" in printed("conversations", "insights", made)
        server.faults.hide_messages = True
        text = printed("conversations", "show", made)
        missing = ran("conversations", "show", "conv_none")
        server.faults.add("read", "status", status=401)
        refused = ran("conversations", "list")
    assert "assistant:\n  It is sent." in text
    assert (missing.exit_code, missing.stderr) == (3, "Error: 404 NOT_FOUND: Conversation not found\n")
    assert refused.exit_code == 4
    assert refused.stderr.endswith("; is CONVERRA_API_KEY right?\n")


def test_an_address_that_is_no_apis_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten /api/v1 is not an account without conversations."""
    with serve() as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.url)
        monkeypatch.setenv("CONVERRA_API_KEY", "dev")
        result = ran("conversations", "list")
    said = f"Error: no Conversations API is at {server.url}: 404 NOT_FOUND: Not Found: GET /conversations; "
    assert (result.exit_code, result.stderr) == (2, f"{said}is CONVERRA_BASE_URL right?\n")


def test_the_default_file_is_that_of_dev(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--local` reads what `converra dev` records; that nothing is there is said, and nothing is made by looking."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    result = ran("conversations", "list", "--local")
    path = tmp_path / "converra" / "local.sqlite3"
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: nothing is recorded in {path}; `converra dev` records there\n",
    )
    assert list(tmp_path.iterdir()) == []
    other = ran("search", "word", "--db", str(tmp_path / "my.db")).stderr
    assert other.endswith(f"`converra dev --db {tmp_path / 'my.db'}` records there\n")
    path.parent.mkdir()
    made = record(path)
    assert printed("conversations", "list", "--local").startswith(made)


def test_what_is_wrong_is_said_in_one_line(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an exit status for each kind: no key, no answer, a setting that cannot work, nothing of that id."""
    hint = "Error: no API key: set CONVERRA_API_KEY; --local reads what converra dev recorded\n"
    result = ran("conversations", "list")
    assert (result.exit_code, result.stderr) == (4, hint)
    monkeypatch.setenv("CONVERRA_API_KEY", "key")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("CONVERRA_BASE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        result = ran("conversations", "show", "conv_1")
    assert (result.exit_code, result.stderr.count("\n")) == (5, 1)
    assert result.stderr.endswith("; is CONVERRA_BASE_URL right, and is its server running?\n")
    monkeypatch.setenv("CONVERRA_BASE_URL", "nonsense")
    result = ran("conversations", "list")
    assert (result.exit_code, result.stderr) == (2, "Error: CONVERRA_BASE_URL is 'nonsense', expected an http(s) URL\n")
    record(db)
    result = ran("conversations", "show", "conv_none", "--db", str(db))
    assert (result.exit_code, result.stderr) == (3, f"Error: no conversation conv_none in {db}\n")


def test_an_empty_account_has_no_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is an error, not an empty page; and an empty list is one."""
    with serve() as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "dev")
        result = ran("conversations", "show", "last")
        assert (result.exit_code, result.stderr) == (3, "Error: there are no conversations\n")
        assert printed("conversations", "list", "--json") == "[]\n"


LIST = [sys.executable, "-m", "converra", "conversations", "list"]


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 160])
def test_a_terminal_gets_a_table_that_fits(db: Path, columns: int) -> None:
    """A line for each conversation, however narrow: columns are left out, words are not broken, ids can be typed."""
    long = "A question of so many words that it fills the line"
    first, second = record(db), record(db, [{"role": "user", "content": long}, CHAT[4]], status="active")
    screen = in_a_terminal([*LIST, "--db", str(db)], columns=columns, wishes={"NO_COLOR": "1"}).screen
    head, *rows = PLAIN.sub("", screen).rstrip().splitlines()
    assert [row.split()[0] for row in rows] == [second[-4:], first[-4:]]
    assert max(map(len, (head, *rows))) <= columns
    shown = printed("conversations", "show", rows[1].split()[0], "--db", str(db))
    assert shown == SHOWN.format(id=first)
    order = ["id", "title", "begun", "status", "messages", "prompt", "tokens", "model", "insights"]
    assert set(head.split()) == set(order[: len(head.split())])
    assert len(head.split()) >= {20: 2, 40: 2, 60: 4, 80: 5, 160: 9}[columns]
    if columns == 160:
        assert f"{long}  " in rows[0]
        assert rows[1].split()[-6:] == ["20", "→", "5", "gpt-4o", "prompt_1", "yes"]


def test_a_chat_is_laid_out_on_a_terminal(db: Path) -> None:
    """With its counts in the head."""
    record(db)
    command = [sys.executable, "-m", "converra", "conversations", "show", "last", "--db", str(db)]
    shown = PLAIN.sub("", in_a_terminal(command).screen)
    assert "7 messages · 20 tokens in, 5 out" in shown
    assert "user       Where is my order?" in shown


def test_a_long_chat_is_paged(db: Path, tmp_path: Path) -> None:
    """By $PAGER, where there is more than one screen and somebody to turn the pages; a pipe gets it as ever."""
    record(db)
    command = [sys.executable, "-m", "converra", "conversations", "show", "last", "--db", str(db)]
    for lines, name in (("10", "paged"), ("500", "fits")):
        wishes = {"LINES": lines, "PAGER": f"tee {tmp_path / name}"}
        shown = PLAIN.sub("", in_a_terminal(command, wishes=wishes).screen)
        assert "user       Where is my order?" in shown
    assert "Where is my order?" in (tmp_path / "paged").read_text()
    assert not (tmp_path / "fits").exists()


def test_an_empty_list_says_so(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, so that a pipe gets nothing; and an API without conversations is one, too."""
    record(db)
    result = ran("conversations", "list", "--db", str(db), "--prompt-id", "none")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no conversations match\n")
    with serve() as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "dev")
        result = ran("conversations", "list")
        narrow = ran("conversations", "list", "--session", "s1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no conversations\n")
    hint = "the API's list has neither sessions, models nor errors: --session, --model and --errors need --local"
    assert (narrow.exit_code, narrow.stderr) == (2, f"Error: {hint}\n")


def test_a_list_is_filtered(db: Path) -> None:
    """By time, session, model and errors, beside prompt, status and insights."""
    error: dict[str, Any] = {"error": {"type": "RateLimitError", "status": 429}}
    failed = record(db, [CHAT[1], {"role": "assistant", "content": "(no text)", "metadata": error}])
    made = record(db)
    with closing(sqlite3.connect(db)) as file, file:
        file.execute("UPDATE conversations SET created_at = created_at - 7200000 WHERE id = ?", (failed,))

    def listed(*filters: str) -> list[str]:
        return [
            line.split("\t")[0] for line in printed("conversations", "list", "--db", str(db), *filters).splitlines()
        ]

    assert listed("--since", "1h") == [made]
    assert listed("--since", "3h") == listed("--since", "2020-01-01") == listed("--session", "s1") == [made, failed]
    assert listed("--model", "gpt-4o") == [made]
    assert listed("--errors") == [failed]
    assert listed("--since", "2999-01-01") == listed("--session", "s2") == []
    wrong = ran("conversations", "list", "--db", str(db), "--since", "soon")
    assert (wrong.exit_code, "'soon' is neither an age such as 30m, 2h, 3d or 1w" in wrong.stderr) == (2, True)
    assert "(failed: RateLimitError (429))" in printed("conversations", "show", failed, "--db", str(db))


def test_any_unique_part_of_an_id_is_one(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beginning, with or without `conv_`, or an end; of several the ids are listed. The same at the API."""
    made, other = record(db), record(db, [CHAT[1], CHAT[4]])
    part = made.removeprefix("conv_")

    def shown(part: str, *where: str) -> str:
        return printed("conversations", "show", part, *where).split()[0]

    here = ("--db", str(db))
    assert {shown(each, *here) for each in (made, part[:8], made[:12], part[-8:])} == {made}
    for command in (["conversations", "insights"], ["export"]):
        assert ran(*command, part[-8:], *here).exit_code == 0
    both = ran("conversations", "show", "conv_", *here)
    said = f"Error: conv_ is ambiguous: {other}, {made}; type more of the id\n"
    assert (both.exit_code, both.stderr) == (2, said)
    assert ran("conversations", "show", "", *here).exit_code == 3
    with serve(path=db) as server:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "dev")
        assert {shown(each) for each in (made, part[:8], part[-8:])} == {made}
        assert ran("conversations", "show", "conv_").stderr == said
        assert "taskCompleted\t" in printed("conversations", "insights", part[-8:])


def test_the_shortest_label_is_unique() -> None:
    """In the store, whatever other ids begin or end with it."""
    with closing(Store()) as store:
        for each in ("conv_11aa22bb", "conv_22bb33cc", "conv_5522bb", "last"):
            words = [{"role": "user", "content": "x"}]
            store.create(NewConversation(each, "a", "p", "active", "", words))
        assert [label(each, store) for each in ("conv_11aa22bb", "conv_22bb33cc", "conv_5522bb")] == [
            "a22bb",
            "33cc",
            "522bb",
        ]
        assert label("last", store) == "last"
    assert labels(["conv_11aa22bb", "conv_22bb33cc"]) == ["a22bb", "b33cc"]
    assert labels([]) == []
    assert labels(["ab", "b"]) == ["ab", "b"]


def test_the_viewer_is_opened(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address on standard output, at the list with its filters or at a conversation; an error without one."""
    made = record(db)
    opened: list[str] = []
    monkeypatch.setattr("click.launch", opened.append)
    here = ("--web", "--db", str(db))
    none = ran("conversations", "list", *here)
    hint = f"no viewer serves {db}; `converra dev --db {db}` starts one"
    assert (none.exit_code, none.stderr) == (1, f"Error: {hint}\n")
    with announced(str(db), Running("http://127.0.0.1:1", "dev")):
        assert printed("conversations", "list", *here) == "http://127.0.0.1:1/\n"
        printed("conversations", "list", *here, "--model", "a b", "--errors")
        printed("conversations", "show", "last", *here)
    with announced(str(db), Running("http://127.0.0.1:1", "secret", asks=True)):
        printed("conversations", "list", *here, "--no-insights")
    assert opened == [
        "http://127.0.0.1:1/",
        "http://127.0.0.1:1/?model=a+b&errors=yes",
        f"http://127.0.0.1:1/conversations/{made}",
        "http://127.0.0.1:1/?insights=no&token=secret",
    ]
    assert ran("conversations", "list", "--web").exit_code == 2
    assert ran("conversations", "list", *here, "--since", "1h").exit_code == 2


def test_insights_are_words_on_a_terminal(db: Path) -> None:
    """Without the API's names, and without what is empty."""
    record(db)
    command = [sys.executable, "-m", "converra", "conversations", "insights", "last", "--db", str(db)]
    screen = in_a_terminal(command).screen
    assert re.search(r"^task completed +(yes|no)\r?$", screen, re.MULTILINE)
    assert re.search(r"^created at +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", screen, re.MULTILINE)
    assert "issues" not in screen


def test_rich_is_for_terminals_alone(db: Path) -> None:
    """A pipe does not wait for it to be imported."""
    record(db)
    program = (
        "import sys; from converra.cli.group import commands\n"
        f"commands(['conversations', 'show', 'last', '--db', {str(db)!r}], standalone_mode=False)\n"
        "sys.exit('rich.table' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], env=os.environ, check=False, capture_output=True).returncode
        == 0
    )
