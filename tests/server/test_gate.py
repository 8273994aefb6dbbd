"""Who may talk to the local server."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from converra.server.gate import COOKIE
from converra.server.run import EVERYWHERE, address, listen, run, serve
from converra.server.store.conversations import Store

if TYPE_CHECKING:
    from converra.server.run import LocalServer

HELLO = {"promptId": "p", "content": "User: Hello"}


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", ""]
)
@pytest.mark.parametrize("path", ["/", "/api/v1/conversations", "/openai/v1/responses/x", "/static/viewer.css"])
def test_only_a_loopback_name_is_answered(server: LocalServer, host: str, path: str) -> None:
    """A DNS name that was turned to this machine gets nothing, on no path."""
    answer = httpx.get(f"{server.url}{path}", headers={"Host": host, "Authorization": "Bearer k"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8787", "127.0.0.1", "127.0.0.53:1", "[::1]:8787"])
def test_every_loopback_name_is_answered(server: LocalServer, host: str) -> None:
    """By whichever name and port a browser reached it."""
    assert httpx.get(server.url, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null", "http://[", ""])
def test_another_sites_page_cannot_write(server: LocalServer, origin: str) -> None:
    """Not even with a key: a state-changing request from another origin is refused."""
    headers = {"Authorization": "Bearer k", "Origin": origin}
    answer = httpx.post(f"{server.base_url}/conversations", json=HELLO, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert server.store.conversations()[1] == 0


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_of_another_sites_page_only_a_link_is_followed(server: LocalServer, site: str) -> None:
    """Neither its scripts nor its pictures and frames see whether something is there; another port is another site."""
    paths = ("/", "/live", "/static/viewer.css", "/api/v1/openapi.json", "/conversations/x/export/json")

    def get(path: str, mode: str) -> int:
        return httpx.get(f"{server.url}{path}", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}).status_code

    assert {get(path, mode) for path in paths for mode in ("no-cors", "cors", "websocket")} == {403}
    assert get("/", "navigate") == 200
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert httpx.post(f"{server.url}/chaos", data={"action": "clear"}, headers=headers).status_code == 403
    for ours in ("same-origin", "none"):
        headers = {"Sec-Fetch-Site": ours, "Sec-Fetch-Mode": "cors", "Origin": server.url}
        assert httpx.post(f"{server.url}/chaos", data={"action": "clear"}, headers=headers).status_code == 303


def test_with_a_token_only_who_brings_it_is_answered() -> None:
    """An app as its key, whatever name it came by; nobody else, on no path."""
    with serve(token="open-sesame") as server:
        by_name = {"Host": "devbox:8787"}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}=wrong"}, {"api-key": ""}):
            for path in (
                "/",
                "/live",
                "/chaos",
                "/static/viewer.css",
                "/api/v1/conversations",
                "/openai/v1/responses/x",
            ):
                answer = httpx.get(f"{server.url}{path}", headers=by_name | headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")
        for key in ({"Authorization": "Bearer open-sesame"}, {"api-key": "open-sesame"}):
            answer = httpx.get(f"{server.url}/openai/v1/responses/x", headers=by_name | key)
            assert answer.status_code == 404
        headers = by_name | {"Authorization": "Bearer open-sesame", "Origin": "https://evil.example"}
        assert httpx.post(f"{server.base_url}/conversations", json=HELLO, headers=headers).status_code == 403


def test_a_browser_brings_the_token_once() -> None:
    """In the address, which it then loses; a cookie that no script and no other site sees has it from then on."""
    with serve(token="open-sesame") as server, httpx.Client(base_url=server.url) as browser:
        assert browser.get("/?token=wrong").status_code == 401
        entered = browser.get("/?q=a&token=open-sesame")
        assert (entered.status_code, entered.headers["location"]) == (303, "/?q=a")
        assert entered.headers["set-cookie"] == f"{COOKIE}=open-sesame; HttpOnly; Path=/; SameSite=strict"
        assert browser.get("/").status_code == 200
        assert browser.get("/api/v1/conversations").status_code == 401
        browser.cookies.clear()
        assert httpx.get(f"{server.url}//evil.example/?token=open-sesame").headers["location"] == "/evil.example/"
        assert browser.post("/chaos?token=open-sesame").status_code == 401


BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


def test_a_browser_is_told_in_words(server: LocalServer) -> None:
    """Unknown pages, refused names and methods are pages for a browser, and JSON for a program."""
    for path, headers, status, words in (
        ("/nope<b>", {}, 404, "There is no such page"),
        ("/", {"Host": "evil.example"}, 403, "This page is refused"),
    ):
        shown = httpx.get(f"{server.url}{path}", headers=BROWSER | headers)
        assert (shown.status_code, shown.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert f"<title>{words} · converra</title>" in shown.text
        assert ("<b>" in shown.text, "default-src 'none'" in shown.headers["content-security-policy"]) == (False, True)
        assert httpx.get(f"{server.url}{path}", headers=headers).json()["error"]["code"] in ("NOT_FOUND", "FORBIDDEN")
    assert httpx.post(f"{server.url}/live", headers=BROWSER).status_code == 405
    assert httpx.get(f"{server.base_url}/nope", headers=BROWSER).json()["error"]["code"] == "NOT_FOUND"


def test_a_browser_without_the_token_can_enter_it() -> None:
    """The page asks for it, and shows nothing else; its form leads where the printed address does."""
    with serve(token="open-sesame") as server, httpx.Client(base_url=server.url, headers=BROWSER) as browser:
        asked = browser.get("/requests")
        assert (asked.status_code, 'name="token"' in asked.text, "sesame" in asked.text) == (401, True, False)
        assert browser.get("/", params={"token": "open-sesame"}).status_code == 303
        assert browser.get("/requests").status_code == 200


def test_the_icon_has_its_old_name_too(server: LocalServer) -> None:
    """Browsers ask for it on pages that name none, such as JSON."""
    icon = httpx.get(f"{server.url}/favicon.ico", follow_redirects=True)
    assert (icon.status_code, icon.headers["content-type"].partition(";")[0]) == (200, "image/svg+xml")


def test_other_machines_need_a_token() -> None:
    """A socket that they reach is not served without one."""
    with contextlib.closing(listen(0, EVERYWHERE)) as listener, contextlib.closing(Store()) as store:
        assert address(listener) == f"http://{socket.gethostname()}:{listener.getsockname()[1]}"
        with pytest.raises(ValueError, match="only with a token"):
            run(store, listener)


def test_our_own_pages_may_write(server: LocalServer) -> None:
    """The origin of the server itself passes."""
    headers = {"Authorization": "Bearer k", "Origin": server.url}
    assert httpx.post(f"{server.base_url}/conversations", json=HELLO, headers=headers).status_code == 200
