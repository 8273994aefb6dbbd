"""The demo shows, without a key or the network, what a user gets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
from click.testing import CliRunner

from converra.cli.commands import demo as demo_module
from scripts import demo_picture
from tests import warm
from tests.patience import LONG

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DEMO = [sys.executable, "-m", "converra.cli.commands.demo"]


def test_demo_shows_the_conversation_that_arrived() -> None:
    """One command runs a real client, reads its conversation back and prints it with tokens and latency."""
    wide = os.environ | {"COLUMNS": "160"}
    finished = warm.run(DEMO, env=wide, capture_output=True, text=True, modules=warm.COMMAND)
    assert finished.stderr == ""
    assert finished.returncode == 0
    shown = finished.stdout
    assert "completed  prompt_support" in shown
    assert 'calls look_up_order(order_id="4711")' in shown
    assert re.search(r"gpt-4o-mini-stand-in · \d+ tokens in, \d+ out · [\d.]+ m?s, first token after [\d.]+ m?s", shown)
    assert shown.endswith("\nDelivered in 2 requests.\nWith --stay (make demo KEEP=1) the viewer stays up.\n")
    assert "http" not in shown


def test_demo_ignores_the_settings_of_the_machine() -> None:
    """A key, an address or a proxy in the environment does not lead the demo away from this machine."""
    elsewhere = {
        "CONVERRA_ENABLED": "false",
        "OPENAI_BASE_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    environ = os.environ | elsewhere
    finished = warm.run(DEMO, env=environ, capture_output=True, text=True, modules=warm.COMMAND)
    assert finished.stderr == ""
    assert finished.returncode == 0


def test_the_picture_of_the_demo_is_current() -> None:
    """What the README shows is what `make demo` shows, but for ids, port and times; it fetches nothing."""
    picture = demo_picture.PICTURE.read_text("utf-8")
    assert demo_picture.words(picture) == demo_picture.words(demo_picture.drawn(demo_picture.run())), "make picture"
    assert re.findall(r"(?:href|src|url)[=(]['\"]?(?!#)\w+", picture) == []


def test_demo_for_programs() -> None:
    """As JSON: the conversation as the API answers it, and what it took; also where output can hold ASCII only."""
    narrow = os.environ | {"PYTHONIOENCODING": "ascii"}
    finished = warm.run([*DEMO, "--json"], env=narrow, capture_output=True, modules=warm.COMMAND)
    assert finished.returncode == 0
    assert finished.stderr.decode().startswith("Order 4711 is in transit")
    told = json.loads(finished.stdout)
    assert (told["requests"], told["conversation"]["status"], len(told["conversation"]["messages"])) == (
        2,
        "completed",
        9,
    )
    assert told["viewer"] is None  # the server ends with the command
    assert warm.run(DEMO, env=narrow, capture_output=True, modules=warm.COMMAND).returncode == 0


def test_demo_says_what_went_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A quickstart that fails, hangs or records nothing ends in a line and a status, not in a traceback."""
    quickstart = tmp_path / "quickstart.py"
    monkeypatch.setattr(demo_module, "QUICKSTART", quickstart)
    for program, timeout, said in (
        ("raise SystemExit(3)", LONG, "the quickstart ended with status 3"),
        ("import time; time.sleep(120)", 1.0, "the quickstart has not ended within 1 s"),
        ("", LONG, "no conversation arrived"),
    ):
        monkeypatch.setattr(demo_module, "_TIMEOUT", timeout)
        quickstart.write_text(program)
        ran = CliRunner().invoke(demo_module.demo)
        assert (ran.exit_code, ran.stderr) == (1, f"Error: {said}\n")


def test_demo_leaves_the_viewer_up() -> None:
    """With --stay the conversation can be looked at in a browser until Ctrl-C."""
    with warm.Popen([*DEMO, "--stay"], stdout=subprocess.PIPE, text=True, modules=warm.COMMAND) as demo:
        assert demo.stdout is not None
        address = next(found[1] for line in demo.stdout if (found := re.search(r"In the viewer: (\S+)", line)))
        assert "look_up_order" in httpx.get(address).text
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
    assert demo.returncode == 0
