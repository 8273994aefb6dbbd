"""The URL of a fleet's outbox: every form that is documented, and what is said about the others."""

from __future__ import annotations

import re
import sys

import pytest

import converra
from converra.config import Config
from converra.delivery.fleet.url import FleetURL, Kind, parse

pytestmark = pytest.mark.without_redis

FORMS = {
    "redis://cache": FleetURL(kind=Kind.SINGLE, tls=False, hosts=(("cache", 6379),)),
    "rediss://app:s%40crt@cache:6380/2?ssl_ca_certs=/ca.pem": FleetURL(
        kind=Kind.SINGLE,
        tls=True,
        hosts=(("cache", 6380),),
        database=2,
        username="app",
        password="s@crt",
        options={"ssl_ca_certs": "/ca.pem"},
    ),
    "redis://:pw@[::1]:7000?spill=/var/lib/a%20b.db&prefix=team-a&lanes=16&limit=300": FleetURL(
        kind=Kind.SINGLE,
        tls=False,
        hosts=(("::1", 7000),),
        password="pw",
        spill="/var/lib/a b.db",
        prefix="team-a",
        lanes=16,
        limit=300,
    ),
    "redis+socket:///run/redis.sock?db=3": FleetURL(
        kind=Kind.SOCKET, tls=False, hosts=(), path="/run/redis.sock", database=3
    ),
    "rediss+sentinel://u:p@s1,s2:26380/main/1?sentinel_password=q": FleetURL(
        kind=Kind.SENTINEL,
        tls=True,
        hosts=(("s1", 26379), ("s2", 26380)),
        path="main",
        database=1,
        username="u",
        password="p",
        options={"sentinel_password": "q"},
    ),
    "redis+cluster://n1:7001,n2": FleetURL(kind=Kind.CLUSTER, tls=False, hosts=(("n1", 7001), ("n2", 6379))),
}

WRONG = {
    "redis://": "a host is missing",
    "redis://host:port": "Port could not be cast to integer value as 'port'",
    "redis://a,b": "several hosts need redis+sentinel:// or redis+cluster://",
    "redis://host/x": "the database is 'x', expected a number from 0 to 10000",
    "redis://host?lanes=0": "lanes is '0', expected a number from 1 to 4096",
    "redis://host?spill=": "the option spill has no value",
    "redis://host?ssl_ca_certs=x": "the option ssl_ca_certs is unknown here; known are spill, prefix, lanes, limit",
    "redis://host?prefix={x}": "the prefix may have letters, digits and _ . : -",
    "redis+socket://": "the path of the socket is missing",
    "redis+sentinel://host": "the name of the sentinels' service is missing, as in redis+sentinel://host/service",
    "redis+cluster://host/3": "a cluster has no database but 0",
    "redis+http://host": "the scheme is unknown",
}


def test_every_documented_form_is_read() -> None:
    """Single servers, sockets, sentinels and clusters, with TLS, ACL users and options; no `repr` has a password."""
    assert {url: parse(url) for url in FORMS} == FORMS
    shown = [repr(parse(url)) for url in FORMS]
    assert shown[1] == "FleetURL('rediss://cache:6380/2')"
    assert not re.search("s@crt|pw|'p'", "".join(shown))


def test_a_url_that_cannot_work_is_refused_at_once() -> None:
    """By `instrument()`, with the reason, the forms that there are, and without the password."""
    for url, reason in WRONG.items():
        with pytest.raises(converra.InvalidArgumentError, match=re.escape(reason)):
            converra.instrument(outbox=url)
    with pytest.raises(
        converra.InvalidArgumentError, match=r"^outbox is 'postgres://u:.*@h', expected a file path"
    ) as e:
        converra.instrument(outbox="postgres://u:secret@h")
    assert "secret" not in str(e.value)
    with pytest.raises(converra.InvalidArgumentError) as e:
        converra.instrument(outbox="redis://u:secret@h/x")
    assert "secret" not in str(e.value)
    assert "secret" not in repr(Config(outbox="redis+sentinel://u:secret@h/s?sentinel_password=secret"))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(converra.InvalidArgumentError, match=re.escape('pip install "converra[redis]"')):
        converra.instrument(outbox="redis://host")
