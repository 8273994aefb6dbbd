"""The turns and rejected requests of a store, printed on standard error as they come."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

import click

from converra.capture.console import in_colour
from converra.cli.feed import Feed, Rejections
from converra.cli.lines import is_answer, json_line, json_rejection, line, rejection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.cli.feed import FeedMessage
    from converra.server.store.conversations import Store
    from converra.server.store.records import RequestLine

LOOK_SECONDS = 0.1


class Live:
    """Prints and counts what comes to a store.

    With `shared`, another program prints to this terminal too: a line then begins at the left edge, wherever the
    program has left the cursor. With `log`, turns and rejected requests are written there instead.
    """

    def __init__(
        self, store: Store, *, as_json: bool, quiet: bool, shared: bool = False, log: TextIO | None = None
    ) -> None:
        self.turns: int = 0
        self.conversations: dict[str, str] = {}
        """Labels by id of the conversations with new messages."""
        self.rejected: int = 0
        self._store = store
        self._as_json = as_json
        self._quiet = quiet
        self._shared = shared and not as_json
        self._log = log
        self._version = ""
        self._feed = Feed(store)
        self._rejections = Rejections(store)

    def show(self) -> None:
        """Print what has come since the last call; cheap when nothing has."""
        self._store.poll_changes()
        version = self._store.changes.version
        if version == self._version:
            return
        self._version = version
        with self._store.reading():
            new, rejected = list(self._feed.new()), list(self._rejections.new())
        for said in new:
            self._tell(said)
        for refused in rejected:
            self._complain(refused)

    def say(self, text: str) -> None:
        """Print a line, whatever the app has printed before it."""
        with suppress(BrokenPipeError):  # the app is to run on
            click.echo(f"{_left_edge() if self._shared else ''}{text}", err=True)

    def _tell(self, said: FeedMessage) -> None:
        if said.message is not None:
            self.conversations[said.conversation.id] = said.label
            self.turns += is_answer(said.message)
        if not self._quiet:
            self._write(json_line(said) if self._as_json else line(said, colour=self._in_colour()))

    def _complain(self, refused: RequestLine) -> None:
        self.rejected += 1
        if not self._quiet:
            self._write(json_rejection(refused) if self._as_json else rejection(refused, colour=self._in_colour()))

    def _write(self, text: str) -> None:
        if self._log is None:
            self.say(text)
        else:
            click.echo(text, file=self._log)
            self._log.flush()  # `tail -f` shows it at once

    def _in_colour(self) -> bool:
        return self._log is None and in_colour(sys.stderr)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Print from a thread until the block ends, unless it is to be quiet."""
        if self._quiet:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._until, args=(ended,), name="converra-live", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(1.0)  # a reader that has stopped reading holds it up

    def _until(self, ended: threading.Event) -> None:
        while not ended.wait(LOOK_SECONDS):
            self.show()


def _left_edge() -> str:
    """Return what moves the cursor to the left edge of a line that holds nothing.

    A row of blanks wraps only where the cursor was not at the left edge; the carriage return then ends up on the next
    row. Terminals put the wrap off until the next character (terminfo: `xenl`).
    """
    if not (sys.stdout.isatty() and sys.stderr.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        return ""
    return f"{' ' * shutil.get_terminal_size().columns}\r\x1b[K"
