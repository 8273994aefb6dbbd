"""Deleting conversations in the viewer."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import httpx

from converra.server.viewer import forget_page
from tests.server.test_viewer import conversation

if TYPE_CHECKING:
    import pytest

    from converra.server.run import LocalServer


def got(server: LocalServer, path: str) -> str:
    answer = httpx.get(f"{server.url}{path}")
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def fields(text: str) -> dict[str, str]:
    """The hidden fields of the form that deletes."""
    form = text.partition('<form method="post" action="/forget"')[2].partition("</form>")[0]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


def sent(server: LocalServer, form: dict[str, str], **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/forget", data=form, headers={"Origin": server.url} | headers)


def left(server: LocalServer) -> set[str]:
    return {each.id for each in server.store.conversations()[0]}


def test_one_is_deleted_after_a_question(server: LocalServer, http: httpx.Client) -> None:
    """Its page leads to a confirmation that names it and what goes with it; asking alone deletes nothing."""
    gone, stays = (conversation(http, content=f"User: {word} <b>") for word in ("Marzipan", "Nougat"))
    (path,) = re.findall(r'href="(/forget\?[^"]*)"', got(server, f"/conversations/{gone}"))
    asked = got(server, path)
    for shown in ("Delete 1 conversation?", "Marzipan", "the whole log of requests", f'href="/conversations/{gone}"'):
        assert shown in asked
    assert "Nougat" not in asked
    assert left(server) == {gone, stays}
    answer = sent(server, fields(asked))
    assert (answer.status_code, answer.headers["location"]) == (303, "/?deleted=1")
    assert "1 conversation deleted." in got(server, "/?deleted=1")
    assert left(server) == {stays}
    assert not server.store.log.lines(10)
    assert httpx.get(f"{server.url}/conversations/{gone}").status_code == 404
    assert "Marzipan" not in got(server, "/?q=marzipan").partition('id="list"')[2]


def test_some_of_a_list_can_be_chosen(server: LocalServer, http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are ticked, or all that match its filters, however many; what came later stays."""
    monkeypatch.setattr(forget_page, "NAMED", 2)
    parcels = [conversation(http, content=f"User: parcel {number}", promptId="p & q") for number in range(4)]
    others = [conversation(http, content="User: other") for _ in range(2)]
    (path,) = re.findall(r'href="(/forget[^"]*)"', got(server, "/?q=parcel&prompt=p+%26+q"))
    offered = got(server, path)
    assert re.findall(r'name="id" value="(\w+)"', offered) == parcels[::-1]
    assert "Delete all 4…" in offered
    assert sent(server, fields(got(server, f"/forget?id={parcels[0]}&id={others[0]}&id=gone"))).status_code == 303
    assert left(server) == {*parcels[1:], others[1]}
    asked = got(server, f"{path}&all=yes")
    for shown in ("Delete 3 conversations?", "parcel 3", "parcel 2", "and 1 more"):
        assert shown in asked
    later = conversation(http, content="User: parcel later", promptId="p & q")
    form = fields(asked)
    assert sent(server, form).headers["location"] == "/?deleted=3"
    assert left(server) == {others[1], later}
    assert sent(server, form).headers["location"] == "/?deleted=0"
    again = conversation(http, content="User: has one of their numbers, maybe")
    assert sent(server, form | {"numbers": "1-999999"} | {"seen": "1"}).headers["location"] == "/?deleted=0"
    assert left(server) == {others[1], later, again}


def test_only_our_own_form_deletes(server: LocalServer, http: httpx.Client) -> None:
    """Pages of other sites do not, nor a form without conversations; a link never leads to another host."""
    made = conversation(http)
    asked = got(server, f"/forget?id={made}&back=//evil.example")
    form = fields(asked)
    assert '<a class="button" href="/">Cancel</a>' in asked
    assert sent(server, form, Origin="https://evil.example").status_code == 403
    assert sent(server, form, **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 403
    for wrong in ({}, {"numbers": ""}, {"numbers": "x"}, {"numbers": "1-"}, {"seen": "now"}, {"seen": ""}):
        assert sent(server, form | wrong if wrong else {}).status_code == 400
    assert httpx.get(f"{server.url}/forget?id=none").status_code == 404
    assert left(server) == {made}


def test_ranges_name_exact_numbers() -> None:
    """In few characters, and back again; nonsense names none."""
    assert forget_page.packed([9, 4, 3, 5, 11, 12]) == "3-5 9 11-12"
    assert forget_page.unpacked("3-5 9 11-12") == [(3, 5), (9, 9), (11, 12)]
    assert [forget_page.unpacked(text) for text in ("", "3-", "a 4", "1-2-3", "٣")] == [[], [], [], [], []]
