"""The chaos panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from converra.server.faults.chaos import SWITCHES
from converra.server.faults.switches import Fault

if TYPE_CHECKING:
    from converra.server.run import LocalServer

HELLO = {"promptId": "p", "content": "User: Hello"}


def turn(server: LocalServer, origin: str | None = None, **form: str) -> httpx.Response:
    return httpx.post(f"{server.url}/chaos", data=form, headers={"Origin": origin or server.url})


def test_a_switch_sets_a_fault(server: LocalServer, http: httpx.Client) -> None:
    """Where, how often and for which share of the requests; the panel shows it, and one button ends it."""
    answer = turn(server, action="add", fault="429", endpoint="create", times="3", share="100")
    assert (answer.status_code, answer.headers["location"]) == (303, "/chaos")
    (armed,) = server.faults.armed()
    assert (armed.fault, armed.times, armed.share) == (
        Fault("create", "status", "before", 429, {"Retry-After": "1"}),
        3,
        1.0,
    )
    refused = http.post("/conversations", json=HELLO)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    text = httpx.get(f"{server.url}/chaos").text
    for shown in ("1 on", '<span class="badge bad">429</span> create', "2 more times", "status: create", "1 ×"):
        assert shown in text
    turn(server, action="clear")
    assert server.faults.armed() == []
    assert http.post("/conversations", json=HELLO).status_code == 200


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_works(server: LocalServer, name: str) -> None:
    """Each is on the panel, and is a fault of the server."""
    assert f'value="{name}"' in httpx.get(f"{server.url}/chaos").text
    turn(server, action="add", fault=name, times="always", share="20")
    (armed,) = server.faults.armed()
    assert (armed.fault.endpoint, armed.fault.kind, armed.times, armed.share) == ("any", SWITCHES[name].kind, None, 0.2)
    assert "until switched off, 20% of requests" in httpx.get(f"{server.url}/chaos").text


def test_one_fault_can_be_switched_off(server: LocalServer) -> None:
    """The others stay; one that is off already, or nonsense, changes nothing."""
    for name in ("429", "500"):
        turn(server, action="add", fault=name)
    first, second = server.faults.armed()
    for number in (str(first.number), str(first.number), "x"):
        assert turn(server, action="off", number=number).status_code == 303
    assert server.faults.armed() == [second]


def test_odd_servers_can_be_played(server: LocalServer, http: httpx.Client) -> None:
    """One that shows no messages, one that does not know a status; and back."""
    turn(server, action="answers", hide="on", refuse="on")
    assert (server.faults.hide_messages, server.faults.refused_statuses) == (True, frozenset({"active"}))
    assert http.post("/conversations", json=HELLO | {"status": "active"}).status_code == 400
    turn(server, action="answers")
    assert (server.faults.hide_messages, server.faults.refused_statuses) == (False, frozenset())


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_another_sites_page_turns_nothing(server: LocalServer, origin: str) -> None:
    """The form is ours alone."""
    assert turn(server, origin, action="add", fault="hang").status_code == 403
    assert httpx.post(f"{server.url}/chaos", headers={"Host": "evil.example"}).status_code == 403
    assert server.faults.armed() == []


@pytest.mark.parametrize(
    "form",
    [{}, {"action": "add"}, {"action": "add", "fault": "429", "endpoint": "all"}, {"action": "x", "fault": "429"}],
)
def test_nonsense_is_refused(server: LocalServer, form: dict[str, str]) -> None:
    """And changes nothing."""
    assert turn(server, **form).status_code == 400
    assert server.faults.armed() == []
