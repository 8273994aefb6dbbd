"""`converra doctor`: what is set up, and whether it works."""

from __future__ import annotations

import click

from converra.cli.diagnosis import diagnose
from converra.cli.source import json_option


@click.command()
@click.option("--offline", is_flag=True, help="Ask the API nothing.")
@click.option(
    "--verbose", "-v", is_flag=True, help="Also list what is as expected: defaults, versions, recorded calls."
)
@click.option("--outbox", metavar="URL", help="Also check a fleet's Redis.  [default: $CONVERRA_OUTBOX, if it is one]")
@json_option
def doctor(*, offline: bool, verbose: bool, outbox: str | None, as_json: bool) -> None:
    """Check settings, key, versions and other instrumentations, and record a call of each shape.

    The calls go to the stand-in model and the recordings to a local API, both in this process; they need the extra
    `server`. The exit status is 1 if anything is bad.
    """
    raise SystemExit(diagnose(offline=offline, as_json=as_json, verbose=verbose, outbox=outbox))
