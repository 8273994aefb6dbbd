"""The kinds of Redis servers that a URL can name: ACL users, a socket, sentinels, a cluster; and a forked process."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from converra.delivery.delivery import Delivery
from converra.delivery.fleet import joining
from converra.delivery.fleet.engine import Parcels
from converra.delivery.fleet.url import parse
from tests.delivery.harness import held, turn, words
from tests.fleet.redis_server import RedisServer, free_port, redis_server, sentinel_server
from tests.fleet.test_fleet import config, producer, record, relay, stored
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converra.server.run import LocalServer

    Closing = Callable[[Callable[[], object]], None]


def asked(server: RedisServer, *words_: str) -> str:
    """Send a command and return the first part of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=LONG) as connection:
        parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words_)
        connection.sendall(f"*{len(words_)}\r\n{parts}".encode())
        return connection.recv(4096).decode()


def delivers(api: LocalServer, outbox: str, closing: Closing) -> None:
    """Hand over and deliver through a server."""
    sender = producer(api, outbox, closing)
    made = relay(api, outbox, closing)
    for number in range(8):
        record(sender, f"k{number}", number)
    assert sender.flush(LONG, delivered=True), sender.stats()
    assert stored(api) == {f"question {number}": ("completed", words(number)) for number in range(8)}
    assert made.counters.delivered == 16
    assert sum(lane.entries for lane in made.engine.state()) == 0


def test_a_user_with_the_documented_rights_and_a_socket(api: LocalServer, tmp_path: Path, closing: Closing) -> None:
    """The rights suffice for all of it; a wrong password is an error without the password."""
    path = tmp_path / "s"
    with redis_server("--unixsocket", str(path)) as server:
        rights = ("~cv:*", "+@all", "-@admin", "-@dangerous", "+info")
        assert asked(server, "ACL", "SETUSER", "app", "on", ">s@cret", *rights).startswith("+OK")
        assert asked(server, "ACL", "SETUSER", "default", "off").startswith("+OK")
        delivers(api, f"redis://app:s%40cret@127.0.0.1:{server.port}?lanes=4", closing)
        engine = joining.engine_of(parse(f"redis+socket://app:s%40cret@{path}"))
        closing(engine.close)
        assert engine.lanes() == 4
        assert engine.about()["redis_mode"] == "standalone"
        refused = producer(api, f"redis://app:wrong-secret@127.0.0.1:{server.port}", closing)
        record(refused, "a", 1)
        assert not refused.flush(0.2)
        assert "invalid username-password" in str(refused.stats().last_error)
        assert "wrong-secret" not in str(refused.stats().last_error)


def test_a_cluster_keeps_each_lane_in_one_slot(api: LocalServer, closing: Closing) -> None:
    """Three nodes share the lanes; every script touches one slot."""
    buses = [str(free_port()) for _ in range(3)]
    with ExitStack() as stack:
        nodes = [("--cluster-enabled", "yes", "--cluster-port", bus) for bus in buses]
        servers = [stack.enter_context(redis_server(*options)) for options in nodes]
        for server, slots in zip(servers, ((0, 5460), (5461, 10922), (10923, 16383)), strict=True):
            assert asked(server, "CLUSTER", "ADDSLOTSRANGE", *map(str, slots)).startswith("+OK")
            asked(server, "CLUSTER", "SET-CONFIG-EPOCH", str(1 + servers.index(server)))
            assert asked(server, "CLUSTER", "MEET", "127.0.0.1", str(servers[0].port), buses[0]).startswith("+OK")
        for server in servers:
            until(lambda server=server: "cluster_state:ok" in asked(server, "CLUSTER", "INFO"))  # type: ignore[misc]
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        delivers(api, f"redis+cluster://{hosts}?lanes=16", closing)
        engine = joining.engine_of(parse(f"redis+cluster://{hosts}"))
        closing(engine.close)
        assert engine.about()["cluster_enabled"] == 1
        servers[2].kill()  # a third of the lanes is away: the others go on, and the error names the server
        errors = engine.hand_over([Parcels(lane, "p", [b"x"]) for lane in range(16)])
        assert 0 < sum(error is None for error in errors) < 16


def test_sentinels_name_the_master(api: LocalServer, tmp_path: Path, closing: Closing) -> None:
    """Also after it has moved to another server."""
    with redis_server() as first, redis_server() as second:
        port = free_port()
        settings = tmp_path / "sentinel.conf"
        settings.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {first.port} 1\n")
        with sentinel_server(settings, port) as sentinel:
            outbox = f"redis+sentinel://127.0.0.1:{sentinel.port}/main?lanes=4"
            sender = producer(api, outbox, closing)
            record(sender, "a", 1)
            assert sender.flush(LONG)
            assert asked(sentinel, "SENTINEL", "REMOVE", "main").startswith("+OK")
            asked(sentinel, "SENTINEL", "MONITOR", "main", "127.0.0.1", str(second.port), "1")
            first.kill()
            record(sender, "b", 2)
            assert sender.flush(LONG)
            relay(api, outbox, closing)
            until(lambda: stored(api), {"question 2": ("completed", words(2))})


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_hands_over_its_own_turns(
    api: LocalServer, outbox: str, tmp_path: Path, closing: Closing
) -> None:
    """Each process its own, once; the child neither closes the parent's sockets nor gives its lanes back."""
    outbox += f"&spill={tmp_path / 'spill.db'}"
    parent = Delivery(config(api, outbox, relay="inline"))
    closing(lambda: parent.shutdown(LONG))
    queue = record(parent, "a", 1, ended=False)
    assert parent.flush(LONG)
    lanes: Any = parent._flusher.relay.lanes  # type: ignore[attr-defined]
    until(lambda: len(lanes.held()), 4)
    child = os.fork()
    if child == 0:
        queue.append(turn(2))
        os._exit(0 if parent.shutdown(LONG) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    queue.append(turn(3))
    queue.end()
    assert parent.flush(LONG, delivered=True)
    until(lambda: sorted(each.words for each in held(api)), sorted([words(1, 3), words(2)]))
    until(lambda: [each.status for each in held(api)], ["completed"] * 2)
    assert len(lanes.held()) == 4
