"""The kinds of Redis servers that a URL can name: ACL users, a socket, sentinels, a cluster; and a forked process."""

from __future__ import annotations

import codecs
import os
import shutil
import socket
import socketserver
import subprocess
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from converra.delivery.delivery import Delivery
from converra.delivery.fleet import joining
from converra.delivery.fleet.engine import Parcels
from converra.delivery.fleet.server_version import version_of
from converra.delivery.fleet.url import parse
from converra.process import guard
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
        assert engine.about()["tcp_port"] == server.port
        refused = producer(api, f"redis://app:wrong-secret@127.0.0.1:{server.port}", closing)
        record(refused, "a", 1)
        assert not refused.flush(0.2)
        assert "invalid username-password" in str(refused.stats().last_error)
        assert "wrong-secret" not in str(refused.stats().last_error)


def certificate(folder: Path, name: str) -> Path:
    """Make a certificate for this machine that signs itself, with its key beside it; return the beginning of both."""
    made = folder / name
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", f"{made}.key", "-out", f"{made}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_in_both_directions(
    api: LocalServer, tmp_path: Path, closing: Closing, caplog: pytest.LogCaptureFixture
) -> None:
    """A server is trusted by its certificate, a client by its own; else turns wait, as the log says."""
    trusted, port = certificate(tmp_path, "trusted"), free_port()
    options = ("--tls-port", port, "--tls-cert-file", f"{trusted}.crt", "--tls-key-file", f"{trusted}.key")
    with redis_server(*map(str, options), "--tls-ca-cert-file", f"{trusted}.crt"):
        url = f"rediss://127.0.0.1:{port}/0?lanes=4"
        own = f"&ssl_certfile={trusted}.crt&ssl_keyfile={trusted}.key"
        delivers(api, f"{url}&ssl_ca_certs={trusted}.crt{own}", closing)
        other = certificate(tmp_path, "other")
        wrong = {
            url + own: "certificate verify failed",
            f"{url}&ssl_ca_certs={other}.crt{own}": "certificate verify failed",
            f"{url}&ssl_ca_certs={trusted}.crt": url.partition("?")[
                0
            ],  # the server's alert may be lost with the socket
            f"rediss://localhost:{port}/0?ssl_ca_certs={trusted}.crt{own}": "not valid for 'localhost'",
        }
        for outbox, reason in wrong.items():
            guard.reset_log_limits()
            caplog.clear()
            refused = producer(api, outbox, closing)
            record(refused, "a", 1)
            assert not refused.flush(0.2)
            until(lambda: [line for line in caplog.messages if reason in line])  # noqa: B023 - called at once
            assert "messages wait in memory and are handed over later" in caplog.text
            refused.shutdown(0.1)  # else it takes the next line of the log for itself


class OldServer(socketserver.StreamRequestHandler):
    """A stand-in for Redis 6.0, which cannot be installed everywhere: it tells its version, and agrees to all else."""

    def handle(self) -> None:
        """Answer commands, each an array of strings."""
        while line := self.rfile.readline():
            parts = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
            told = b"redis_version:6.0.16\r\n"
            self.wfile.write(b"$%d\r\n%s\r\n" % (len(told), told) if parts[0].upper() == b"INFO" else b"+OK\r\n")


def test_a_server_that_is_too_old_is_refused(
    api: LocalServer, closing: Closing, caplog: pytest.LogCaptureFixture
) -> None:
    """With both versions in the log, before any turn is handed over; a server that hides its version is not."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldServer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        sender = producer(api, f"redis://127.0.0.1:{server.server_address[1]}?lanes=4", closing)
        record(sender, "a", 1)
        assert not sender.flush(0.2)
        until(lambda: "redis 6.0.16 is too old: the outbox needs Redis 6.2 or newer, or Valkey" in caplog.text)
        assert sender.stats().handed_over == 0
        server.shutdown()
    assert [version_of({"redis_version": number}).supported for number in ("6.2.0", "7.0.15", "unknown")] == [True] * 3
    assert version_of({"redis_version": "5.0", "valkey_version": "9.1"}) == ("valkey", "9.1", True)


@pytest.mark.fleet
def test_a_cluster_keeps_each_lane_in_one_slot(api: LocalServer, closing: Closing) -> None:
    """Three nodes share the lanes; every script touches one slot."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--cluster-require-full-coverage", "no")
        servers = [stack.enter_context(redis_server(*options, below=55_000)) for _ in range(3)]
        for server, slots in zip(servers, (range(5461), range(5461, 10923), range(10923, 16384)), strict=True):
            assert asked(server, "CLUSTER", "ADDSLOTS", *map(str, slots)).startswith("+OK")
            asked(server, "CLUSTER", "SET-CONFIG-EPOCH", str(1 + servers.index(server)))
            assert asked(server, "CLUSTER", "MEET", "127.0.0.1", str(servers[0].port)).startswith("+OK")
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
            made = relay(api, outbox, closing)
            until(lambda: stored(api), {"question 2": ("completed", words(2))})
            made.stop(LONG)  # while there is a server to give lanes back to
            assert sender.shutdown(LONG)


def test_what_a_connection_imports_is_there_before_a_worker_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is forked amid an import on a worker would inherit its lock, and wait for ever."""
    imported: list[str] = []
    monkeypatch.setattr(codecs, "lookup", imported.append)
    joining.engine_of(parse("redis://localhost"))
    assert imported == ["idna"]


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
