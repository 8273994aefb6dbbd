"""Times as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_AGE = re.compile(r"(\d+)\s*(min|m|h|d|w)")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Read an age such as `30m`, `2h`, `3d` or `1w`, or an ISO date or time; without a zone it is a local time."""
    if value is None:
        return None
    try:
        return _moment(value.strip(), datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{value!r} is neither an age such as 30m, 2h, 3d or 1w nor a date such as 2026-05-01"
        ) from error


def _moment(text: str, now: datetime) -> datetime:
    age = _AGE.fullmatch(text.lower())
    if age:
        return now - int(age[1]) * _UNITS[age[2][0]]
    return datetime.fromisoformat(text).astimezone()
