"""The answer that is being streamed, and the conversation that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from converra.server.store.changes import Changes
from converra.server.viewer.drafts import Drafts
from tests.server.test_viewer import conversation

if TYPE_CHECKING:
    from converra.server.run import LocalServer

ASKED = [
    ("system", "Be kind."),
    ("user", "Hello"),
    ("assistant", ""),
    ("tool", "found"),
    ("assistant", "Hi!"),
    ("user", "Where is it?"),
    ("user", "My parcel."),
]


def recorded(*said: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]


@pytest.fixture
def drafts() -> Drafts:
    return Drafts(Changes())


def test_a_draft_belongs_to_what_it_resends(drafts: Drafts) -> None:
    """To the conversation with all of it up to the last answer; what is not recorded yet is shown as the question."""
    drafts.begin(ASKED).add("On its way")
    calls = [{"role": "tool", "content": "found"}, {"role": "system", "content": "Be strict."}]
    assert drafts.of(recorded("Hello", "Hi!") + calls) == ("Where is it?\n\nMy parcel.", "On its way")
    both = [*recorded("Hello", "Hi!", "Where is it?"), {"role": "user", "content": "My parcel."}]
    assert drafts.of(both) == ("", "On its way")


@pytest.mark.parametrize(
    "said", [(), ("Hello",), ("Hello", "Hi"), ("Hello", "Hi!", "Why?"), ("Hello", "Hi!", "Where is it?", "On its way")]
)
def test_a_draft_belongs_to_nothing_else(drafts: Drafts, said: tuple[str, ...]) -> None:
    """Neither to a chat that says something else, nor to its own once the answer is recorded."""
    drafts.begin(ASKED).add("On its way")
    assert drafts.of(recorded(*said)) is None


def test_only_the_latest_drafts_are_kept(drafts: Drafts) -> None:
    """The newest that has begun to speak is shown; old ones are forgotten."""
    drafts.begin([("user", "Hello")]).add("first")
    drafts.begin([("user", "Hello")]).add("second")
    drafts.begin([("user", "Hello")])
    assert drafts.of(recorded("Hello")) == ("", "second")
    for _ in range(50):
        drafts.begin([("user", "other")])
    assert drafts.of(recorded("Hello")) is None


@pytest.mark.parametrize(
    ("path", "asked"), [("chat/completions", {"messages": recorded("Hello")}), ("responses", {"input": "Hello"})]
)
def test_both_formats_are_shown_while_they_stream(
    server: LocalServer, http: httpx.Client, path: str, asked: dict[str, Any]
) -> None:
    """Only on the page of its conversation, only while that is open, and only what was said in words."""
    found, other = conversation(http, content="User: Hello"), conversation(http, content="User: Other")
    done = conversation(http, {"role": "user", "content": "x"}, content="User: Hello")
    body = asked | {"model": "m", "stream": True}
    httpx.post(f"{server.openai_url}/{path}", json=body, headers={"Authorization": "Bearer k"}).raise_for_status()
    shown = [
        "Hello! How can I help you today?" in httpx.get(f"{server.url}/conversations/{each}/draft").text
        for each in (found, other, done)
    ]
    assert shown == [True, False, False]
    assert httpx.get(f"{server.url}/conversations/none/draft").status_code == 404
