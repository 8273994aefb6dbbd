"""The setting `console`: turns on standard error while they are captured."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from converra import config
from converra.capture import console
from converra.capture.recorder import Recorder
from tests.terminal import in_a_terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

WRITES = """
import converra

converra.instrument(console=True)
with converra.conversation("prompt") as conversation:
    conversation.add_message("system", "Be kind.")
    conversation.add_message("user", "Where is\\nmy \\x1b[2J\\x9dorder?" + " now" * 100)
    conversation.add_message("tool", "", tool_calls=[{"id": "c", "name": "look_up", "arguments": {}}])
    conversation.add_message("tool", "sent", tool_calls=[{"id": "c", "name": "look_up"}])
    usage = {"prompt_tokens": 21, "completion_tokens": 7}
    conversation.add_message("assistant", "It is sent.", usage=usage, latency_ms=412.4)
"""

SHOWN = [
    ("2", "   system", " Be kind."),
    ("36", "     user", f" Where is my ␛[2J␦order?{' now' * 44}…"),
    ("33", "     tool", " [look_up]"),
    ("33", "     tool", " [look_up] sent"),
    ("32", "assistant", " It is sent. (21+7 tokens, 412 ms)"),
]


def _shown(wishes: Mapping[str, str] | None = None) -> list[str]:
    seen = in_a_terminal([sys.executable, "-c", WRITES], wishes=wishes)
    assert seen.status == 0
    return [line for line in seen.screen.splitlines() if line.startswith("converra ")]


def test_each_turn_is_a_line_in_colour_without_a_key() -> None:
    """Who, which tools, what, at what cost; in colour on a terminal, and what was said does not steer that."""
    assert _shown() == [f"converra \x1b[{colour}m{role}\x1b[0m{words}" for colour, role, words in SHOWN]


@pytest.mark.parametrize("wish", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_declined(wish: dict[str, str]) -> None:
    """By NO_COLOR, as for other programs, and by a terminal that has none."""
    assert _shown(wish) == [f"converra {r}{words}" for _, r, words in SHOWN]


def test_only_a_terminal_gets_colours() -> None:
    """Neither a file nor a pipe."""
    assert not console.in_colour(io.StringIO())


def test_redaction_comes_before_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not to be sent is not shown either."""
    recorder = Recorder(config.load({"console": True, "redact": lambda m: m | {"content": "[gone]"}}, {}))
    with recorder.conversation("prompt") as conversation:
        conversation.add_message("user", "my secret")
    recorder.shutdown(0)
    assert capsys.readouterr().err.splitlines()[0] == "converra      user [gone]"
