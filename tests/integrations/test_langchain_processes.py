"""A thread that one process begins and another resumes: real programs, with a checkpoint in a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from converra.server.run import serve
from tests import warm
from tests.integrations.langchain_app import brief
from tests.patience import UNHURRIED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

PROGRAM = Path(__file__).with_name("langchain_thread.py")
ASKED = '[[tool:refund {"order": "1"}]] [[then]] [[say:Done.]]'


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An API and a model."""
    with serve() as running:
        yield running


def play(server: LocalServer, checkpoint: Path, kind: str, words: str) -> None:
    """One run of the thread in a process of its own, which ends well and says nothing."""
    environment = os.environ | {
        **UNHURRIED,
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "key",
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "none",
    }
    program = [sys.executable, str(PROGRAM), str(checkpoint), kind, words]
    finished = warm.run(program, env=environment, capture_output=True, text=True, modules=warm.LIBRARIES)
    assert (finished.returncode, finished.stderr) == (0, "")


def outline(server: LocalServer) -> list[tuple[str, list[tuple[str, str]]]]:
    """Status and words of every conversation, oldest first."""
    stored, _ = server.store.conversations(limit=10)
    return [(one.status, [message[:2] for message in brief(server.store.messages(one))]) for one in stored[::-1]]


def test_an_interrupted_thread_goes_on_in_another_process(server: LocalServer, tmp_path: Path) -> None:
    """The process that asks ends without completing; the one that resumes adds what is new, once, and completes."""
    begun = [("user", ASKED), ("tool", "")]
    play(server, tmp_path / "thread", "ask", ASKED)
    assert outline(server) == [("active", begun)]
    play(server, tmp_path / "thread", "resume", "yes")
    assert outline(server) == [("completed", [*begun, ("tool", "refunded 1: yes"), ("assistant", "Done.")])]


def test_a_thread_that_was_interrupted_twice(server: LocalServer, tmp_path: Path) -> None:
    """Three processes, each interrupted but for the last, make one conversation without a repetition."""
    asked = '[[tool:refund {"order": "1"}]] [[then]] [[tool:refund {"order": "2"}]] [[then]] [[say:Done.]]'
    for kind, words in (("ask", asked), ("resume", "yes"), ("resume", "no")):
        play(server, tmp_path / "thread", kind, words)
    assert outline(server) == [
        (
            "completed",
            [
                ("user", asked),
                ("tool", ""),
                ("tool", "refunded 1: yes"),
                ("tool", ""),
                ("tool", "refunded 2: no"),
                ("assistant", "Done."),
            ],
        )
    ]


def test_a_breakpoint_that_another_process_passes(server: LocalServer, tmp_path: Path) -> None:
    """A static breakpoint pauses like an interrupt: the process that passes it goes on in the same conversation."""
    asked = '[[tool:check {"order": "1"}]] [[then]] [[tool:check {"order": "2"}]] [[then]] [[say:Done.]]'
    play(server, tmp_path / "thread", "static-ask", asked)
    expected = [("user", asked), ("tool", "")]
    assert outline(server) == [("active", expected)]
    play(server, tmp_path / "thread", "static-resume", "-")
    expected += [("tool", "checked 1"), ("tool", "")]
    assert outline(server) == [("active", expected)]
    play(server, tmp_path / "thread", "static-resume", "-")
    assert outline(server) == [("completed", [*expected, ("tool", "checked 2"), ("assistant", "Done.")])]
