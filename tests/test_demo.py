"""The demo shows, without a key or the network, what a user gets."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import httpx

DEMO = [sys.executable, "-m", "converra.cli.demo"]


def test_demo_shows_the_conversation_that_arrived() -> None:
    """One command runs a real client, reads its conversation back and prints it with tokens and latency."""
    wide = os.environ | {"COLUMNS": "160"}
    finished = subprocess.run(DEMO, env=wide, capture_output=True, text=True, check=False)
    assert finished.stderr == ""
    assert finished.returncode == 0
    shown = finished.stdout
    assert "completed  prompt_support" in shown
    assert 'calls look_up_order(order_id="4711")' in shown
    assert re.search(r"gpt-4o-mini-stand-in · \d+ tokens in, \d+ out · \d+ ms, first token after \d+ ms", shown)
    assert re.search(r"Delivered in 2 requests. In the viewer: http://127.0.0.1:\d+/\S+", shown)


def test_demo_ignores_the_settings_of_the_machine() -> None:
    """A key, an address or a proxy in the environment does not lead the demo away from this machine."""
    elsewhere = {
        "CONVERRA_ENABLED": "false",
        "OPENAI_BASE_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    finished = subprocess.run(DEMO, env=os.environ | elsewhere, capture_output=True, text=True, check=False)
    assert finished.stderr == ""
    assert finished.returncode == 0


def test_demo_leaves_the_viewer_up() -> None:
    """With --keep the conversation can be looked at in a browser until Ctrl-C."""
    with subprocess.Popen([*DEMO, "--keep"], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        address = next(found[1] for line in demo.stdout if (found := re.search(r"In the viewer: (\S+)", line)))
        assert "look_up_order" in httpx.get(address).text
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
    assert demo.returncode == 0
