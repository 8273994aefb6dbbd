"""The door to redis-py: a client for each kind of URL."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

from converra.delivery.fleet.url import FleetURL, Kind
from converra.errors import InvalidArgumentError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

CONNECT_SECONDS = 2.0
"""Longest wait for a connection."""

ANSWER_SECONDS = 5.0
"""Longest wait for an answer; a server that is slower counts as away."""

MISSING = 'outbox="redis://…" needs the package redis, which is not installed: pip install "converra[redis]"'


def module() -> Any:
    """Import redis-py. Raises InvalidArgumentError without the extra.

    Called first by the thread that makes an engine, usually in `instrument()`: an import on a worker could be
    interrupted by a fork, and the child would inherit half of it.
    """
    try:
        import redis  # noqa: PLC0415 - only a fleet needs it
        import redis.cluster  # noqa: PLC0415 - as above
        import redis.sentinel  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise InvalidArgumentError(MISSING) from None
    codecs.lookup("idna")  # looking up a host imports it, and a child that is forked meanwhile would wait for ever
    return redis


def connected(url: FleetURL, opened: Callable[[socket.socket], None]) -> Any:
    """Make a client. It connects when it is used; a failed command is not repeated, since the caller knows better.

    Args:
        url: The server.
        opened: Takes each socket of the client: after a fork, green threads of the parent would share it.

    Raises:
        redis.RedisError: A cluster cannot be reached.

    """
    redis = module()
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)

    def on_connect(connection: Any) -> None:
        opened(connection._sock)  # noqa: SLF001 - redis-py offers no other way to it
        if url.kind is not Kind.CLUSTER:  # whose client has done it already
            connection.on_connect()

    common: dict[str, Any] = {
        "redis_connect_func": on_connect,
        "username": url.username,
        "password": url.password,
        "protocol": 2,  # the same in all versions of redis-py, and a server that is too old answers
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "socket_keepalive": None if url.kind is Kind.SOCKET else True,
        **({"ssl": True, "ssl_check_hostname": True} | url.options if url.tls else {}),
    }
    if url.kind is Kind.SOCKET:
        del common["socket_keepalive"]
        return redis.Redis(unix_socket_path=url.path, db=url.database, retry=retry, **common)
    if url.kind is Kind.CLUSTER:
        nodes = [redis.cluster.ClusterNode(host, port) for host, port in url.hosts]
        return redis.cluster.RedisCluster(startup_nodes=nodes, **common)
    if url.kind is Kind.SENTINEL:
        return _of_sentinels(redis, url, common, retry)
    host, port = url.hosts[0]
    return redis.Redis(host=host, port=port, db=url.database, retry=retry, **common)


def _of_sentinels(redis: Any, url: FleetURL, common: dict[str, Any], retry: Any) -> Any:
    """Make a client that asks the sentinels for the master whenever it connects."""
    names = ("sentinel_username", "sentinel_password")
    own = {name.removeprefix("sentinel_"): url.options[name] for name in names if name in url.options}
    timeouts = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS}
    tls = {name: value for name, value in common.items() if name.startswith("ssl")}
    common = {name: value for name, value in common.items() if name not in names}
    sentinels = redis.sentinel.Sentinel(url.hosts, sentinel_kwargs={**timeouts, **tls, **own})
    return sentinels.master_for(url.path, db=url.database, retry=retry, **common)
