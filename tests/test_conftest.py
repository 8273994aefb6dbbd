"""The guards that every other test relies on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from tests.offline.sitecustomize import OutsideNetworkError, attempts

OUTSIDE = "192.0.2.1"  # reserved for documentation, nobody's address


def _reach_out() -> None:
    with pytest.raises(OutsideNetworkError):
        socket.create_connection((OUTSIDE, 80), timeout=1)


def test_no_connection_leaves_the_machine() -> None:
    """A connection to any address but loopback is refused before a packet is sent."""
    _reach_out()
    assert attempts == [f"socket.getaddrinfo {OUTSIDE}"]
    attempts.clear()


def test_no_connection_leaves_the_machine_from_a_thread() -> None:
    """What another thread reaches for is refused and remembered as well."""
    thread = threading.Thread(target=_reach_out)
    thread.start()
    thread.join()
    assert attempts == [f"socket.getaddrinfo {OUTSIDE}"]
    attempts.clear()


def test_no_connection_leaves_the_machine_from_a_child() -> None:
    """A child process is as offline as the test that started it."""
    reach = f"import socket; socket.socket().connect(('{OUTSIDE}', 80))"
    child = subprocess.run([sys.executable, "-c", reach], check=False, capture_output=True, text=True)
    assert f"OutsideNetworkError: socket.connect to {OUTSIDE}: tests stay on loopback" in child.stderr


def test_loopback_is_open() -> None:
    """A test may serve and call itself over real sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


@pytest.mark.parametrize("left_behind", [1, 2])
def test_environment_is_put_back(left_behind: int) -> None:
    """A variable that one test leaves behind is not there in the next."""
    assert "CONVERRA_API_KEY" not in os.environ
    os.environ["CONVERRA_API_KEY"] = str(left_behind)
