"""`converra doctor`: what is set up, and whether it works."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from converra.capture.console import in_colour, visible
from converra.cli import checks
from converra.cli.output import print_json
from converra.cli.source import json_option
from converra.cli.trial import trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.cli.checks import Check

_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


@click.command()
@click.option("--offline", is_flag=True, help="Ask the API nothing.")
@json_option
def doctor(*, offline: bool, as_json: bool) -> None:
    """Check settings, key, versions and other instrumentations, and record a call of each shape.

    The calls go to the stand-in model and the recordings to a local API, both in this process. The exit status is 1 if
    anything is bad.
    """
    found: list[Check] = []
    for check in _checks(offline=offline):
        if not as_json:
            _print(check, first=not found or found[-1].group != check.group)
        found.append(check)
    bad = sum(check.state == "bad" for check in found)
    if as_json:
        print_json({"ok": not bad, "checks": [check._asdict() for check in found]})
    else:
        click.echo(f"\n{f'{bad} bad' if bad else 'all well'}")
    if bad:
        raise SystemExit(1)


def _checks(*, offline: bool) -> Iterator[Check]:
    environ = checks.environment()
    yield from checks.settings(environ)
    if not offline:
        yield from checks.api(environ)
    yield from checks.versions()
    yield from checks.providers()
    yield from trial()
    yield from checks.others()  # last: the trial has imported what others wrap


def _print(check: Check, *, first: bool) -> None:
    if first:
        click.echo(f"\n{check.group}")
    state = f"{check.state:>4}"
    state = click.style(state, fg=_COLOURS[check.state]) if in_colour(sys.stdout) else state
    click.echo(f"  {state}  {check.name}: {visible(check.said)}")
