"""`converra relay`: sends what the processes of a fleet have handed over to Redis; and commands to look after it."""

from __future__ import annotations

import signal
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import click

from converra import config
from converra.cli import relay_app
from converra.cli.output import print_json
from converra.cli.relay_spans import HandedOverSpans
from converra.cli.source import json_option
from converra.cli.wording import plural
from converra.delivery.fleet import dead as messages
from converra.delivery.fleet import joining
from converra.delivery.fleet.engine import AwayError
from converra.delivery.fleet.url import FleetURL, parse
from converra.errors import MissingAPIKeyError
from converra.server.run import LOOPBACK, listen

if TYPE_CHECKING:
    from typing import Any

    from converra.delivery.fleet.redis_engine import RedisEngine

HEALTH_PORT = 8099


_outbox_option = click.option("--outbox", metavar="URL", help="The fleet's Redis.  [default: as of `converra relay`]")


def _url(outbox: str | None) -> FleetURL:
    if not config.is_fleet(outbox):
        raise click.UsageError("give --outbox redis://…, or set CONVERRA_OUTBOX to it")
    return parse(outbox or "")


def _range(_context: click.Context, _option: click.Parameter, given: str | None) -> range | None:
    """Read `a-b`, both included, or one number."""
    if given is None:
        return None
    first, _, last = given.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first)):
        raise click.BadParameter(f"{given!r} is no range such as 0-31")
    return range(int(first), int(last or first) + 1)


@click.group(invoke_without_command=True)
@click.option(
    "--outbox", metavar="URL", envvar="CONVERRA_OUTBOX", help="The fleet's Redis.  [default: $CONVERRA_OUTBOX]"
)
@click.option("--lanes", metavar="A-B", callback=_range, help="Send from these lanes alone.  [default: a fair share]")
@click.option(
    "--health-port", type=click.IntRange(0, 65535), default=HEALTH_PORT, show_default=True, help="0 takes a free one."
)
@click.option("--health-host", metavar="ADDRESS", default=LOOPBACK, show_default=True, help="0.0.0.0 in a container.")
@click.pass_context
def relay(
    context: click.Context, *, outbox: str | None, lanes: range | None, health_port: int, health_host: str
) -> None:
    """Send what a fleet has handed over to Redis, until SIGTERM. Any number of relays share the lanes.

    Key, URL and other settings are read from the environment, as in an app. `/healthz` and `/metrics` are served at
    the health port, and spans of OpenTelemetry are taken at `/v1/traces` and `/v1/logs`, under the API key.
    """
    context.obj = outbox
    if context.invoked_subcommand is not None:
        return
    url = _url(outbox)
    settings = config.load({"outbox": outbox})
    if settings.api_key_now() is None:
        raise MissingAPIKeyError("set CONVERRA_API_KEY: a relay sends with it")
    sender = joining.relay_of(settings, url, lanes=lanes)
    listener = listen(health_port, health_host)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again once all is closed: end well
    click.echo(f"Relaying {url.shown}; http://{health_host}:{listener.getsockname()[1]}/metrics", err=True)
    with suppress(KeyboardInterrupt):
        relay_app.serve(sender, HandedOverSpans(settings), listener, settings.shutdown_timeout)
    counted = sender.counters
    click.echo(f"Ended: {counted.delivered} messages delivered, {counted.rejected} rejected", err=True)


class _Away(click.ClickException):
    """Redis cannot be reached."""

    def __init__(self, error: AwayError) -> None:
        super().__init__(f"the outbox cannot be used: {error}")


def _engine(context: click.Context, outbox: str | None) -> RedisEngine:
    """Make the engine of a command, whose option may also stand before the command's name."""
    return joining.engine_of(_url(outbox or context.obj))


@relay.command()
@_outbox_option
@json_option
@click.pass_context
def status(context: click.Context, *, outbox: str | None, as_json: bool) -> None:
    """Show backlog, oldest turn, dead messages, relays and lanes."""
    with closing(_engine(context, outbox)) as engine:
        try:
            lanes, relays = engine.state(), engine.count("relays")
        except AwayError as error:
            raise _Away(error) from error
    figures = {
        "lanes": len(lanes),
        "lanesHeld": sum(lane.held for lane in lanes),
        "relays": relays,
        "backlog": sum(lane.entries for lane in lanes),
        "oldestSeconds": round(max(lane.oldest for lane in lanes), 3),
        "dead": sum(lane.dead for lane in lanes),
        "delivered": sum(lane.counts.get("delivered", 0) for lane in lanes),
        "rejected": sum(lane.counts.get("rejected", 0) for lane in lanes),
    }
    if as_json:
        print_json(figures)
        return
    click.echo(f"{figures['lanesHeld']} of {len(lanes)} lanes held by {plural(relays, 'relay')}")
    click.echo(f"{figures['backlog']} entries wait, the oldest for {figures['oldestSeconds']} s")
    click.echo(f"{figures['delivered']} messages delivered, {figures['rejected']} rejected, {figures['dead']} dead")


@relay.group()
def dead() -> None:
    """List, retry and drop messages that the API rejected."""


@dead.command("list")
@_outbox_option
@json_option
@click.pass_context
def list_(context: click.Context, *, outbox: str | None, as_json: bool) -> None:
    """List messages that the API rejected, with the reasons."""
    with closing(_engine(context, outbox)) as engine:
        found = _found(engine, ())
    if as_json:
        print_json([_shown(each) for each in found])
        return
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(each.message.at))
        click.echo(f"{each.id}\t{when}\t{each.message.prompt_id}\t{each.message.key}\t{each.message.reason}")


@dead.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead messages.")
@_outbox_option
@click.pass_context
def retry(context: click.Context, *, ids: tuple[str, ...], everything: bool, outbox: str | None) -> None:
    """Send messages again: the API accepts them now."""
    with closing(_engine(context, outbox)) as engine:
        for count, each in enumerate(_chosen(engine, ids, everything=everything), 1):
            try:
                messages.retry(engine, each)
            except AwayError as error:
                raise _Away(error) from error
            except messages.UnreadableError as error:
                raise click.ClickException(str(error)) from error
            click.echo(f"{count}\t{each.id}")


@dead.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead messages.")
@_outbox_option
@click.pass_context
def drop(context: click.Context, *, ids: tuple[str, ...], everything: bool, outbox: str | None) -> None:
    """Delete messages for good."""
    with closing(_engine(context, outbox)) as engine:
        for each in _chosen(engine, ids, everything=everything):
            engine.bury(each.lane, [each.id])
            click.echo(each.id)


def _chosen(engine: RedisEngine, ids: tuple[str, ...], *, everything: bool) -> list[messages.Dead]:
    if bool(ids) == everything:
        raise click.UsageError("give either IDs or --all")
    found = _found(engine, ids)
    missing = sorted(set(ids) - {each.id for each in found})
    if missing:
        raise click.ClickException(f"no dead message has the id {', '.join(missing)}")
    return found


def _found(engine: RedisEngine, ids: tuple[str, ...]) -> list[messages.Dead]:
    try:
        return sorted(messages.find(engine, ids), key=lambda each: each.message.at)
    except AwayError as error:
        raise _Away(error) from error


def _shown(each: messages.Dead) -> dict[str, Any]:
    message = each.message
    return {
        "id": each.id,
        "at": message.at,
        "promptId": message.prompt_id,
        "key": message.key,
        "reason": message.reason,
        "message": message.message(),
    }
