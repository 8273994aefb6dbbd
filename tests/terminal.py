"""A program in a terminal of its own: what a person would see."""

from __future__ import annotations

import os
import pty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from tests import warm

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Mapping, Sequence


class Seen(NamedTuple):
    """How the program ended, and all that its screen got."""

    status: int
    screen: str


def in_a_terminal(
    command: Sequence[str],
    *,
    columns: int = 80,
    wishes: Mapping[str, str] | None = None,
    modules: tuple[str, ...] = warm.COMMAND,
) -> Seen:
    """Run a Python program whose output and errors go to a terminal."""
    with a_terminal(command, columns=columns, wishes=wishes, modules=modules) as (process, screen):
        lines = [*screen, ""]
    return Seen(process.returncode, "\n".join(lines))


@contextmanager
def a_terminal(
    command: Sequence[str],
    *,
    columns: int = 80,
    wishes: Mapping[str, str] | None = None,
    modules: tuple[str, ...] = warm.COMMAND,
) -> Iterator[tuple[warm.Popen, Iterator[str]]]:
    """A program in a terminal, and the lines that come to its screen."""
    ours, theirs = pty.openpty()
    environ = os.environ | {"TERM": "xterm", "COLUMNS": str(columns), "PAGER": "cat", **(wishes or {})}
    with warm.Popen(command, modules=modules, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        with open(ours, "rb", buffering=0) as screen:  # noqa: PTH123 - a descriptor
            yield process, _lines(screen)


def _lines(screen: io.FileIO) -> Iterator[str]:
    with suppress(OSError):  # how Linux says that nobody has the other end any more
        while line := screen.readline():
            yield line.decode().removesuffix("\n").removesuffix("\r")
