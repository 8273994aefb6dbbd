"""The protocol of a storage engine: what a fleet asks of Redis, or of another database.

Terms: a *lane* is a queue of entries, and each conversation stays in one lane. An *entry* is bytes with an id that
grows. A *lease* makes one process the holder of a lane for some seconds; every call that names a `token` has an effect
only while the lease belongs to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class AwayError(Exception):
    """The engine cannot be reached, is full, or refuses to work; the message has no password."""

    inherited: bool = False
    """The engine is the parent process's: a green thread that has survived a fork found out. Not to be logged."""


class Parcels(NamedTuple):
    """Entries of one producer for one lane, in order."""

    lane: int
    producer: str
    entries: Sequence[bytes]


class Reading(NamedTuple):
    """A request for entries of a lane: those that a holder has read and not acknowledged, or new ones."""

    lane: int
    token: str
    after: str | None
    """Read again, from behind this id on; None: read new entries."""
    most: int


class Found(NamedTuple):
    """Entries of a lane with their ids; `lost`: the lease belongs to another process by now."""

    entries: list[tuple[str, bytes]]
    lost: bool = False


class Kept(NamedTuple):
    """A conversation as the engine keeps it."""

    ledger: bytes
    age: float
    """Seconds since it was saved last."""


class Saved(NamedTuple):
    """A change of one conversation, made as a whole or not at all."""

    lane: int
    token: str
    key: str
    ledger: bytes
    lease_seconds: float
    """The lease is extended to at least this."""
    done: Mapping[str, Sequence[str]] = {}
    """Ids of entries to acknowledge and delete, by producer."""
    dead: Mapping[str, bytes] = {}
    """Rejected messages to be kept apart, by message id."""
    counts: Mapping[str, int] = {}
    """Additions to the lane's counters."""
    open_since: float | None = None
    """When it was touched last, in seconds since the epoch, if it is to be completed once its producer is dead."""
    forget_after: float = 0.0
    """Seconds after which the engine forgets it; 0: never."""
    conversation_id: str | None = None
    """The API's id, once it is open; the first one stays. Producers ask for it."""


class LaneState(NamedTuple):
    """The figures of one lane."""

    entries: int
    oldest: float
    """Age of the oldest entry in seconds; 0 if there is none."""
    dead: int
    held: bool
    counts: Mapping[str, int]


class Engine(Protocol):
    """Stores the outbox of a fleet. Any thread may call any method. All raise AwayError."""

    def lanes(self) -> int:
        """Return the number of lanes, which never changes; create the fleet if there is none."""

    def close(self) -> None:
        """Close the sockets; a later call opens them again."""

    def abandon(self) -> None:
        """Leave the sockets to the parent process, after a fork; from now on each call fails."""

    # producers

    def hand_over(self, parcels: Sequence[Parcels]) -> list[AwayError | None]:
        """Store entries; return for each parcel the error, or None if all of it is stored."""

    def waiting(self, lanes: Sequence[int], producer: str) -> int:
        """Return how many entries of a producer are not delivered yet in these lanes."""

    def conversation_ids(self, wanted: Sequence[tuple[int, str]]) -> list[str | None]:
        """Return the API's ids of conversations, by lane and key; None for those that are not open yet."""

    def beat(self, role: str, member: str, seconds: float) -> int:
        """Note that a process is alive; forget those that were not within `seconds`, and return how many are left."""

    def alive(self, role: str, members: Sequence[str]) -> set[str]:
        """Return those of the members that are alive."""

    def leave(self, role: str, member: str) -> None:
        """Note that a process has ended."""

    # lanes

    def take(self, lanes: Sequence[int], token: str, seconds: float) -> list[int]:
        """Take the leases that are free; return their lanes."""

    def renew(self, lanes: Sequence[int], token: str, seconds: float) -> list[int]:
        """Extend leases; return the lanes whose lease belongs to another process."""

    def give_back(self, lanes: Sequence[int], token: str) -> None:
        """End leases."""

    # sending

    def read(self, readings: Sequence[Reading]) -> list[Found]:
        """Read entries of several lanes."""

    def load(self, wanted: Sequence[tuple[int, str]]) -> list[Kept | None]:
        """Return conversations, by lane and key."""

    def save(self, saved: Saved) -> bool:
        """Save a conversation; return False if the lease belongs to another process."""

    def idle(self, lanes: Sequence[int], before: float) -> list[tuple[int, str]]:
        """Return lane and key of open conversations that were touched last before a time of the epoch."""

    # the rate limit

    def admit(self, account: str, limit: int) -> float:
        """Take a request of an account's budget; return 0, or the seconds until there is one. `limit`: a minute."""

    def block(self, account: str, seconds: float) -> None:
        """Let all processes wait: the API asks for it."""

    def learn(self, account: str, limit: int) -> None:
        """Note an account's limit a minute, as the API tells it."""

    # operating

    def state(self) -> list[LaneState]:
        """Return the figures of each lane."""

    def count(self, role: str) -> int:
        """Return how many processes of a role were alive at the last beat of one of them."""

    def dead(self, lane: int, most: int) -> dict[str, bytes]:
        """Return rejected messages of a lane, by message id."""

    def bury(self, lane: int, ids: Sequence[str]) -> int:
        """Delete rejected messages; return how many there were."""

    def about(self) -> dict[str, Any]:
        """Return facts about the server: version, eviction policy, persistence, memory."""
