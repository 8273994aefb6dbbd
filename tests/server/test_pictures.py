"""Pictures of attachments are shown where their bytes are."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from openai import OpenAI

from tests.server.test_viewer import conversation, page

if TYPE_CHECKING:
    from converra.server.run import LocalServer

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
URL = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"


def attached(**fields: Any) -> dict[str, Any]:
    attachment = {"kind": "image", "mime": "image/png"} | fields
    return {"role": "user", "content": "Look", "metadata": {"attachments": [attachment]}}


def sources(text: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'<img class="picture" src="([^"]*)"', text)]


def test_a_picture_in_the_message_is_shown(server: LocalServer, http: httpx.Client) -> None:
    """On the page and in its export, which needs no server."""
    found = conversation(http, attached(url=URL))
    assert sources(page(server, f"/conversations/{found}").text) == [URL]
    assert sources(page(server, f"/conversations/{found}/export/html").text) == [URL]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x.png",
        "data:image/svg+xml;base64,PHN2Zz4=",
        'data:image/png;base64,AA" onerror="alert(1)',
        "javascript:alert(1)",
        "data:image/png;base64," + "A" * 1_000_004,
    ],
)
def test_no_other_address_is_shown(server: LocalServer, http: httpx.Client, url: str) -> None:
    """Nothing is fetched, nothing runs, and a huge picture is not put into the page."""
    found = conversation(http, attached(url=url))
    assert sources(page(server, f"/conversations/{found}").text) == []


def test_a_picture_that_the_stand_in_model_was_sent_is_shown(server: LocalServer, http: httpx.Client) -> None:
    """Found by its digest in the logged request of the turn."""
    content = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": URL}}]
    with OpenAI(api_key="k", base_url=server.openai_url) as openai:
        answer = openai.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "[[say:I see]]"}, {"role": "user", "content": content}],  # type: ignore[list-item,misc] # plain dicts
        )
    digest = hashlib.sha256(PIXEL).hexdigest()
    said = answer.choices[0].message.content
    found = conversation(http, attached(sha256=digest), {"role": "assistant", "content": said})
    other = conversation(http, attached(sha256="0" * 64), {"role": "assistant", "content": said})
    (source,) = sources(page(server, f"/conversations/{found}").text)
    assert source == f"/requests/1/pictures/{digest}"
    shown = page(server, source)
    assert (shown.content, shown.headers["content-type"]) == (PIXEL, "image/png")
    assert (shown.headers["x-content-type-options"], "sandbox" in shown.headers["content-security-policy"]) == (
        "nosniff",
        True,
    )
    assert sources(page(server, f"/conversations/{other}").text) == []
    assert page(server, f"/requests/1/pictures/{'0' * 64}").status_code == 404
    assert httpx.get(f"{server.url}/requests/99/pictures/{digest}").status_code == 404
