"""Conversations as one HTML page: no script, no other file, no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from converra.cli.plain import said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from converra.api.results import StoredConversation

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.1rem; border-top: 1px solid #8886; padding-top: 1rem; overflow-wrap: anywhere; }
h2 small { font-weight: normal; opacity: .7; }
article { margin: .75rem 0; padding: .5rem .75rem; border-radius: .5rem; background: #8882; }
article.user { margin-left: 4rem; background: #48f3; }
article.system, article.tool { font-size: .875rem; opacity: .85; }
article h3 { margin: 0; font-size: .75rem; font-weight: normal; opacity: .7; }
article p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""For the browser: even if something got past the escaping, nothing of it would run or be fetched."""


def page(conversations: Sequence[StoredConversation]) -> str:
    """The whole page; every word of the conversations is escaped."""
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_title(conversations)}</title>",
            f"<style>{_STYLE}</style>",
            *(line for conversation in conversations for line in _conversation(conversation)),
            "</html>",
            "",
        )
    )


def _title(conversations: Sequence[StoredConversation]) -> str:
    one = conversations[0] if len(conversations) == 1 else None
    return escape(one.title or one.id or "Conversation") if one else f"{len(conversations)} conversations"


def _conversation(conversation: StoredConversation) -> Iterator[str]:
    about = " · ".join(filter(None, (conversation.prompt_id, conversation.status, _created(conversation))))
    yield f"<h2>{escape(conversation.id)} <small>{escape(about)}</small></h2>"
    for role, text in said(conversation):
        kind = role if role in ("system", "user", "assistant", "tool") else "other"
        yield f'<article class="{kind}"><h3>{escape(role)}</h3><p>{escape(text)}</p></article>'


def _created(conversation: StoredConversation) -> str | None:
    return _minutes(conversation.created_at)


def _minutes(moment: datetime | None) -> str | None:
    return moment.isoformat(" ", "minutes") if moment else None
