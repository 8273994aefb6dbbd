"""`converra tail` and `converra search`: what was, and is being, recorded on this machine."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from converra.cli.feed import Feed
from converra.server.store.conversations import Store
from tests import warm
from tests.cli.recorded import CHAT, printed, ran, record
from tests.patience import LONG
from tests.terminal import a_terminal, in_a_terminal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "kept.db"


def test_turns_are_shown_as_they_come(db: Path) -> None:
    """In another terminal, from another process, until Ctrl-C; one JSON object a line for programs."""
    record(db, prompt_id="before")
    command = [sys.executable, "-m", "converra", "tail", "--db", str(db), "--json", "--last", "1"]
    with warm.Popen(command, modules=warm.COMMAND, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        made = record(db)
        lines = [json.loads(process.stdout.readline()) for _ in range(len(CHAT) + 1)]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(LONG) == 0
    assert (first["promptId"], first["message"]["content"], rest) == ("before", "You are welcome.", "")
    assert [line["message"] for line in lines[:-1]] == CHAT
    assert lines[-1] == {"conversationId": made, "promptId": "prompt_1", "status": "completed"}


def test_who_waits_is_told_for_what(db: Path) -> None:
    """In a terminal, where nothing happens at first; and it is a command of the conversations, too."""
    record(db)
    command = [sys.executable, "-m", "converra", "conversations", "tail", "--last", "1", "--db", str(db)]
    with a_terminal(command) as (process, screen):
        assert next(screen) == f"Turns as they come to {db}; Ctrl-C ends it."
        assert "You are welcome." in next(screen)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def test_what_was_before_can_be_shown(db: Path) -> None:
    """As lines or as Markdown; only a prompt's, and without waiting for more."""
    record(db, prompt_id="other")
    made = record(db)
    there = ["tail", "--no-follow", "--db", str(db), "--last", "100"]
    lines = printed(*there, "--prompt-id", "prompt_1").splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", each) for each in lines)
    assert [each[9:] for each in lines] == [
        f"prompt_1 {made[-4:]}     system  Be kind.",
        f"prompt_1 {made[-4:]}       user  Where is my order?",
        f"prompt_1 {made[-4:]}       tool  calls look_up(order=7)  (gpt-4o · 20 tokens in, 5 out · 812 ms)",
        f"prompt_1 {made[-4:]}       tool  look_up returned sent",
        f"prompt_1 {made[-4:]}  assistant  It is sent.  (gpt-4o · 90 ms)",
        f"prompt_1 {made[-4:]}       user  Thanks!",
        f"prompt_1 {made[-4:]}  assistant  You are welcome.",
    ]
    there[-1] = "3"
    said = [
        "**assistant** (gpt-4o · 90 ms)",
        "> It is sent.",
        "**user**",
        "> Thanks!",
        "**assistant**",
        "> You are welcome.",
    ]
    assert printed(*there, "--format", "md") == "".join(f"{block}\n\n" for block in said)
    assert printed("tail", "--no-follow", "--db", str(db)) == ""


def test_an_end_is_no_turn_in_markdown(db: Path) -> None:
    """But a line says it; a long message is cut to a line, a control character does not steer the terminal."""
    from converra.api.results import StoredMessage
    from converra.cli.commands.tail import _markdown
    from converra.cli.feed import FeedMessage
    from converra.cli.lines import line

    record(db)
    with closing(Store(db)) as store:
        (conversation,), _ = store.conversations()
    assert line(FeedMessage(conversation, None, "1a2b", 0), colour=True)[9:] == "prompt_1 1a2b  completed"
    assert _markdown(FeedMessage(conversation, None, "1a2b", 0)) is None
    said = FeedMessage(conversation, StoredMessage(role="user", content="\x1b[2J" + "a b\n" * 100), "1a2b", 0)
    shown = line(said, colour=True)
    assert re.fullmatch(r"\S+ prompt_1 \w{4}  \x1b\[36m     user\x1b\[0m  ␛\[2Ja b a b .*…", shown)
    hostile = FeedMessage(
        conversation, StoredMessage(role="assistant", content="x", model="m\x1b[5m\x9d0;t"), "1a2b", 0
    )
    assert line(hostile, colour=False).endswith("x  (m␛[5m␦0;t)")
    unnamed = FeedMessage(conversation, StoredMessage(role="tool", content="ok"), "1a2b", 0)
    assert line(unnamed, colour=False).endswith("tool  ok")


def test_colours_are_for_terminals_that_want_them(db: Path) -> None:
    """Each turn has its role in a colour; NO_COLOR is heeded."""
    record(db, CHAT[:2])
    command = [sys.executable, "-m", "converra", "tail", "--no-follow", "--last", "1", "--db", str(db)]
    assert "  \x1b[36m     user\x1b[0m  Where is" in in_a_terminal(command).screen
    assert "       user  Where is" in in_a_terminal(command, wishes={"NO_COLOR": "1"}).screen


def test_a_feed_sees_two_changes_of_one_millisecond(db: Path) -> None:
    """Nothing is missed and nothing is told twice, however quickly messages follow each other."""
    with closing(Store(db, clock=lambda: 1.0)) as store:
        feed = Feed(store)
        record_into(store, 1)
        first = list(feed.new())
        record_into(store, 2)
        assert [len(first), len(list(feed.new())), len(list(feed.new()))] == [1, 2, 0]


def record_into(store: Store, count: int) -> None:
    conversations, _ = store.conversations()
    messages = [{"role": "user", "content": "Hello?"}] * count
    if conversations:
        store.append(conversations[0], messages, metadata={}, end=False)
        return
    from converra.server.store.records import NewConversation

    new = NewConversation(
        id="conv_1", account="a", prompt_id="p", status="active", content="User: Hello?", messages=messages
    )
    store.create(new)


def test_words_are_found(db: Path) -> None:
    """All of them in one message, in any case, newest first; with the words around them."""
    older = record(db)
    made = record(db, [{"role": "user", "content": f"{'x ' * 50}Where is the ORDER now? {'y ' * 50}"}, CHAT[4]])
    first, second = printed("search", "order", "whe", "--db", str(db)).splitlines()
    assert (first.split("\t")[:2], "Where is the ORDER now?" in first) == ([made, "prompt_1"], True)
    assert second == f"{older}\tprompt_1\tWhere is my order?"
    (hit,) = json.loads(printed("search", "now?", "--db", str(db), "--json"))
    assert (hit["id"], hit["promptId"], hit["status"]) == (made, "prompt_1", "completed")
    assert hit["excerpt"].isprintable()
    assert len(printed("search", "sent", "--limit", "1", "--db", str(db)).splitlines()) == 1
    assert printed("search", older, "--db", str(db)) == f"{older}\tprompt_1\t\n"


def test_nothing_found_is_an_exit_status(db: Path) -> None:
    """As grep has it."""
    record(db)
    result = ran("search", "penguin", "--db", str(db))
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "no message contains all of these words\n")
    blank = ran("search", " ", "--db", str(db))
    assert (blank.exit_code, "give at least one word" in blank.stderr) == (2, True)
    result = ran("search", "penguin", "--json", "--local", "--db", str(db))
    assert (result.exit_code, result.output) == (1, "[]\n")
