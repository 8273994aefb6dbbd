"""Faults on request: what a network, a proxy or a failing API does to a client, switched on per endpoint.

::

    server.faults.add("append", "reset", when="after")                        # stored, then the connection is reset
    server.faults.add("create", "status", status=429, headers={"Retry-After": "1"}, times=3)
    server.faults.add("any", "status", status=503, times=None, share=0.2)     # one request in five, for ever

Endpoints: `create`, `append` (does not complete), `complete` (an append that does), `read` (every GET), `any`.
"before" means that the request has no effect; "after" means that it took effect and only its answer is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import msgspec

from converra.server.faults.connections import disconnected, gone_within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from converra.server.faults.connections import Connections

Endpoint = Literal["create", "append", "complete", "read", "any"]
Kind = Literal["reset", "close", "cut", "status", "unreadable", "drip", "hang", "delay"]
When = Literal["before", "after"]

_AFTER_BY_NATURE = ("cut", "unreadable", "drip")
"""These spoil the answer to a request that took effect."""


class Fault(NamedTuple):
    """One row: where, what, and the numbers that some kinds need."""

    endpoint: Endpoint
    kind: Kind
    when: When = "before"
    status: int = 503
    """Of the kind `status`."""
    headers: Mapping[str, str] = {}
    """Of the kind `status`."""
    seconds: float = 0.05
    """`delay`: how long; `drip`: the pause after each byte."""

    def words(self) -> str:
        """The fault as the log names it."""
        named = str(self.status) if self.kind == "status" else self.kind
        return f"{named} after" if self.when == "after" and self.kind not in _AFTER_BY_NATURE else named


class Armed:
    """A fault with its bookkeeping: how many requests it lets through first, how many it then spoils."""

    def __init__(self, number: int, fault: Fault, times: int | None, skip: int, share: float) -> None:
        self.number: int = number
        self.fault: Fault = fault
        self.times: int | None = times
        self.skip: int = skip
        self.share: float = share

    def fires(self, endpoint: str, chance: float) -> bool:
        """Return True if this request is hit; counts it either way."""
        if self.fault.endpoint not in (endpoint, "any") or self.times == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if chance >= self.share:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """The switches of one server. Any thread may turn them; the first that matches a request wins."""

    def __init__(self, *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._armed: list[Armed] = []
        self._numbers = itertools.count(1)
        self._rate: tuple[int, float] | None = None
        self._recent: deque[float] = deque()
        self.hide_messages: bool = False
        """Answers of append and get do not show the messages."""
        self.refused_statuses: frozenset[str] = frozenset()
        """Statuses refused with a 400 that names the field, such as {"active"}."""
        self.fired: Counter[tuple[str, str]] = Counter()
        """Hits by (endpoint, kind)."""

    def add(
        self,
        endpoint: Endpoint,
        kind: Kind,
        *,
        when: When = "before",
        times: int | None = 1,
        skip: int = 0,
        share: float = 1.0,
        status: int = 503,
        headers: Mapping[str, str] | None = None,
        seconds: float = 0.05,
    ) -> None:
        """Spoil the next `times` requests (None: all) of an endpoint, after letting `skip` through.

        `share` below 1 hits only that share of them, chosen by a seeded generator. `seconds` is the wait of a
        `delay`, and the pause after each byte of a `drip`.
        """
        if endpoint not in get_args(Endpoint) or kind not in get_args(Kind) or when not in get_args(When):
            raise ValueError(f"no such fault: {endpoint!r} {kind!r} {when!r}; see converra.server.faults.switches")
        moment: When = "after" if kind in _AFTER_BY_NATURE else when
        fault = Fault(endpoint, kind, moment, status, dict(headers or {}), seconds)
        with self._lock:
            self._armed.append(Armed(next(self._numbers), fault, times, skip, share))

    def rate_limit(self, requests: int, seconds: float = 60.0) -> None:
        """Answer 429 with `Retry-After` to requests over a limit in a sliding window."""
        with self._lock:
            self._rate = (requests, seconds)
            self._recent.clear()

    def clear(self) -> None:
        """Switch everything off; `fired` stays."""
        with self._lock:
            self._armed.clear()
            self._rate = None
        self.hide_messages = False
        self.refused_statuses = frozenset()

    def disarm(self, number: int) -> None:
        """Switch one off; nothing happens where it is off already."""
        with self._lock:
            self._armed = [armed for armed in self._armed if armed.number != number]

    def armed(self) -> list[Armed]:
        """The faults that can still fire."""
        with self._lock:
            return [armed for armed in self._armed if armed.times != 0]

    def take(self, endpoint: str, now: float) -> Fault | None:
        """The fault that hits this request, if any. `now` is in seconds, of any monotonic clock."""
        with self._lock:
            fault = self._over_rate(now) or self._next(endpoint)
            if fault is not None:
                self.fired[endpoint, fault.kind] += 1
            return fault

    def _next(self, endpoint: str) -> Fault | None:
        for armed in self._armed:
            if armed.fires(endpoint, self._random.random() if armed.share < 1 else 0.0):
                return armed.fault
        return None

    def _over_rate(self, now: float) -> Fault | None:
        if self._rate is None:
            return None
        allowed, window = self._rate
        while self._recent and self._recent[0] <= now - window:
            self._recent.popleft()
        if len(self._recent) < allowed:
            self._recent.append(now)
            return None
        wait = self._recent[0] + window - now if self._recent else window
        return Fault("any", "status", status=429, headers={"Retry-After": str(int(wait) + 1)})


def endpoint_of(method: str, path: str, body: bytes) -> str | None:
    """Name the endpoint of a request as faults do; None outside the Conversations API."""
    parts = path.strip("/").split("/")
    if parts[:3] != ["api", "v1", "conversations"]:
        return None
    if method == "GET":
        return "read"
    if len(parts) == 3:  # noqa: PLR2004 - /api/v1/conversations
        return "create"
    return "complete" if _completes(body) else "append"


def _completes(body: bytes) -> bool:
    try:
        status = msgspec.json.decode(body).get("status")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        return False
    return bool(status == "completed")


class FaultMiddleware:
    """Stands between the network and the API, and spoils what the switches say."""

    def __init__(self, app: ASGIApp, faults: Faults, connections: Connections) -> None:
        self.app: ASGIApp = app
        self.faults: Faults = faults
        self.connections: Connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI's signature
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        endpoint = endpoint_of(scope["method"], scope["path"], scope.get("converra.body", b""))
        fault = self.faults.take(endpoint, asyncio.get_running_loop().time()) if endpoint else None
        if fault is None:
            await self.app(scope, receive, send)
        else:
            await self._spoil(fault, scope, receive, send)

    async def _spoil(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        answer: list[Message] = []
        scope["converra.fault"] = fault.words()
        if fault.when == "after":
            await self.app(scope, receive, _into(answer))
        await getattr(self, f"_{fault.kind}")(fault, answer, scope, receive, send)

    async def _reset(self, _fault: Fault, _answer: list[Message], scope: Scope, receive: Receive, _send: Send) -> None:
        self.connections.reset(scope)
        await disconnected(receive)

    async def _close(self, _fault: Fault, _answer: list[Message], scope: Scope, receive: Receive, _send: Send) -> None:
        self.connections.close(scope)
        await disconnected(receive)

    async def _cut(self, _fault: Fault, answer: list[Message], scope: Scope, receive: Receive, send: Send) -> None:
        start, body = answer[0], _body(answer)
        await send(start)
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        self.connections.close(scope)
        await disconnected(receive)

    async def _status(self, fault: Fault, _answer: list[Message], _scope: Scope, _receive: Receive, send: Send) -> None:
        error = {"error": {"code": f"FAULT_{fault.status}", "message": "A fault that was switched on"}}
        headers = {"content-type": "application/json", **fault.headers}
        await _respond(send, fault.status, headers, msgspec.json.encode(error))

    async def _unreadable(
        self, _fault: Fault, _answer: list[Message], _scope: Scope, _receive: Receive, send: Send
    ) -> None:
        await _respond(send, 200, {"content-type": "text/html"}, b"<html><body>It works!</body></html>")

    async def _drip(self, fault: Fault, answer: list[Message], _scope: Scope, receive: Receive, send: Send) -> None:
        body = _body(answer)
        await send(answer[0])
        for index in range(len(body)):
            await send({"type": "http.response.body", "body": body[index : index + 1], "more_body": True})
            if await gone_within(fault.seconds, receive):
                return
        await send({"type": "http.response.body", "body": b""})

    async def _hang(self, _fault: Fault, _answer: list[Message], _scope: Scope, receive: Receive, _send: Send) -> None:
        await disconnected(receive)

    async def _delay(self, fault: Fault, answer: list[Message], scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(fault.seconds)
        if fault.when == "before":
            await self.app(scope, receive, send)
        for message in answer:
            await send(message)


def _into(answer: list[Message]) -> Send:
    async def send(message: Message) -> None:
        answer.append(message)

    return send


def _body(answer: list[Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in answer[1:])


async def _respond(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
