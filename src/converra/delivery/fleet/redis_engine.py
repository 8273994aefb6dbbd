"""The engine for Redis Streams: Redis from 6.2 on, and Valkey."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from itertools import chain
from typing import TYPE_CHECKING, Any

from converra.api.base_connection import disconnect
from converra.delivery.fleet import client, scripts
from converra.delivery.fleet.engine import AwayError, Found, Kept, LaneState, Parcels, Reading, Saved
from converra.delivery.fleet.server_version import version_of
from converra.delivery.fleet.url import FleetURL, Kind

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence


SCHEMA_VERSION = 1
"""Version of keys and entries, in the hash `fleet`."""

TOO_NEW = "the fleet has schema version %d, this version of converra knows %d"


class RedisEngine:
    """Stores a fleet's outbox at the server of a URL. Raises InvalidArgumentError if the package redis is missing."""

    def __init__(self, url: FleetURL) -> None:
        self.url: FleetURL = url
        redis = client.module()
        self._failures = redis.RedisError, redis.exceptions.RedisClusterException, OSError
        self._opening = threading.Lock()
        self._client: Any = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._abandoned = False
        self._lanes = 0

    def __repr__(self) -> str:
        return f"RedisEngine({self.url.shown!r})"

    # -- connection ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Yield the client; failures become AwayError."""
        if self._abandoned:
            raise self._away(ConnectionError("it is the parent process's"))
        try:
            with self._opening:
                if self._client is None:
                    self._client = client.connected(self.url, self._sockets.add)
            yield self._client
        except self._failures as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> AwayError:
        away = AwayError(f"{self.url.shown}: {error}")
        away.inherited = self._abandoned
        return away

    def close(self) -> None:
        """Close the sockets; a later call opens them again."""
        with self._opening:
            closed, self._client = self._client, None
        if closed is not None:
            with contextlib.suppress(OSError):
                closed.close()

    def abandon(self) -> None:
        """Leave the sockets to the parent process, after a fork; from now on each call fails."""
        self._abandoned = True
        disconnect(list(self._sockets))

    def lanes(self) -> int:
        """Return the number of lanes; create the fleet if there is none. Refuse a server that is too old."""
        if not self._lanes:
            server = version_of(self._info("server"))
            if not server.supported:
                raise AwayError(f"{self.url.shown}: {server}")
            with self._connected() as redis:
                key = f"{self.url.prefix}:fleet"
                redis.hsetnx(key, "version", SCHEMA_VERSION)
                redis.hsetnx(key, "lanes", self.url.lanes)
                version, lanes = redis.hmget(key, "version", "lanes")
            if int(version) > SCHEMA_VERSION:
                raise AwayError(TOO_NEW % (int(version), SCHEMA_VERSION))
            self._lanes = int(lanes)
        return self._lanes

    def _key(self, lane: int, name: str) -> str:
        return f"{self.url.prefix}:{{{lane}}}:{name}"

    def _keys(self, lane: int, *names: str) -> list[str]:
        return [self._key(lane, name) for name in names]

    def _together(self, commands: Sequence[Sequence[Any]], *, failing: bool = True) -> list[Any]:
        """Run commands in one pipeline, and return the answers. Without `failing`, errors are among them."""
        if not commands:
            return []
        with self._connected() as redis, redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=failing)
        return answers

    # -- producers -----------------------------------------------------------------------------------------------------

    def hand_over(self, parcels: Sequence[Parcels]) -> list[AwayError | None]:
        """Store entries; return for each parcel the error, or None if all of it is stored."""
        commands = [
            ("EVAL", scripts.HAND_OVER, 2, *self._keys(lane, "t", "waiting"), producer, *entries)
            for lane, producer, entries in parcels
        ]
        try:
            answers = self._together(commands, failing=False)
        except AwayError:
            if self.url.kind is not Kind.CLUSTER:
                raise
            return [self._alone(command) for command in commands]  # the other nodes may be well
        return [self._away(answer) if isinstance(answer, Exception) else None for answer in answers]

    def _alone(self, command: Sequence[Any]) -> AwayError | None:
        try:
            self._together([command])
        except AwayError as error:
            return error
        return None

    def waiting(self, lanes: Sequence[int], producer: str) -> int:
        """Return how many entries of a producer are not delivered yet in these lanes."""
        answers = self._together([("HGET", self._key(lane, "waiting"), producer) for lane in lanes])
        return sum(int(answer or 0) for answer in answers)

    def conversation_ids(self, wanted: Sequence[tuple[int, str]]) -> list[str | None]:
        """Return the API's ids of conversations, by lane and key."""
        answers = self._together([("HGET", self._key(lane, f"c:{key}"), "id") for lane, key in wanted])
        return [None if answer is None else answer.decode() for answer in answers]

    def beat(self, role: str, member: str, seconds: float) -> int:
        """Note that a process is alive; forget those that were not within `seconds`, and return how many are left."""
        with self._connected() as redis:
            return int(redis.eval(scripts.BEAT, 1, f"{self.url.prefix}:{role}", member, int(seconds * 1000)))

    def alive(self, role: str, members: Sequence[str]) -> set[str]:
        """Return those of the members that are alive."""
        scores = self._together([("ZSCORE", f"{self.url.prefix}:{role}", member) for member in members])
        return {member for member, score in zip(members, scores, strict=True) if score is not None}

    def leave(self, role: str, member: str) -> None:
        """Note that a process has ended."""
        with self._connected() as redis:
            redis.zrem(f"{self.url.prefix}:{role}", member)

    # -- lanes ---------------------------------------------------------------------------------------------------------

    def take(self, lanes: Sequence[int], token: str, seconds: float) -> list[int]:
        """Take the leases that are free; return their lanes."""
        milliseconds = int(seconds * 1000)
        answers = self._together(
            [("EVAL", scripts.TAKE, 2, *self._keys(lane, "lease", "t"), token, milliseconds) for lane in lanes]
        )
        return [lane for lane, taken in zip(lanes, answers, strict=True) if taken]

    def renew(self, lanes: Sequence[int], token: str, seconds: float) -> list[int]:
        """Extend leases; return the lanes whose lease belongs to another process."""
        answers = self._together(
            [("EVAL", scripts.RENEW, 1, self._key(lane, "lease"), token, int(seconds * 1000)) for lane in lanes]
        )
        return [lane for lane, renewed in zip(lanes, answers, strict=True) if not renewed]

    def give_back(self, lanes: Sequence[int], token: str) -> None:
        """End leases."""
        self._together([("EVAL", scripts.GIVE_BACK, 1, self._key(lane, "lease"), token) for lane in lanes])

    # -- sending -------------------------------------------------------------------------------------------------------

    def read(self, readings: Sequence[Reading]) -> list[Found]:
        """Read entries of several lanes."""
        commands = [
            (
                *("EVAL", scripts.READ, 2, *self._keys(reading.lane, "lease", "t"), reading.token),
                *(">" if reading.after is None else reading.after, reading.most),
            )
            for reading in readings
        ]
        return [Found([], lost=True) if answer == 0 else Found(_entries(answer)) for answer in self._together(commands)]

    def load(self, wanted: Sequence[tuple[int, str]]) -> list[Kept | None]:
        """Return conversations, by lane and key."""
        if not wanted:
            return []
        with self._connected() as redis:
            seconds, microseconds = redis.time()
        now = seconds * 1000 + microseconds / 1000
        answers = self._together([("HMGET", self._key(lane, f"c:{key}"), "s", "at") for lane, key in wanted])
        return [None if raw is None else Kept(raw, max(0.0, now - int(at)) / 1000) for raw, at in answers]

    def save(self, saved: Saved) -> bool:
        """Save a conversation; return False if the lease belongs to another process."""
        names = ("lease", f"c:{saved.key}", "t", "open", "dead", "counts", "waiting")
        arguments: list[Any] = [
            saved.token,
            int(saved.lease_seconds * 1000),
            saved.ledger,
            int(saved.forget_after * 1000),
            saved.key,
            "" if saved.open_since is None else saved.open_since,
            saved.conversation_id or "",
        ]
        for pairs in (saved.dead, saved.counts):
            arguments += (len(pairs), *chain.from_iterable(pairs.items()))
        arguments.append(len(saved.done))
        for producer, ids in saved.done.items():
            arguments += (producer, len(ids), *ids)
        with self._connected() as redis:
            return bool(redis.eval(scripts.SAVE, len(names), *self._keys(saved.lane, *names), *arguments))

    def idle(self, lanes: Sequence[int], before: float) -> list[tuple[int, str]]:
        """Return lane and key of open conversations that were touched last before a time of the epoch."""
        answers = self._together(
            [
                ("ZRANGEBYSCORE", self._key(lane, "open"), "-inf", f"({before}", "LIMIT", 0, _IDLE_AT_ONCE)
                for lane in lanes
            ]
        )
        return [(lane, key.decode()) for lane, keys in zip(lanes, answers, strict=True) for key in keys]

    # -- the rate limit ------------------------------------------------------------------------------------------------

    def _account(self, account: str, *names: str) -> list[str]:
        return [f"{self.url.prefix}:{{r:{account}}}:{name}" for name in names]

    def admit(self, account: str, limit: int) -> float:
        """Take a request of an account's budget; return 0, or the seconds until there is one."""
        with self._connected() as redis:
            wait: int = redis.eval(scripts.ADMIT, 3, *self._account(account, "blocked", "due", "limit"), limit)
        return wait / 1000

    def block(self, account: str, seconds: float) -> None:
        """Let all processes wait: the API asks for it."""
        with self._connected() as redis:
            redis.eval(scripts.BLOCK, 1, *self._account(account, "blocked"), max(1, int(seconds * 1000)))

    def learn(self, account: str, limit: int) -> None:
        """Note an account's limit a minute, for an hour."""
        with self._connected() as redis:
            redis.set(*self._account(account, "limit"), limit, ex=3600)

    # -- operating -----------------------------------------------------------------------------------------------------

    def state(self) -> list[LaneState]:
        """Return the figures of each lane."""
        lanes, now = range(self.lanes()), time.time()
        commands: list[tuple[Any, ...]] = []
        for lane in lanes:
            stream, dead, lease, counts = self._keys(lane, "t", "dead", "lease", "counts")
            first = ("XRANGE", stream, "-", "+", "COUNT", 1)
            commands += (("XLEN", stream), first, ("HLEN", dead), ("EXISTS", lease), ("HGETALL", counts))
        answers = self._together(commands)
        return [_state(answers[lane * 5 : lane * 5 + 5], now) for lane in lanes]

    def count(self, role: str) -> int:
        """Return how many processes of a role were alive at the last beat of one of them."""
        with self._connected() as redis:
            return int(redis.zcard(f"{self.url.prefix}:{role}"))

    def dead(self, lane: int, most: int) -> dict[str, bytes]:
        """Return rejected messages of a lane, by message id."""
        found: dict[str, bytes] = {}
        with self._connected() as redis:
            for name, raw in redis.hscan_iter(self._key(lane, "dead"), count=most):
                found[name.decode()] = raw
                if len(found) >= most:
                    break
        return found

    def bury(self, lane: int, ids: Sequence[str]) -> int:
        """Delete rejected messages; return how many there were."""
        with self._connected() as redis:
            return int(redis.hdel(self._key(lane, "dead"), *ids)) if ids else 0

    def about(self) -> dict[str, Any]:
        """Return facts about the server: those of `INFO`, of the first node in a cluster."""
        return self._info()

    def _info(self, *sections: str) -> dict[str, Any]:
        with self._connected() as redis:
            if self.url.kind is Kind.CLUSTER:
                return dict(redis.info(*sections, target_nodes=redis.get_primaries()[0]))
            return dict(redis.info(*sections))


_IDLE_AT_ONCE = 50
"""Conversations of one lane that are looked at in one go."""


def _entries(answer: Any) -> list[tuple[str, bytes]]:
    """Read the answer to XREADGROUP for one stream; a deleted entry has no fields."""
    if not answer:
        return []
    streams = answer.items() if isinstance(answer, dict) else answer
    (rows,) = [rows for _, rows in streams]
    if rows and isinstance(rows[0], list) and rows[0] and isinstance(rows[0][0], list):
        (rows,) = rows  # redis-py nests the answers of RESP 3
    return [(number.decode(), fields[1] if fields else b"") for number, fields in rows]


def _state(answers: Sequence[Any], now: float) -> LaneState:
    entries, first, dead, held, counts = answers
    oldest = max(0.0, now - int(first[0][0].partition(b"-")[0]) / 1000) if first else 0.0
    pairs = counts.items() if isinstance(counts, dict) else zip(counts[::2], counts[1::2], strict=True)
    return LaneState(entries, oldest, dead, bool(held), {name.decode(): int(number) for name, number in pairs})
