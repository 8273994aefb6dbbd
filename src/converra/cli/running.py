"""The server of a file of `converra dev`: its process announces the address beside the file, for other commands."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from converra.process.lockfile import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Iterator

_OWNER = "server"
"""Names the lock file. The lock is held as long as the server runs, however it ends."""


class Running(msgspec.Struct, frozen=True):
    """Address of a running server, and the key that it asks for."""

    url: str
    key: str
    asks: bool = False
    """The viewer asks for the key too, as its token."""


def running(path: str) -> Running | None:
    """Return the announced server of a file, or None if none runs."""
    try:
        announced = msgspec.json.decode(_address_file(path).read_bytes(), type=Running)
        lock = ProcessLock.take(path, _OWNER)
    except (OSError, msgspec.DecodeError):
        return None
    if lock is None:
        return announced
    lock.abandon()  # its server was killed
    return None


@contextmanager
def announced(path: str, server: Running) -> Iterator[None]:
    """Announce a server for the length of the block, unless another server of this file is announced already."""
    with ExitStack() as stack:
        with suppress(OSError):  # the server is of use without an announcement, too
            _announce(stack, path, server)
        yield


def _announce(stack: ExitStack, path: str, server: Running) -> None:
    lock = None if path == ":memory:" else ProcessLock.take(path, _OWNER)
    if lock is None:
        return
    stack.callback(lock.abandon)
    file = _address_file(path)
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(msgspec.json.encode(server))
    fresh.replace(file)
    stack.callback(file.unlink, missing_ok=True)


def _address_file(path: str) -> Path:
    return Path(f"{path}-{_OWNER}.json")
