"""The URL of a fleet's outbox: which server, how to reach it, and the options of the outbox."""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from converra.config import without_password
from converra.errors import InvalidArgumentError

LANES = 64
"""Lanes of a new fleet. Fixed when the first process creates it: a conversation must stay in its lane."""

_OPTIONS = ("spill", "prefix", "lanes", "limit")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_PORTS = {"sentinel": 26379}
_DEFAULT_PORT = 6379

_EXPECTED = (
    "expected redis://, rediss://, redis+socket://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or "
    "rediss+cluster://, such as redis://user:password@host:6379/0"
)


class Kind(Enum):
    """The kinds of servers, by the part of the scheme behind `+`."""

    SINGLE = ""
    SOCKET = "socket"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class FleetURL(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed URL. Its `repr` shows no password."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    """Host and port of the server, of the sentinels, or of some nodes of the cluster; empty for a socket."""
    path: str = ""
    """Path of the socket, or name of the sentinels' service."""
    database: int = 0
    username: str | None = None
    password: str | None = None
    spill: str | None = None
    """Path of the file that keeps messages while the server is away."""
    prefix: str = "cv"
    """Beginning of all keys."""
    lanes: int = LANES
    limit: int = 0
    """Requests a minute of the API key, for all processes together; 0: as the API's answers tell."""
    options: dict[str, str] = {}
    """Options of the connection: TLS files, and the sentinels' own credentials."""

    def __repr__(self) -> str:
        return f"FleetURL({self.shown!r})"

    @property
    def shown(self) -> str:
        """The address without credentials, for logs."""
        scheme = ("rediss" if self.tls else "redis") + (f"+{self.kind.value}" if self.kind.value else "")
        return f"{scheme}://{','.join(f'{host}:{port}' for host, port in self.hosts)}{self._shown_path}"

    @property
    def _shown_path(self) -> str:
        if self.kind is Kind.SINGLE:
            return f"/{self.database}"
        return self.path if self.kind is Kind.SOCKET else f"/{self.path}" if self.path else ""


def parse(url: str) -> FleetURL:
    """Read a URL.

    Args:
        url: One of the forms on the page "Run a fleet".

    Raises:
        InvalidArgumentError: It can never work. The message holds no password.

    """
    try:
        return _parsed(url)
    except InvalidArgumentError:
        raise
    except ValueError as error:
        raise InvalidArgumentError(f"outbox {without_password(url)!r}: {error}; {_EXPECTED}") from None


def _parsed(url: str) -> FleetURL:
    parts = urlsplit(url)
    scheme, _, kind_name = parts.scheme.partition("+")
    if scheme not in ("redis", "rediss") or kind_name not in {kind.value for kind in Kind}:
        raise ValueError("the scheme is unknown")
    kind = Kind(kind_name)
    credentials, _, places = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    query = _query(parts.query, kind, tls=scheme == "rediss")
    hosts = () if kind is Kind.SOCKET else tuple(_host(place, kind) for place in places.split(","))
    if kind is Kind.SINGLE and len(hosts) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    path, database = _path(parts.path, kind, query.pop("db", ""))
    own = {name: query.pop(name) for name in _OPTIONS if name in query}
    if not re.fullmatch(r"[\w.:-]+", own.get("prefix", "cv")):
        raise ValueError("the prefix may have letters, digits and _ . : -")
    return FleetURL(
        kind=kind,
        tls=scheme == "rediss",
        hosts=hosts,
        path=path,
        database=database,
        username=unquote(username) or None,
        password=unquote(password) or None,
        spill=own.get("spill"),
        prefix=own.get("prefix", "cv"),
        lanes=_number("lanes", own.get("lanes", str(LANES)), 1, 4096),
        limit=_number("limit", own.get("limit", "0"), 0, 1_000_000),
        options=query,
    )


def _query(text: str, kind: Kind, *, tls: bool) -> dict[str, str]:
    query = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    known = [*_OPTIONS, *(_TLS_OPTIONS if tls else ()), *(_SENTINEL_OPTIONS if kind is Kind.SENTINEL else ())]
    if kind is Kind.SOCKET:
        known.append("db")
    unknown = sorted(query.keys() - set(known))
    if unknown:
        raise ValueError(f"the option {', '.join(unknown)} is unknown here; known are {', '.join(known)}")
    empty = sorted(name for name, value in query.items() if not value)
    if empty:
        raise ValueError(f"the option {', '.join(empty)} has no value")
    return query


def _host(place: str, kind: Kind) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname or any(character.isspace() for character in place):
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or _PORTS.get(kind.value, _DEFAULT_PORT)


def _path(path: str, kind: Kind, database: str) -> tuple[str, int]:
    """Return the socket's path or the service's name, and the number of the database."""
    if kind is Kind.SOCKET:
        if len(path) <= 1:
            raise ValueError("the path of the socket is missing")
        return unquote(path), _number("db", database or "0", 0, 10_000)
    first, _, rest = path.strip("/").partition("/")
    if kind is Kind.CLUSTER and first:
        raise ValueError("a cluster has no database but 0")
    if kind is not Kind.SENTINEL:
        return "", _number("the database", first or "0", 0, 10_000)
    if not first:
        raise ValueError("the name of the sentinels' service is missing, as in redis+sentinel://host/service")
    return unquote(first), _number("the database", rest or "0", 0, 10_000)


def _number(name: str, text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ValueError(f"{name} is {text!r}, expected a number from {least} to {most}")
    return int(text)
