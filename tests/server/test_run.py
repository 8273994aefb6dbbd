"""The local server as others use it in their tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from converra.server.run import serve
from converra.server.store.conversations import Store
from converra.server.store.records import fingerprint

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_runs_inside_a_block_and_shows_what_it_was_asked() -> None:
    """`serve()` takes a free port on loopback and logs requests without the key."""
    with serve() as server:
        answer = httpx.post(
            f"{server.base_url}/conversations",
            json={"promptId": "p", "content": "User: hi"},
            headers={"Authorization": "Bearer secret-key"},
        )
        (request,) = server.requests
        addresses = (server.url, server.base_url, server.openai_url)
    assert answer.status_code == 200
    assert (request.method, request.path, request.status) == ("POST", "/api/v1/conversations", 200)
    assert request.json() == {"promptId": "p", "content": "User: hi"}
    assert request.answer_bytes == len(answer.content)
    assert request.headers["authorization"] == f"Bearer sha256:{fingerprint('secret-key')}"
    assert "secret-key" not in str(request)
    assert addresses == (
        f"http://127.0.0.1:{server.port}",
        f"http://127.0.0.1:{server.port}/api/v1",
        f"http://127.0.0.1:{server.port}/openai/v1",
    )


def test_a_file_outlives_its_server(tmp_path: Path) -> None:
    """A server on the same file goes on where the last one stopped."""
    path = tmp_path / "local.sqlite3"
    headers = {"Authorization": "Bearer k"}
    with serve(path=path) as server:
        made = httpx.post(
            f"{server.base_url}/conversations", json={"promptId": "p", "content": "User: hi"}, headers=headers
        ).json()
    with serve(path=path) as server:
        found = httpx.get(f"{server.base_url}/conversations/{made['id']}", headers=headers).json()
    assert found["messages"] == [{"role": "user", "content": "hi"}]


def test_a_given_store_stays_open() -> None:
    """Who brings a store may look into it after the server has stopped."""
    store = Store()
    with serve(store=store):
        pass
    assert store.conversations() == ([], 0)
    store.close()
