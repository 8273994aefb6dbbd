"""A program in a terminal of its own: what a person would see."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Seen(NamedTuple):
    """How the program ended, and all that its screen got."""

    status: int
    screen: str


def in_a_terminal(command: Sequence[str], *, columns: int = 80, wishes: Mapping[str, str] | None = None) -> Seen:
    """Run a program whose output and errors go to a terminal."""
    ours, theirs = pty.openpty()
    environ = os.environ | {"TERM": "xterm", "COLUMNS": str(columns), **(wishes or {})}
    with subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        screen = b"".join(_until_hung_up(ours)).decode().replace("\r\n", "\n")
    os.close(ours)
    return Seen(process.returncode, screen)


def _until_hung_up(descriptor: int) -> Iterator[bytes]:
    with suppress(OSError):  # how Linux says that nobody has the other end any more
        while read := os.read(descriptor, 65536):
            yield read
