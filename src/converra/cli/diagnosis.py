"""The report of `converra doctor`. Needs no extra."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from converra.capture.console import in_colour, visible
from converra.cli import checks, fleet_checks
from converra.cli.trial import trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converra.cli.checks import Check

_COLOURS = {"ok": 32, "note": 33, "bad": 31}


def diagnose(*, offline: bool, as_json: bool, verbose: bool, outbox: str | None = None) -> int:
    """Make all checks, print them, and return the exit status: 1 if anything is bad."""
    found: list[Check] = []
    for check in _checks(offline=offline, outbox=outbox):
        if not as_json and (verbose or not _is_routine(check)):
            _print(check, first=check.group not in {each.group for each in found if verbose or not _is_routine(each)})
        found.append(check)
    bad = [check for check in found if check.state == "bad"]
    if as_json:
        report = {"ok": not bad, "checks": [check._asdict() for check in found]}
        _write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _conclude(found, bad, verbose=verbose)
    return 1 if bad else 0


def _checks(*, offline: bool, outbox: str | None) -> Iterator[Check]:
    environ = checks.environment()
    yield from checks.settings(environ)
    if not offline:
        yield from checks.api(environ)
    yield from fleet_checks.fleet(environ, outbox, offline=offline)
    yield from checks.versions()
    yield from checks.providers(environ)
    yield from checks.withheld()
    yield from trial()
    yield from checks.others()  # last: the trial has imported what others wrap


def _is_routine(check: Check) -> bool:
    """Return True for what is as expected: defaults, versions, and calls that were recorded."""
    if check.group == "versions":
        return check.state != "bad"
    return check.state == "ok" and (check.group == "capture" or "(default" in check.said)


def _print(check: Check, *, first: bool) -> None:
    if first:
        _write(f"\n{check.group}")
    state = f"{check.state:>4}"
    state = f"\x1b[{_COLOURS[check.state]}m{state}\x1b[0m" if in_colour(sys.stdout) else state
    _write(f"  {state}  {check.name}: {visible(check.said)}")


def _conclude(found: Sequence[Check], bad: Sequence[Check], *, verbose: bool) -> None:
    """Sum up what was not printed, and repeat what is bad: it is what to change."""
    hidden = Counter(check.group for check in found if not verbose and _is_routine(check))
    if hidden:
        _write(f"\nAs expected: {', '.join(f'{count} {group}' for group, count in hidden.items())} (-v lists them)")
    if not bad:
        _write("\nall well")
        return
    _write(f"\n{len(bad)} bad:")
    for check in bad:
        _write(f"  {check.name}: {visible(check.said)}")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
