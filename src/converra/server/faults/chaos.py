"""The chaos panel: switches the faults of the running server, so that an app can be watched while its API fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route

from converra.server.api.refusal import Refusal
from converra.server.viewer.pages import faults_of, number, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.faults.switches import Armed, Faults


class Switch(NamedTuple):
    """One row of the panel: a fault as `Faults.add` takes it."""

    label: str
    effect: str
    kind: Any
    options: Mapping[str, Any]


SWITCHES = {
    "429": Switch("429", "too many requests, try again in a second", "status", {"status": 429}),
    "500": Switch("500", "an error, nothing stored", "status", {"status": 500}),
    "502": Switch("502 after storing", "stored, and answered as if not", "status", {"status": 502, "when": "after"}),
    "503": Switch("503", "unavailable", "status", {"status": 503}),
    "413": Switch("413", "too large, whatever the size", "status", {"status": 413}),
    "401": Switch("401", "the key is refused", "status", {"status": 401}),
    "drop-before": Switch("Drop before", "connection reset, nothing stored", "reset", {}),
    "drop-after": Switch("Drop after", "stored, then the connection is reset", "reset", {"when": "after"}),
    "hang": Switch("Hang", "no answer, for as long as the client waits", "hang", {}),
    "slow": Switch("Slow", "the answer comes after two seconds", "delay", {"seconds": 2.0}),
    "unreadable": Switch("Unreadable", "stored, and answered with a 200 that is no JSON", "unreadable", {}),
}
ENDPOINTS = {
    "any": "any request",
    "create": "create",
    "append": "append",
    "complete": "append that completes",
    "read": "read",
}
TIMES = {"1": "once", "3": "3 times", "10": "10 times", "always": "until switched off"}
SHARES = {"100": "each request", "50": "one in two", "20": "one in five", "5": "one in twenty"}


def routes() -> list[BaseRoute]:
    """The panel and its switches; the gate lets no other site's page turn them."""
    return [Route("/chaos", panel), Route("/chaos", switch, methods=["POST"])]


async def panel(request: Request) -> Response:
    """Build the page's data: the active faults and the available ones."""
    faults = faults_of(request)
    return render(
        request,
        "chaos.html",
        switches=SWITCHES,
        endpoints=ENDPOINTS,
        times=TIMES,
        shares=SHARES,
        on=[(each, _how_often(each)) for each in faults.armed()],
        fired=sorted(faults.fired.items()),
        faults=faults,
    )


def _how_often(armed: Armed) -> str:
    times = TIMES["always"] if armed.times is None else "once more" if armed.times == 1 else f"{armed.times} more times"
    return times if armed.share == 1 else f"{times}, {armed.share:.0%} of requests"


async def switch(request: Request) -> Response:
    """Turn one switch, and show the panel as it is then."""
    async with request.form(max_files=0, max_fields=10) as form:
        _ACTIONS.get(str(form.get("action")), _unknown)(faults_of(request), form)
    return RedirectResponse("/chaos", 303)


def _add(faults: Faults, form: FormData) -> None:
    row, endpoint = SWITCHES.get(str(form.get("fault"))), str(form.get("endpoint", "any"))
    if row is None or endpoint not in ENDPOINTS:
        raise Refusal(400, "VALIDATION_ERROR", "No such fault")
    times = str(form.get("times", "1"))
    headers = {"Retry-After": "1"} if row.label == "429" else None
    faults.add(
        endpoint,  # type: ignore[arg-type] # one of ENDPOINTS
        row.kind,
        times=None if times == "always" else number(times),
        share=min(number(str(form.get("share", "100"))), 100) / 100,
        headers=headers,
        **row.options,
    )


def _answers(faults: Faults, form: FormData) -> None:
    faults.hide_messages = "hide" in form
    faults.refused_statuses = frozenset({"active"} if "refuse" in form else ())


def _off(faults: Faults, form: FormData) -> None:
    faults.disarm(number(str(form.get("number")), least=0))


def _clear(faults: Faults, _form: FormData) -> None:
    faults.clear()


def _unknown(_faults: Faults, _form: FormData) -> None:
    raise Refusal(400, "VALIDATION_ERROR", "No such action")


_ACTIONS = {"add": _add, "answers": _answers, "off": _off, "clear": _clear}
