"""`converra relay` and what belongs to it, with a real Redis server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from converra.cli import diagnosis
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.server.run import serve
from tests.cli.recorded import ran
from tests.delivery.harness import held, queue, said, turn, words
from tests.fleet.redis_server import PROGRAM, redis_server
from tests.patience import LONG, UNHURRIED, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer
    from tests.fleet.redis_server import RedisServer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="redis-server is not installed: apt-get install redis-server")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    with redis_server() as running:
        monkeypatch.setenv("CONVERRA_OUTBOX", running.url)
        yield running


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process that a failed test would wait for."""
    try:
        yield
    finally:
        process.kill()


def handed_over(server: LocalServer, redis: RedisServer) -> None:
    """Hand over two conversations, one with a message that the API rejects."""
    sender = Delivery(Config(api_key="k", base_url=server.base_url, outbox=redis.url, relay="none"))
    fine, bad = queue(sender, "fine"), queue(sender, "bad")
    fine.append(turn(1))
    fine.end()
    bad.append([said("user", "before"), said("user", "", metadata={"messageId": "empty"})])
    bad.append([said("assistant", "after", latency_ms=1.0)])
    bad.end()
    assert sender.flush(LONG)
    assert sender.shutdown(LONG)


@contextlib.contextmanager
def relaying(server: LocalServer) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A relay, and the port of its endpoints."""
    settings = {"CONVERRA_API_KEY": "k", "CONVERRA_BASE_URL": server.base_url, "CONVERRA_FLUSH_INTERVAL": "0.05"}
    command = [sys.executable, "-m", "converra", "relay", "--health-port", "0"]
    environ = os.environ | UNHURRIED | settings
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as relay, ending(relay):
        assert relay.stderr is not None
        yield relay, int(re.findall(r":(\d+)/metrics", relay.stderr.readline())[0])


def spans_for(port: int, key: str) -> httpx.Request:
    """A request of an exporter in another language: one call of a model, in a session."""

    def attribute(name: str, value: str) -> dict[str, Any]:
        return {"key": name, "value": {"stringValue": value}}

    def message(role: str, content: str) -> str:
        return json.dumps([{"role": role, "parts": [{"type": "text", "content": content}]}])

    span = {
        "traceId": "1" * 32,
        "spanId": "2" * 16,
        "name": "chat m",
        "kind": 3,
        "startTimeUnixNano": str(time.time_ns()),
        "endTimeUnixNano": str(time.time_ns()),
        "attributes": [
            attribute("gen_ai.operation.name", "chat"),
            attribute("gen_ai.request.model", "m"),
            attribute("gen_ai.conversation.id", "session-1"),
            attribute("gen_ai.input.messages", message("user", "Where is it?")),
            attribute("gen_ai.output.messages", message("assistant", "On its way.")),
        ],
    }
    body = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "go"}, "spans": [span]}]}]}
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Request("POST", f"http://127.0.0.1:{port}/v1/traces", json=body, headers=headers)


def test_a_relay_delivers_and_is_looked_after(server: LocalServer, redis: RedisServer) -> None:
    """It is healthy, measured, lists what was rejected, and ends well on SIGTERM; `retry` and `drop` do the rest."""
    handed_over(server, redis)
    assert json.loads(ran("relay", "status", "--json").stdout)["backlog"] == 2
    with relaying(server) as (relay, port):

        def asked(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return str(answer.read().decode())

        until(lambda: len(held(server)) == 2 and all(each.status == "completed" for each in held(server)))
        until(lambda: "converra_backlog_entries 0\n" in asked("/metrics"))
        shown = asked("/metrics")
        for line in ("delivered_total 4", "rejected_total 1", "dead_messages 1", "redis_up 1", "lanes_held 64"):
            assert f"converra_{line}\n" in shown
        health = json.loads(asked("/healthz"))
        assert (health["healthy"], health["lanes"]) == (True, list(range(64)))
        listed = json.loads(ran("relay", "dead", "list", "--json").stdout)
        assert [(each["id"], each["key"], each["message"]["content"]) for each in listed] == [("empty", "bad", "")]
        assert "Must not be empty" in ran("relay", "--outbox", redis.url, "dead", "list").stdout
        assert ran("relay", "dead", "retry", "empty").stdout == "1\tempty\n"
        until(lambda: "converra_rejected_total 2\n" in asked("/metrics"))  # it is as bad as before
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(LONG) == 0
        assert relay.stderr is not None
        assert relay.stderr.read().endswith("Ended: 4 messages delivered, 2 rejected\n")
    assert sorted([*words(1), "before", "after"]) == sorted(
        word for each in held(server) for word in each.words if not word.startswith("Conversation")
    )
    assert "0 of 64 lanes held by 0 relays\n0 entries wait" in ran("relay", "status").stdout
    assert ran("relay", "dead", "drop", "other").exit_code == 1
    assert ran("relay", "dead", "drop", "--all").stdout == "empty\n"
    assert ran("relay", "dead", "list").stdout == ""


@pytest.mark.usefixtures("redis")
def test_a_relay_takes_spans(server: LocalServer) -> None:
    """Those of an app in any language, under the relay's key; what has come is handed over before it ends."""
    with relaying(server) as (relay, port), httpx.Client(trust_env=False) as http:
        sent = [http.send(spans_for(port, key)).status_code for key in ("another", "k")]
        assert sent == [401, 200]
        until(lambda: [list(each.words) for each in held(server)] == [["Where is it?", "On its way."]])
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(LONG) == 0


def test_wrong_arguments_are_explained(redis: RedisServer) -> None:
    """With what to give instead."""
    wrong = {
        ("relay", "dead", "drop"): "give either IDs or --all",
        ("relay",): "set CONVERRA_API_KEY",
        ("relay", "--lanes", "3-1"): "'3-1' is no range such as 0-31",
        ("relay", "--outbox", "file"): "give --outbox redis://",
        (
            "relay",
            "status",
            "--outbox",
            "redis://127.0.0.1:1",
        ): "the outbox cannot be used: redis://127.0.0.1:1/0: Error",
    }
    for arguments, reason in wrong.items():
        ended = ran(*arguments)
        assert ended.exit_code != 0
        assert reason in ended.output


def test_the_doctor_examines_redis(server: LocalServer, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version, eviction, persistence, memory, lag; no password is shown."""
    monkeypatch.setattr(diagnosis, "trial", lambda: iter(()))
    monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
    monkeypatch.setenv("CONVERRA_API_KEY", "k")
    handed_over(server, redis)

    def reported(*arguments: str) -> dict[str, tuple[str, str]]:
        report = json.loads(ran("doctor", "--json", *arguments).stdout)
        return {each["name"]: (each["state"], each["said"]) for each in report["checks"] if each["group"] == "fleet"}

    found = reported()
    assert {name: state for name, (state, _) in found.items()} == {
        "version": "ok",
        "eviction": "ok",
        "persistence": "note",
        "memory": "ok",
        "lag": "note",
        "relays": "note",
    }
    assert found["lag"][1].startswith("2 entries wait")
    assert reported("--outbox", "mine")["outbox"] == ("bad", "'mine' is no URL such as redis://host")
    away = reported("--outbox", "redis://u:secret@127.0.0.1:1")
    assert away["server"][0] == "bad"
    assert "secret" not in str(away)
