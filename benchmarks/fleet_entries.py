"""Turns for the benchmarks of a fleet, as drafts and as the entries that are handed over."""

from __future__ import annotations

import os
from typing import Any

from converra.delivery.fleet import entry
from converra.delivery.header import Header
from converra.wire.json_safe import encode
from converra.wire.models import Message, Usage

TEXT = "x" * 300
"""Text of a message: a turn of two takes some 0.9 KB."""


class Note:
    """A draft whose message is ready."""

    already_known = False
    size = 900

    def __init__(self, role: Any, number: int, text: str = "") -> None:
        self._message = Message(
            role=role,
            content=text + TEXT,
            model="gpt-4o" if role == "assistant" else None,
            usage=Usage(100, 20) if role == "assistant" else None,
            metadata={"messageId": f"{os.getpid()}-{number}"},
        )

    def message(self) -> Message | None:
        """Return the message."""
        return self._message


def blobs(count: int, lanes: int) -> dict[int, list[bytes]]:
    """Make entries, each a conversation of one turn, by lane."""
    found: dict[int, list[bytes]] = {}
    pair = [Note("user", 0), Note("assistant", 1)]
    raws = [entry.Packed(msg_raw(note), f"m{at}", 0.0) for at, note in enumerate(pair)]
    header = Header(key="", prompt_id="prompt", metadata={"sdk": {"name": "converra"}})
    for number in range(count):
        key = f"key-{number}"
        one = entry.Entry(
            key=key,
            prompt_id="prompt",
            producer="p",
            number=number + 1,
            at=0.0,
            messages=raws,
            header=header,
            ended=True,
        )
        found.setdefault(entry.place_of(key) % lanes, []).append(entry.encode(one))
    return found


def msg_raw(note: Note) -> bytes:
    """Encode the message of a note."""
    message = note.message()
    assert message is not None  # noqa: S101 - it never is
    return encode(message)
