"""Who may talk to the local server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

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


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
def test_another_sites_page_cannot_write(server: LocalServer, origin: str) -> None:
    """Not even with a key: a state-changing request from another origin is refused."""
    headers = {"Authorization": "Bearer k", "Origin": origin}
    answer = httpx.post(f"{server.base_url}/conversations", json=HELLO, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert server.store.conversations()[1] == 0


def test_our_own_pages_may_write(server: LocalServer) -> None:
    """The origin of the server itself passes."""
    headers = {"Authorization": "Bearer k", "Origin": server.url}
    assert httpx.post(f"{server.base_url}/conversations", json=HELLO, headers=headers).status_code == 200
