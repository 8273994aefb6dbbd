"""The version of a server, and whether it is new enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST = (6, 2)
"""Oldest version of Redis. Valkey began with 7.2."""


class ServerVersion(NamedTuple):
    """Name and version as the server reports them."""

    name: str
    number: str
    supported: bool

    def __str__(self) -> str:
        if self.supported:
            return f"{self.name} {self.number}"
        return f"{self.name} {self.number} is too old: the outbox needs Redis 6.2 or newer, or Valkey"


def version_of(about: Mapping[str, Any]) -> ServerVersion:
    """Read the answer to `INFO`. A version that is missing counts as new enough: a proxy may hide it."""
    name = "valkey" if "valkey_version" in about else "redis"
    number = str(about.get(f"{name}_version", "unknown"))
    parts = tuple(int(part) for part in number.split(".")[:2] if part.isdecimal())
    return ServerVersion(name, number, supported=name == "valkey" or not parts or parts >= OLDEST)
