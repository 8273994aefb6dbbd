"""`converra forget`: what was recorded on this machine is deleted, in the file too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from converra.cli.group import commands
from converra.server.run import serve
from tests.cli.recorded import printed, ran, record

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "kept.db"


def said(word: str, path: Path) -> str:
    """The id of a conversation of two messages with a word."""
    return record(path, [{"role": "user", "content": f"{word} one"}, {"role": "assistant", "content": f"{word} two"}])


def listed(path: Path) -> list[str]:
    return [line.split("\t")[0] for line in printed("conversations", "list", "--db", str(path)).splitlines()]


def holds(path: Path, word: str) -> bool:
    """Whether the word stands anywhere in the files of the database."""
    return any(word.encode() in file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def test_what_is_deleted_is_gone_from_the_file(db: Path) -> None:
    """Its words too, from messages, requests and the search index; the others stay and are found."""
    gone, stays = said("marzipan", db), said("nougat", db)
    assert holds(db, "marzipan")
    assert printed("forget", gone[-10:], "--yes", "--db", str(db)) == "1 conversation deleted\n"
    assert listed(db) == [stays]
    assert (holds(db, "marzipan"), holds(db, "nougat")) == (False, True)
    assert ran("search", "marzipan", "--db", str(db)).exit_code == 1
    assert printed("search", "nougat", "--db", str(db)).startswith(stays)
    assert printed("forget", "--all", "-y", "--db", str(db)) == "1 conversation deleted\n"
    assert (listed(db), holds(db, "nougat")) == ([], False)


def test_some_can_be_chosen(db: Path) -> None:
    """By prompt, session and age, all of them together; nothing that matches is no error."""
    first, second = record(db, prompt_id="p1"), record(db, prompt_id="p2")

    def forgotten(*options: str) -> str:
        result = ran("forget", "--yes", "--db", str(db), *options)
        assert result.exit_code == 0, result.output
        return result.stdout or result.stderr

    for options in (["--before", "1h"], ["--session", "s2"], ["--prompt-id", "p1", "--before", "2020-01-01"]):
        assert forgotten(*options) == "no conversations match\n"
    assert listed(db) == [second, first]
    assert forgotten("--prompt-id", "p1", "--session", "s1") == "1 conversation deleted\n"
    assert listed(db) == [second]
    assert forgotten("--before", "2999-01-01") == "1 conversation deleted\n"


def test_all_of_one_user(db: Path) -> None:
    """Those whose metadata names the user, and no other's, nor conversations without one."""
    nobody = record(db)
    made = [record(db, user_id=user) for user in ("ada", "ada", "adam", 7)]
    assert printed("forget", "--user", "ada", "--yes", "--db", str(db)) == "2 conversations deleted\n"
    assert listed(db) == [made[3], made[2], nobody]
    assert (
        printed("forget", "--user", "7", "--before", "2999-01-01", "-y", "--db", str(db)) == "1 conversation deleted\n"
    )
    assert listed(db) == [made[2], nobody]


def test_it_asks_first(db: Path) -> None:
    """Anything but a yes deletes nothing; without a choice, or with two, neither."""
    made = said("word", db)
    command = ["forget", "--all", "--db", str(db)]
    for answer in ("n\n", ""):
        result = CliRunner().invoke(commands, command, input=answer)
        assert result.exit_code == 1
        assert f"Delete 1 conversation and the log of requests from {db}? [y/N]" in result.stderr
    for arguments in ([], ["--all", made]):
        assert ran("forget", "--yes", "--db", str(db), *arguments).exit_code == 2
    assert ran("forget", "--yes", "--db", str(db), "none").exit_code == 3
    assert listed(db) == [made]
    assert CliRunner().invoke(commands, command, input="y\n").exit_code == 0
    assert listed(db) == []


def test_a_server_that_runs_does_not_mind(db: Path) -> None:
    """It serves what is left, and records on."""
    made = said("word", db)
    with serve(path=db) as server:
        assert printed("forget", made, "--yes", "--db", str(db)) == "1 conversation deleted\n"
        assert server.store.conversations() == ([], 0)
    again = said("again", db)
    assert listed(db) == [again]
