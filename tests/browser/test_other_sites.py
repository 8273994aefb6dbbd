"""What the page of another site can do to the local server from a browser on this machine: nothing."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_list import conversation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from playwright.sync_api import BrowserContext, Page

    from converra.server.run import LocalServer

ASK = """async ({url, found}) => {
    const outcome = async (asked) => { try { return await asked(); } catch (error) { return error.name; } };
    const loaded = (kind, path) => outcome(() => new Promise((resolve) => {
        const element = document.createElement(kind);
        element.onload = () => resolve("loaded");
        element.onerror = () => resolve("refused");
        element.src = url + path;
        document.body.append(element);
    }));
    const body = new URLSearchParams({action: "add", fault: "429", times: "always"});
    return {
        read: await outcome(async () => (await fetch(url + "/conversations/" + found)).text()),
        post: await outcome(async () => (await fetch(url + "/chaos", {method: "POST", body})).text()),
        script: await loaded("script", "/static/viewer.js"),
        picture: await loaded("img", "/static/icon.svg"),
        live: await outcome(() => new Promise((resolve) => {
            const stream = new EventSource(url + "/live");
            stream.onopen = () => resolve("open");
            stream.onerror = () => resolve("refused");
        })),
    };
}"""


class Site(BaseHTTPRequestHandler):
    """Another site: one page, on another port."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<p>evil</p>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the library
        """Says nothing."""


@pytest.fixture
def elsewhere(context: BrowserContext) -> Iterator[Page]:
    """A page of another site on loopback, which no rule of the browser about private networks keeps from ours."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{site.server_port}/")
        yield page
        site.shutdown()


def test_its_scripts_get_nothing(elsewhere: Page, server: LocalServer, http: httpx.Client) -> None:
    """They neither read nor write, and cannot tell by a picture or a script whether the server is there."""
    found = conversation(http, "A secret")
    outcomes = elsewhere.evaluate(ASK, {"url": server.url, "found": found})
    refused = {"read": "TypeError", "post": "TypeError", "script": "refused", "picture": "refused", "live": "refused"}
    assert outcomes == refused
    assert server.faults.armed() == []


def test_its_forms_are_refused(elsewhere: Page, server: LocalServer) -> None:
    """Even where the user presses the button."""
    form = f'<form method="post" action="{server.url}/chaos"><button name="action" value="clear">Win</button></form>'
    server.faults.add("any", "hang")
    elsewhere.set_content(form)
    with elsewhere.expect_response(f"{server.url}/chaos") as answer:
        elsewhere.get_by_role("button").click()
    assert answer.value.status == 403
    assert len(server.faults.armed()) == 1


def test_its_frames_stay_empty(elsewhere: Page, server: LocalServer) -> None:
    """Nobody clicks on the switches of a page that he does not see."""
    framed = """url => new Promise(resolve => {
        const frame = document.createElement("iframe");
        frame.onload = resolve;
        frame.src = url;
        document.body.append(frame);
    })"""
    elsewhere.evaluate(f"url => ({framed})(url).then(() => true)", f"{server.url}/chaos")
    assert [frame.locator("form").count() for frame in elsewhere.frames] == [0, 0]
