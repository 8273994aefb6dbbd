"""Record of pushed conversations: a file beside the store, a line of JSON for each step, readable by its owner only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec


class Step(msgspec.Struct, frozen=True):
    """Progress of one conversation at one account."""

    account: str
    """Address and fingerprint of the key."""
    id: str
    remote_id: str | None
    sent: int
    done: bool


class Place(NamedTuple):
    """Where to go on."""

    remote_id: str | None = None
    sent: int = 0
    done: bool = False
    begun: bool = False
    """An earlier run may have sent more than it could write down."""


class Pushed:
    """The record of one store and one account."""

    def __init__(self, store_path: str, account: str) -> None:
        self.path: Path = Path(f"{store_path}.pushed")
        self._account = account
        self._places: dict[str, Place] = {}
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                self._learn(line)

    def _learn(self, line: bytes) -> None:
        try:
            step = msgspec.json.decode(line, type=Step)
        except msgspec.DecodeError:  # the run before was killed while it wrote its last line
            return
        if step.account == self._account:
            self._places[step.id] = Place(step.remote_id, step.sent, step.done, begun=True)

    def of(self, conversation_id: str) -> Place:
        """Return the progress of a conversation."""
        return self._places.get(conversation_id, Place())

    def note(self, conversation_id: str, place: Place) -> None:
        """Write down how far it has got now."""
        self._places[conversation_id] = place
        step = Step(self._account, conversation_id, place.remote_id, place.sent, place.done)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"\n" + msgspec.json.encode(step) + b"\n")
