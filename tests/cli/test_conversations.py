"""`converra conversations`: the same words for the API and for what was recorded on this machine."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from converra.server.run import serve
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


def test_a_terminal_gets_tables(db: Path) -> None:
    """With heads, and a chat laid out as one; an id is never cut, however narrow the terminal."""
    made = record(db)
    converra = [sys.executable, "-m", "converra"]
    listed = in_a_terminal(
        [*converra, "conversations", "list", "--db", str(db)], wishes={"NO_COLOR": "1"}
    ).screen.splitlines()
    row = dict(zip(PLAIN.sub("", listed[0]).split(), listed[1].split(), strict=True))
    time = row.pop("created")
    assert row == {"id": made, "status": "completed", "prompt": "prompt_1", "insights": "yes"}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    narrow = in_a_terminal([*converra, "conversations", "list", "--db", str(db)], columns=40).screen
    assert made in narrow
    shown = PLAIN.sub("", in_a_terminal([*converra, "conversations", "show", "last", "--db", str(db)]).screen)
    assert "7 messages · 20 tokens in, 5 out" in shown
    assert "user       Where is my order?" in shown


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
