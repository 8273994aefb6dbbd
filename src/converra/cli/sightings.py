"""Sightings of the hook in the Pythons of a command, and from them the reason why nothing was recorded."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from converra.capture.console import visible
from converra.cli.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Sightings(NamedTuple):
    """The sightings so far."""

    started: Sequence[str] = ()
    """Executables of the Pythons that loaded the hook."""
    imported: Sequence[str] = ()
    """Libraries that can be captured."""
    failed: Sequence[Sequence[str]] = ()
    """Executables of the Pythons that could not import converra, each with the error."""

    def reason(self, libraries: Sequence[str]) -> str:
        """Explain why nothing was recorded."""
        if self.failed:
            executable, error = self.failed[0]
            count = plural(len(self.failed), "Python")
            return f"{count} could not import converra: {visible(executable)} ({visible(error)})"
        if not self.started:
            return "no Python of this command loaded the hook: there was none, or it ignores PYTHONPATH (python -I, -E)"
        if not self.imported:
            return f"no Python of this command imported {', '.join(libraries[:-1])} or {libraries[-1]}"
        names = ", ".join(dict.fromkeys(self.imported))
        return f"{names} was imported, but no call that can be recorded came"


@contextmanager
def sighting() -> Iterator[Path]:
    """Make a file for sightings that lasts as long as the block."""
    descriptor, name = tempfile.mkstemp(prefix="converra-", suffix=".sightings")
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def read(file: Path) -> Sightings:
    """Read the sightings of all Pythons."""
    text, seen = "", dict[str, list[list[str]]]()
    with suppress(OSError):  # the folder of temporary files may be cleaned meanwhile
        text = file.read_text("utf-8", "replace")
    for row in text.splitlines():
        kind, *words = row.split("\t")
        seen.setdefault(kind, []).append(words)
    failed = [words for words in seen.get("failed", []) if len(words) == 2]  # noqa: PLR2004 - the executable and the error
    return Sightings(
        [words[0] for words in seen.get("started", [])], [words[0] for words in seen.get("imported", [])], failed
    )
