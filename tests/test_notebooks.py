"""Objects as a notebook shows them: every word escaped, nothing that runs or is fetched."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import converra
from converra.capture.reports import Report
from converra.integrations import Patched
from converra.types import StoredConversation
from converra.wire import notebook

HOSTILE = "<script>alert(1)</script><img src=x onerror=y>\"' & \u202e</td></table>"


class Seen(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost one, which must be of this kind."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note it."""
        self.texts.append(data)


def seen(page: str) -> Seen:
    """Read a page, and check what all of them have in common."""
    found = Seen(page)
    assert set(found.tags) <= {"div", "p", "b", "table", "tr", "th", "td"}
    assert found.attributes <= {"dir", "style"}
    assert found.open == []
    return found


def test_a_stored_conversation() -> None:
    """Its messages with calls, tokens, latency and time; whatever was said is text."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": HOSTILE, "timestamp": "2025-01-20T14:30:00Z"},
        {"role": "tool", "content": "", "toolCalls": [{"name": "look_up", "arguments": {"order": HOSTILE}}]},
        {"role": "tool", "content": "sent", "toolCalls": [{"name": "look_up"}]},
        {
            "role": "assistant",
            "content": "It is sent.",
            "model": "gpt-4o",
            "usage": {"promptTokens": 1200, "completionTokens": 5},
            "latencyMs": 812.4,
        },
    ]
    raw = {"id": "conv_1", "promptId": HOSTILE, "status": "completed", "messages": messages}
    texts = seen(StoredConversation.from_dict(raw)._repr_html_()).texts
    assert texts[:4] == [f"conv_1 · {HOSTILE} · completed", "role", "content", "facts"]
    assert texts[4:] == [
        *("user", HOSTILE, "2025-01-20 14:30:00"),
        *("tool", f"look_up({ {'order': HOSTILE} })"),
        *("tool", "sent\nlook_up()"),
        *("assistant", "It is sent.", "gpt-4o\n1,200 + 5 tokens\n812 ms"),
    ]


def test_a_transcript_is_shown_where_messages_are_not() -> None:
    """A conversation of an API that shows no messages; and a row of a list, which shows neither."""
    assert "User: Hello" in seen(StoredConversation(id="c", content="User: Hello")._repr_html_()).texts
    assert seen(StoredConversation(id="c")._repr_html_()).texts == ["c", "role", "content", "facts"]


def test_a_handle() -> None:
    """What it was opened with, and that it was not sent yet."""
    session = HOSTILE.replace("\u202e", "")  # which no id may hold
    handle = converra.conversation("prompt_1", session_id=session, metadata={"tier": {HOSTILE: 1}})
    texts = seen(handle._repr_html_()).texts
    assert texts == [
        *("converra conversation", "id", "not sent yet", "prompt_id", "prompt_1", "session_id", session),
        *("metadata.tier", str({HOSTILE: 1})),
    ]


@pytest.mark.parametrize("why", [None, HOSTILE])
def test_a_report(why: str | None) -> None:
    """A row for each patch point; an empty one says that capture is off."""
    texts = seen(Report([Patched("openai.OpenAI", "skipped", why)])._repr_html_()).texts
    assert texts == ["converra", "state", "target", "why", "skipped", "openai.OpenAI", *([why] if why else [])]
    assert "capture is switched off" in Report([])._repr_html_()


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=3), st.text())
def test_any_text_stays_text(rows: list[list[str]], title: str) -> None:
    """No text of any kind becomes a tag or an attribute."""
    seen(notebook.table(title, ("a", "b"), rows))


def test_a_long_one_is_cut() -> None:
    """A notebook keeps what it shows in its file, so a table has a bound; it says what is missing."""
    page = notebook.table("t", ("a",), [["x" * 20_000]] * 150)
    assert len(page) < 1_100_000
    assert "… (20,000 characters)" in page
    assert page.endswith("<p>and 50 more</p></div>")
