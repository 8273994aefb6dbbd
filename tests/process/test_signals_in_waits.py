"""A signal is handled soon while the app waits for this package, also one that does not interrupt the wait itself."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from converra.server.run import serve
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

WAITS = {
    "flush": "converra.flush(20)",
    "shutdown": "converra.shutdown(20)",
    "insights": "conversation.wait_for_insights(20)",
    "the client's backoff": "converra.Converra(max_retries=1).conversations.get('c')",
}

SCRIPT = """
import os, signal, sys, threading, time
import converra

class Stop(Exception):
    pass

def stop(number, frame):
    global handled
    handled = time.monotonic()
    raise Stop

signal.signal(signal.SIGUSR1, stop)
go = threading.Event()

def send():
    go.wait()
    time.sleep(1.0)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGUSR1)

sent = []
threading.Thread(target=send, daemon=True).start()  # takes the signal: the main thread does not
converra.instrument(flush_interval=3600, timeout=30)
with converra.conversation("p") as conversation:
    conversation.add_message("user", "Hi")
    conversation.add_message("assistant", "Hello")
if {delivered}:
    assert converra.flush(60)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
sys.stdin.readline()
go.set()
try:
    {wait}
except Stop:
    pass
print(handled - sent[0], flush=True)
os._exit(0)
"""


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.mark.parametrize("name", WAITS)
def test_a_signal_does_not_wait_for_the_end_of_a_wait(server: LocalServer, name: str) -> None:
    """Another thread has taken it, so that no wait in C ends early: the handler runs at the next step."""
    delivered = name in ("insights", "the client's backoff")
    busy = {"status": 429, "headers": {"Retry-After": "20"}}
    if delivered:
        server.faults.add("read", "status", times=None, **busy)  # type: ignore[arg-type]
    else:
        server.faults.add("create", "status", times=None, **busy)  # type: ignore[arg-type]
    script = SCRIPT.format(wait=WAITS[name], delivered=delivered)
    environment = {"CONVERRA_BASE_URL": server.base_url, "CONVERRA_API_KEY": "k"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        told, _ = child.communicate("\n", timeout=LONG)
    assert float(told) < 5, "the wait takes 20 seconds, a step 0.2"
