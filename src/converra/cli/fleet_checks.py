"""The checks of `converra doctor` for a fleet's Redis."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from converra import config
from converra.cli.checks import Check
from converra.delivery.fleet import joining
from converra.delivery.fleet.engine import AwayError
from converra.delivery.fleet.server_version import version_of
from converra.delivery.fleet.url import parse
from converra.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.cli.checks import State
    from converra.delivery.fleet.engine import LaneState

LATE_SECONDS = 300.0
"""Age of the oldest waiting entry from which the fleet counts as late."""

_MIB = 1024 * 1024


def fleet(environ: Mapping[str, str], outbox: str | None, *, offline: bool) -> Iterator[Check]:
    """Check version, eviction, persistence, memory and backlog of a Redis server, if the outbox is one."""
    url = outbox or environ.get("CONVERRA_OUTBOX", "").strip()
    if outbox is not None and not config.is_fleet(outbox):
        yield Check("fleet", "outbox", "bad", f"{config.without_password(outbox)!r} is no URL such as redis://host")
    if not config.is_fleet(url) or offline:
        return
    try:
        with closing(joining.engine_of(parse(url))) as engine:
            about = engine.about()
            yield from _server(about)
            yield from _work(engine.state(), engine.count("relays"))
    except (AwayError, InvalidArgumentError) as error:
        yield Check("fleet", "server", "bad", str(error))


def _server(about: Mapping[str, Any]) -> Iterator[Check]:
    version = version_of(about)
    yield Check("fleet", "version", "ok" if version.supported else "bad", str(version))
    policy, most = str(about.get("maxmemory_policy", "unknown")), int(about.get("maxmemory", 0))
    evicts = f"{policy}: undelivered turns may be evicted; set maxmemory-policy noeviction"
    state: State = "ok" if policy == "noeviction" else "bad" if most else "note"
    yield Check("fleet", "eviction", state, policy if policy == "noeviction" else evicts)
    if about.get("aof_enabled"):
        yield Check("fleet", "persistence", "ok", "an append-only file")
    else:
        lost = "no append-only file: a restart loses turns that wait; set appendonly yes"
        yield Check("fleet", "persistence", "note", lost)
    used = int(about.get("used_memory", 0))
    share = f"{used / _MIB:.0f} MiB of {most / _MIB:.0f} MiB" if most else f"{used / _MIB:.0f} MiB, no limit set"
    yield Check("fleet", "memory", "bad" if most and used > most * 0.9 else "ok", share)


def _work(lanes: list[LaneState], relays: int) -> Iterator[Check]:
    backlog, oldest = sum(lane.entries for lane in lanes), max(lane.oldest for lane in lanes)
    held, dead = sum(lane.held for lane in lanes), sum(lane.dead for lane in lanes)
    state: State = "note" if backlog and (oldest > LATE_SECONDS or not held) else "ok"
    yield Check("fleet", "lag", state, f"{backlog} entries wait, the oldest for {oldest:.0f} s")
    yield Check("fleet", "relays", "ok" if relays else "note", f"{relays}, which hold {held} of {len(lanes)} lanes")
    if dead:
        yield Check("fleet", "dead", "note", f"{dead} messages: converra relay dead list")
