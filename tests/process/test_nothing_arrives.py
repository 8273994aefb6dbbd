"""An API that cannot be used is said while the app runs, not when it ends: nobody finds out after a day."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from converra.server.run import serve
from tests.patience import HANG, LONG

APP = """
import converra, sys

converra.instrument()
with converra.conversation("p") as conversation:
    conversation.add_message("user", "Hello?")
    conversation.add_message("assistant", "Hello!")
sys.stdin.read()
"""

WAITS = "converra: delivery failed; messages wait and are retried: "
PAUSES = "converra: sending pauses and is retried now and then: "


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (None, f"{WAITS}no answer from {{host}}: connection refused"),
        ({"kind": "hang"}, f"{WAITS}no answer from {{host}} within 0.5 s"),
        ({"kind": "status", "status": 503}, f"{WAITS}503 from {{host}}: A fault that was switched on"),
        ({"kind": "status", "status": 401}, f"{PAUSES}401 from {{host}}: A fault that was switched on"),
    ],
)
def test_the_log_names_host_and_reason_within_seconds(fault: dict[str, Any] | None, said: str) -> None:
    """Nobody there, no answer, a server that fails, a key that is refused: one warning for all tries of a minute."""
    with serve() as server:
        base_url, host = ("http://127.0.0.1:9", "127.0.0.1:9") if fault is None else (server.base_url, server.url[7:])
        server.faults.add("any", times=None, **(fault or {"kind": "reset"}))
        timeout = "0.5" if fault == {"kind": "hang"} else str(LONG)
        settings = {"API_KEY": "secret", "BASE_URL": base_url, "TIMEOUT": timeout, "SHUTDOWN_TIMEOUT": "0.5"}
        environ = os.environ | {f"CONVERRA_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-c", APP]
        began = time.monotonic()
        with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as app:
            assert app.stderr is not None
            first = app.stderr.readline()
            assert time.monotonic() - began < HANG
            _, rest = app.communicate()
    assert first == f"{said.format(host=host)}\n"
    assert rest.startswith("converra: not delivered at exit: 2 messages were still waiting")
    assert rest.count("\n") == 1
    assert "secret" not in rest
