"""No network but loopback, for this process and, through PYTHONPATH, for every child process of a test."""

from __future__ import annotations

import sys
from typing import Any

LOOPBACK = frozenset({"", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 - a name, nothing binds

attempts: list[str] = []
"""What was reached for, so that a test fails even when the exception died in another thread."""


class OutsideNetworkError(BaseException):
    """Something reached for the world outside. No `except Exception` of the code under test can hide it."""


def _host(event: str, arguments: tuple[Any, ...]) -> str | bytes | None:
    if event in ("socket.connect", "socket.sendto"):
        address: tuple[str, int] | str = arguments[1]
        return address[0] if isinstance(address, tuple) else None  # a Unix socket has a path, not a host
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        name: str | bytes | None = arguments[0]
        return name
    return None


def guard(event: str, arguments: tuple[Any, ...]) -> None:
    """As an audit hook it sees every thread and every library, and nothing can be patched around it."""
    host = _host(event, arguments)
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in LOOPBACK or name.startswith("127."):
        return
    attempts.append(f"{event} {name}")
    raise OutsideNetworkError(f"{event} to {name}: tests stay on loopback")


sys.addaudithook(guard)
